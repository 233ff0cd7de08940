"""imagenet-lt, inaturalist2018 and places-lt: what is published, the layouts in use, and every error's words."""

import json

import numpy as np
import pytest

from ltbench import registry
from ltbench.data.long_tail import ShotRule, fingerprint_files
from ltbench.data.verify.files import verify
from ltbench.errors import LtbenchError, LtbenchWarning

NAMES = ("imagenet-lt", "inaturalist2018", "places-lt")
EACH = pytest.mark.parametrize("name", NAMES)
PUBLISHED = {  # images of train, validation, test; largest and smallest class; many, medium, few
    "imagenet-lt": ((115_846, 20_000, 50_000), (1280, 5), (385, 479, 136)),
    "places-lt": ((62_500, 7_300, 36_500), (4980, 5), (131, 163, 71)),
    "inaturalist2018": ((437_513, None, 24_426), None, (842, 4076, 3224)),
}


@EACH
def test_the_published_numbers_agree_with_each_other(name):
    source = registry.dataset(name)
    sizes, extremes, groups = PUBLISHED[name]
    published = source.published
    parts = published.parts
    assert tuple(parts[part].size if part in parts else None for part in ("train", "validation", "test")) == sizes
    assert published.shot_groups == groups
    assert sum(groups) == published.class_count
    counts = published.train_counts
    if extremes is None:
        assert counts is None
    else:
        assert (len(counts), sum(counts), max(counts), min(counts)) == (published.class_count, sizes[0], *extremes)
        found = ShotRule().groups(np.array(counts))
        assert tuple(len(members) for members in found.values()) == groups
    for part in set(parts) - {"train"}:
        assert parts[part].per_class * published.class_count == parts[part].size
        assert sum(published.counts(part)) == parts[part].size


def test_the_lists_of_imagenet_lt_are_known_by_their_content():
    parts = registry.dataset("imagenet-lt").published.parts
    assert parts["train"].blob == "a063f095fcd475db4cf8b0658c4b73955535bbf9"
    assert parts["validation"].blob == "3ed3188b2f44829ce2dec1cc27040d8d40984088"
    assert parts["test"].blob == "76a2fb9749d6cd29e765cc4f8c270f2504131e2f"


def test_the_lists_of_inaturalist_and_places_are_known_by_their_content():
    """As the repositories of LADE, SADE and PaCo hand them out; version 1 as those of classifier-balancing and LIFT."""
    parts = registry.dataset("inaturalist2018").published.parts
    assert parts["train"].blob == "4accdb7584d2f0a5106c40a33ed6afa392189bcc"
    assert parts["test"].blob == "4c23900857fd0f5adcd4cc0dffef345039eeb05f"
    parts = registry.dataset("places-lt").published.parts
    assert {part: (one.blob, *one.versions) for part, one in parts.items()} == {
        "train": ("1d608b558c25c271da75c06f1e5e3625a4ebcb79", "6392252f8ae867bc8a5e841cc1b29e5b8ef4b636"),
        "validation": ("89c29c0973328f77d7a77a8b580634ce20acdc11", "b93a2ca58ccb7f3b671c176f395a70bf52c95533"),
        "test": ("d43400ac9bc2275baa058456da40b20abb50b108", "e732e58b8aa718a2c1c11933375f5710652c2b93"),
    }


def test_the_official_annotations_are_not_taken_for_another_list(tiny):
    """Their order is not that of the lists, whose content is on record."""
    data = tiny("inaturalist2018").write_images().write_lists()
    for part, name in (("train", "train2018.json"), ("test", "val2018.json")):
        data.list(part).unlink()
        members = list(enumerate(data.members[part]))[::-1]
        paths = data.all_paths(part)
        (data.folder / name).write_text(
            json.dumps(
                {
                    "images": [{"id": i, "file_name": paths[i]} for i, _ in members],
                    "annotations": [{"image_id": i, "category_id": one[3]} for i, one in members],
                }
            )
        )
    assert len(data.source.load(data.folder, 224).train) == 14


