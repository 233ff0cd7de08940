"""Others' predictions as rows: a run's own logits give its figures again, and files that do not fit are refused."""

import json
import shlex
import shutil

import numpy as np
import pytest
import torch

from ltbench import registry
from ltbench.config import RunConfig, recipes
from ltbench.data.datasets import image_folder as folder
from ltbench.errors import LtbenchError
from ltbench.external.prediction_file import read_counts
from ltbench.external.score import score
from ltbench.files import paths
from ltbench.report.collection import collect
from ltbench.report.leaderboard import leaderboards
from ltbench.results.external import EXTERNAL
from ltbench.results.store import Store, read
from ltbench.runs.options import RunOptions
from ltbench.runs.run import run

pytestmark = pytest.mark.filterwarnings("default::ltbench.errors.LtbenchWarning")  # the command line prints them

DIGITS = ("--name", "mine", "--dataset", "digits-lt")
LABELS = registry.dataset("digits-lt").load(None, 8).test.labels


def guesses(labels=LABELS, classes=10, seed=0):
    """Logits that favour the true class."""
    return np.random.default_rng(seed).normal(size=(len(labels), classes)) + 3 * np.eye(classes)[labels]


@pytest.fixture
def file(tmp_path):
    """Write a file of predictions: ``file(name="x.npz", logits=..., labels=...)``."""

    def write(name="mine.npz", **arrays):
        np.savez(tmp_path / name, **arrays)
        return tmp_path / name

    return write


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A real run, and its logits as a file."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LTBENCH_CACHE", str(folder))
        result = run(
            RunConfig(method="balpoe", backbone="cifar_resnet8", epochs=1),
            RunOptions(device="cpu", out=folder / "runs"),
        )
    return result, folder / "runs" / result.run_id / "test.npz"


@pytest.mark.slow
def test_a_runs_own_logits_give_its_own_figures(trained, tmp_path):
    own, logits = trained
    config = RunConfig(method="mine", recipe="standard")
    result, path = score(logits, config, logit_prior=own.method.logit_prior, out=tmp_path)
    assert result.metrics == own.metrics
    assert result.outcomes == own.outcomes
    assert result.shift == own.shift
    assert result.data == own.data
    assert read(path) == result


def test_a_scored_row_says_what_it_is(cli, file):
    done = cli("score", file(logits=guesses(), labels=LABELS), *DIGITS)
    assert (done.code, done.err) == (0, "")
    (result,) = collect(["runs"]).results.values()
    assert f"runs/digits-lt/mine/{result.run_id}.json" in done.out
    assert (result.status, result.cost, result.config.recipe, result.method.revision) == (
        "done",
        None,
        EXTERNAL,
        "scored",
    )
    about = result.provenance["scored"]
    assert about["file"] == "mine.npz"
    assert len(about["sha256"]) == 64
    assert about["labels"] == "equal to the data set's"
    assert "hardware" not in result.provenance, "of the machine that trained it nothing is known"
    assert set(result.shift.prior) == {"unknown"}, "no prior is corrected without --logit-prior"
    shown = cli("show", result.run_id[:6])
    assert shown.code == 0
    assert "predictions of a model that ltbench has not trained: mine.npz" in " ".join(shown.out.split())


@pytest.mark.slow
def test_a_scored_row_is_evaluated_again_from_its_stored_logits(cli, file):
    cli("score", file(logits=guesses(), labels=LABELS), *DIGITS, "--logit-prior", 0)
    (result,) = collect(["runs"]).results.values()
    done = cli("evaluate", "--all", "--format", "json")
    assert done.code == 0
    assert json.loads(done.out)[0]["ece"] == result.test.ece
    assert cli("evaluate", "--all", "--test-prior", "forward-5", "--prior", "known").code == 0
    refused = cli("evaluate", "--all", "--temperature")
    assert refused.code == 2
    assert "no validation images" in refused.err


@pytest.mark.slow
def test_scoring_a_file_twice_gives_one_row(cli, file):
    path = file(logits=guesses(), labels=LABELS)
    cli("score", path, *DIGITS)
    cli("score", path, *DIGITS, "--logit-prior", 1)
    (result,) = collect(["runs"]).results.values()
    assert result.method.logit_prior == 1


