"""folder-lt with a table of labels: CSV, Kaggle's and Hugging Face's layouts, parquet, and faults of a table."""

import io
import json
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from PIL import Image
from pyarrow import parquet

from ltbench.config import RunConfig
from ltbench.data import dataset
from ltbench.data.datasets import table_files
from ltbench.data.datasets.image_folder import Folder
from ltbench.errors import LtbenchError, LtbenchWarning
from ltbench.files import paths

pytestmark = pytest.mark.filterwarnings("ignore::ltbench.errors.LtbenchWarning", "ignore::ltbench.errors.LtbenchNotice")


def png(seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue(), pixels.transpose(2, 0, 1)


@pytest.fixture
def images(tmp_path):
    """Write images by name; gives the pixels of each: ``images("a.png", "b/c.png")``."""

    def write(*names):
        made = {}
        for name in names:
            content, pixels = png(sum(name.encode()) + len(name))
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes(content)
            made[name] = pixels
        return made

    return write


def load(folder, **settings):
    return dataset.load(Folder(), RunConfig(dataset="folder-lt", image_size=8, **settings), folder)


def by_pixels(part, classes):
    return {image.tobytes(): classes[label] for image, label in zip(part.images, part.labels, strict=True)}


THREE_PARTS = [
    ("cat", "train", 3),
    ("dog", "train", 2),
    ("cat", "val", 1),
    ("dog", "valid", 1),
    ("cat", "test", 1),
    ("dog", "Testing", 2),
]


def rows(layout=THREE_PARTS, form="images/{label}-{split}-{i}.png"):
    return [(form.format(label=label, split=split, i=i), label, split) for label, split, n in layout for i in range(n)]


def csv(header, lines, delimiter=","):
    return "\n".join(delimiter.join(line) for line in [header, *lines]) + "\n"


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("header", [("path", "label", "split"), ("File Name", "species", "Subset")])
def test_paths_labels_and_parts_of_a_table(images, tmp_path, delimiter, header):
    made = images(*(path for path, _, _ in rows()))
    (tmp_path / "labels.csv").write_text(csv(header, rows(), delimiter))
    data = load(tmp_path, labels="labels.csv", validation=True)
    assert data.classes == ("cat", "dog")
    sizes = [np.bincount(part.labels).tolist() for part in (data.train, data.validation, data.test)]
    assert sizes == [[3, 2], [1, 1], [1, 2]]
    for part, names in ((data.train, ("train",)), (data.test, ("test", "Testing"))):
        expected = {made[path].tobytes(): label for path, label, split in rows() if split in names}
        assert by_pixels(part, data.classes) == expected


def test_a_table_in_the_folder_is_found_where_there_are_no_class_folders(images, tmp_path):
    images(*(path for path, _, _ in rows()))
    (tmp_path / "labels.csv").write_text(csv(("path", "label", "split"), rows()))
    assert load(tmp_path).fingerprints == load(tmp_path, labels="labels.csv").fingerprints


def test_class_folders_come_before_a_table_and_that_is_said(images, tmp_path):
    images(*(f"{label}/{i}.png" for label in ("cat", "dog") for i in range(5)))
    (tmp_path / "labels.csv").write_text(csv(("path", "label"), [("cat/0.png", "x"), ("dog/0.png", "y")]))
    with pytest.warns(LtbenchWarning, match=r"labels\.csv is not read; --labels labels\.csv reads it"):
        assert load(tmp_path).classes == ("cat", "dog")


def test_a_table_elsewhere_and_whole_paths(images, tmp_path):
    images(*(f"photos/{i}.png" for i in range(10)))
    lines = [(str(tmp_path / "photos" / f"{i}.png"), "odd" if i % 2 else "even") for i in range(10)]
    (tmp_path / "mine.csv").write_text(csv(("path", "label"), lines))
    data = load(tmp_path / "photos", labels=str(tmp_path / "mine.csv"))
    assert (data.classes, data.counts.tolist(), len(data.test)) == (("even", "odd"), [4, 4], 2)


@pytest.mark.parametrize("ending", ["", ".png"])
def test_kaggles_flat_folders(images, tmp_path, ending):
    """train.csv with id and label, images in train/ with and without an ending, unlabelled ones in test/."""
    images(*(f"train/{i:04}.png" for i in range(10)), "test/0000.png")
    (tmp_path / "train.csv").write_text(csv(("id", "breed"), [(f"{i:04}{ending}", "ab"[i % 2]) for i in range(10)]))
    with pytest.warns(LtbenchWarning, match=r"1 images that train\.csv does not name \(test/0000\.png\)"):
        data = load(tmp_path)
    assert data.classes == ("a", "b")
    assert data.counts.tolist() == [4, 4]  # a fifth of five each is the test set
    assert not any(name.startswith("test/") for name in data.test_names)
    assert load(tmp_path).fingerprints == data.fingerprints


def test_numbers_are_classes_in_their_order(images, tmp_path):
    images(*(f"{i}.png" for i in range(24)))
    lines = [(f"{i}.png", str(i % 12), "train" if i < 12 else "test") for i in range(24)]
    (tmp_path / "labels.csv").write_text(csv(("path", "label", "split"), lines))
    assert load(tmp_path).classes == tuple(map(str, range(12)))


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_hugging_faces_metadata_in_the_folders_of_parts(images, tmp_path, kind):
    for part, each in (("train", 3), ("test", 1)):
        lines = [(f"{label}{i}.png", label) for label in ("cat", "dog") for i in range(each)]
        images(*(f"{part}/{name}" for name, _ in lines))
        text = csv(("file_name", "label"), lines)
        if kind == "jsonl":
            text = "".join(json.dumps({"file_name": name, "label": label}) + "\n" for name, label in lines)
        (tmp_path / part / f"metadata.{kind}").write_text(text)
    data = load(tmp_path)
    assert (data.classes, data.counts.tolist(), len(data.test)) == (("cat", "dog"), [3, 3], 2)


def test_a_row_without_a_label_leaves_the_others_as_they_are(images, tmp_path):
    """Numbers stay whole where another row has none."""
    images(*(f"{i}.png" for i in range(10)))
    lines = [json.dumps({"file_name": f"{i}.png", "label": i % 2, **({"note": 1} if i else {})}) for i in range(10)]
    (tmp_path / "metadata.jsonl").write_text("\n".join(lines))
    assert load(tmp_path).classes == ("0", "1")
    (tmp_path / "metadata.jsonl").write_text("\n".join([*lines, json.dumps({"file_name": "0.png"})]))
    with pytest.raises(LtbenchError, match=r"1 of 11 images have no label: 0\.png"):
        load(tmp_path)


def test_paths_as_windows_writes_them(images, tmp_path):
    images(*(f"all/{i}.png" for i in range(10)))
    (tmp_path / "labels.csv").write_text(csv(("path", "label"), [(f"all\\{i}.png", "ab"[i % 2]) for i in range(10)]))
    assert load(tmp_path, labels="labels.csv").classes == ("a", "b")


def test_tables_in_the_folders_of_parts_are_read_together(images, tmp_path):
    for part, each in (("train", 3), ("test", 1)):
        lines = [(f"{label}{i}.png", label) for label in ("cat", "dog") for i in range(each)]
        images(*(f"{part}/{name}" for name, _ in lines))
        (tmp_path / part / "labels.csv").write_text(csv(("path", "label"), lines))
    data = load(tmp_path)
    assert (data.counts.tolist(), len(data.test)) == ([3, 3], 2)


def test_hugging_faces_metadata_in_the_folder(images, tmp_path):
    images(*(f"{i}.png" for i in range(10)))
    lines = "".join(json.dumps({"file_name": f"{i}.png", "label": i % 2, "width": 8}) + "\n" for i in range(10))
    (tmp_path / "metadata.jsonl").write_text(lines)
    assert load(tmp_path).classes == ("0", "1")


def test_the_only_column_of_files_and_the_only_other_one_are_found(images, tmp_path):
    images(*(f"{i}.png" for i in range(10)))
    (tmp_path / "labels.csv").write_text(csv(("photo", "animal"), [(f"{i}.png", "ab"[i % 2]) for i in range(10)]))
    assert load(tmp_path).classes == ("a", "b")


@pytest.mark.parametrize("caption", ["/ a cat", "a long story " * 30, "../cat", "it\u2028goes on"])
@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_a_column_that_holds_no_paths_may_hold_anything(images, tmp_path, caption, kind):
    images(*(f"{i}.png" for i in range(10)))
    lines = [(f"{i}.png", caption, "ab"[i % 2]) for i in range(10)]
    header = ("photo", "caption", "breed")
    records = [json.dumps(dict(zip(header, line, strict=True)), ensure_ascii=False) for line in lines]
    text = csv(header, lines) if kind == "csv" else "\n".join(records)
    (tmp_path / f"labels.{kind}").write_text(text, encoding="utf-8")
    assert load(tmp_path, labels=f"labels.{kind}", label_columns="label=breed").counts.tolist() == [4, 4]


@pytest.mark.parametrize("told", ["path=photo,label=animal,split=fold", "photo,animal,fold", "label=animal,path=photo"])
def test_columns_that_are_told(images, tmp_path, told):
    images(*(path for path, _, _ in rows()))
    lines = [(path, label, split, "x", "odd") for path, label, split in rows()]
    (tmp_path / "mine.csv").write_text(csv(("photo", "animal", "fold", "label", "class"), lines))
    data = load(tmp_path, labels="mine.csv", label_columns=told)
    assert data.classes == ("cat", "dog")
    assert data.counts.sum() == (5 if "fold" in told else sum(n for _, _, n in THREE_PARTS) - 2)


@pytest.mark.parametrize(
    ("written", "there"), [("cats/7.png", "dogs/7.png"), ("a/7.png", "ba/7.png"), ("cats/7", "dogs/7.png")]
)
def test_an_image_of_the_same_name_in_another_folder_is_another(images, tmp_path, written, there):
    images(there, *(f"img/{i}.png" for i in range(4)))
    lines = [(f"img/{i}.png", "cat" if i % 2 else "dog") for i in range(4)]
    (tmp_path / "labels.csv").write_text(csv(("path", "label"), [*lines, (written, "cat")]))
    with pytest.raises(LtbenchError, match=f"1 of 5 images are missing: {written}"):
        load(tmp_path, labels="labels.csv")


@pytest.mark.parametrize("form", ["{}", "photos/{}", "/elsewhere/photos/{}", "./{}"])
def test_a_table_may_be_of_a_folder_above(images, tmp_path, form):
    images(*(f"img/{i}.png" for i in range(10)))
    lines = [(form.format(f"img/{i}.png"), "cat" if i % 2 else "dog") for i in range(10)]
    (tmp_path / "labels.csv").write_text(csv(("path", "label"), lines))
    if form.startswith("/"):
        with pytest.raises(LtbenchError, match="leads out of the folder"):
            load(tmp_path, labels="labels.csv")
    else:
        assert load(tmp_path, labels="labels.csv").counts.tolist() == [4, 4]


def test_a_path_out_of_the_folder_is_refused_wherever_one_stands(images, tmp_path, monkeypatch):
    images("outside.png", *(f"in/{i}.png" for i in range(4)))
    (tmp_path / "in" / "labels.csv").write_text(csv(("path", "label"), [("../outside.png", "cat"), ("1.png", "dog")]))
    monkeypatch.chdir(tmp_path / "in")
    for folder in (tmp_path / "in", Path()):
        with pytest.raises(LtbenchError, match=r"leads out of the folder: \.\./outside.png"):
            load(folder, labels="labels.csv")


# Parquet


def embedded(names=("cat", "dog"), each=5, *, as_numbers=False, seed=0, name="{i}.png"):
    """A table as Hugging Face writes it: images as bytes and paths, classes as text or as numbers with names."""
    labels = [label for label in range(len(names)) for _ in range(each)]
    contents = [png(seed + i) for i in range(len(labels))]
    kept = [{"bytes": content, "path": name.format(i=i)} for i, (content, _) in enumerate(contents)]
    column = labels if as_numbers else [names[label] for label in labels]
    table = pyarrow.table({"image": kept, "label": column})
    if as_numbers:
        features = {"label": {"names": list(names), "_type": "ClassLabel"}, "image": {"_type": "Image"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    return table, {pixels.tobytes(): names[label] for (_, pixels), label in zip(contents, labels, strict=True)}


@pytest.mark.parametrize("as_numbers", [False, True])
def test_images_in_parquet(tmp_path, as_numbers):
    table, expected = embedded(as_numbers=as_numbers)
    parquet.write_table(table, tmp_path / "photos.parquet")
    data = load(tmp_path)
    assert data.classes == ("cat", "dog")
    assert {**by_pixels(data.train, data.classes), **by_pixels(data.test, data.classes)} == expected
    assert len(data.test) == 2
    assert load(tmp_path, labels="photos.parquet").fingerprints == data.fingerprints


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_a_column_may_be_called_image_name(images, tmp_path, kind):
    images(*(f"{i}.png" for i in range(10)))
    lines = [(f"{i}.png", f"image {i}", "ab"[i % 2]) for i in range(10)]
    header = ("path", "image_name", "label")
    records = [dict(zip(header, line, strict=True)) for line in lines]
    if kind == "parquet":
        parquet.write_table(pyarrow.Table.from_pylist(records), tmp_path / "labels.parquet")
    else:
        text = csv(header, lines) if kind == "csv" else "\n".join(map(json.dumps, records))
        (tmp_path / f"labels.{kind}").write_text(text)
    assert load(tmp_path, labels=f"labels.{kind}").counts.tolist() == [4, 4]


@pytest.mark.parametrize("kind", ["bytes and paths", "bytes", "binary"])
def test_images_that_are_unpacked_are_not_read_from_parquet_again(tmp_path, monkeypatch, kind):
    """There may be more of them than memory holds."""
    table, expected = embedded()
    contents = [one["bytes"] for one in table["image"].to_pylist()]
    kept = {"bytes and paths": table["image"], "bytes": [{"bytes": one} for one in contents], "binary": contents}
    parquet.write_table(
        pyarrow.table({"image": kept[kind], "label": table["label"]}), tmp_path / "photos.parquet", row_group_size=3
    )
    monkeypatch.setattr(table_files, "_TOGETHER", 4)
    data = load(tmp_path)
    assert {**by_pixels(data.train, data.classes), **by_pixels(data.test, data.classes)} == expected
    monkeypatch.setattr("ltbench.data.datasets.label_table.embedded_images", lambda file: pytest.fail("read again"))
    assert load(tmp_path).fingerprints == data.fingerprints


def test_an_unpacked_image_that_a_power_failure_has_emptied_is_written_anew(tmp_path):
    parquet.write_table(embedded()[0], tmp_path / "photos.parquet")
    data = load(tmp_path)
    emptied = sorted((paths.cache_dir() / "unpacked").rglob("*.png"))[3]
    emptied.write_bytes(b"")
    assert load(tmp_path).fingerprints == data.fingerprints
    assert emptied.stat().st_size


def test_a_row_without_an_image_is_named(tmp_path):
    table = pyarrow.table({"image": [png(0)[0], None, png(1)[0]], "label": ["cat", "dog", "dog"]})
    parquet.write_table(table, tmp_path / "photos.parquet")
    with pytest.raises(LtbenchError, match="row 1 has no image"):
        load(tmp_path)


def test_parts_by_the_names_of_parquet_files(tmp_path):
    (tmp_path / "data").mkdir()
    for number in range(2):
        table, _ = embedded(each=2, seed=10 * number)
        parquet.write_table(table, tmp_path / "data" / f"train-0000{number}-of-00002.parquet")
    table, expected = embedded(each=1, seed=50, name="")
    parquet.write_table(table, tmp_path / "data" / "test-00000-of-00001.parquet")
    data = load(tmp_path)
    assert data.counts.tolist() == [4, 4]
    assert by_pixels(data.test, data.classes) == expected


def test_a_parquet_table_in_the_folder_of_each_part(tmp_path):
    expected = {}
    for part, each, seed in (("train", 4, 0), ("test", 2, 50)):
        (tmp_path / part).mkdir()
        table, expected[part] = embedded(each=each, seed=seed)
        parquet.write_table(table, tmp_path / part / "metadata.parquet")
    data = load(tmp_path)
    assert data.counts.tolist() == [4, 4]
    assert by_pixels(data.train, data.classes) == expected["train"]
    assert by_pixels(data.test, data.classes) == expected["test"]


def test_paths_in_a_parquet_table_in_the_folder_of_each_part(images, tmp_path):
    made = {}
    for part, count in (("train", 8), ("test", 4)):
        made[part] = images(*(f"{part}/{part}{i}.png" for i in range(count)))
        table = pyarrow.table({"file_name": [f"{part}{i}.png" for i in range(count)], "label": [0, 1] * (count // 2)})
        parquet.write_table(table, tmp_path / part / "metadata.parquet")
    data = load(tmp_path)
    for part, own in (("train", data.train), ("test", data.test)):
        assert set(by_pixels(own, data.classes)) == {pixels.tobytes() for pixels in made[part].values()}


def test_paths_in_parquet(images, tmp_path):
    images(*(f"{i}.png" for i in range(10)))
    table = pyarrow.table({"image": [f"{i}.png" for i in range(10)], "label": [i % 2 for i in range(10)]})
    parquet.write_table(table, tmp_path / "labels.parquet")
    assert load(tmp_path).counts.tolist() == [4, 4]


def test_parquet_takes_pyarrow(tmp_path, monkeypatch):
    import sys

    parquet.write_table(embedded()[0], tmp_path / "photos.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(LtbenchError, match="parquet files take pyarrow") as caught:
        load(tmp_path)
    assert "pip install 'ltbench[parquet]'" in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"PAR1", b"\0" * 50])
def test_a_damaged_parquet_file_is_named(tmp_path, content):
    (tmp_path / "photos.parquet").write_bytes(content)
    with pytest.raises(LtbenchError, match="the table cannot be read") as caught:
        load(tmp_path)
    assert "photos.parquet" in str(caught.value)


# What is wrong with a table


GOOD = [(f"{i}.png", "ab"[i % 2], "train" if i < 6 else "test") for i in range(10)]


def changed(position, **values):
    lines = [dict(zip(("path", "label", "split"), line, strict=True)) for line in GOOD]
    lines[position] |= values
    return [tuple(line.values()) for line in lines]


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([*GOOD, *((f"no{i}.png", "a", "train") for i in range(5))], ["5 of 15", "no0.png, no1.png, no2.png, ..."]),
        ([*GOOD, GOOD[0]], ["1 images are named more than once: 0.png"]),
        ([*GOOD, ("0.png", "b", "train")], ["1 images are named more than once: 0.png"]),
        ([*GOOD, ("./0.png", "b", "train")], ["1 images are named more than once: 0.png"]),
        ([*GOOD, ("../out.png", "a", "train")], ["leads out of the folder: ../out.png", "--data-dir"]),
        ([*GOOD, ("/etc/passwd", "a", "train")], ["leads out of the folder: /etc/passwd"]),
        (changed(9, label="c"), ["1 labels are in test only: c"]),
        (changed(0, label="c"), ["1 labels are in training only: c", "--keep-classes-without-test-images"]),
        (changed(0, label=" "), ["1 of 10 images have no label: 0.png"]),
        (changed(0, path=""), ["1 of 10 images are missing"]),
        (changed(0, split="fold1"), ["parts of unknown names: 'fold1'", "train, training, val"]),
        ([(path, "a", split) for path, _, split in GOOD], ["one label found"]),
        ([(path, label, "test") for path, label, _ in GOOD], ["no image is for training"]),
        ([], ["the table has no rows"]),
    ],
    ids=range(14),
)  # fmt: skip
def test_what_is_wrong_is_said(images, tmp_path, lines, words):
    images(*(path for path, _, _ in GOOD))
    (tmp_path / "labels.csv").write_text(csv(("path", "label", "split"), lines))
    with pytest.raises(LtbenchError) as caught:
        load(tmp_path, labels="labels.csv")
    assert "labels.csv" in str(caught.value)
    for word in words:
        assert word in str(caught.value)


def test_a_class_without_test_images_may_be_kept(images, tmp_path):
    images(*(path for path, _, _ in GOOD))
    (tmp_path / "labels.csv").write_text(csv(("path", "label", "split"), changed(0, label="c")))
    data = load(tmp_path, labels="labels.csv", keep_classes_without_test_images=True)
    assert data.counts.tolist() == [2, 3, 1]


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ("path=pth", ["unknown column 'pth'", "did you mean path"]),
        ("path=path,label=labell", ["unknown column 'labell'", "did you mean label"]),
        ("paths=path", ["unknown column 'paths'", "did you mean path"]),
        ("path,label,split,other", ["three columns at most"]),
    ],
)
def test_unknown_columns_are_named_with_the_nearest(images, tmp_path, told, words):
    images(*(path for path, _, _ in GOOD))
    (tmp_path / "labels.csv").write_text(csv(("path", "label", "split"), GOOD))
    with pytest.raises(LtbenchError, match="--label-columns") as caught:
        load(tmp_path, labels="labels.csv", label_columns=told)
    for word in words:
        assert word in str(caught.value)


def test_columns_that_are_not_found_are_listed(images, tmp_path):
    images("0.png")
    (tmp_path / "labels.csv").write_text("a,b,c\nx,y,z\n")
    with pytest.raises(LtbenchError, match="no column is known to hold the paths") as caught:
        load(tmp_path, labels="labels.csv")
    assert "its columns are a, b, c" in str(caught.value)


def test_a_name_that_several_files_have_is_refused(images, tmp_path):
    images("one/0.png", "two/0.png", "1.png")
    (tmp_path / "labels.csv").write_text("path,label\n0.png,a\n1.png,b\n")
    with pytest.raises(LtbenchError, match=r"2 files are called '0\.png': one/0\.png, two/0\.png"):
        load(tmp_path, labels="labels.csv")


@pytest.mark.parametrize("content", [b"\xff\xfe\0", b"path,label\n1,2,3\n", b"", b"\x00"])
def test_a_file_that_is_no_table_is_named(tmp_path, images, content):
    images("0.png")
    (tmp_path / "mine.csv").write_bytes(content)
    with pytest.raises(LtbenchError) as caught:
        load(tmp_path, labels="mine.csv")
    assert "mine.csv" in str(caught.value)


@pytest.mark.parametrize("content", ["[1]\n", "{\n", "1\n"])
def test_json_lines_that_are_none(tmp_path, images, content):
    images("0.png")
    (tmp_path / "mine.jsonl").write_text(content)
    with pytest.raises(LtbenchError, match="the table cannot be read"):
        load(tmp_path, labels="mine.jsonl")


def test_a_table_that_is_not_there(images, tmp_path):
    images("0.png")
    (tmp_path / "real.csv").write_text("path,label\n")
    with pytest.raises(LtbenchError, match=r"not there: mine\.csv") as caught:
        load(tmp_path, labels="mine.csv")
    assert "tables in the folder: real.csv" in str(caught.value)


def test_columns_without_a_table(images, tmp_path):
    with pytest.raises(LtbenchError, match="no table to have columns"):
        load(tmp_path, label_columns="a,b")


def test_data_sets_with_labels_of_their_own_take_no_table(cli):
    done = cli("run", "--dataset", "digits-lt", "--labels", "labels.csv", "--epochs", 1)
    assert done.code == 2
    assert "digits-lt has labels of its own" in done.err


# Runs


@pytest.mark.slow
def test_a_run_is_the_same_with_class_folders_and_with_a_table(images, tmp_path, cli):
    """The table leaves no trace in a run's id: what it says is in the fingerprints of the data."""
    images(*(f"photos/{split}/{label}/{i}.png" for label, split, n in (("cat", "train", 6), ("dog", "train", 4),
                                                                       ("cat", "test", 2), ("dog", "test", 2))
             for i in range(n)))  # fmt: skip
    files = sorted((tmp_path / "photos").rglob("*.png"))
    lines = [(one.relative_to(tmp_path / "photos").as_posix(), one.parent.name, one.parts[-3]) for one in files]
    (tmp_path / "mine.csv").write_text(csv(("path", "label", "split"), lines))
    words = ["--method", "ce", "--dataset", "folder-lt", "--data-dir", "photos", "--image-size", 8, "--epochs", 1,
             "--backbone", "cifar_resnet8"]  # fmt: skip
    assert cli("run", *words).code == 0
    again = cli("run", *words, "--labels", "mine.csv")
    assert again.code == 0, again.err
    assert len(list((tmp_path / "runs").rglob("*.json"))) == 1
    checked = cli("data", "verify", "folder-lt", "--data-dir", "photos", "--labels", "mine.csv")
    assert checked.code == 0
    assert "cat" in checked.out
    order = cli("data", "order", "folder-lt", "--data-dir", "photos", "--labels", "mine.csv")
    assert len(order.out.splitlines()) == 5


@pytest.mark.parametrize("layout", ["{label}/{i}.png", "train/{label}/{i}.png"])
def test_class_folders_that_are_wrong_are_told_and_no_stray_table_is_read(images, tmp_path, layout):
    names = [layout.format(label=label, i=i) for label in ("cat", "dog") for i in range(4)]
    images(*names)
    (tmp_path / layout.format(label="empty", i=0)).parent.mkdir()
    lines = [(name, ("day", "night")[i % 2]) for i, name in enumerate(names)]
    (tmp_path / "labels.csv").write_text(csv(("path", "label"), lines))
    with pytest.raises(LtbenchError, match=r"a class folder has no images(?s:.*)--labels labels\.csv"):
        load(tmp_path)
    assert load(tmp_path, labels="labels.csv").classes == ("day", "night")


def test_equal_numbers_as_labels_have_one_order(images, tmp_path):
    """Sets of text have another order in every process."""
    labels = ["02", "1", "2", "01"]
    images(*(f"{i}.png" for i in range(8)))
    (tmp_path / "labels.csv").write_text(csv(("path", "label"), [(f"{i}.png", labels[i % 4]) for i in range(8)]))
    assert load(tmp_path, labels="labels.csv").classes == ("01", "1", "02", "2")


def test_labels_that_look_the_same_are_refused(images, tmp_path):
    images(*(f"{i}.png" for i in range(8)))
    lines = [(f"{i}.png", ("caf\u00e9", "cafe\u0301")[i % 2]) for i in range(8)]
    (tmp_path / "labels.csv").write_text(csv(("path", "label"), lines), encoding="utf-8")
    with pytest.raises(LtbenchError, match="the names of two classes look the same"):
        load(tmp_path, labels="labels.csv")


@pytest.mark.parametrize("which", [slice(None), slice(3, 4)], ids=["every line", "one line"])
def test_a_comma_too_many_is_an_error(images, tmp_path, which):
    images(*(f"{i}.png" for i in range(8)))
    lines = [f"{i}.png,{'ab'[i % 2]}" for i in range(8)]
    lines[which] = [f"{line}, big" for line in lines[which]]
    (tmp_path / "labels.csv").write_text("\n".join(["path,label", *lines]))
    with pytest.raises(LtbenchError, match="the table cannot be read: "):
        load(tmp_path, labels="labels.csv")


def test_another_labelling_has_a_split_of_its_own(images, tmp_path):
    """The test set does not depend on what was read before."""
    names = [f"{label}/{i:02}.png" for label, n in (("cat", 10), ("dog", 10), ("owl", 2)) for i in range(n)]
    images(*names)
    lines = [(name, ("in", "out")[i % 2]) for i, name in enumerate(names)]
    (tmp_path / "place.csv").write_text(csv(("path", "label"), lines))
    by_place = load(tmp_path, labels="place.csv")
    assert np.bincount(load(tmp_path).test.labels).tolist() == [2, 2, 1]
    assert sorted(one.name for one in tmp_path.glob("ltbench-split*")) == [
        "ltbench-split-place.csv",
        "ltbench-split.csv",
    ]
    assert load(tmp_path, labels="place.csv").fingerprints == by_place.fingerprints


def test_a_folder_may_be_written_in_a_roundabout_way(images, tmp_path, monkeypatch):
    images(*(f"photos/{place}/{i}.png" for place in ("s", "t") for i in range(4)))
    lines = [(f"{i}.png", "ab"[i % 2]) for i in range(4)]
    (tmp_path / "photos" / "s" / "labels.csv").write_text(csv(("path", "label"), lines))
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path)
    plain = load(tmp_path / "photos", labels="s/labels.csv")
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "deep" / "er")
    (tmp_path / "deep" / "photos").symlink_to(tmp_path / "photos")  # link/../photos is this one
    for folder, table in (
        (Path("link/../photos"), "s/labels.csv"),
        (tmp_path / "deep" / "photos", str(tmp_path / "photos" / "s" / "labels.csv")),
        (Path("photos"), str(tmp_path / "photos" / "s" / "labels.csv")),
        (Path("other/../photos"), "s/labels.csv"),
        (tmp_path / "other" / ".." / "photos", str(tmp_path / "photos" / "s" / "labels.csv")),
    ):
        assert load(folder, labels=table).fingerprints == plain.fingerprints