def test_the_settings_of_each_data_set_are_the_published_ones():
    inaturalist = registry.dataset("inaturalist2018")
    assert inaturalist.statistics == ((0.466, 0.471, 0.380), (0.195, 0.194, 0.192))
    for name in NAMES:
        source = registry.dataset(name)
        assert (source.backbone, source.image_size, source.imbalance_ratio) == ("resnet50", 224, None)
        if source is not inaturalist and name != "inaturalist2018":
            assert source.statistics == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@EACH
def test_a_data_set_is_files_by_its_lists(tiny, name):
    data = tiny(name).write_images().write_lists()
    raw = data.source.load(data.folder, 224)
    parts = {"train": raw.train, "test": raw.test, "validation": raw.validation}
    for part, one in parts.items():
        if part not in data.members:
            assert one is None
            continue
        assert one.root == data.folder
        assert one.names.tolist() == data.all_paths(part)
        assert one.labels.tolist() == [label for *_, label in data.members[part]]
        assert all((one.root / path).is_file() for path in one.names)
    assert np.bincount(raw.train.labels).tolist() == [7, 4, 2, 1]
    assert raw.classes == tuple(dict.fromkeys(folder for _, folder, *_ in data.members["train"]))
    assert raw.test_names == tuple(data.all_paths("test"))
    assert data.source.available(data.folder)


LAYOUTS = [
    ("imagenet-lt", {"val": "val/{folder}/{image}"}),
    ("imagenet-lt", {key: f"ILSVRC/Data/CLS-LOC/{rest}" for key, rest in
                     {"train": "train/{folder}/{image}", "val": "val/{image}"}.items()}),
    ("inaturalist2018", {"train_val": "2018/{folder}/{image}"}),
    ("places-lt", {"train": "data_256_standard/{folder}/{image}"}),
    ("places-lt", {"train": "train/{flat}/{image}", "val": "val/{flat}/{image}"}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "layouts"), LAYOUTS)
def test_images_are_found_in_every_layout_in_use(tiny, name, layouts):
    data = tiny(name).write_images(layouts).write_lists()
    raw = data.source.load(data.folder, 224)
    assert raw.train.names.tolist() == data.all_paths("train", layouts)
    assert raw.test.names.tolist() == data.all_paths("test", layouts)
    assert raw.test_names == tuple(data.all_paths("test")), "the official names, wherever the images lie"


@pytest.mark.parametrize(("name", "layouts"), LAYOUTS)
def test_the_layout_does_not_change_the_fingerprint(tiny, tmp_path, name, layouts):
    data = tiny(name).write_images().write_lists()
    raw = data.source.load(data.folder, 224)
    data.folder = tmp_path / "elsewhere"
    other = data.write_images(layouts).write_lists().source.load(data.folder, 224)
    assert (
        other.train.names.tolist() != raw.train.names.tolist() or other.test.names.tolist() != raw.test.names.tolist()
    )
    assert fingerprint_files(other.train) == fingerprint_files(raw.train)
    assert fingerprint_files(other.test) == fingerprint_files(raw.test)


WRITTEN = [
    ("imagenet-lt", lambda images, folder, image: f"{folder}/{image}"),
    ("imagenet-lt", lambda images, folder, image: f"{images}/{folder}/{image}"),
    ("inaturalist2018", lambda images, folder, image: f"{folder}/{image}"),
    ("places-lt", lambda images, folder, image: f"{images}/{folder.partition('/')[2].replace('/', '-')}/{image}"),
]


@pytest.mark.parametrize(("name", "written"), WRITTEN)
def test_lists_are_read_however_their_paths_are_written(tiny, name, written):
    data = tiny(name).write_images().write_lists(written, into=registry.dataset(name).published.list_folders[0])
    raw = data.source.load(data.folder, 224)
    assert raw.train.names.tolist() == data.all_paths("train")
    assert raw.test.names.tolist() == data.all_paths("test")