@pytest.mark.slow
def test_another_file_for_the_same_row_and_seed_is_refused(cli, file):
    cli("score", file(logits=guesses(), labels=LABELS), *DIGITS)
    other = file("other.npz", logits=guesses(seed=1), labels=LABELS)
    done = cli("score", other, *DIGITS)
    assert done.code == 2
    assert "'mine' with seed 0 exists already, from another file" in done.err
    assert cli("score", other, *DIGITS, "--seed", 1).code == 0


@pytest.mark.slow
def test_seeds_of_a_scored_model_are_one_row_and_marked(cli, file, tmp_path, make_result):
    for seed in range(3):
        path = file(f"{seed}.npz", logits=guesses(seed=seed), labels=LABELS)
        assert cli("score", path, *DIGITS, "--seed", seed).code == 0
    Store(tmp_path / "runs").save(make_result("ce"))
    boards = {board.key["recipe.name"]: board.rows for board in leaderboards(collect(["runs"]))}
    assert boards["external"]["label"].tolist() == ["mine (scored)"]
    assert boards["external"]["n"].tolist() == [3]
    assert boards["external"]["parameters"].isna().all()
    assert boards["standard"]["label"].tolist() == ["Cross Entropy"]
    report = cli("report", "--format", "md")
    assert report.code == 0
    line = next(line for line in report.out.splitlines() if line.startswith("| mine (scored)"))
    assert line.count("n/a") >= 3


def test_a_declared_recipe_puts_a_row_beside_those_of_the_recipe(cli, trained, tmp_path):
    own, logits = trained
    assert cli("score", logits, *DIGITS, "--recipe", "standard").code == 0
    as_declared = own.config.replace(backbone="cifar_resnet20", recipe=recipes.recipe("standard", "digits"))
    Store(tmp_path / "runs").save(own.model_copy(update={"config": as_declared}))
    (board,) = leaderboards(collect(["runs"]))
    assert sorted(board.rows["label"]) == ["BalPoE", "mine (scored)"]


@pytest.mark.slow
def test_probabilities_are_taken_for_what_they_are(file, tmp_path):
    logits = guesses()
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    config = RunConfig(method="mine", recipe=EXTERNAL)
    one, _ = score(file("a.npz", logits=logits, labels=LABELS), config, out=tmp_path)
    other, _ = score(file("b.npz", probabilities=probabilities), config.replace(seed=1), out=tmp_path)
    for name in ("top1", "macro", "few", "ece", "mce", "nll", "brier", "classwise_ece"):
        assert getattr(other.test, name) == pytest.approx(getattr(one.test, name), abs=1e-4)


def test_a_probability_of_nothing_costs_much_and_not_all(file, tmp_path):
    counts = tmp_path / "counts.txt"
    counts.write_text("30\n3\n")
    path = file(probabilities=np.array([[1.0, 0.0], [0.5, 0.5]]), labels=np.array([1, 0]))
    result, _ = score(path, RunConfig(method="m", dataset="d", recipe=EXTERNAL), train_counts=counts, out=tmp_path)
    # -log of float32's smallest normal number, 2 ** -126, is 126 log 2 = 87.3; of .5 it is log 2
    assert result.test.nll == pytest.approx((126 * np.log(2) + np.log(2)) / 2, rel=1e-5)


@pytest.mark.parametrize("text", ["\ufeff30\n3\n", "\ufeffclass,images\n0,30\n1,3\n", "30\r\n3", "count\n30\n3\n"])
def test_counts_are_read_whatever_a_spreadsheet_writes(tmp_path, text):
    (tmp_path / "counts.csv").write_bytes(text.encode())
    names, counts = read_counts(tmp_path / "counts.csv")
    assert (names, counts.tolist()) == (["0", "1"], [30, 3])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("30.0\n20\n3\n", "not one count per class"),
        ('"1,280"\n20\n3\n', "not one count per class"),
        ("-5\n20\n3\n", "an image of each at least"),
        ("cat,30\ncat,20\n", "a class stands there twice: cat"),
    ],
)
def test_the_first_class_is_never_taken_for_a_header(tmp_path, text, reason):
    (tmp_path / "counts.csv").write_text(text)
    with pytest.raises(LtbenchError, match=reason):
        read_counts(tmp_path / "counts.csv")