@pytest.mark.parametrize("name", ["train\\cat\\{i}.png", "x" * 300 + "{i}.png"], ids=["of Windows", "long"])
def test_names_of_embedded_images_may_be_odd(tmp_path, name):
    table, expected = embedded(name=name)
    parquet.write_table(table, tmp_path / "photos.parquet")
    data = load(tmp_path)
    assert {**by_pixels(data.train, data.classes), **by_pixels(data.test, data.classes)} == expected


def test_folders_of_other_names_in_each_part_are_none_of_classes(images, tmp_path):
    lines = []
    for split, people in (("train", "12"), ("test", "34")):
        for person in people:
            lines += [(f"{split}/p{person}/{i}.png", ("cat", "dog")[i % 2], split) for i in range(2)]
    images(*(name for name, _, _ in lines))
    (tmp_path / "labels.csv").write_text(csv(("path", "label", "split"), lines))
    assert load(tmp_path).classes == ("cat", "dog")


def test_each_table_and_column_has_a_split_of_its_own(images, tmp_path):
    images(*(f"{place}/{i}.png" for place in "ab" for i in range(10)))
    for place in "ab":
        rows = [(f"{place}/{i}.png", "xy"[i % 2], "uv"[i // 5]) for i in range(10)]
        (tmp_path / place / "labels.csv").write_text(csv(("path", "kind", "place"), rows))
    for place, column in (("a", "kind"), ("a", "place"), ("b", "kind")):
        load(tmp_path, labels=f"{place}/labels.csv", label_columns=f"label={column}")
    assert sorted(one.name for one in tmp_path.glob("ltbench-split*")) == [
        f"ltbench-split-{name}.csv" for name in ("a-labels-kind", "a-labels-place", "b-labels-kind")
    ]


def test_a_split_that_an_older_version_stored_for_a_table_stays(images, tmp_path):
    images(*(f"images/{i}.png" for i in range(20)))
    lines = [(f"images/{i}.png", "xy"[i % 2]) for i in range(20)]
    (tmp_path / "labels.csv").write_text(csv(("path", "label"), lines))
    (tmp_path / "ltbench-split.csv").write_text("test_image\nimages/0.png\nimages/1.png\n")
    assert load(tmp_path).test_names == ("images/0.png", "images/1.png")


def test_a_comma_at_the_end_of_each_line_is_no_field(images, tmp_path):
    images(*(f"{i}.png" for i in range(8)))
    (tmp_path / "labels.csv").write_text("\n".join(["path,label", *(f"{i}.png,{'ab'[i % 2]}," for i in range(8))]))
    assert load(tmp_path, labels="labels.csv").classes == ("a", "b")