def test_a_flat_layout_has_one_name_for_a_folder_in_a_folder(tiny):
    data = tiny("places-lt").write_images({"train": "train/{flat}/{image}"}).write_lists()
    assert (data.folder / "train/apartment_building-outdoor").is_dir()
    assert data.source.load(data.folder, 224).classes[1] == "a/apartment_building/outdoor"


def annotations(data, part):
    """The list of a part as iNaturalist publishes it, its annotations in another order than its images."""
    listed = [(i + 7, path, one[3]) for i, (path, one) in
              enumerate(zip(data.all_paths(part), data.members[part], strict=True))]  # fmt: skip
    return json.dumps(
        {
            "images": [{"id": i, "file_name": path} for i, path, _ in listed],
            "annotations": [{"image_id": i, "category_id": label} for i, _, label in reversed(listed)],
        }
    )


def test_inaturalist_reads_the_official_annotations(tiny):
    data = tiny("inaturalist2018").write_images()
    for part, name in (("train", "train2018.json"), ("test", "val2018.json")):
        (data.folder / name).write_text(annotations(data, part))
    raw = data.source.load(data.folder, 224)
    assert raw.train.names.tolist() == data.all_paths("train")
    assert raw.train.labels.tolist() == [label for *_, label in data.members["train"]]
    assert raw.classes == ("Animalia/0", "Arachnida/1", "Plantae/2", "Plantae/3")


def test_labels_of_inaturalist_are_those_of_torchvision(tiny):
    from torchvision.datasets import INaturalist

    layout = {"train_val": "2018/{folder}/{image}"}
    data = tiny("inaturalist2018").write_images(layout).write_lists()
    raw = data.source.load(data.folder, 224)
    theirs = INaturalist(str(data.folder), version="2018")
    theirs_by_path = {f"2018/{theirs.all_categories[label]}/{name}": label for label, name in theirs.index}
    for part in (raw.train, raw.test):
        assert [theirs_by_path[name] for name in part.names] == part.labels.tolist()


@EACH
def test_what_is_missing_is_told_with_the_steps(tiny, name):
    data = tiny(name)
    assert not data.source.available(data.folder)
    with pytest.raises(LtbenchError) as caught:
        data.source.load(data.folder, 224)
    words = str(caught.value)
    for part in data.published.parts.values():
        assert part.lists[0] in words
    for images in data.published.layout.templates:
        assert f"the {images} images" in words
    assert str(data.folder.absolute()) in words
    assert f"ltbench data prepare {name} --data-dir {data.folder}" in words
    for archive in data.published.archives:
        assert archive.file in words


def test_imagenet_names_the_account_the_files_and_their_sizes(tiny):
    data = tiny("imagenet-lt")
    with pytest.raises(LtbenchError) as caught:
        data.source.load(data.folder, 224)
    for words in ("https://image-net.org", "account", "ILSVRC2012_img_train.tar (147.9 GB)",
                  "ILSVRC2012_img_val.tar (6.7 GB)", "https://liuziwei7.github.io"):  # fmt: skip
        assert words in str(caught.value)


@EACH
def test_images_that_are_nowhere_are_missing(tiny, name):
    data = tiny(name).write_images().write_lists()
    for path in data.all_paths("train"):
        (data.folder / path).unlink()
    for path in data.all_paths("validation") if "validation" in data.members else data.all_paths("test"):
        (data.folder / path).unlink()
    with pytest.raises(LtbenchError, match="is incomplete") as caught:
        data.source.load(data.folder, 224)
    assert f"the {data.published.parts['train'].image_set} images" in str(caught.value)
    assert "the val images" not in str(caught.value)


def test_lists_alone_do_not_make_a_data_set(tiny):
    data = tiny("places-lt").write_lists()
    assert not data.source.available(data.folder)
    with pytest.raises(LtbenchError) as caught:
        data.source.load(data.folder, 224)
    assert "the list" not in str(caught.value)
    assert "1. ltbench data prepare places-lt" in str(caught.value), "nothing is left to the user"


