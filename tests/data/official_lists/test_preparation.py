"""ltbench data prepare from a server on this machine, and the whole way from prepare to report."""

import hashlib
import io
import json
import shutil
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from ltbench.data.official_lists import preparation
from ltbench.data.prepare import download
from ltbench.errors import LtbenchError
from ltbench.report.collection import collect

NAMES = ("imagenet-lt", "inaturalist2018", "places-lt")
EACH = pytest.mark.parametrize("name", NAMES)


def packed(files, mode="w"):
    """A tar file of path -> content."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def official_archives(data):
    """The archives of a data set as they are published, made from its images: file -> content."""
    images = {}
    for one in (one for members in data.members.values() for one in members):
        path = data.path(data.published.layout.official(), *one[:3])
        images.setdefault(one[0], {})[path] = (data.folder / path).read_bytes()
    made = {}
    for archive in data.published.archives:
        if archive.part:
            made[archive.file] = packed({f"{archive.file.split('.')[0]}.json": annotations(data, archive.part)}, "w:gz")
            continue
        files = {path.removeprefix(f"{archive.into}/"): content for path, content in images[archive.image_set].items()}
        if archive.nested:
            classes = {}
            for path, content in files.items():
                folder, _, image = path.partition("/")
                classes.setdefault(f"{folder}.tar", {})[image] = content
            files = {name: packed(members) for name, members in classes.items()}
        made[archive.file] = packed(files, "w:gz" if archive.file.endswith("gz") else "w")
    return made


def annotations(data, part):
    listed = [(i, path, one[3]) for i, (path, one) in
              enumerate(zip(data.all_paths(part), data.members[part], strict=True))]  # fmt: skip
    return json.dumps(
        {
            "images": [{"id": i, "file_name": path} for i, path, _ in listed],
            "annotations": [{"image_id": i, "category_id": label} for i, _, label in listed],
        }
    ).encode()


@pytest.fixture
def site(tiny, server, monkeypatch):
    """A data set that is still on its server, and the archives: ``site(name)``."""

    def make(name):
        data = tiny(name).write_images()
        content = official_archives(data)
        archives = tuple(
            replace(
                one,
                size=len(content[one.file]),
                md5=hashlib.md5(content[one.file]).hexdigest(),
                url=one.url and server.url(one.file),
            )
            for one in data.published.archives
        )
        monkeypatch.setattr(type(data.source), "published", replace(data.published, archives=archives))
        monkeypatch.setattr(download, "PAUSE", 0.0)
        server.files.update(content)
        shutil.rmtree(data.folder)
        data.folder.mkdir()
        return data

    return make


def fetch_by_hand(data, server):
    """What a user has to do: archives that take an account."""
    for archive in data.published.archives:
        if archive.url is None:
            (data.folder / archive.file).write_bytes(server.files[archive.file])


@pytest.mark.slow
@EACH
def test_from_prepare_to_report(site, server, cli, name):
    data = site(name)
    first = cli("data", "prepare", name, "--data-dir", data.folder)
    if name == "inaturalist2018":
        assert first.code == 0
    else:
        assert first.code == 2
        assert f"{data.list('train').name}" in first.err
        assert "not ready yet" in first.err
        fetch_by_hand(data, server)
        data.write_lists(into=data.published.list_folders[0])
    done = cli("data", "prepare", name, "--data-dir", data.folder)
    assert (done.code, done.err) == (0, "")
    assert f"{name} is in {data.folder}" in done.out
    asked = len(server.asked)
    assert cli("data", "prepare", name, "--data-dir", data.folder).code == 0
    assert len(server.asked) == asked, "nothing is fetched twice"
    for archive in data.published.archives:
        (data.folder / archive.file).unlink()
    assert cli("data", "prepare", name, "--data-dir", data.folder).code == 0
    assert len(server.asked) == asked, "archives may be deleted"

    verified = cli("data", "verify", name, "--data-dir", data.folder, "--decode")
    assert (verified.code, verified.err) == (0, "")
    words = ["--dataset", name, "--data-dir", data.folder, "--backbone", "test_resnet", "--image-size", 32]
    words += ["--epochs", 1, "--batch-size", 8, "--device", "cpu", "--recipe", "standard"]
    ran = cli("run", "--method", "ce", *words)
    assert (ran.code, ran.notes) == (0, "")
    (result,) = stored(data.folder.parent)
    assert result.data.counts == list(data.counts)
    assert sum(result.metrics["test"].total) == 8
    report = cli("report")
    assert report.code == 0
    assert name in report.out
    order = cli("data", "order", name, "--data-dir", data.folder)
    assert order.code == 0


def stored(folder):
    return list(collect([folder / "runs"]).results.values())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:the taus average")  # those that the paper has for ImageNet-LT
def test_the_users_own_example(site, server, cli):
    data = site("imagenet-lt")
    fetch_by_hand(data, server)
    data.write_lists()
    assert cli("data", "prepare", "imagenet-lt", "--data-dir", data.folder).code == 0
    done = cli(
        "run", "--method", "balpoe", "--dataset", "imagenet-lt", "--data-dir", data.folder, "--device", "cpu",
        "--backbone", "test_resnet", "--image-size", 32, "--epochs", 1, "--batch-size", 8, "--validation",
    )  # fmt: skip
    assert done.code == 0
    assert all("no temperature" in line for line in done.notes.splitlines()), done.err  # after one epoch
    (result,) = stored(data.folder.parent)
    assert result.config.hyperparameters["taus"] == [0, 1.25, 2.5], "the table for ImageNet-LT"
    assert sum(result.metrics["validation"].total) == 4, "the official validation set"
    assert result.data.trained_on == [7, 4, 2, 1], "which takes nothing from training"


def test_the_steps_of_imagenet_are_those_that_are_left(site, server, cli):
    data = site("imagenet-lt")
    err = cli("data", "prepare", "imagenet-lt", "--data-dir", data.folder).err
    for words in ("1. fetch ILSVRC2012_img_train.tar", "account", "https://image-net.org", "ILSVRC2012_img_val.tar",
                  "2. fetch ImageNet_LT_train.txt", "https://liuziwei7.github.io",
                  f"3. ltbench data prepare imagenet-lt --data-dir {data.folder}"):  # fmt: skip
        assert words in err
    data.write_lists()
    (data.folder / "ILSVRC2012_img_val.tar").write_bytes(server.files["ILSVRC2012_img_val.tar"])
    err = cli("data", "prepare", "imagenet-lt", "--data-dir", data.folder).err
    assert "unpacked ILSVRC2012_img_val.tar" in err
    assert "1. fetch ILSVRC2012_img_train.tar" in err
    assert "ImageNet_LT_train.txt" not in err
    assert "fetch ILSVRC2012_img_val.tar" not in err


def test_lists_are_taken_from_the_archive_that_their_authors_hand_out(site, cli):
    data = site("places-lt")
    with zipfile.ZipFile(data.folder / "Places_LT_v2.zip", "w") as archive:
        for part in data.published.parts:
            archive.writestr(f"Places_LT_v2/{data.list(part).name}", data.text(part))
    done = cli("data", "prepare", "places-lt", "--data-dir", data.folder)
    assert (done.code, done.err) == (0, "")
    assert data.list("train", "Places_LT_v2").read_text() == data.text("train")


@pytest.mark.parametrize(("name", "words"), [("", "it has no name"), ("list.txt", "it is more than the 9,000 bytes")])
def test_an_odd_archive_of_lists_is_refused(site, cli, monkeypatch, name, words):
    monkeypatch.setitem(preparation.unpack.__kwdefaults__, "limit", 9_000)
    data = site("places-lt")
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        member = tarfile.TarInfo(name)
        member.size = 10_000
        archive.addfile(member, io.BytesIO(bytes(10_000)))
    monkeypatch.setattr(type(data.source), "published", replace(data.published, list_archives=("lists.tar",)))
    (data.folder / "lists.tar").write_bytes(content.getvalue())
    done = cli("data", "prepare", "places-lt", "--data-dir", data.folder)
    assert done.code == 2
    assert f"lists.tar holds {name!r}, which is refused: {words}" in done.err
    assert not (data.folder / "list.txt").exists()


def test_images_may_take_twice_the_size_of_their_archive(site, monkeypatch):
    data = site("places-lt")
    limits = {}
    monkeypatch.setattr(
        preparation, "unpack", lambda archive, into, listener, *, nested, limit: limits.setdefault(archive.name, limit)
    )
    monkeypatch.setattr(preparation, "check", lambda *_, **__: None)
    large, small = replace(data.published.archives[0], size=10**12), replace(data.published.archives[1], size=10)
    for archive in (large, small):
        (data.folder / archive.file).touch()
        preparation._get(archive, data.folder, lambda *_: None)
    assert limits == {large.file: 2 * 10**12, small.file: 2**30}


@pytest.mark.parametrize("when", ["downloading", "checking", "unpacking"])
def test_an_interrupted_preparation_goes_on(site, server, when, monkeypatch):
    data = site("inaturalist2018")
    monkeypatch.setattr(download, "CHUNK", 4000)

    def stop(update):
        if update.message == f"{when} train_val2018.tar.gz" and update.done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        preparation.prepare(data.published, data.folder, stop)
    before = len(server.asked)
    assert "unpacked train_val2018.tar.gz" in data.source.prepare(data.folder)
    again = server.asked[before:]
    assert again == {"downloading": ["bytes=4000-"], "checking": [f"bytes={size(data)}-"], "unpacking": []}[when]
    assert len(data.source.load(data.folder, 32).train) == 14


def size(data):
    return data.published.archives[-1].size


def test_images_that_have_gone_are_unpacked_again(site, server):
    data = site("inaturalist2018")
    data.source.prepare(data.folder)
    gone = data.folder / data.all_paths("train")[5]
    gone.unlink()
    assert "unpacked train_val2018.tar.gz" in data.source.prepare(data.folder)
    assert gone.exists()


def test_an_archive_of_the_user_that_is_damaged_is_refused(site, server):
    data = site("imagenet-lt")
    fetch_by_hand(data, server)
    file = data.folder / "ILSVRC2012_img_train.tar"
    file.write_bytes(file.read_bytes()[:-512])
    with pytest.raises(LtbenchError, match=r"ILSVRC2012_img_train\.tar is damaged or incomplete") as caught:
        data.source.prepare(data.folder)
    assert "delete it and fetch it again, from https://image-net.org" in str(caught.value)
    assert file.exists()
    assert not (data.folder / "train").exists()


def test_a_hostile_archive_of_a_server_writes_nothing_outside(site, server, cli, monkeypatch):
    data = site("places-lt")
    hostile = packed({"../../evil.jpg": b"evil"})
    archives = [
        replace(one, md5=hashlib.md5(hostile).hexdigest()) if one.image_set == "train" else one
        for one in data.published.archives
    ]
    monkeypatch.setattr(type(data.source), "published", replace(data.published, archives=tuple(archives)))
    server.files[archives[0].file] = hostile
    done = cli("data", "prepare", "places-lt", "--data-dir", data.folder)
    assert done.code == 2
    assert "holds '../../evil.jpg', which is refused" in done.err
    assert not list(data.folder.parent.parent.glob("**/evil.jpg"))


def test_room_for_the_images_is_looked_for_before_they_are_fetched(site, server, monkeypatch):
    data = site("inaturalist2018")
    need = 2 * size(data)  # the archive, and what it holds
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=need - 1))
    with pytest.raises(LtbenchError, match=r"the available part of inaturalist2018 takes .* but .* are free"):
        data.source.prepare(data.folder)
    assert len(server.asked) == 2, "the lists alone"
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=need))
    data.source.prepare(data.folder)


def test_a_server_that_fails_is_told(site, server, cli):
    data = site("inaturalist2018")
    server.status = 403
    done = cli("data", "prepare", "inaturalist2018", "--data-dir", data.folder)
    assert done.code == 2
    assert "cannot download train2018.json.tar.gz: HTTP Error 403" in done.err
    assert "Traceback" not in done.err


def test_wrong_lists_do_not_stop_the_unpacking(site, server):
    data = site("imagenet-lt")
    fetch_by_hand(data, server)
    data.write_lists()
    data.list("test").write_text("val/a.JPEG 7\n")
    with pytest.raises(LtbenchError, match="unpacked ILSVRC2012_img_train") as caught:
        data.source.prepare(data.folder)
    assert "ImageNet_LT_test.txt: label 7, but there are 4 classes, from 0" in str(caught.value)
    assert all((data.folder / path).is_file() for path in data.all_paths("train"))
    with pytest.raises(LtbenchError, match="label 7"):
        data.source.load(data.folder, 224)


@EACH
def test_images_that_were_unpacked_by_other_means_are_not_fetched_again(site, server, cli, monkeypatch, name):
    data = site(name).write_images()
    lists = [archive for archive in data.published.archives if archive.part]
    small = SimpleNamespace(free=2 * sum(one.size for one in lists))  # room for lists, not for the images
    monkeypatch.setattr(shutil, "disk_usage", lambda path: small)
    done = cli("data", "prepare", name, "--data-dir", data.folder)
    assert len(server.asked) == len(lists)
    if lists:
        assert (done.code, done.err) == (0, "")
        return
    assert done.code == 2
    assert f"1. fetch {data.list('train').name}" in done.err
    assert not any(archive.file in done.err for archive in data.published.archives)
    data.write_lists()
    done = cli("data", "prepare", name, "--data-dir", data.folder)
    assert (done.code, done.err, server.asked) == (0, "", [])


@pytest.mark.parametrize("marked", [False, True])
def test_a_list_that_is_wrong_is_told_and_nothing_is_fetched_for_it(site, server, cli, marked):
    data = site("places-lt").write_images().write_lists()
    for archive in data.published.archives if marked else ():
        (data.folder / f".{archive.file}.unpacked").touch()
    file = data.list("train")
    file.write_text("".join(file.read_text().splitlines(keepends=True)[1:]))
    done = cli("data", "prepare", "places-lt", "--data-dir", data.folder)
    assert (done.code, server.asked) == (2, [])
    for words in ("places-lt is not ready yet", "Places_LT_train.txt: 13 images, expected 14",
                  f"1. delete or correct {file}", "2. fetch Places_LT_train.txt"):  # fmt: skip
        assert words in done.err
    file.write_text(data.text("train"))
    assert cli("data", "prepare", "places-lt", "--data-dir", data.folder).code == 0


def test_an_archive_that_was_half_unpacked_is_unpacked_whole_without_lists(site, server):
    data = site("imagenet-lt")
    fetch_by_hand(data, server)

    def stop(update):
        if update.message.startswith("unpacking"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        preparation.prepare(data.published, data.folder, stop)
    with pytest.raises(LtbenchError, match="unpacked ILSVRC2012_img_train"):
        data.source.prepare(data.folder)
    assert all((data.folder / path).is_file() for path in data.all_paths("train"))


def test_a_folder_that_may_not_be_written_is_told(site, server, cli, monkeypatch):
    data = site("imagenet-lt").write_images().write_lists()
    fetch_by_hand(data, server)
    (data.folder / data.all_paths("train")[0]).rename(data.folder / "elsewhere.JPEG")

    def refuse(path, *args, **kwargs):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "touch", refuse)
    done = cli("data", "prepare", "imagenet-lt", "--data-dir", data.folder)
    assert done.code == 2
    assert "cannot note that ILSVRC2012_img_train.tar is unpacked: Permission denied" in done.err
    assert f"where: {data.folder}/.ILSVRC2012_img_train.tar.unpacked" in done.err
    assert "the folder readable and writable" in done.err
