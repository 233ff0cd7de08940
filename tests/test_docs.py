"""What the README and the guide show is what a user gets."""

import importlib.util
import re
import shlex
import tomllib
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

from ltbench import cli, conformance, registry
from ltbench.config import Recipe, RunConfig
from ltbench.data.datasets.image_folder import Folder
from ltbench.results.schema import Result
from ltbench.runs.options import RunOptions
from ltbench.runs.run import run

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
PAGES = {
    str(page.relative_to(ROOT)): page.read_text()
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")))
    if page.name != "methods.md"  # has no examples, and is made by a command
}


def blocks(page: str, language: str) -> list[str]:
    """The code blocks of one language on a page."""
    return re.findall(rf"^```{language}\n(.*?)^```", PAGES[page], re.MULTILINE | re.DOTALL)


def commands(text: str) -> list[str]:
    """Every command of ltbench in the indented blocks of a text."""
    lines = [line.partition("  #")[0].strip() for line in re.findall(r"^ {4,}(\S.*)$", text, re.MULTILINE)]
    return [part for line in lines for part in line.split(" && ") if re.match(r"ltbench |torchrun ", part)]


METHOD_FILES = [
    (page, name, code)
    for page in PAGES
    for block in blocks(page, "python")
    for name, code in re.findall(r"\A# my_methods/(\w+)\.py\n(.*)", block, re.DOTALL)
]
PROGRAMS = [
    (page, block) for page in PAGES for block in blocks(page, "python") if not block.startswith("# my_methods/")
]
COMMANDS = [(page, command) for page, text in PAGES.items() for command in commands(text)]


@pytest.fixture
def add_example(tmp_path):
    """Add method files of the pages, as a user would save them; gives their folder."""
    folder = tmp_path / "my_methods"
    folder.mkdir()

    def add(*names, page):
        for _, name, code in (one for one in METHOD_FILES if one[0] == page and one[1] in names):
            (folder / f"{name}.py").write_text(code)
            registry.add_method_file(folder / f"{name}.py")
        return folder

    return add


@pytest.fixture
def small_networks(small_network, monkeypatch):
    """Train a small network on folders of images, too, where a page names none."""
    monkeypatch.setattr(Folder, "backbone", "cifar_resnet8")


def test_there_are_examples_of_every_kind():
    assert [name for _, name, _ in METHOD_FILES] == ["poly", "poly", "mean_classifier"]
    assert len(PROGRAMS) == 2
    assert len(COMMANDS) > 50
    assert {command.split()[1] for _, command in COMMANDS} >= {"run", "report", "tune", "predict", "export", "score"}


def test_the_readme_is_short():
    assert len(README.split()) <= 900
    assert len(re.findall(r"!\[", README)) == 1


@pytest.mark.parametrize(("page", "name", "code"), METHOD_FILES)
def test_the_example_is_as_short_as_we_say(page, name, code):
    lines = [line for line in code.splitlines() if line.strip()]
    assert len(lines) <= (20 if name == "poly" else 40)


@pytest.mark.slow
def test_the_example_conforms(add_example):
    """The poly loss of the guide; ``ltbench check`` checks the other examples where a user follows the pages below."""
    add_example("poly", page="docs/add-a-method.md")
    outcomes = list(conformance.run(registry.method("poly")))
    assert {outcome.name for outcome in outcomes} >= {*conformance.CHECKS}
    assert [outcome for outcome in outcomes if not outcome.passed] == []


@pytest.mark.slow
@pytest.mark.usefixtures("small_networks")
@pytest.mark.parametrize("page", [page for page, name, _ in METHOD_FILES if name == "poly"])
def test_the_example_is_the_poly_loss(page, add_example, tmp_path):
    add_example("poly", page=page)
    options = RunOptions(out=tmp_path / "runs")
    epsilon = lambda value: RunConfig(method="poly", epochs=2, hyperparameters={"epsilon": value})  # noqa: E731
    poly, plain = run(epsilon(1.0), options), run(epsilon(0.0), options)
    ce = run(RunConfig(method="ce", epochs=2), options)
    assert plain.metrics["test"].nll == pytest.approx(ce.metrics["test"].nll, rel=1e-3), "epsilon = 0 is cross entropy"
    assert poly.curve[0].loss > plain.curve[0].loss


@pytest.mark.slow
@torch.no_grad()
def test_the_second_stage_points_its_classifier_to_the_mean_features(add_example):
    """Class means worked out one by one; the search space is what the page says."""
    add_example("mean_classifier", page="docs/add-a-method.md")
    subject = conformance.Subject(registry.method("mean_classifier"))
    method = subject.make()
    [stage] = subject.stages(method)
    data = subject.stage_images(stage)
    method.begin(stage, data)
    features = torch.cat([method.network.features(batch.images)[0] for batch in data.eval_batches()])
    for label, weights in enumerate(method.network.heads[0].weight):
        mean = features[data.labels == label].mean(0)
        torch.testing.assert_close(weights, mean / mean.norm(), atol=1e-5, rtol=1e-4)
    assert (stage.epochs, stage.trains) == (5, ("network.heads",))
    assert set(subject.cls.Config.search_space()) == {"epochs", "lr", "mixup"}