@EACH
def test_a_wrong_count_names_the_class(tiny, name):
    data = tiny(name).write_images().write_lists()
    file = data.list("test")
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(LtbenchError) as caught:
        data.source.load(data.folder, 224)
    assert f"{file.name}: 7 images, expected 8 (and 1 more)" in str(caught.value)
    assert "ltbench data verify" in str(caught.value)


BAD = [
    ("n01440764_1.JPEG\n", "is not a path and a label", ", line 1"),
    ("train/n01440764/a.JPEG 0\ntrain/n01440764/b.JPEG zero\n", "is not a path and a label", ", line 2"),
    ("train/../../secret.JPEG 0\n", "is not a path inside a folder", ", line 1"),
    ("/etc/secret.JPEG 0\n", "is not a path inside a folder", ", line 1"),
    ("train/a\0.JPEG 0\n", "'train/a\\x00.JPEG' is not a path inside a folder", ", line 1"),
    ("train/a.JPEG -1\n", "-1 is not a label", ", line 1"),
    ("train/a.JPEG 99999999999999999999999\n", "99999999999999999999999 is not a label", ", line 1"),
    ("n01440764_1.JPEG 0\n" * 14, "1.JPEG does not tell the folder of class 0", ""),
    ("train/n01440764/a.JPEG 2147483647\n", "label 2147483647, but there are 4 classes, from 0", ""),
    ("train/n01440764/a.JPEG 4\n", "label 4, but there are 4 classes, from 0", ""),
]


@pytest.mark.parametrize(("text", "words", "place"), BAD)
def test_a_malformed_list_names_the_line(tiny, text, words, place):
    data = tiny("imagenet-lt").write_images().write_lists()
    data.list("train").write_text(text)
    faults = verify(data.published, data.folder).faults
    assert any(words in fault and f"{data.list('train').name}{place}" in fault for fault in faults)
    with pytest.raises(LtbenchError) as caught:
        data.source.load(data.folder, 224)
    assert f"{data.list('train').name}{place}" in str(caught.value)


UNREADABLE = [
    b"\xff\xfe\x00train",
    b"{",
    b"[]",
    b'{"images": [{"id": 1}], "annotations": []}',
    b'{"images": [], "annotations": [{"image_id": 1, "category_id": 1e999}]}',
]


@pytest.mark.parametrize("content", UNREADABLE)
def test_a_list_that_cannot_be_read_is_named(tiny, content):
    data = tiny("inaturalist2018").write_images().write_lists()
    name = "train2018.json" if content[:1] in b"[{" else "iNaturalist18_train.txt"
    data.list("train").unlink()
    (data.folder / name).write_bytes(content)
    with pytest.raises(LtbenchError, match="cannot be read") as caught:
        data.source.load(data.folder, 224)
    assert name in str(caught.value)


def test_a_list_that_is_not_the_official_one_is_told_and_used(tiny):
    data = tiny("imagenet-lt").write_images().write_lists()
    lines = data.list("train").read_text().splitlines(keepends=True)
    data.list("train").write_text("".join(lines[::-1]))
    with pytest.warns(LtbenchWarning, match=r"ImageNet_LT_train\.txt is not the official list"):
        raw = data.source.load(data.folder, 224)
    assert raw.train.names.tolist() == data.all_paths("train")[::-1]


def test_the_folder_of_another_class_is_told(tiny):
    data = tiny("imagenet-lt").write_images().write_lists()
    file = data.list("validation")
    file.write_text(file.read_text().replace("train/n01443537/", "train/n01484850/"))
    with pytest.raises(LtbenchError, match=r"n01484850/n01443537_1011\.JPEG has label 1, which is that of n01443537"):
        data.source.load(data.folder, 224)


def test_labels_of_inaturalist_are_what_the_folders_say(tiny):
    data = tiny("inaturalist2018").write_images()
    data.write_lists(lambda images, folder, image: f"train_val2018/{folder.replace('2', '9')}/{image}")
    with pytest.raises(LtbenchError, match=r"Plantae/9/.* has label 2, its folder says 9"):
        data.source.load(data.folder, 224)
