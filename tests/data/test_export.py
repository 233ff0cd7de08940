"""ltbench data export: what is written is what a run reads again, with the same fingerprints."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pyarrow import parquet

from ltbench.config import RunConfig
from ltbench.data import dataset
from ltbench.data.datasets import image_folder
from ltbench.data.datasets.digits import Digits
from ltbench.data.datasets.exported import MANIFEST, folder_names
from ltbench.data.datasets.image_folder import Folder
from ltbench.data.export import export
from ltbench.errors import LtbenchError

pytestmark = pytest.mark.filterwarnings("ignore::ltbench.errors.LtbenchWarning", "ignore::ltbench.errors.LtbenchNotice")
STYLES = pytest.mark.parametrize("style", ["folder", "parquet"])
DRAWS = [
    {"imbalance_ratio": 20.0},
    {"imbalance_ratio": 10.0, "data_seed": 3},
    {"imbalance_ratio": 5.0, "imbalance": "step"},
    {"imbalance_ratio": 20.0, "class_order": "drawn"},
]


def digits(**settings):
    return RunConfig(dataset="digits-lt", image_size=8, **settings)


def photos(**settings):
    return RunConfig(dataset="folder-lt", image_size=8, **settings)


def same(one, other):
    """Whether two data sets have the same images in the same order, and the same names of everything."""
    assert one.fingerprints == other.fingerprints
    assert one.classes == other.classes
    assert one.counts.tolist() == other.counts.tolist()
    assert one.test_names == other.test_names
    for part in ("train", "validation", "test"):
        own, its = getattr(one, part), getattr(other, part)
        assert (own is None) == (its is None)
        if own is not None:
            assert own.labels.tolist() == its.labels.tolist()
            assert (own.images == its.images).all()


@pytest.mark.slow
@STYLES
@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize("validation", [False, True])
def test_arrays_come_back_as_they_were(tmp_path, style, draw, validation):
    made = export(Digits(), digits(**draw), tmp_path, tmp_path / "out", style)
    config = digits(**draw, validation=validation)
    again = dataset.load(Digits(), config, tmp_path / "out")
    same(again, dataset.load(Digits(), config, tmp_path))
    whole = dataset.load(Digits(), digits(**draw), tmp_path)
    assert made.fingerprints == whole.fingerprints
    assert (made.stored, made.images["train"]) == ("pixels", int(whole.counts.sum()))


@pytest.fixture
def folder(tmp_path, class_folders):
    """Class folders without a test set, with names that occur twice and copies of one image."""
    class_folders(tmp_path / "photos", {"ant hill": 12, "bee": 10, "cow": 6})
    inner = tmp_path / "photos" / "bee" / "inner"
    inner.mkdir()
    for name in ("000", "001"):
        (inner / f"{name}.png").write_bytes((tmp_path / "photos" / "bee" / "002.png").read_bytes())
    return tmp_path / "photos"


@STYLES
@pytest.mark.parametrize("draw", [{}, {"imbalance_ratio": 4.0}])
@pytest.mark.parametrize("validation", [False, True])
@pytest.mark.parametrize("streamed", [False, True])
def test_files_come_back_as_they_were(folder, tmp_path, monkeypatch, style, draw, validation, streamed):
    made = export(Folder(), photos(**draw), folder, tmp_path / "out", style)
    assert made.stored == "files"
    config = photos(**draw, validation=validation)
    if streamed:
        monkeypatch.setattr(image_folder, "STREAMED_ABOVE", 0)
    one, other = (dataset.load(Folder(), config, place) for place in (folder, tmp_path / "out"))
    assert one.fingerprints == other.fingerprints
    assert one.train.labels.tolist() == other.train.labels.tolist()
    if not streamed:
        same(other, one)
        bigger = config.replace(image_size=16)
        places = (folder, tmp_path / "out")
        assert len({dataset.load(Folder(), bigger, place).fingerprint for place in places}) == 1


@STYLES
def test_a_validation_set_of_the_users_own_comes_along(tmp_path, class_folders, style):
    for number, (part, each) in enumerate((("train", 6), ("val", 2), ("test", 3))):
        class_folders(tmp_path / "photos" / part, {"ant": each, "bee": each}, seed=number)
    made = export(Folder(), photos(imbalance_ratio=2.0), tmp_path / "photos", tmp_path / "out", style)
    assert made.images == {"train": 9, "test": 6, "validation": 4}
    config = photos(imbalance_ratio=2.0, validation=True)
    same(*(dataset.load(Folder(), config, tmp_path / place) for place in ("out", "photos")))


@STYLES
def test_classes_without_test_images_are_kept(tmp_path, class_folders, style):
    class_folders(tmp_path / "photos" / "train", {"ant": 6, "bee": 6, "cow": 2})
    class_folders(tmp_path / "photos" / "test", {"ant": 2, "bee": 2}, seed=1)
    config = photos(keep_classes_without_test_images=True)
    export(Folder(), config, tmp_path / "photos", tmp_path / "out", style)
    one, other = (dataset.load(Folder(), config, tmp_path / place) for place in ("photos", "out"))
    assert one.fingerprints == other.fingerprints
    with pytest.raises(LtbenchError, match="--keep-classes-without-test-images"):
        dataset.load(Folder(), photos(), tmp_path / "out")


def test_a_folder_is_one_for_each_part_and_class_with_a_table(folder, tmp_path):
    export(Folder(), photos(), folder, tmp_path / "out")
    assert sorted(one.name for one in (tmp_path / "out" / "train").iterdir()) == ["ant hill", "bee", "cow"]
    with (tmp_path / "out" / "images.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 30
    for row in rows:
        assert (tmp_path / "out" / row["path"]).read_bytes() == (folder / row["source"]).read_bytes()
        assert row["path"].split("/")[:2] == [row["split"], row["class"]]


def test_other_programs_read_parquet(tmp_path):
    export(Digits(), digits(imbalance_ratio=20.0), tmp_path, tmp_path / "out", "parquet")
    table = parquet.read_table(tmp_path / "out" / "train.parquet")
    assert table.column_names == ["image", "label", "class", "source", "split"]
    about = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]
    assert about["label"] == {"names": list("0123456789"), "_type": "ClassLabel"}
    assert json.loads(table.schema.metadata[b"ltbench"])["fingerprints"]["train"]
    import io

    first = table["image"][0].as_py()
    pixels = np.asarray(Image.open(io.BytesIO(first["bytes"])))
    data = dataset.load(Digits(), digits(imbalance_ratio=20.0), tmp_path)
    assert (pixels == data.train.images[0, 0]).all()


def test_a_table_of_the_export_is_a_table_of_labels(tmp_path):
    export(Digits(), digits(imbalance_ratio=20.0), tmp_path, tmp_path / "out")
    data = dataset.load(Folder(), photos(labels="images.csv"), tmp_path / "out")
    assert data.counts.tolist() == dataset.load(Digits(), digits(imbalance_ratio=20.0), tmp_path).counts.tolist()
    assert data.classes == tuple("0123456789")


def test_more_images_than_are_written_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr("ltbench.data.export._ROWS", 7)
    config = digits(imbalance_ratio=20.0)
    export(Digits(), config, tmp_path, tmp_path / "out", "parquet")
    same(dataset.load(Digits(), config, tmp_path / "out"), dataset.load(Digits(), config, tmp_path))


@pytest.mark.parametrize(
    ("asked", "option"),
    [
        ({"imbalance_ratio": 10.0}, "--imbalance-ratio"),
        ({"imbalance_ratio": 20.0, "data_seed": 1}, "--data-seed"),
        ({"imbalance_ratio": 20.0, "imbalance": "step"}, "--imbalance"),
        ({"imbalance_ratio": 20.0, "class_order": "drawn"}, "--class-order"),
    ],
)
def test_another_draw_than_that_of_the_export_is_refused(tmp_path, asked, option):
    export(Digits(), digits(imbalance_ratio=20.0), tmp_path, tmp_path / "out")
    with pytest.raises(LtbenchError, match=r"export of one draw \(IR 20, data seed 0\)") as caught:
        dataset.load(Digits(), digits(**asked), tmp_path / "out")
    assert option in str(caught.value)


def test_the_export_of_another_data_set_is_none_of_this_one(tmp_path, folder):
    export(Folder(), photos(), folder, tmp_path / "out")
    assert len(dataset.load(Digits(), digits(imbalance_ratio=20.0), tmp_path / "out").test) == 400


def _lose(out, rows):
    (out / rows[0]["path"]).unlink()


def _change(out, rows):
    (out / rows[0]["path"]).write_bytes((out / rows[-1]["path"]).read_bytes())


def _damage(out, rows):
    (out / rows[0]["path"]).write_bytes(b"no image")


def _relabel(out, rows):
    text = (out / "images.csv").read_text().splitlines()
    (out / "images.csv").write_text("\n".join([text[0], text[1].replace(",0,", ",1,", 1), *text[2:]]) + "\n")


def _lead_out(out, rows):
    text = (out / "images.csv").read_text()
    (out / "images.csv").write_text(text.replace(rows[0]["path"], "../out/" + rows[0]["path"], 1))


def _shorten(out, rows):
    text = (out / "images.csv").read_text().splitlines()
    (out / "images.csv").write_text("\n".join(text[:-1]) + "\n")


def _drop_a_column(out, rows):
    text = (out / "images.csv").read_text()
    (out / "images.csv").write_text(text.replace("split", "fold", 1))


def _misspell_a_label(out, rows):
    text = (out / "images.csv").read_text().splitlines()
    (out / "images.csv").write_text("\n".join([text[0], text[1].replace(",0,", ",none,", 1), *text[2:]]) + "\n")


FAULTS = [_lose, _change, _damage, _relabel, _shorten, _lead_out, _drop_a_column, _misspell_a_label]


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_an_export_that_has_been_changed_is_refused(tmp_path, fault):
    export(Digits(), digits(imbalance_ratio=20.0), tmp_path, tmp_path / "out")
    with (tmp_path / "out" / "images.csv").open() as stream:
        fault(tmp_path / "out", list(csv.DictReader(stream)))
    with pytest.raises(LtbenchError, match="not as it was written"):
        dataset.load(Digits(), digits(imbalance_ratio=20.0), tmp_path / "out")


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"dataset": "digits-lt"}'])
def test_a_description_that_cannot_be_read_is_named(tmp_path, text):
    (tmp_path / MANIFEST).write_text(text)
    with pytest.raises(LtbenchError, match="description of an export cannot be read"):
        dataset.load(Digits(), digits(imbalance_ratio=20.0), tmp_path)


@pytest.mark.parametrize("target", ["link", "nowhere"])
def test_a_link_that_leads_nowhere_is_not_written_over(tmp_path, target):
    (tmp_path / "link").symlink_to(tmp_path / target)
    with pytest.raises(LtbenchError, match="the output is there already"):
        export(Digits(), digits(imbalance_ratio=20.0), tmp_path, tmp_path / "link", "folder")
    assert (tmp_path / "link").is_symlink()


def test_nothing_is_written_over_and_nothing_half(tmp_path, folder, monkeypatch):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").touch()
    with pytest.raises(LtbenchError, match="the output is there already"):
        export(Folder(), photos(), folder, tmp_path / "out")

    def fails(*args):
        raise OSError(28, "No space left on device", "somewhere")

    monkeypatch.setattr("ltbench.data.export._write_folder", fails)
    with pytest.raises(LtbenchError, match="cannot export: No space left"):
        export(Folder(), photos(), folder, tmp_path / "new")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["out", "photos"]


def test_an_export_is_not_exported(tmp_path):
    config = digits(imbalance_ratio=20.0)
    export(Digits(), config, tmp_path, tmp_path / "out")
    with pytest.raises(LtbenchError, match="an export itself"):
        export(Digits(), config, tmp_path / "out", tmp_path / "again")


@pytest.mark.parametrize(
    ("classes", "folders"),
    [
        (("ant", "bee"), ["ant", "bee"]),
        (("bee", "ant"), ["0-bee", "1-ant"]),
        (("a/b", "c"), ["0-a_b", "1-c"]),
        (("a/b", "a_b"), ["0-a_b", "1-a_b"]),
        (("Cat", "cat"), ["0-Cat", "1-cat"]),  # one folder for Windows and macOS
        (tuple(map(str, range(11))), [f"{i:02}-{i}" for i in range(11)]),
    ],
)
def test_class_folders_sort_as_the_labels_do(classes, folders):
    assert folder_names(classes) == folders == sorted(folders)


def test_names_that_differ_in_case_alone_are_files_of_their_own_everywhere(tmp_path):
    for i, name in enumerate(("cat/a/IMG_1.png", "cat/b/img_1.PNG", "cat/c/x.png", "dog/1.png", "dog/2.png")):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8, 3), 40 * i, dtype=np.uint8)).save(path, "PNG")
    export(Folder(), photos(), tmp_path / "photos", tmp_path / "out", "folder")
    written = [str(path) for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert len({name.casefold() for name in written}) == len(written)
    assert sum(name.lower().endswith(".png") for name in written) == 5


@pytest.mark.slow
def test_from_the_command_line(tmp_path, cli):
    done = cli("data", "export", "digits-lt", "--output", "out", "--imbalance-ratio", 10, "--format", "parquet")
    assert done.code == 0, done.err
    assert "IR 10, data seed 0" in done.out
    checked = cli("data", "verify", "digits-lt", "--data-dir", "out", "--imbalance-ratio", 10)
    assert checked.code == 0, checked.err
    assert [line for line in done.out.splitlines() if "fingerprint" in line] == [
        line for line in checked.out.splitlines() if "fingerprint" in line
    ]
    assert cli("data", "export", "digits-lt", "--output", "out").code == 2
    run = ["run", "--method", "ce", "--epochs", 1, "--backbone", "cifar_resnet8", "--imbalance-ratio", 10]
    assert cli(*run).code == 0
    assert cli(*run, "--data-dir", "out").code == 0
    assert len(list((tmp_path / "runs").rglob("*.json"))) == 1, "the same images make the same run"


def test_the_current_folder_is_not_replaced(tmp_path, folder, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(LtbenchError, match="cannot be the current one"):
        export(Folder(), photos(), folder, Path())
    assert (tmp_path / "here").is_dir()