def test_experts_are_kept(file, tmp_path):
    experts = np.stack([guesses(seed=seed) for seed in range(3)])
    path = file(logits=experts.mean(0), experts=experts, labels=LABELS)
    result, _ = score(path, RunConfig(method="mine", recipe=EXTERNAL), out=tmp_path)
    expected = torch.from_numpy(experts[2]).softmax(1).mean(0)
    assert result.test.expert_mean_probability[2] == pytest.approx(expected.tolist(), rel=1e-4)


def test_a_file_without_labels_is_taken_in_order_and_that_is_said(cli, file):
    done = cli("score", file(logits=guesses()), *DIGITS)
    assert done.code == 0
    assert "their order could not be checked" in done.err
    (result,) = collect(["runs"]).results.values()
    assert result.provenance["scored"]["labels"] == "not given"


def test_a_transductive_model_has_a_table_of_its_own(cli, file):
    cli("score", file(logits=guesses(), labels=LABELS), *DIGITS, "--transductive")
    (result,) = collect(["runs"]).results.values()
    assert result.method.transductive
    assert result.shift is None


def test_a_data_set_that_ltbench_does_not_have(cli, file, tmp_path):
    (tmp_path / "counts.csv").write_text("class,images\nant,120\nbee,20\ncow,3\n")
    labels = np.array([0, 1, 1, 2])
    path = file(logits=5 * np.eye(3)[[0, 1, 0, 2]], labels=labels)
    done = cli("score", path, "--name", "mine", "--dataset", "insects", "--train-counts", "counts.csv")
    assert done.code == 0, done.err
    (result,) = collect(["runs"]).results.values()
    assert result.data.classes == ["ant", "bee", "cow"]
    assert result.data.groups == {"many": [0], "medium": [1], "few": [2]}
    assert (result.test.top1, result.test.medium, result.test.macro) == (75, 50, pytest.approx(250 / 3))
    (board,) = leaderboards(collect(["runs"]))
    assert board.title.startswith("insects")


def test_the_order_of_the_test_images(cli, tmp_path):
    done = cli("data", "order", "digits-lt", "--output", "order.csv")
    assert (done.code, done.out) == (0, "")
    header, *lines = (tmp_path / "order.csv").read_text().splitlines()
    assert header == "label,class,image"
    assert [int(line.split(",")[0]) for line in lines] == LABELS.tolist()
    from sklearn.datasets import load_digits

    positions = [int(line.split(",")[2]) for line in lines]
    assert load_digits().target[positions].tolist() == LABELS.tolist()


def test_the_order_of_an_image_folder_is_by_class_and_name(cli, tmp_path):
    from PIL import Image

    for part, names in {"train": "abc", "test": "zxy"}.items():
        for group in ("cat", "ant"):
            for name in names:
                path = tmp_path / "images" / part / group / f"{name}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (8, 8), tuple(f"{part[1]}{group[0]}{name}".encode())).save(path)  # none twice
    for part, names in {"train": "abc", "test": "xyz"}.items():
        done = cli("data", "order", "folder-lt", "--data-dir", "images", "--part", part)
        groups = enumerate(("ant", "cat"))
        expected = [f"{label},{name},{part}/{name}/{file}.png" for label, name in groups for file in names]
        assert done.out.splitlines() == ["label,class,image", *expected]


@pytest.mark.parametrize(
    ("options", "settings"),
    [
        ([], {}),
        (["--imbalance-ratio", 5, "--data-seed", 3], {"imbalance_ratio": 5, "data_seed": 3}),
        (["--imbalance", "step", "--class-order", "drawn"], {"imbalance": "step", "class_order": "drawn"}),
    ],
)
def test_the_order_of_the_training_images_is_that_of_a_run(cli, options, settings, tmp_path):
    """Positions in scikit-learn's digits lead to the very images that a run trains on and holds out."""
    from sklearn.datasets import load_digits

    from ltbench.data import dataset

    config = RunConfig(**{"imbalance_ratio": 20, "image_size": 8, **settings})
    whole = dataset.load(registry.dataset("digits-lt"), config, tmp_path)
    held = dataset.load(registry.dataset("digits-lt"), config.replace(validation=True), tmp_path)
    pixels = np.round(load_digits().images * (255 / 16)).astype(np.uint8)[:, None]
    for part, images in {"train": whole.train, "validation": held.validation}.items():
        done = cli("data", "order", "digits-lt", "--part", part, *options)
        rows = [line.split(",") for line in done.out.splitlines()[1:]]
        assert [int(label) for label, _, _ in rows] == images.labels.tolist()
        assert np.array_equal(pixels[[int(position) for _, _, position in rows]], images.images)
    assert cli("data", "order", "digits-lt", "--imbalance-ratio", 5).code == 2, "the test images have no such ratio"


