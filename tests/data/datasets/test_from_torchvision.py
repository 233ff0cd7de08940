"""torchvision:NAME: every class of torchvision.datasets, tiny data sets in their own formats, and stubs of others."""

import bz2
import csv
import gzip
import inspect
import json

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

from ltbench import registry
from ltbench.config import RunConfig
from ltbench.data import dataset
from ltbench.data.datasets import from_torchvision
from ltbench.data.datasets.from_torchvision import declared, not_offered
from ltbench.data.images import ImageFiles
from ltbench.errors import LtbenchError, LtbenchWarning

NAMES = sorted(declared())


@pytest.fixture(autouse=True)
def _sizes_of_no_interest(monkeypatch):
    """Tiny data sets have other sizes than the published ones; see the test about these."""
    monkeypatch.setattr(from_torchvision.TorchvisionSource, "_check_sizes", lambda self, sizes: None)


def load(name, folder, **settings):
    source = registry.dataset(f"torchvision:{name}")
    ratio = source.imbalance_ratio if "imbalance_ratio" not in settings else settings.pop("imbalance_ratio")
    return dataset.load(source, RunConfig(dataset=source.name, imbalance_ratio=ratio, **settings), folder)


# What is offered


def test_every_class_of_torchvision_is_offered_or_has_a_reason():
    classes = {name for name in torchvision.datasets.__all__ if inspect.isclass(getattr(torchvision.datasets, name))}
    offered = {one.cls or name for name, one in declared().items()}
    assert offered | not_offered().keys() == classes
    assert not offered & not_offered().keys()


@pytest.mark.parametrize("name", NAMES)
def test_the_keywords_are_those_of_torchvisions_class(name):
    one = declared()[name]
    cls = getattr(torchvision.datasets, one.cls or name)
    known = {*inspect.signature(cls).parameters}
    if "kwargs" in known:  # which go to the class that it is made of
        known |= inspect.signature(cls.__mro__[1]).parameters.keys()
    for keywords in one.parts.values():
        inspect.signature(cls).bind("root", **keywords)
        assert keywords.keys() <= known


@pytest.mark.parametrize("name", NAMES)
def test_every_one_can_be_listed_and_has_what_a_run_needs(name):
    source = registry.dataset(f"torchvision:{name}")
    assert registry.is_own_dataset(source.name)
    assert source.name in registry.dataset_names()
    assert source.summary
    assert ("a fifth of each class is the test set" in source.summary) == (declared()[name].test is None)
    from ltbench.runs.resolve import resolve

    run = resolve(RunConfig(method="ce", dataset=source.name))
    assert (run.image_size, run.config.imbalance_ratio) == (source.image_size, source.imbalance_ratio)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("FashionMNSIT", "did you mean torchvision:FashionMNIST"),
        ("fashionmnist", "did you mean torchvision:FashionMNIST?"),
        ("INaturalist-2018", "INaturalist-2019"),
        ("CelebA", "an image has 40 labels"),
        ("CIFAR10", "it is cifar10-lt"),
        ("not_offered", "unknown data set"),
        ("", "unknown data set"),
    ],
)
def test_another_class_is_refused_with_the_reason_or_the_nearest_name(name, words):
    with pytest.raises(LtbenchError, match="--dataset") as error:
        registry.dataset(f"torchvision:{name}")
    assert words in str(error.value)
    with pytest.raises(LtbenchError) as error:
        registry.check_dataset(f"torchvision:{name}")
    assert words in str(error.value)


def test_a_name_without_the_prefix_is_found_nearby():
    with pytest.raises(LtbenchError, match="did you mean torchvision:FashionMNIST"):
        registry.dataset("FashionMNIST")


# MNIST's format


def write_idx(file, values):
    """Write numbers as MNIST's files have them: a magic number and lengths, big-endian, then a byte each."""
    header = np.array([0x800 + values.ndim, *values.shape], ">i4").tobytes()
    file.parent.mkdir(parents=True, exist_ok=True)
    content = header + values.astype(np.uint8).tobytes()
    file.write_bytes(gzip.compress(content) if file.suffix == ".gz" else content)