@pytest.mark.slow
@pytest.mark.usefixtures("small_networks")
@pytest.mark.parametrize(("page", "program"), PROGRAMS)
def test_every_program_runs(page, program, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    exec(program, {"logits": np.zeros((400, 10)), "labels": np.zeros(400, dtype=int)})
    if "savez" in program:
        assert np.load("mine.npz")["logits"].shape == (400, 10)
    else:
        assert re.fullmatch(r"\d+\.\d+ \d+\.\d+\n", capsys.readouterr().out)
        assert len(list((tmp_path / "runs").rglob("*.json"))) == 1


@pytest.mark.parametrize(("page", "block"), [(page, block) for page in PAGES for block in blocks(page, "toml")])
def test_every_recipe_is_valid(page, block):
    Recipe.model_validate(tomllib.loads(block))


@pytest.mark.parametrize(("page", "command"), COMMANDS)
def test_every_command_parses(page, command):
    words = shlex.split(command.partition("-m ltbench ")[2] if command.startswith("torchrun") else command[8:])
    context = cli.click_command().make_context("ltbench", [word for word in words if word != "..."])
    while rest := context._protected_args + context.args:
        name, sub, rest = context.command.resolve_command(context, rest)
        context = sub.make_context(name, rest, parent=context)
        if not hasattr(context.command, "resolve_command"):
            return


def section(title: str, text: str) -> str:
    """What stands below a heading."""
    return re.search(rf"^## {title}$(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)[1]


def shortened(command: str) -> list[str]:
    """The words of a command with one epoch, one seed, two trials, one timed round, and small images."""
    command = re.sub(r" --(seeds|epochs|image-size) \S+", "", re.sub(r"--trials \d+", "--trials 2", command))
    words = shlex.split(command)[1:]
    if words[0] in ("run", "tune", "estimate"):
        words += ["--epochs", "1", *(["--image-size", "16"] if "folder-lt" in words else [])]
    return [*words, "--rounds", "1"] if words[0] == "estimate" else words


def walk(cli, text, **instead):
    """Carry out the commands of a section one after the other; gives what each printed.

    Args:
        cli: calls ltbench.
        text: with the commands.
        instead: words that take the place of others, e.g. of what would be downloaded.
    """
    printed = {}
    for command in commands(text):
        words = [part for word in shortened(command) for part in instead.get(word.replace("-", "_"), [word])]
        if "RUN" in words or "3dfd7b73d56b" in words:
            first = sorted(Path().rglob("balpoe/*.json"))[0].stem
            words = [first if word in ("RUN", "3dfd7b73d56b") else word for word in words]
        done = cli(*words)
        assert done.code == 0, (words, done.err)
        printed[words[0]] = done.out
    return printed


OF_THE_TEST = {"__pretrained": ["--weights", "weights.safetensors"], "tf_efficientnet_lite0": ["test_efficientnet"]}
"""What takes the place of weights that are downloaded."""


def photographs(folder, counts, seed):
    generator = np.random.default_rng(seed)
    for name, count in counts.items():
        (folder / name).mkdir(parents=True)
        for number in range(count):
            shape = (*generator.integers(20, 40, 2), 3)
            Image.fromarray(generator.integers(0, 256, shape, dtype=np.uint8)).save(folder / name / f"{number}.png")


@pytest.mark.slow
@pytest.mark.usefixtures("small_networks")
@pytest.mark.parametrize(
    ("page", "title"), [("README.md", "I have images"), ("docs/your-own-images.md", "")], ids=["README", "guide"]
)
def test_a_user_with_images_can_follow_the_page(page, title, cli, tmp_path):
    text = section(title, PAGES[page]) if title else PAGES[page].partition("\n## ")[0]
    photographs(tmp_path / "photos", {"cat": 15, "dog": 6}, seed=0)
    for folder in ("new", "new_photos"):
        photographs(tmp_path / folder, {"any": 2}, seed=1)
    save_file(timm.create_model("test_efficientnet").state_dict(), tmp_path / "weights.safetensors")
    printed = walk(cli, text, all=["ce,balpoe"], **OF_THE_TEST)
    assert "cat" in printed["verify" if "verify" in printed else "data"]
    assert "balpoe" in printed["report"].lower()
    assert len((tmp_path / "labels.csv").read_text().splitlines()) == 3


@pytest.mark.slow
@pytest.mark.usefixtures("small_networks")
def test_a_user_can_give_a_table_of_labels(cli, tmp_path):
    photographs(tmp_path / "photos" / "all", {"cat": 15, "dog": 6}, seed=0)
    files = [file.relative_to(tmp_path / "photos") for file in sorted((tmp_path / "photos").rglob("*.png"))]
    for name, header, delimiter in (("labels.csv", ("path", "label"), ","), ("list.tsv", ("photo", "species"), "\t")):
        lines = [delimiter.join(header), *(f"{file}{delimiter}{file.parent.name}" for file in files)]
        (tmp_path / "photos" / name).write_text("\n".join(lines) + "\n")
    walk(cli, section("A table instead of folders", PAGES["docs/your-own-images.md"]))
    assert len(list((tmp_path / "runs").rglob("*.json"))) == 1, "both tables say the same"


@pytest.mark.slow
@pytest.mark.usefixtures("small_networks")
def test_a_user_can_choose_the_shape_of_the_tail_and_hand_a_draw_on(cli, tmp_path):
    page = PAGES["docs/data-sets.md"]
    photographs(tmp_path / "photos", {"cat": 15, "dog": 15}, seed=0)
    own = {"cifar100_lt": ["digits-lt"], "DIR": ["."]}
    walk(cli, section("The shape of the tail", page), **own)
    assert len(list((tmp_path / "runs").rglob("*.json"))) == 2
    written = walk(cli, section("A draw to hand on", page), **own)
    assert "export" in written["data"]
    assert (tmp_path / "photos-ir10" / "train.parquet").is_file()


@pytest.mark.slow
def test_a_user_can_train_heads_on_frozen_features(cli, tmp_path):
    photographs(tmp_path / "photos", {"cat": 15, "dog": 6}, seed=0)
    save_file(timm.create_model("test_efficientnet").state_dict(), tmp_path / "weights.safetensors")
    text = section("Classifiers on frozen features", PAGES["docs/pretrained.md"])
    printed = walk(cli, text, all=["ce,balpoe"], **OF_THE_TEST)
    assert "linear probing" in printed["report"]


@pytest.mark.slow
def test_a_user_can_fine_tune_a_network(cli, tmp_path):
    photographs(tmp_path / "photos", {"cat": 15, "dog": 6}, seed=0)
    save_file(timm.create_model("test_efficientnet").state_dict(), tmp_path / "weights.safetensors")
    printed = walk(cli, section("Fine-tuning the whole network", PAGES["docs/pretrained.md"]), **OF_THE_TEST)
    assert "finetune recipe" in printed["estimate"]
    (stored,) = (tmp_path / "mine").rglob("*.json")
    result = Result.model_validate_json(stored.read_bytes())
    assert result.config.full_recipe.optimizer == "adamw"
    assert result.weights is not None


@pytest.mark.slow
@pytest.mark.usefixtures("small_networks")
def test_a_user_with_a_method_can_follow_the_readme(cli, add_example, tmp_path):
    """In a process of its own ``registry`` would know the method from --methods-dir alone."""
    [code] = [code for page, name, code in METHOD_FILES if page == "README.md"]
    (tmp_path / "my_methods" / "poly.py").write_text(code)
    printed = walk(cli, section("I have a method", README))
    assert "FAIL" not in printed["check"]
    table = (tmp_path / "table.tex").read_text()
    assert "poly" in table.lower()
    assert table.count(r"\begin{tabular}") >= 1


@pytest.mark.slow
@pytest.mark.usefixtures("small_networks")
def test_the_search_range_is_searched(cli, tmp_path, add_example):
    [code] = [code for _, name, code in METHOD_FILES if name == "mean_classifier"]
    (tmp_path / "my_methods" / "mean_classifier.py").write_text(code)
    walk(cli, PAGES["docs/add-a-method.md"].partition("### A search range")[2].partition("## Publish")[0])
    best = tomllib.loads((tmp_path / "tune" / "digits-lt-mean_classifier" / "best.toml").read_text())
    assert best["hyperparameters"]["epochs"] in (5, 10, 20)
    assert 0.001 <= best["hyperparameters"]["lr"] <= 0.1


@pytest.fixture(scope="session")
def quoted_output() -> ModuleType:
    spec = importlib.util.spec_from_file_location("quoted_output", ROOT / "docs" / "quoted_output.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.usefixtures("leaderboards_once")
@pytest.mark.parametrize("page", [page for page, text in PAGES.items() if "<!-- output of: " in text])
def test_quoted_output_is_what_the_command_prints(page, quoted_output, cli, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert PAGES[page] == quoted_output.renewed(PAGES[page], lambda *words: cli(*words).out)


@pytest.mark.slow
@pytest.mark.usefixtures("leaderboards_once")
@pytest.mark.parametrize("name", sorted(path.name for path in (ROOT / "results").glob("*.md")))
def test_all_tables_are_those_of_the_stored_runs(name, cli, monkeypatch):
    page = (ROOT / "results" / name).read_text()
    monkeypatch.chdir(ROOT)
    assert page == cli(*shlex.split(re.search(r"Made by `ltbench ([^`]+)`", page)[1])).out


def test_ci_runs_what_the_readme_names():
    """The README's own installation and test command."""
    script = (ROOT / ".ci" / "run").read_text()
    assert '-e ".[dev]"' in README
    assert '-e ".[dev]"' in script
    for command in ("pytest -n 2 --dist loadfile", "sphinx-build -W --keep-going -c docs . docs/_build"):
        assert command in script
        assert command in README + PAGES["docs/index.md"]