def changed(array, place, value):
    array = array.copy()
    array[place] = value
    return array


FINE = guesses()
EVEN = np.full((400, 10), 0.1)
BAD = [
    ({"scores": FINE}, [], ["no logits; the file has scores"]),
    ({}, [], ["no logits; the file has nothing"]),
    ({"logits": FINE, "probabilities": EVEN}, [], ["both logits and probabilities"]),
    ({"logits": FINE[0]}, [], ["logits have the shape (10,) and not (images, classes)"]),
    ({"logits": FINE[:0]}, [], ["logits have the shape (0, 10)"]),
    ({"logits": FINE.astype(str)}, [], ["logits are no real numbers"]),
    ({"logits": FINE + 1j}, [], ["logits are no real numbers, but complex128"]),
    ({"logits": FINE.astype(object)}, [], ["pickled objects are not read"]),
    ({"logits": changed(FINE, (3, 4), np.nan)}, [], ["1 are NaN, infinite or beyond 1e+30, the first at (3, 4)"]),
    ({"logits": changed(FINE, (slice(2), 0), -np.inf)}, [], ["2 are NaN, infinite", "(0, 0)", "probabilities=..."]),
    ({"logits": 1e300 * FINE}, [], ["beyond 1e+30"]),
    ({"probabilities": FINE}, [], ["probabilities: 400 rows", "row 0 sums to", "store them as logits"]),
    ({"probabilities": changed(EVEN, (7, slice(2)), [-0.1, 0.3])}, [], ["1 rows are negative", "row 7 sums to 1"]),
    ({"logits": FINE[:399]}, [], ["predictions for 399 images, but digits-lt has 400 test images"]),
    ({"logits": FINE[:, :9]}, [], ["9 classes, but digits-lt has 10", "one column for each"]),
    ({"logits": FINE.T}, [], ["predictions for 10 images and 400 classes", "logits.T"]),
    ({"logits": FINE.T, "labels": LABELS}, [], ["labels are int64 of the shape (400,)", "logits.T"]),
    ({"logits": FINE.T, "classes": np.arange(10)}, [], ["classes are int64 of the shape (10,)", "logits.T"]),
    ({"probabilities": 100 * EVEN}, [], ["row 0 sums to 100", "divide percentages by 100"]),
    (
        {"logits": FINE, "labels": LABELS[::-1]},
        [],
        ["test images in another order", "image 0 is of class", "data order"],
    ),
    (
        {"logits": FINE, "labels": changed(LABELS, 0, (LABELS[0] + 1) % 10)},
        [],
        ["not those of digits-lt's test images"],
    ),
    ({"logits": FINE, "labels": changed(LABELS, 0, 10)}, [], ["labels lie from 0 to 10 and not from 0 to 9"]),
    ({"logits": FINE, "labels": changed(LABELS, 0, -1)}, [], ["labels lie from -1"]),
    ({"logits": FINE, "labels": LABELS[:5]}, [], ["labels are int64 of the shape (5,) and not integers of (400,)"]),
    ({"logits": FINE, "labels": LABELS / 1}, [], ["labels are float64"]),
    ({"logits": FINE, "experts": FINE}, [], ["experts have the shape (400, 10) and not (experts, images, classes)"]),
    ({"logits": FINE, "experts": FINE[None, :9]}, [], ["experts are (1, 9, 10), but logits are (400, 10)"]),
    ({"logits": FINE}, ["--name", "ce"], ["'ce' is a method of ltbench", "--name"]),
    ({"logits": FINE}, ["--name", "a/b"], ["'a/b' is no name", "--name"]),
    ({"logits": FINE}, ["--name", "../up"], ["'../up' is no name"]),
    ({"logits": FINE}, ["--dataset", "digit-lt"], ["unknown data set 'digit-lt'", "--train-counts", "digits-lt"]),
    ({"logits": FINE}, ["--recipe", "standart"], ["unknown recipe 'standart'"]),
    ({"logits": FINE}, ["--recipe", "paper"], ["--recipe", "external"]),
    ({"logits": FINE}, ["--logit-prior", "nan"], ["nan is no finite number", "--logit-prior"]),
    ({"logits": FINE}, ["--imbalance-ratio", "0.5"], ["imbalance_ratio", "0.5"]),
    ({"logits": FINE}, ["--out", "mine.npz/results"], ["results cannot be saved"]),
    ({"logits": FINE}, ["--train-counts", "counts.txt"], ["ltbench has the data set 'digits-lt'", "--train-counts"]),
]
OWN = ["--dataset", "own", "--train-counts", "counts.txt"]
BAD += [
    ({"logits": FINE}, OWN, ["there are no labels", "np.savez"]),
    ({"logits": FINE, "labels": LABELS}, [*OWN, "--data-seed", "1"], ["the counts say what the data set is"]),
    ({"logits": FINE, "labels": LABELS}, [*OWN, "--imbalance", "step"], ["the counts say what the data set is"]),
    ({"logits": FINE, "labels": LABELS}, [*OWN, "--labels", "a.csv"], ["the counts say what the data set is"]),
    ({"logits": FINE, "labels": LABELS}, [*OWN, "--recipe", "standard"], ["--recipe", "TOML"]),
    ({"logits": FINE, "labels": LABELS}, OWN, ["label 9 for 3 counts", "counts.txt"]),
    ({"logits": FINE[:, :4], "labels": LABELS % 2}, OWN, ["4 classes, but own has 3"]),
    ({"logits": FINE, "labels": LABELS}, [*OWN[:3], "none.txt"], ["none.txt", "cannot read the file"]),
    ({"logits": FINE, "labels": LABELS}, ["--dataset", "../own", *OWN[2:]], ["'../own' is no name", "--dataset"]),
]