FIRST = {"MNIST": [7, 2, 1, 0, 4, 1, 4, 9, 5, 9], "FashionMNIST": [9, 2, 1, 1, 6, 1, 4, 6, 5, 7]}
"""The first test labels, as every tutorial prints them."""


def mnist(folder, each, *, starts=("train", "t10k"), end="", classes=10, first=0, name="MNIST"):
    """Random images of 28 x 28, the same number of each class in train and one of each in test after the first ten."""
    generator, made = np.random.default_rng(0), {}
    for start, count in zip(starts, (each, 1), strict=True):
        labels = generator.permutation(np.repeat(np.arange(first, first + classes), count))
        labels = np.concatenate([FIRST.get(name, []) if start == "t10k" else [], labels]).astype(int)
        images = generator.integers(0, 256, (len(labels), 28, 28))
        write_idx(folder / f"{start}-images-idx3-ubyte{end}", images)
        write_idx(folder / f"{start}-labels-idx1-ubyte{end}", labels)
        made[start] = images, labels
    return made


@pytest.mark.parametrize("where", [".", "FashionMNIST/raw"])
@pytest.mark.parametrize("end", ["", ".gz"])
def test_fashion_mnist_is_read_from_its_files_wherever_they_lie(tmp_path, where, end):
    made = mnist(tmp_path / where, 20, end=end, name="FashionMNIST")
    data = load("FashionMNIST", tmp_path, imbalance_ratio=10.0)
    images, labels = made["t10k"]
    assert data.test.images.shape == (20, 1, 28, 28)
    assert (data.test.images[:, 0] == images).all()
    assert data.test.labels.tolist() == labels.tolist()
    assert data.classes[:2] == ("T-shirt/top", "Trouser")
    assert data.counts.tolist() == [20, 15, 11, 9, 7, 5, 4, 3, 2, 2]  # floor(20 * 10^(-c/9))
    assert data.shape == (1, 28, 28)


def test_the_draw_is_that_of_the_other_data_sets(tmp_path):
    """By the rule of the LDAM code: each class's indices shuffled whole by numpy's legacy generator, the first kept."""
    images, labels = mnist(tmp_path, 20)["train"]
    data = load("MNIST", tmp_path, imbalance_ratio=10.0)
    generator, kept = np.random.RandomState(0), []
    for label, count in enumerate([20, 15, 11, 9, 7, 5, 4, 3, 2, 2]):
        members = np.flatnonzero(labels == label)
        generator.shuffle(members)
        kept += members[:count].tolist()
    assert (data.train.images[:, 0] == images[kept]).all()


@pytest.mark.parametrize(
    ("there", "asked", "words"),
    [
        ("MNIST", "FashionMNIST", "the files there are those of torchvision:MNIST"),
        ("MNIST", "KMNIST", "the files there are those of torchvision:MNIST"),
        ("FashionMNIST", "MNIST", "the files there are those of torchvision:FashionMNIST"),
        ("KMNIST", "MNIST", "the files there are those of another data set"),
    ],
)
def test_data_sets_whose_files_have_the_same_names_are_told_apart(tmp_path, there, asked, words):
    mnist(tmp_path, 2, end=".gz", name=there)
    with pytest.raises(LtbenchError, match=words):
        load(asked, tmp_path)
    assert not registry.dataset(f"torchvision:{asked}").available(tmp_path)
    assert registry.dataset(f"torchvision:{there}").available(tmp_path)


def test_letters_are_counted_from_nought(tmp_path):
    starts = ("emnist-letters-train", "emnist-letters-test")
    mnist(tmp_path / "EMNIST" / "raw", 2, starts=starts, classes=26, first=1, name="EMNIST")
    data = load("EMNIST-letters", tmp_path, imbalance_ratio=1.0)
    assert data.classes == tuple("abcdefghijklmnopqrstuvwxyz")
    assert data.counts.tolist() == [2] * 26


