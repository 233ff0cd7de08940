"""ltbench data verify on lists and files: all is well, and everything that can be wrong, each by name."""

from dataclasses import replace

import pytest
from PIL import Image

from ltbench.data.datasets import image_folder as image_folder
from ltbench.data.official_lists.layout import ImageLayout
from ltbench.data.official_lists.split_list import blob_id
from ltbench.data.verify.files import verify
from ltbench.progress import ProgressUpdate

EACH = pytest.mark.parametrize("name", ["imagenet-lt", "inaturalist2018", "places-lt"])


@EACH
@pytest.mark.parametrize("decode", [False, True])
def test_a_data_set_as_published_has_no_fault(tiny, name, decode):
    data = tiny(name).write_images().write_lists()
    told = []
    found = verify(data.published, data.folder, decode=decode, listener=told.append)
    assert found.faults == []
    lines = dict(found.lines)
    size = sum(len(members) for members in data.members.values())
    assert lines["images"] == f"{size} of {size} {'decode' if decode else 'are there and not empty'}"
    assert lines["train images"] == "14, 7 to 1 a class"
    assert told[-1] == ProgressUpdate("images", size, size)


def test_lists_are_the_official_ones_whatever_their_line_ends(tiny):
    data = tiny("imagenet-lt").write_images().write_lists()
    text = data.list("test").read_bytes()
    data.list("test").write_bytes(text.replace(b"\n", b"\r\n"))
    found = verify(data.published, data.folder)
    assert found.faults == []
    assert dict(found.lines)["train list is"] == "the official list"
    assert dict(found.lines)["test list is"] == "the official list, with the line ends of Windows"


def test_another_version_of_a_list_is_told(tiny, monkeypatch):
    """Version 1 of Places-LT writes paths as the easy directory structure does, and names the same images."""
    data = tiny("places-lt").write_images().write_lists()
    text = data.text("test", lambda images, folder, image: f"val/{folder.replace('/', '-')[2:]}/{image}")
    assert text != data.list("test").read_text()
    parts = dict(data.published.parts)
    parts["test"] = replace(parts["test"], versions={blob_id(text.encode()): "version 1: the same images"})
    monkeypatch.setattr(type(data.source), "published", replace(data.published, parts=parts))
    for content in (text, text.replace("\n", "\r\n")):
        data.list("test").write_bytes(content.encode())
        found = verify(data.source.published, data.folder)
        assert found.faults == []
        assert dict(found.lines)["test list is"] == "the official list, version 1: the same images"


def test_another_list_with_the_right_counts_is_told(tiny):
    data = tiny("imagenet-lt").write_images().write_lists()
    lines = data.list("train").read_text().splitlines(keepends=True)
    data.list("train").write_text("".join(lines[::-1]))
    found = verify(data.published, data.folder)
    own = blob_id("".join(lines[::-1]).encode())
    assert found.faults == [
        f"ImageNet_LT_train.txt is not the official list: git calls its content {own}, "
        f"the official one's {blob_id(''.join(lines).encode())}"
    ]