@pytest.mark.parametrize(("arrays", "words", "parts"), BAD, ids=lambda value: str(list(value))[:40])
def test_what_does_not_fit_is_refused_and_stores_nothing(cli, file, tmp_path, arrays, words, parts):
    path = file(**arrays)
    (tmp_path / "counts.txt").write_text("30\n20\n10\n")
    done = cli("score", path, *DIGITS, *words)
    assert done.code == 2
    assert done.out == ""
    assert all(part in done.err for part in parts), done.err
    assert not list(tmp_path.rglob("*.json"))


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (None, "cannot read the predictions: No such file"),
        (b"", "it is no .npz file"),
        (b"logits,1,2,3\n", "it is no .npz file"),
        (b"\x80\x04]\x94.", "it is no .npz file"),
    ],
)
def test_files_that_are_no_archives_are_refused(cli, tmp_path, content, part):
    if content is not None:
        (tmp_path / "mine.npz").write_bytes(content)
    done = cli("score", "mine.npz", *DIGITS)
    assert done.code == 2
    assert part in done.err
    assert "mine.npz" in done.err


def test_a_damaged_archive_is_refused(cli, file):
    path = file(logits=FINE)
    whole = bytearray(path.read_bytes())
    whole[500:600] = bytes(100)
    path.write_bytes(whole)
    done = cli("score", path, *DIGITS)
    assert done.code == 2
    assert "not a NumPy archive of numbers: Bad CRC-32" in done.err


@pytest.mark.slow
@pytest.mark.parametrize("words", [["--dataset", "digits-lt", "--transductive"], [*OWN[:1], "ten", *OWN[2:]]])
def test_lost_logits_come_back_by_the_command_that_is_named(cli, file, tmp_path, words):
    (tmp_path / "counts.txt").write_text("".join(f"{count}\n" for count in range(30, 20, -1)))
    file(logits=guesses(), labels=LABELS)
    assert cli("score", "mine.npz", "--name", "mine", "--seed", 3, "--logit-prior", 0.5, *words).code == 0
    (before,) = collect(["runs"]).results.values()
    shutil.rmtree(paths.cache_dir() / "runs")
    lost = cli("evaluate", "--all")
    assert lost.code == 2
    named = lost.err.partition("make them again: ltbench ")[2].splitlines()[0]
    assert cli(*shlex.split(named)).code == 0
    assert cli("evaluate", "--all").code == 0
    (after,) = collect(["runs"]).results.values()
    assert after.model_dump(exclude={"provenance"}) == before.model_dump(exclude={"provenance"})