def damaged(file, change):
    file.write_bytes(change(file.read_bytes()))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda content: content[:-1], "not a whole file of images"),
        (lambda content: b"", "not a whole file of images"),
        (lambda content: content[:3], "not a whole file of images"),
        (lambda content: b"\0\0\x08\x01" + content[4:], "not a whole file of images"),
        (lambda content: content + b"x", "not a whole file of images"),
    ],
)
def test_a_damaged_file_is_named(tmp_path, change, words):
    mnist(tmp_path, 2)
    damaged(tmp_path / "train-images-idx3-ubyte", change)
    with pytest.raises(LtbenchError, match=words) as error:
        load("MNIST", tmp_path)
    assert "train-images-idx3-ubyte" in str(error.value)


def test_a_packed_file_that_is_cut_off_is_named(tmp_path):
    mnist(tmp_path, 2, end=".gz")
    damaged(tmp_path / "train-labels-idx1-ubyte.gz", lambda content: content[:-12])
    with pytest.raises(LtbenchError, match="damaged or cannot be read") as error:
        load("MNIST", tmp_path)
    assert "train-labels-idx1-ubyte.gz" in str(error.value)


def test_images_and_labels_must_be_as_many(tmp_path):
    mnist(tmp_path, 2)
    write_idx(tmp_path / "train-labels-idx1-ubyte", np.zeros(19))
    with pytest.raises(LtbenchError, match="20 images, but 19 labels"):
        load("MNIST", tmp_path)


def test_other_numbers_of_images_than_published_are_told(tmp_path, monkeypatch):
    monkeypatch.undo()
    mnist(tmp_path, 2, name="KMNIST")
    with pytest.warns(LtbenchWarning) as told:
        registry.dataset("torchvision:KMNIST").load(tmp_path, 28)
    assert [str(one.message) for one in told] == [
        "torchvision:KMNIST: 20 train images are there, 60,000 are published",
        "torchvision:KMNIST: 10 test images are there, 10,000 are published",
    ]


def test_another_size_is_refused(tmp_path):
    mnist(tmp_path, 2)
    with pytest.raises(LtbenchError, match="images of 28 pixels, not 32"):
        load("MNIST", tmp_path, image_size=32)


def test_what_was_looked_for_is_told(tmp_path):
    with pytest.raises(LtbenchError, match="no data found") as error:
        load("FashionMNIST", tmp_path)
    assert "FashionMNIST/raw and train-images-idx3-ubyte.gz" in str(error.value)
    assert "ltbench data prepare torchvision:FashionMNIST" in str(error.value)


def test_an_empty_folder_of_the_right_name_is_incomplete(tmp_path):
    (tmp_path / "eurosat").mkdir()
    with pytest.raises(LtbenchError, match="its train images are missing, damaged or incomplete") as error:
        load("EuroSAT", tmp_path)
    assert "run: ltbench data prepare torchvision:EuroSAT" in str(error.value)
    assert "if that does not help, delete" in str(error.value)


# Other formats


def photograph(file, seed, shape=(12, 10, 3)):
    file.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    Image.fromarray(pixels).save(file)


def eurosat(root, each):
    for label, name in enumerate(("AnnualCrop", "Forest", "River")):
        for i in range(each):
            photograph(root / "eurosat" / "2750" / name / f"{name}_{i}.jpg", 100 * label + i)
    return ("AnnualCrop", "Forest", "River")


def gtsrb(root, each):
    for label in range(3):
        for i in range(each):
            photograph(root / f"gtsrb/GTSRB/Training/{label:05}/{i:05}.ppm", 10 * label + i, (9 + i, 15, 3))
    rows = [{"Filename": f"{label:05}.ppm", "ClassId": label} for label in range(3)]
    for label in range(3):
        photograph(root / f"gtsrb/GTSRB/Final_Test/Images/{label:05}.ppm", 90 + label)
    with (root / "gtsrb" / "GT-final_test.csv").open("w") as stream:
        writer = csv.DictWriter(stream, ["Filename", "ClassId"], delimiter=";")
        writer.writeheader()
        writer.writerows(rows)
    return ("0", "1", "2")


