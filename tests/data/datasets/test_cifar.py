"""cifar10-lt and cifar100-lt from a small archive in the official layout, and from image folders."""

import hashlib
import pickle
import tarfile

import numpy as np
import pytest
from torchvision import datasets
from torchvision.datasets import utils

from ltbench.config import RunConfig
from ltbench.data import dataset
from ltbench.data.datasets.cifar import Cifar10, Cifar100
from ltbench.data.long_tail import fingerprint
from ltbench.errors import LtbenchError

LAYOUTS = {
    Cifar10: ([f"data_batch_{i}" for i in range(1, 6)], "test_batch", "labels", "batches.meta", "label_names"),
    Cifar100: (["train"], "test", "fine_labels", "meta", "fine_label_names"),
}
BOTH = pytest.mark.parametrize("source", [Cifar10, Cifar100])


class Archive:
    """An archive of random images: its contents, and the folder that it lies in."""

    def __init__(self, source, folder, monkeypatch):
        trains, test, self._labels_key, meta, names_key = LAYOUTS[source]
        self.source, self.folder = source, folder
        self.classes = [f"class {i:03}" for i in range(source.count)]
        generator = np.random.default_rng(0)
        self.parts = {}
        for name, each in (("train", 5), ("test", 1)):
            labels = generator.permutation(np.repeat(np.arange(source.count), each))
            self.parts[name] = generator.integers(0, 256, (len(labels), 3072), dtype=np.uint8), labels
        self.unpacked = folder / source.unpacked
        self.unpacked.mkdir(parents=True)
        for i, name in enumerate(trains):
            self._write(
                name,
                *(array[i * len(array) // len(trains) :][: len(array) // len(trains)] for array in self.parts["train"]),
            )
        self._write(test, *self.parts["test"])
        self._dump(meta, {names_key: self.classes})
        official = getattr(datasets, source.archive)
        monkeypatch.setattr(official, "train_list", [[name, self._md5(name)] for name in trains])
        monkeypatch.setattr(official, "test_list", [[test, self._md5(test)]])
        monkeypatch.setattr(official, "meta", {"filename": meta, "key": names_key, "md5": self._md5(meta)})
        self._official, self._monkeypatch = official, monkeypatch
        self.one_file = self.unpacked / trains[0]

    def _write(self, name, images, labels):
        self._dump(name, {"data": images, self._labels_key: labels.tolist()})

    def _dump(self, name, content):
        (self.unpacked / name).write_bytes(pickle.dumps(content))

    def _md5(self, name):
        return hashlib.md5((self.unpacked / name).read_bytes()).hexdigest()

    def pack(self):
        """Put it into the file that is downloaded; the unpacked files move out of the way."""
        packed = self.folder / self._official.filename
        with tarfile.open(packed, "w:gz") as archive:
            archive.add(self.unpacked, self.source.unpacked)
        self.unpacked.rename(self.folder / "elsewhere")
        self._monkeypatch.setattr(self._official, "tgz_md5", hashlib.md5(packed.read_bytes()).hexdigest())
        return packed

    def as_images(self, folder, write_image):
        """The same images as PNG files, numbered as in the archive."""
        for part, (images, labels) in self.parts.items():
            for i, (image, label) in enumerate(zip(images, labels, strict=True)):
                pixels = image.reshape(3, 32, 32).transpose(1, 2, 0)
                write_image(folder / part / self.classes[label] / f"{i:04}.png", pixels)
        return folder


@pytest.fixture
def archive(source, tmp_path, monkeypatch):
    return Archive(source, tmp_path / "data", monkeypatch)


@BOTH
def test_the_archive_is_read_as_it_is(source, archive):
    assert source().available(archive.folder)
    data = source().load(archive.folder, 32)
    for part, (images, labels) in archive.parts.items():
        read = getattr(data, part)
        np.testing.assert_array_equal(read.images, images.reshape(-1, 3, 32, 32))
        np.testing.assert_array_equal(read.labels, labels)
        assert (read.images.dtype, read.labels.dtype) == (np.uint8, np.int64)
        assert read.images.flags.c_contiguous
    assert data.classes == tuple(archive.classes)


@BOTH
def test_a_downloaded_archive_is_unpacked(source, archive):
    archive.pack()
    assert source().available(archive.folder)
    data = source().load(archive.folder, 32)
    np.testing.assert_array_equal(data.train.labels, archive.parts["train"][1])
    np.testing.assert_array_equal(data.test.labels, archive.parts["test"][1])


@pytest.mark.slow
@BOTH
def test_an_image_folder_with_the_same_images_is_the_same_data(source, archive, tmp_path, write_image, monkeypatch):
    folder = archive.as_images(tmp_path / "images", write_image)
    monkeypatch.setattr(source, "largest", 5)
    assert source().available(folder)
    ours, theirs = source().load(folder, 32), source().load(archive.folder, 32)
    assert ours.classes == theirs.classes
    for one, other in ((ours.train, theirs.train), (ours.test, theirs.test)):
        assert fingerprint(one.images, one.labels) == fingerprint(other.images, other.labels)

    config = RunConfig(dataset=source.name, image_size=32, imbalance_ratio=5)
    ours, theirs = (dataset.load(source(), config, place) for place in (folder, archive.folder))
    assert ours.counts[[0, -1]].tolist() == [5, 1]
    assert ours.fingerprints == theirs.fingerprints


@BOTH
def test_a_damaged_file_of_the_archive_is_refused(source, archive):
    damaged = bytearray(archive.one_file.read_bytes())
    damaged[-1000] ^= 1
    archive.one_file.write_bytes(damaged)
    with pytest.raises(LtbenchError, match="damaged or incomplete") as caught:
        source().load(archive.folder, 32)
    assert str(archive.unpacked) in str(caught.value)
    assert f"ltbench data prepare {source.name}" in str(caught.value)


@BOTH
def test_a_missing_file_of_the_archive_is_refused(source, archive):
    archive.one_file.unlink()
    with pytest.raises(LtbenchError, match="damaged or incomplete"):
        source().load(archive.folder, 32)


@BOTH
def test_a_truncated_download_is_refused_and_not_fetched_again(source, archive):
    packed = archive.pack()
    packed.write_bytes(packed.read_bytes()[:-100])
    with pytest.raises(LtbenchError, match="damaged or incomplete") as caught:
        source().load(archive.folder, 32)
    assert str(packed) in str(caught.value)


@BOTH
def test_where_nothing_is_the_error_says_what_was_looked_for(source, tmp_path):
    assert not source().available(tmp_path)
    with pytest.raises(LtbenchError, match="no data found") as caught:
        source().load(tmp_path, 32)
    official = getattr(datasets, source.archive)
    for part in (source.name, str(tmp_path), official.base_folder, official.filename, "train/<class>/", "--data-dir"):
        assert part in str(caught.value)


@BOTH
def test_another_number_of_class_folders_is_refused(source, tmp_path, class_folders):
    for part in ("train", "test"):
        class_folders(tmp_path / part, dict.fromkeys("abcdefghi", 1))
    with pytest.raises(LtbenchError, match=f"9 class folders, expected {source.count}") as caught:
        source().load(tmp_path, 32)
    assert str(tmp_path / "train") in str(caught.value)


@BOTH
def test_training_images_without_test_images_are_refused(source, tmp_path, class_folders):
    class_folders(tmp_path / "train", {str(i): 1 for i in range(source.count)})
    with pytest.raises(LtbenchError, match="no test/"):
        source().load(tmp_path, 32)


@BOTH
def test_another_image_size_is_refused(source, tmp_path):
    with pytest.raises(LtbenchError, match="32 pixels, not 64"):
        source().load(tmp_path, 64)


@BOTH
def test_a_download_that_fails_says_where_to_put_the_archive(source, tmp_path, monkeypatch):
    def offline(self):
        raise OSError("no route to host")

    monkeypatch.setattr(getattr(datasets, source.archive), "download", offline)
    with pytest.raises(LtbenchError, match="no route to host") as caught:
        source().prepare(tmp_path / "new")
    assert str(tmp_path / "new") in str(caught.value)


@BOTH
def test_prepare_accepts_an_archive_that_is_there(source, archive):
    assert str(archive.folder) in source().prepare(archive.folder)


@pytest.mark.slow
@BOTH
def test_an_incomplete_image_folder_is_refused(source, archive, tmp_path, write_image, monkeypatch):
    folder = archive.as_images(tmp_path / "images", write_image)
    monkeypatch.setattr(source, "largest", 5)
    next((folder / "train" / "class 003").iterdir()).unlink()
    with pytest.raises(LtbenchError, match="4 training images of class 'class 003', expected 5"):
        source().load(folder, 32)


@BOTH
def test_another_run_never_sees_a_folder_that_is_not_whole(source, archive, monkeypatch):
    """Of two first runs, both unpack; the second finds the folder of the first, and leaves nothing behind."""
    packed = archive.pack()
    extract, seen = utils.extract_archive, []

    def slow(path, into):
        extract(path, into)
        seen.append(archive.unpacked.exists())
        if len(seen) == 1:
            other = source().load(archive.folder, 32)  # begins and ends meanwhile
            np.testing.assert_array_equal(other.test.labels, archive.parts["test"][1])

    monkeypatch.setattr(utils, "extract_archive", slow)
    np.testing.assert_array_equal(source().load(archive.folder, 32).train.labels, archive.parts["train"][1])
    assert seen == [False, False]
    assert {one.name for one in archive.folder.iterdir()} == {packed.name, archive.unpacked.name, "elsewhere"}


@BOTH
def test_an_archive_in_a_folder_that_cannot_be_written_is_not_called_damaged(source, archive, monkeypatch):
    archive.pack()

    def refused(path, into):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(utils, "extract_archive", refused)
    with pytest.raises(LtbenchError, match="cannot be read or unpacked: Permission denied") as caught:
        source().load(archive.folder, 32)
    assert "delete" not in str(caught.value)