@pytest.fixture
def numbered(tmp_path):
    """An image folder with the classes 0 to 10, which its loader has in the order 0, 1, 10, 2, ...; and its labels."""
    from PIL import Image

    for part, count in {"train": 2, "test": 3}.items():
        for name in range(11):
            for number in range(count):
                path = tmp_path / "images" / part / str(name) / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (8, 8), (20 * name, number, len(part))).save(path)
    return np.repeat(np.arange(11), 3)


NUMBERED = ("--name", "mine", "--dataset", "folder-lt", "--data-dir", "images", "--image-size", 8)
BY_TEXT = sorted(map(str, range(11)))  # "0", "1", "10", "2", ...


def test_names_of_images_where_a_class_has_no_test_images(cli, file, tmp_path, numbered):
    for image in (tmp_path / "images" / "test" / "10").iterdir():
        image.unlink()
    names = np.array([f"test/{name}/{number}.png" for name in BY_TEXT if name != "10" for number in range(3)])
    path = file(logits=9.0 * np.eye(11)[np.delete(numbered, slice(6, 9))], files=names, classes=np.array(BY_TEXT))
    assert cli("score", path, *NUMBERED).code == 2
    done = cli("score", path, *NUMBERED, "--keep-classes-without-test-images")
    assert done.code == 0, done.err
    assert only_result().test.top1 == 100


def test_data_are_read_once_for_labels_and_names(cli, file, numbered, monkeypatch):
    reads, read = [], folder.read
    monkeypatch.setattr(folder, "read", lambda *args, **options: (reads.append(args), read(*args, **options))[1])
    names = np.array([f"test/{name}/{number}.png" for name in BY_TEXT for number in range(3)])
    done = cli("score", file(logits=9.0 * np.eye(11)[numbered], files=names), *NUMBERED)
    assert (done.code, len(reads)) == (0, 1), done.err
    assert only_result().test.top1 == 100


def only_result():
    (result,) = collect(["runs"]).results.values()
    return result


def test_columns_in_the_order_of_numbers_are_put_right_by_their_names(cli, file, numbered):
    """A model whose class 10 is its last column; every image of class 10 is predicted right, every 9 as a 10."""
    truth = np.array([int(name) for name in BY_TEXT])[numbered]  # in the order of the folder: 0 0 0 1 1 1 10 10 10 2...
    logits = 9.0 * np.eye(11)[np.where(truth == 9, 10, truth)]
    classes = [str(number) for number in range(11)]
    experts = np.stack([logits, -logits])
    done = cli("score", file(logits=logits, experts=experts, labels=truth, classes=classes), *NUMBERED)
    assert done.code == 0, done.err
    assert "its columns are in another order" in done.err
    result = only_result()
    assert result.data.classes == BY_TEXT
    correct = dict(zip(BY_TEXT, result.test.correct, strict=True))
    assert correct == {name: 0 if name == "9" else 3 for name in BY_TEXT}
    mean = dict(zip(BY_TEXT, result.test.expert_mean_probability[0], strict=True))
    assert mean["10"] == pytest.approx(2 / 11, abs=1e-2)
    assert result.provenance["scored"]["classes"] == "put in the data set's order"


def test_columns_in_the_right_order_are_left_alone(cli, file, numbered):
    logits = 9.0 * np.eye(11)[numbered]
    done = cli("score", file(logits=logits, classes=np.array(BY_TEXT, dtype="S"), labels=numbered), *NUMBERED)
    assert (done.code, done.err) == (0, "")
    assert only_result().test.top1 == 100
    assert only_result().provenance["scored"]["classes"] == "as in the data set"