def country211(root, each):
    for part in ("train", "valid", "test"):
        for label, name in enumerate(("AD", "AE", "AF")):
            for i in range(each):
                photograph(root / "country211" / part / name / f"{part}{i}.jpg", 10 * label + i)
    return ("AD", "AE", "AF")


def inaturalist(root, each):
    species = [f"{label:05}_Animalia_Chordata_Aves_Some_Fam{label}_Gen_sp{label}" for label in range(3)]
    for part in ("2021_train", "2021_valid"):
        for name in species:
            for i in range(each):
                photograph(root / part / name / f"{part}{i}.jpg", i)
    return tuple(species)


def pets(root, each):
    base = root / "oxford-iiit-pet"
    for part, count in (("trainval", each), ("test", 1)):
        lines = []
        for label, breed in enumerate(("Abyssinian", "american_bulldog", "Birman"), start=1):
            for i in range(count):
                photograph(base / "images" / f"{breed}_{part}{i}.jpg", 10 * label + i)
                lines.append(f"{breed}_{part}{i} {label} 1 1\n")
        (base / "annotations").mkdir(exist_ok=True)
        (base / "annotations" / f"{part}.txt").write_text("".join(lines))
    return ("Abyssinian", "American Bulldog", "Birman")


def food(root, each):
    base, names = root / "food-101", ("apple_pie", "beignets", "churros")
    (base / "meta").mkdir(parents=True)
    for part in ("train", "test"):
        listed = {name: [f"{name}/{part}{i}" for i in range(each)] for name in names}
        (base / "meta" / f"{part}.json").write_text(json.dumps(listed))
        for files in listed.values():
            for i, file in enumerate(files):
                photograph(base / "images" / f"{file}.jpg", i)
    return names


def dtd(root, each):
    base, names = root / "dtd" / "dtd", ("banded", "blotchy", "braided")
    (base / "labels").mkdir(parents=True)
    for part in ("train", "val", "test"):
        lines = [f"{name}/{part}{i}.jpg" for name in names for i in range(each)]
        (base / "labels" / f"{part}1.txt").write_text("\n".join(lines) + "\n")
        for i, line in enumerate(lines):
            photograph(base / "images" / line, i)
    return names


def caltech(root, each):
    names = ("Leopards", "accordion", "airplanes")
    photograph(root / "caltech101" / "101_ObjectCategories" / "BACKGROUND_Google" / "image_0001.jpg", 99)
    for label, name in enumerate(names):
        (root / "caltech101" / "Annotations" / name).mkdir(parents=True)
        for i in range(1, each + 1):
            photograph(root / "caltech101" / "101_ObjectCategories" / name / f"image_{i:04}.jpg", 10 * label + i)
    return names


def aircraft(root, each):
    base, names = root / "fgvc-aircraft-2013b" / "data", ("707-320", "727-200", "A300B4")
    base.mkdir(parents=True)
    (base / "variants.txt").write_text("".join(f"{name}\n" for name in names))
    number = 0
    for part in ("train", "val", "test"):
        lines = []
        for name in names:
            for _ in range(each):
                number += 1
                photograph(base / "images" / f"{number:07}.jpg", number)
                lines.append(f"{number:07} {name}\n")
        (base / f"images_variant_{part}.txt").write_text("".join(lines))
    return names


def sun(root, each):
    names = ("abbey", "airplane_cabin", "apse/indoor")
    (root / "SUN397").mkdir()
    (root / "SUN397" / "ClassName.txt").write_text("".join(f"/a/{name}\n" for name in names))
    for label, name in enumerate(names):
        for i in range(each):
            photograph(root / "SUN397" / "a" / name / f"sun_{label}{i}.jpg", 10 * label + i)
    return names


def clevr(root, each):
    base = root / "clevr" / "CLEVR_v1.0"
    (base / "scenes").mkdir(parents=True)
    for part in ("train", "val"):
        scenes = []
        for objects in (3, 4, 5):
            for i in range(each):
                name = f"CLEVR_{part}_{objects}{i}.png"
                photograph(base / "images" / part / name, 100 * objects + i)
                scenes.append({"image_filename": name, "objects": [{}] * objects})
        (base / "scenes" / f"CLEVR_{part}_scenes.json").write_text(json.dumps({"scenes": scenes}))
    return ("3", "4", "5")