@EACH
def test_everything_that_is_wrong_is_told_at_once(tiny, name):
    data = tiny(name).write_images().write_lists()
    train, test = data.all_paths("train"), data.all_paths("test")
    (data.folder / train[0]).unlink()
    (data.folder / test[0]).write_bytes(b"")
    whole = (data.folder / test[1]).read_bytes()
    (data.folder / test[1]).write_bytes(whole[: len(whole) // 2])
    (data.folder / test[2]).write_bytes(b"no image at all")
    file = data.list("test")
    file.write_text(file.read_text() + file.read_text().splitlines(keepends=True)[0])
    quick = verify(data.published, data.folder).faults
    for words in (
        f"{file.name}: 9 images, expected 8",
        f"{file.name}: 3 images of class 0 ({data.members['test'][0][1]}), expected 2",
        f"{test[0]} stands in {file.name} and again in {file.name}",
        f"missing: {train[0]}",
        f"damaged: {test[0]}",
    ):
        assert words in quick
    assert not any(test[1] in fault or test[2] in fault for fault in quick)
    slow = verify(data.published, data.folder, decode=True).faults
    assert set(slow) == {*quick, f"damaged: {test[1]}", f"damaged: {test[2]}"}


def test_of_many_missing_images_a_few_are_named_and_all_counted(tiny):
    data = tiny("imagenet-lt").write_images().write_lists()
    gone = data.all_paths("train")[:7]
    for path in gone:
        (data.folder / path).unlink()
    faults = verify(data.published, data.folder).faults
    assert faults == [*(f"missing: {path}" for path in gone[:5]), "7 images are missing in all"]


def test_an_image_that_is_trained_on_and_tested_on_is_told(tiny):
    data = tiny("inaturalist2018").write_images().write_lists()
    file = data.list("test")
    lines = file.read_text().splitlines()
    both = data.all_paths("train")[0]
    file.write_text("\n".join([f"{both} 0", *lines[1:]]))
    changed, *faults = verify(data.published, data.folder).faults
    assert changed.startswith("iNaturalist18_val.txt is not the official list")
    assert faults == [f"{both} stands in iNaturalist18_train.txt and again in iNaturalist18_val.txt"]


def test_shot_groups_are_compared(tiny):
    data = tiny("inaturalist2018").write_images().write_lists()
    published = replace(data.published, shot_groups=(1, 0, 3))
    assert verify(published, data.folder).faults == [
        "iNaturalist18_train.txt: 0/0/4 many-, medium- and few-shot classes, expected 1/0/3"
    ]


def test_of_many_wrong_classes_a_few_are_told(tiny, monkeypatch):
    data = tiny("places-lt").write_images().write_lists()
    monkeypatch.setattr("ltbench.data.official_lists.lists.SHOWN", 2)
    published = replace(data.published, train_counts=(8, 5, 3, 1))
    faults = verify(published, data.folder).faults
    assert faults == [
        "Places_LT_train.txt: 7 images of class 0 (a/airfield), expected 8",
        "Places_LT_train.txt: 4 images of class 1 (a/apartment_building/outdoor), expected 5",
        "Places_LT_train.txt: wrong numbers of images of 3 classes in all",
    ]


def test_a_class_without_an_image_is_told_where_counts_are_not_published(tiny):
    data = tiny("inaturalist2018").write_images().write_lists()
    file = data.list("train")
    file.write_text("\n".join(file.read_text().splitlines()[:-1]))
    faults = verify(data.published, data.folder).faults
    assert "iNaturalist18_train.txt: no image of class 3" in faults
    assert "iNaturalist18_train.txt: 13 images, expected 14" in faults


def test_lists_and_images_that_are_not_there_are_told(tiny):
    data = tiny("imagenet-lt")
    faults = verify(data.published, data.folder).faults
    assert [fault.split(",")[0] for fault in faults] == [
        "missing: the list ImageNet_LT_train.txt",
        "missing: the list ImageNet_LT_val.txt",
        "missing: the list ImageNet_LT_test.txt",
        "missing: the train images",
        "missing: the val images",
    ]


def test_one_malformed_list_does_not_hide_what_is_wrong_with_another(tiny):
    data = tiny("imagenet-lt").write_images().write_lists()
    data.list("validation").write_text("nothing\n")
    data.list("test").write_text("val/a.JPEG 9\n")
    faults = verify(data.published, data.folder).faults
    assert any("'nothing' is not a path and a label" in fault and "line 1" in fault for fault in faults)
    assert "ImageNet_LT_test.txt: label 9, but there are 4 classes, from 0" in faults


def test_verify_on_the_command_line(tiny, cli):
    data = tiny("places-lt").write_images().write_lists()
    done = cli("data", "verify", "places-lt", "--data-dir", data.folder, "--decode")
    assert (done.code, done.err) == (0, "")
    assert "26 of 26 decode" in done.out
    assert "fingerprint of train" in done.out
    gone, cut = data.all_paths("train")[0], data.all_paths("test")[0]
    (data.folder / gone).unlink()
    Image.new("RGB", (64, 64), "red").save(data.folder / cut)
    (data.folder / cut).write_bytes((data.folder / cut).read_bytes()[:300])
    done = cli("data", "verify", "places-lt", "--data-dir", data.folder, "--decode")
    assert done.code == 2
    assert "Traceback" not in done.err
    for words in (f"missing: {gone}", f"damaged: {cut}", "places-lt is not as it should be", "ltbench data prepare"):
        assert words in done.err
    assert "train images" in done.out, "what is well is told too"


def test_a_jpeg_that_stops_in_a_file_of_the_full_size_is_damaged(tiny):
    data = tiny("imagenet-lt").write_images().write_lists()
    padded, longer, whole, thumbnail, cut = (data.folder / path for path in data.all_paths("train")[:5])
    content = padded.read_bytes()
    padded.write_bytes(content[: len(content) // 2] + bytes(len(content) - len(content) // 2))
    longer.write_bytes(content[: len(content) // 2] + bytes(2 * len(content)))
    whole.write_bytes(whole.read_bytes() + bytes(10_000) + b"a film, as telephones add one: \xff\xda")
    for file in (thumbnail, cut):  # with an image, and so an end, in the header
        Image.open(file).save(file, "JPEG", exif=b"Exif\0\0" + content)
    content = cut.read_bytes()
    half = (content.rfind(b"\xff\xda") + len(content)) // 2
    cut.write_bytes(content[:half] + bytes(len(content) - half))
    assert verify(data.published, data.folder).faults == []
    faults = verify(data.published, data.folder, decode=True).faults
    assert faults == [f"damaged: {file.relative_to(data.folder)}" for file in (padded, longer, cut)]


def test_a_folder_in_place_of_an_image_is_no_image(tiny):
    data = tiny("places-lt").write_images().write_lists()
    path = data.all_paths("train")[0]
    (data.folder / path).unlink()
    (data.folder / path).mkdir()
    assert verify(data.published, data.folder).faults == [f"damaged: {path}"]


def test_image_files_of_the_users_own_are_decoded(tmp_path, class_folders, cli, monkeypatch):
    class_folders(tmp_path, {"a": 3, "b": 3})
    words = ("data", "verify", "folder-lt", "--data-dir", tmp_path)
    done = cli(*words, "--decode")
    assert done.code == 0
    assert done.err.endswith("ltbench-split.csv names them\n")
    assert "are kept in memory, decoded; --decode adds nothing" in done.out
    monkeypatch.setattr(image_folder, "STREAMED_ABOVE", 0)
    done = cli(*words, "--decode")
    assert (done.code, done.err) == (0, "")
    assert "6 of 6 decode" in done.out
    cut = tmp_path / "a" / "001.png"
    cut.write_bytes(cut.read_bytes()[:100])
    assert cli(*words).code == 0
    done = cli(*words, "--decode")
    assert done.code == 2
    for fault in ("folder-lt is not as it should be", "damaged: a/001.png", "to do: replace what is damaged"):
        assert fault in done.err


def test_a_wrong_list_must_go_before_another_is_fetched(tiny, cli):
    data = tiny("inaturalist2018").write_images().write_lists()
    file = data.list("train")
    file.write_text("".join(file.read_text().splitlines(keepends=True)[1:]))
    done = cli("data", "verify", "inaturalist2018", "--data-dir", data.folder)
    assert "to do: delete or correct a wrong list; ltbench data prepare inaturalist2018" in done.err


def test_a_folder_that_is_not_readable_is_told(tiny, cli, closed):
    data = tiny("places-lt").write_images().write_lists()
    closed(data.folder / "data_256")
    about = ("--data-dir", data.folder)
    for words in (["data", "verify", "places-lt"], ["data", "prepare", "places-lt"], ["data", "order", "places-lt"],
                  ["run", "--dataset", "places-lt"]):  # fmt: skip
        done = cli(*words, *about)
        assert done.code == 2
        assert f"permission denied in the data folder\n  where: {data.folder}/data_256" in done.err
        assert f"chmod -R u+rX {data.folder};" in done.err
    assert f"places-lt                 not readable: {data.folder}/data_256\n" in cli("doctor", *about).out


def test_a_cache_that_is_not_readable_is_told(cli, closed, tmp_path, monkeypatch, class_folders):
    class_folders(tmp_path / "data", {"ant": 3, "bee": 3})
    monkeypatch.setenv("LTBENCH_CACHE", str(tmp_path / "cache"))
    for name in ("decoded", "resized"):
        (tmp_path / "cache" / name).mkdir(parents=True)
    closed(tmp_path / "cache")
    done = cli("run", "--dataset", "folder-lt", "--data-dir", tmp_path / "data", "--image-size", 32)
    assert done.code == 2
    assert "permission denied in the cache folder" in done.err
    assert "$LTBENCH_CACHE" in done.err
    assert f"images scaled             not readable: {tmp_path}/cache" in cli("doctor").out


def test_images_that_are_not_readable_are_told_beside_the_missing(tiny, closed, monkeypatch):
    data = tiny("places-lt").write_images().write_lists()
    gone, folder = data.all_paths("train")[0], data.folder / "data_256/z"
    (data.folder / gone).unlink()
    hidden = [path for part in data.published.parts for path in data.all_paths(part) if path.startswith("data_256/z")]
    monkeypatch.setattr(ImageLayout, "detect", lambda self, *args: self.official())
    closed(folder)
    faults = verify(data.published, data.folder).faults
    assert faults == [f"missing: {gone}", *(f"not readable: {path}" for path in hidden)]


def test_the_images_of_an_export_are_decoded(tmp_path, class_folders, cli, monkeypatch):
    monkeypatch.setattr(image_folder, "STREAMED_ABOVE", 0)
    class_folders(tmp_path / "photos", {"a": 5, "b": 5})
    words = ("folder-lt", "--data-dir")
    assert cli("data", "export", *words, tmp_path / "photos", "--output", "out").code == 0
    done = cli("data", "verify", *words, "out", "--decode")
    assert (done.code, "10 of 10 decode" in done.out) == (0, True)
    damaged = min((tmp_path / "out").rglob("*.png"))
    damaged.write_bytes(bytes(damaged.stat().st_size))  # the fingerprint is of names and sizes
    assert cli("data", "verify", *words, "out").code == 0
    done = cli("data", "verify", *words, "out", "--decode")
    assert done.code == 2
    assert f"damaged: {damaged.relative_to(tmp_path / 'out').as_posix()}" in done.err