def test_rows_are_put_right_by_the_names_of_their_images(cli, file, numbered):
    shuffled = np.random.default_rng(0).permutation(33)
    names = np.array([f"/elsewhere/test/{name}/{number}.png" for name in BY_TEXT for number in range(3)])
    guess = np.where(np.arange(33) == 32, 0, numbered)  # the last image of class 9 is taken for a 0
    logits = 9.0 * np.eye(11)[guess]
    path = file(logits=logits[shuffled], labels=numbered[shuffled], files=names[shuffled])
    done = cli("score", path, *NUMBERED)
    assert done.code == 0, done.err
    assert "its rows are in another order" in done.err
    assert only_result().test.correct == [3] * 10 + [2]


def test_rows_by_position_and_without_labels(cli, file):
    """Positions in scikit-learn's digits, as numbers; the truth comes from ltbench."""
    order = [line.split(",") for line in cli("data", "order", "digits-lt").out.splitlines()[1:]]
    positions = np.array([int(position) for _, _, position in order])
    backwards = positions[::-1]
    done = cli("score", file(logits=9.0 * np.eye(10)[LABELS[::-1]], images=backwards), *DIGITS)
    assert done.code == 0
    assert "could not be checked" not in done.err
    assert only_result().test.top1 == 100


def test_names_with_two_usual_orders_are_warned_of_where_none_are_given(cli, file, numbered):
    done = cli("score", file(logits=9.0 * np.eye(11)[numbered]), *NUMBERED)
    assert done.code == 0
    assert "the first outputs must be of 0, 1, 10, 2" in " ".join(done.err.split())
    quiet = cli("score", file(logits=guesses()), *DIGITS)
    assert "two usual orders" not in quiet.err, "0 to 9 have one"


def test_counts_whose_names_have_two_usual_orders_are_warned_of_though_there_are_labels(cli, file, tmp_path):
    names = [f"c{number}" for number in range(1, 12)]
    (tmp_path / "counts.csv").write_text("".join(f"{name},{200 - 10 * place}\n" for place, name in enumerate(names)))
    (tmp_path / "plain.txt").write_text("200\n" * 11)
    labels = np.arange(11)
    own = ("--name", "mine", "--dataset", "own", "--train-counts")
    done = cli("score", file(logits=9.0 * np.eye(11), labels=labels), *own, "counts.csv")
    assert done.code == 0
    assert "the first outputs must be of c1, c2, c3, c4" in " ".join(done.err.split())
    for seed, (counts, given) in enumerate([("plain.txt", {}), ("counts.csv", {"classes": names})], start=1):
        quiet = cli("score", file(logits=9.0 * np.eye(11), labels=labels, **given), *own, counts, "--seed", seed)
        assert (quiet.code, "two usual orders" in quiet.err) == (0, False), quiet.err


def test_labels_of_another_numbering_blame_the_right_class(cli, file, numbered):
    truth = np.array([int(name) for name in BY_TEXT])[numbered]
    done = cli("score", file(logits=9.0 * np.eye(11)[truth], labels=truth), *NUMBERED)
    assert done.code == 2
    assert "what the file calls 10 is class '10'" in done.err, "and not '9', which stands at place 10 here"
    assert "image 6 is of class '9' (label 10) there, and of class '10' (label 2) in folder-lt" in done.err
    assert "classes=..." in done.err


NAMES = [str(digit) for digit in range(10)]
WRONG_NAMES = [
    ({"classes": NAMES[:9]}, ["classes are <U1 of the shape (9,) and not text of (10,)"]),
    ({"classes": [*NAMES[:9], "ten"]}, ["'9' is missing", "'ten' is none of the data set's", "classes"]),
    ({"classes": [*NAMES[:9], "8"]}, ["the class '8' is named twice"]),
    ({"classes": np.array(NAMES, dtype=object)}, ["classes: pickled objects are not read", "dtype=str"]),
    ({"classes": np.arange(10) / 1}, ["classes are float64"]),
    ({"classes": NAMES[::-1], "labels": LABELS}, ["labels do not count the classes as the file's own list"]),
    ({"files": np.arange(400)}, ["the names of the images are not those of the data set"]),
    ({"files": np.zeros(400, dtype=int)}, ["the image '0' is named twice"]),
    ({"files": np.arange(399)}, ["files are int64 of the shape (399,)"]),
    ({"files": np.arange(400), "images": np.arange(400)}, ["both files and images"]),
    ({"experts": np.zeros((101, 400, 10), dtype=np.float16)}, ["101 experts are more than 100"]),
]