def imagenette(root, each):
    for part in ("train", "val"):
        for label, folder in enumerate(("n01440764", "n02102040", "n02979186")):
            for i in range(each):
                photograph(root / "imagenette2" / part / folder / f"{i}.JPEG", 10 * label + i)
    return ("tench", "English springer", "cassette player")


def inaturalist_2019(root, each):
    for label, kind in enumerate(("Birds", "Fungi", "Birds")):
        for i in range(each):
            photograph(root / "2019" / kind / str(label) / f"{i}.jpg", 10 * label + i)
    return ("Birds/0", "Fungi/1", "Birds/2")


def caltech256(root, each):
    names = ("001.ak47", "002.american-flag", "003.backpack")
    for label, name in enumerate(names, start=1):
        for i in range(1, each + 1):
            photograph(root / "caltech256/256_ObjectCategories" / name / f"{label:03}_{i:04}.jpg", 20 * label + i)
    return names


LAYOUTS = {
    "FGVCAircraft": aircraft,
    "SUN397": sun,
    "CLEVRClassification": clevr,
    "Imagenette": imagenette,
    "INaturalist-2019": inaturalist_2019,
    "Caltech256": caltech256,
    "EuroSAT": eurosat,
    "GTSRB": gtsrb,
    "Country211": country211,
    "INaturalist": inaturalist,
    "OxfordIIITPet": pets,
    "Food101": food,
    "DTD": dtd,
    "Caltech101": caltech,
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_image_files_are_read_through_torchvision(name, tmp_path):
    classes = LAYOUTS[name](tmp_path, 10)
    data = load(name, tmp_path, image_size=8, imbalance_ratio=2.0, validation=declared()[name].validation is not None)
    assert data.classes == classes
    first = 8 if declared()[name].test is None else 10
    assert data.counts.tolist() == [first, int(first / 2**0.5), first // 2]
    assert data.shape == (3, 8, 8)
    if declared()[name].test is None:
        assert np.bincount(data.test.labels).tolist() == [2, 2, 2]
    if data.validation is not None:
        assert np.bincount(data.validation.labels).tolist() == [10, 10, 10]


@pytest.mark.parametrize("name", LAYOUTS)
def test_pixels_belong_to_their_labels(name, tmp_path, monkeypatch):
    """The file that an image has been read from, by its name, has the class that it is given."""
    LAYOUTS[name](tmp_path, 3)
    monkeypatch.setattr("ltbench.data.datasets.image_folder.STREAMED_ABOVE", 0)
    data = load(name, tmp_path, image_size=8, imbalance_ratio=None)
    assert isinstance(data.train, ImageFiles)
    official = getattr(torchvision.datasets, declared()[name].cls or name)(str(tmp_path), **declared()[name].train)
    expected = {np.asarray(image.convert("RGB")).tobytes(): label for image, label in official}
    for file, label in zip(data.train.names, data.train.labels, strict=True):
        pixels = np.asarray(Image.open(data.train.root / file).convert("RGB")).tobytes()
        if name not in ("INaturalist", "Food101"):  # whose images look alike here
            assert expected[pixels] == (int(data.classes[label]) if name == "CLEVRClassification" else label)
        else:
            assert data.classes[label] in file


def test_the_held_out_fifth_is_the_same_whatever_the_order_of_files(tmp_path, monkeypatch):
    eurosat(tmp_path, 10)
    first = load("EuroSAT", tmp_path, image_size=8, imbalance_ratio=2.0)
    real = torchvision.datasets.EuroSAT.__getitem__
    monkeypatch.setattr(torchvision.datasets.EuroSAT, "__getitem__", lambda self, i: real(self, len(self) - 1 - i))
    assert load("EuroSAT", tmp_path, image_size=8, imbalance_ratio=2.0).fingerprints == first.fingerprints
    assert len(set(first.test_names)) == 6


def test_copies_of_an_image_stay_on_one_side(tmp_path):
    eurosat(tmp_path, 9)
    folder = tmp_path / "eurosat" / "2750" / "Forest"
    for i in range(1, 5):
        (folder / f"Forest_{i}.jpg").write_bytes((folder / "Forest_0.jpg").read_bytes())
    data = load("EuroSAT", tmp_path, image_size=8, imbalance_ratio=None)
    copies = {image.tobytes() for image in data.train.images} & {image.tobytes() for image in data.test.images}
    assert not copies


def test_usps_from_its_packed_text(tmp_path):
    generator = np.random.default_rng(0)
    for file, each in (("usps.bz2", 6), ("usps.t.bz2", 1)):
        lines = []
        for label in np.repeat(np.arange(1, 11), each):
            values = " ".join(f"{i + 1}:{value:.4f}" for i, value in enumerate(generator.uniform(-1, 1, 256)))
            lines.append(f"{label} {values} \n")
        (tmp_path / file).write_bytes(bz2.compress("".join(lines).encode()))
    data = load("USPS", tmp_path, imbalance_ratio=3.0)
    assert data.shape == (1, 16, 16)
    assert data.counts.tolist() == [6, 5, 4, 4, 3, 3, 2, 2, 2, 2]  # floor(6 * 3^(-c/9))
    assert data.classes == tuple("0123456789")


# Stubs: the arrays and signatures of classes whose files have checksums


class Arrays:
    """What a class of torchvision that holds its images in memory has."""

    def __init__(self, root, split="train", transform=None, target_transform=None, download=False):
        assert not download
        count = 40 if split == "train" else 10
        self.labels = np.arange(count) % 10
        self.data = np.random.default_rng(count).integers(0, 256, (count, 3, 32, 32), dtype=np.uint8)

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        return Image.fromarray(self.data[i].transpose(1, 2, 0)), int(self.labels[i])


def test_svhn_as_an_array(tmp_path, monkeypatch):
    monkeypatch.setattr(torchvision.datasets, "SVHN", Arrays)
    (tmp_path / "train_32x32.mat").touch()
    data = load("SVHN", tmp_path, imbalance_ratio=2.0)
    assert (data.test.images == Arrays(None, "test").data).all()
    assert data.counts.tolist() == [4, 3, 3, 3, 2, 2, 2, 2, 2, 2]  # floor(4 * 2^(-c/9))


def test_qmnist_has_eight_numbers_a_label(tmp_path, monkeypatch):
    class QMNIST:
        classes = tuple(f"{digit} - name" for digit in range(10))

        def __init__(self, root, what=None, compat=True, train=True, download=True):
            assert not download
            self.data = torch.zeros(10 if what == "test" else 20, 28, 28, dtype=torch.uint8)
            self.targets = torch.zeros(len(self.data), 8, dtype=torch.int64)
            self.targets[:, 0] = torch.arange(len(self.data)) % 10

        def __len__(self):
            return len(self.data)

    monkeypatch.setattr(torchvision.datasets, "QMNIST", QMNIST)
    (tmp_path / "QMNIST" / "raw").mkdir(parents=True)
    data = load("QMNIST", tmp_path, imbalance_ratio=1.0)
    assert data.counts.tolist() == [2] * 10
    assert data.shape == (1, 28, 28)
    assert data.classes[3] == "3 - name"


class Faces:
    """FER2013: samples without files, grey, and no labels of test images where only test.csv is there."""

    labelled = True

    def __init__(self, root, split="train", transform=None, target_transform=None):
        self._samples = [(torch.full((48, 48), 10 * i, dtype=torch.uint8), i % 7) for i in range(14)]

    def __len__(self):
        return len(self._samples)

    def __getitem__(self, i):
        image, label = self._samples[i]
        return Image.fromarray(image.numpy()), label if self.labelled else None


def test_grey_images_without_files_have_one_channel_and_any_size(tmp_path, monkeypatch):
    monkeypatch.setattr(torchvision.datasets, "FER2013", Faces)
    (tmp_path / "fer2013").mkdir()
    data = load("FER2013", tmp_path, image_size=24)
    assert data.shape == (1, 24, 24)
    assert data.test.images[3].max() == 30
    monkeypatch.setattr(Faces, "labelled", False)
    with pytest.raises(LtbenchError, match="image 0 has no label"):
        load("FER2013", tmp_path)


def test_a_package_that_torchvision_lacks_is_named(tmp_path, monkeypatch):
    class PCAM(Arrays):
        def __init__(self, *args, **keywords):
            raise ModuleNotFoundError("h5py is not found", name="h5py")

    monkeypatch.setattr(torchvision.datasets, "PCAM", PCAM)
    (tmp_path / "pcam").mkdir()
    with pytest.raises(LtbenchError, match="h5py is not found") as error:
        load("PCAM", tmp_path)
    assert "pip install h5py" in str(error.value)


def test_a_package_that_torchvision_tells_of_in_words_is_named(tmp_path, monkeypatch):
    class PCAM(Arrays):
        def __init__(self, *args, **keywords):
            raise RuntimeError("h5py is not found. This dataset needs it: please run\npip install h5py")

    monkeypatch.setattr(torchvision.datasets, "PCAM", PCAM)
    (tmp_path / "pcam").mkdir()
    with pytest.raises(LtbenchError, match="takes a package") as error:
        load("PCAM", tmp_path)
    assert "to do: pip install h5py" in str(error.value)
    assert "delete" not in str(error.value)


def test_an_older_torchvision_without_the_class(tmp_path, monkeypatch):
    monkeypatch.delattr(torchvision.datasets, "Imagenette")
    (tmp_path / "imagenette2").mkdir()
    with pytest.raises(LtbenchError, match="has no Imagenette"):
        load("Imagenette", tmp_path)


# Downloads


def test_only_prepare_downloads(tmp_path, monkeypatch):
    asked = []

    class SVHN(Arrays):
        def __init__(self, root, split="train", transform=None, target_transform=None, download=False):
            asked.append((split, download))
            super().__init__(root, split)

    monkeypatch.setattr(torchvision.datasets, "SVHN", SVHN)
    assert registry.dataset("torchvision:SVHN").prepare(tmp_path / "new").startswith("torchvision:SVHN is in")
    assert asked == [("train", True), ("test", True)]


def test_a_download_that_fails_leaves_a_hint(tmp_path):
    """The network of these tests is closed."""
    with pytest.raises((LtbenchError, AssertionError)):
        registry.dataset("torchvision:SVHN").prepare(tmp_path)


def test_what_torchvision_does_not_download_is_said(tmp_path):
    for name, words in (("FER2013", "fer2013"), ("ImageNet", "meta.bin")):
        with pytest.raises(LtbenchError, match=f"{name}: torchvision does not download it: ") as error:
            registry.dataset(f"torchvision:{name}").prepare(tmp_path)
        assert words in str(error.value)
        with pytest.raises(LtbenchError, match="no data found") as error:
            load(name, tmp_path)
        assert "torchvision does not download it" in str(error.value)
        assert "data prepare" not in str(error.value)


def test_what_is_held_out_is_said(tmp_path, cli):
    eurosat(tmp_path, 10)
    shown = cli("data", "verify", "torchvision:EuroSAT", "--data-dir", tmp_path, "--imbalance-ratio", 2)
    assert shown.code == 0, shown.err
    assert "6, a fifth of each class" in shown.out


# Runs


@pytest.mark.slow
def test_a_run_is_stored_and_reported(tmp_path, cli):
    mnist(tmp_path / "fashion", 12, end=".gz", name="FashionMNIST")
    words = ["--dataset", "torchvision:FashionMNIST", "--data-dir", tmp_path / "fashion", "--imbalance-ratio", 3]
    done = cli("run", "--method", "ce", *words, "--epochs", 1, "--backbone", "cifar_resnet8")
    assert done.code == 0, done.err
    [stored] = (tmp_path / "runs").rglob("*.json")
    assert stored.parent.parent.name == "torchvision-FashionMNIST"
    report = cli("report", "--format", "md")
    assert report.code == 0
    assert "torchvision:FashionMNIST" in report.out