@pytest.mark.slow
@pytest.mark.parametrize(("arrays", "parts"), WRONG_NAMES, ids=lambda value: str(list(value))[:40])
def test_names_that_do_not_fit_are_refused(cli, file, tmp_path, arrays, parts):
    done = cli("score", file(**{"logits": FINE, **arrays}), *DIGITS)
    assert done.code == 2
    assert all(part in done.err for part in parts), done.err
    assert not list(tmp_path.rglob("*.json"))


@pytest.mark.slow
@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize(
    "logits",
    [FINE.astype(np.float16), FINE.astype(">f4"), np.asfortranarray(FINE), (100 * FINE).astype(np.int16), FINE],
    ids=["float16", "big-endian", "Fortran order", "integers", "float64"],
)
def test_any_kind_of_real_numbers_in_any_layout_counts_the_same(file, tmp_path, logits):
    result, _ = score(file(logits=logits, labels=LABELS), RunConfig(method="mine", recipe=EXTERNAL), out=tmp_path)
    assert result.test.correct == np.bincount(LABELS[FINE.argmax(1) == LABELS], minlength=10).tolist()


def test_probabilities_under_the_name_of_logits_are_warned_of(cli, file):
    probabilities = np.exp(FINE) / np.exp(FINE).sum(1, keepdims=True)
    done = cli("score", file(logits=probabilities.astype(np.float16), labels=LABELS), *DIGITS)
    assert done.code == 0
    assert "look like probabilities" in done.err
    assert "probabilities=" in done.err
    assert "np.log" in done.err
    assert "look like" not in cli("score", file(logits=np.abs(FINE), labels=LABELS), *DIGITS, "--seed", 1).err
    percent = cli("score", file(logits=100 * probabilities, labels=LABELS), *DIGITS, "--seed", 2).err
    assert "look like probabilities" in percent
    assert "divide them by 100" in percent


def test_probabilities_of_bfloat16_count_as_probabilities(cli, file):
    rounded = torch.tensor(FINE).softmax(1).bfloat16().float().numpy()
    assert np.abs(rounded.sum(1) - 1).max() > 1e-3
    assert cli("score", file(probabilities=rounded, labels=LABELS), *DIGITS).code == 0
    assert "look like" in cli("score", file(logits=rounded, labels=LABELS), *DIGITS, "--seed", 1).err


def test_entries_that_nothing_is_known_about_are_named(cli, file):
    done = cli("score", file(logits=FINE, labels=LABELS, class_names=NAMES), *DIGITS)
    assert done.code == 0
    assert "class_names are not read" in done.err


@pytest.mark.slow
@pytest.mark.parametrize("entry", ["logits", "experts", "labels", "classes"])
def test_a_small_file_that_unpacks_to_gigabytes_is_refused_unread(cli, tmp_path, entry):
    """4 GB of zeros in 4 MB: what its headers say is enough, and no memory is taken."""
    import tracemalloc
    import zipfile

    shapes = {"logits": (10**8, 10), "experts": (10**6, 400, 10), "labels": (5 * 10**8,), "classes": (10**9,)}
    kinds = {"logits": "<f4", "experts": "|u1", "labels": "<i8", "classes": "<U1"}
    header = {"descr": kinds[entry], "fortran_order": False, "shape": shapes[entry]}
    with zipfile.ZipFile(tmp_path / "mine.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        if entry != "logits":
            with archive.open("logits.npy", "w") as member:
                np.save(member, FINE)
        with archive.open(f"{entry}.npy", "w", force_zip64=True) as member:
            np.lib.format.write_array_header_1_0(member, header)
            for _ in range(5 if entry == "logits" else 0):
                member.write(bytes(2**20))
    tracemalloc.start()
    done = cli("score", "mine.npz", *DIGITS)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert done.code == 2
    assert entry in done.err
    assert "mine.npz" in done.err
    assert peak < 2**26


def test_a_file_for_too_many_images_is_not_unpacked(cli, file, monkeypatch):
    path = file(logits=np.zeros((10**6, 10), dtype=np.float32))
    monkeypatch.setattr(np, "load", None)
    done = cli("score", path, *DIGITS)
    assert (done.code, "predictions for 1000000 images, but digits-lt has 400" in done.err) == (2, True)
