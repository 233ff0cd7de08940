"""What a person sees on a terminal and in a log: quick answers, help in groups, progress, the next command."""

import inspect
import os
import pty
import re
import select
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console
from typer.main import get_command

import ltbench
from ltbench import registry
from ltbench.cli import app, completion, listing, progress_bars
from ltbench.cli.estimate_table import measured_rates
from ltbench.cli.progress_bars import RunProgress, time_left
from ltbench.config import RunConfig
from ltbench.data.datasets.imagenet_lt import ImageNetLT
from ltbench.data.datasets.inaturalist import INaturalist2018
from ltbench.data.datasets.places_lt import PlacesLT
from ltbench.data.images import LabelledImages
from ltbench.data.loading.in_memory import InMemoryLoader
from ltbench.method import Stage, at_rest
from ltbench.method.declaration import Declaration, read_declaration
from ltbench.progress import LOADING, ProgressUpdate
from ltbench.report.collection import Collection
from ltbench.results.records import BatchSplit
from ltbench.results.store import Store
from ltbench.runs import timing
from ltbench.runs.estimate import estimate
from ltbench.runs.options import RunOptions
from ltbench.runs.resolve import resolve

QUICK = {
    "--version": 0,
    "--help": 0,
    "list methods": 0,
    "list datasets": 0,
    "list backbones resnet50*": 0,
    "list recipes": 0,
    "run --help": 0,
    "watch --once": 0,
    "show STORED": 0,
    "show nosuch": 2,
    "run --method ceee": 2,
    "run --dataset cifar1": 2,
    "run --backbone resnt50": 2,
    "run --backbone resnet50.nosuchtag": 2,
    "run --epochs -3": 2,
    "run --lr 0": 2,
    "run --seeds 4-0": 2,
    "run --recipe standart": 2,
    "run --recipe paper": 2,
    "run --config nosuch.toml": 2,
    "run --method focal --set gamma=-1": 2,
    "run --method balpoe --set experts=0": 2,
    "run --method sade_tta --set wdth=1": 2,
    "run --dataset folder-lt --data-dir nowhere": 2,
    "run --dataset cifar10-lt --data-dir nowhere": 2,
    "tune --trials 0": 2,
    "tune --dataset folder-lt --data-dir nowhere": 2,
    "tune --method balpoe --set width=3": 2,
    "estimate --processes x": 2,
    "estimate --dataset imagnet-lt": 2,
    "estimate --dataset folder-lt --data-dir nowhere": 2,
    "evaluate nosuch": 2,
    "evaluate --shots 3": 2,
    "predict nosuch x.png": 2,
    "export nosuch --format onnx": 2,
    "score x.npz --name x --dataset digits-lt": 2,
    "import-checkpoint x.pth --name x --dataset cifar1": 2,
    "check nosuch.py": 2,
    "bench --only stp": 2,
    "data verify nosuch": 2,
    "data order nosuch": 2,
}
"""Command -> exit code."""


@pytest.mark.slow
def test_small_commands_import_no_torch(tmp_path, make_result):
    """All in one process, each after the other, so that the test is quick; the first that imports torch is named."""

    path = Store(tmp_path / "runs").save(make_result("ce"))
    text = """
        import sys
        from ltbench.cli import main

        for line in sys.stdin.read().splitlines():
            sys.argv = ["ltbench", *line.split()]
            try:
                main()
            except SystemExit as ended:
                heavy = sorted({"torch", "timm", "torchvision", "pandas", "optuna"} & sys.modules.keys())
                print(f"@ {ended.code or 0} {heavy} {line}", flush=True)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(text)],
        input="\n".join(QUICK).replace("STORED", str(path)),
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=True,
    )
    said = re.findall(r"^@ (.*)$", done.stdout, re.MULTILINE)
    assert said == [f"{code} [] {line.replace('STORED', str(path))}" for line, code in QUICK.items()]


@pytest.mark.parametrize("name", registry.method_names())
def test_what_is_read_of_a_method_is_what_its_class_has(name):
    cls = registry.method(name)
    read, real = read_declaration(Path(inspect.getfile(cls))), Declaration.of(cls)
    assert read.config.model_json_schema() == real.config.model_json_schema()
    assert read.config.search_space() == real.config.search_space()
    for field in ("summary", "family", "head", "paper", "paper_file"):
        assert getattr(read, field) == getattr(real, field), field


def test_a_value_out_of_range_is_refused_alike_by_what_is_read():
    file = Path(inspect.getfile(registry.method("balpoe")))
    for config in (read_declaration(file).config, registry.method("balpoe").Config):
        assert config(experts=3, spread=0.5).taus == (0.5, 1.0, 1.5)
        with pytest.raises(ValueError, match="experts must be 1, 2"):
            config(experts=0)


@pytest.mark.slow
def test_the_networks_that_are_read_are_timms():
    import timm
    from timm.models import _registry

    from ltbench.models import network_names, resnet_cifar  # noqa: F401

    assert sorted(network_names.networks_in_source(), key=network_names._natural) == timm.list_models()
    for name in timm.list_models(pretrained=True)[::60] + list(_registry._deprecated_models)[::60]:
        network_names.check_backbone(name)  # with its tag; by an older name


def test_archives_are_those_that_torchvision_knows():
    from torchvision.datasets import Places365
    from torchvision.datasets.imagenet import ARCHIVE_META
    from torchvision.datasets.inaturalist import DATASET_MD5, DATASET_URLS

    train, val = ImageNetLT.published.archives
    assert [(one.file, one.md5) for one in (train, val)] == [ARCHIVE_META["train"], ARCHIVE_META["val"]]
    images = INaturalist2018.published.archives[-1]
    assert (images.url, images.md5) == (DATASET_URLS["2018"], DATASET_MD5["2018"])
    for one, key in zip(PlacesLT.published.archives, [("train-standard", True), ("val", True)], strict=True):
        assert (one.file, one.md5) == Places365._IMAGES_META[key]
        assert one.url == Places365._BASE_URL + one.file


def test_summaries_of_commands_have_at_most_50_characters():
    command = get_command(app)
    groups = {"": command, "data ": command.commands["data"]}
    summaries = {
        prefix + name: one.get_short_help_str(1000) for prefix, group in groups.items()
        for name, one in group.commands.items()
    }  # fmt: skip
    assert len(summaries) == 21
    assert {name: words for name, words in summaries.items() if len(words) > 50} == {}


def test_help_has_groups(cli):
    out = cli("run", "--help").out
    titles = ["Method", "Data", "Recipe", "Machine", "Results", "Launcher", "Options"]
    assert re.findall(r"^(\w+):$", out, re.MULTILINE) == titles
    parts = dict(zip(titles, re.split(r"^\w+:$", out, flags=re.MULTILINE)[1:], strict=True))
    for title, option in {"Method": "--set", "Data": "--dataset", "Recipe": "--lr", "Machine": "--parallel"}.items():
        assert option in parts[title]
    assert parts["Options"].split()[:2] == ["-h,", "--help"]  # every other option has a group


def test_the_version(cli):
    done = cli("--version")
    assert (done.code, done.out) == (0, f"ltbench {ltbench.__version__}\n")


def test_a_package_names_what_it_offers():
    assert {"Method", "RunConfig", "load_results", "run", "__version__"} <= set(dir(ltbench))
    assert {"Batch", "Method", "Range", "SecondStage", "losses"} <= set(dir(ltbench.method)) | {"losses"}
    with pytest.raises(AttributeError, match=r"'Surroundings'; it is called ltbench\.RunOptions"):
        _ = ltbench.Surroundings
    with pytest.raises(AttributeError, match=r"no attribute 'nothing'$"):
        _ = ltbench.nothing


def test_names_of_older_versions_say_how_they_are_called_now():
    progress = at_rest(Stage())
    with pytest.raises(AttributeError, match="called stage_fraction"):
        _ = progress.fraction
    loader = InMemoryLoader(
        LabelledImages(np.zeros((2, 1, 4, 4), np.uint8), np.arange(2)), (0.5,), (0.5,), torch.device("cpu")
    )
    with pytest.raises(AttributeError, match="called eval_batches"):
        _ = loader.plain


@pytest.mark.parametrize(
    ("complete", "typed", "found"),
    [
        (completion.methods, "balp", ["balpoe"]),
        (completion.methods, "ce,tau", ["ce,tau_norm"]),
        (completion.methods, "al", ["all"]),
        (completion.datasets, "places", ["places-lt"]),
        (completion.suites, "smo", ["smoke"]),
        (completion.recipes, "", ["finetune", "long", "standard", "paper"]),
        (completion.backbones, "cifar_resnet5", ["cifar_resnet56"]),
    ],
)
def test_names_are_completed(complete, typed, found):
    assert complete(typed) == found


@pytest.mark.slow
def test_a_shell_is_told_names_without_torch(tmp_path):
    (tmp_path / "runs" / "digits-lt" / "ce").mkdir(parents=True)
    (tmp_path / "runs" / "digits-lt" / "ce" / "0123456789ab.json").touch()
    text = "import sys; from ltbench.cli import main\ntry: main()\nfinally: print('torch' in sys.modules)"
    for words, expected in {"ltbench run --method ce,balp": "ce,balpoe", "ltbench show 012": "0123456789ab"}.items():
        environment = {"_LTBENCH_COMPLETE": "complete_bash", "COMP_WORDS": words}
        environment["COMP_CWORD"] = str(len(words.split()) - 1)
        done = subprocess.run(
            [sys.executable, "-c", f"import sys; sys.argv[0] = 'ltbench'; {text}"],
            env={**os.environ, **environment}, capture_output=True, text=True, cwd=tmp_path, check=False,
        )  # fmt: skip
        assert done.stdout.split() == [expected, "False"], done.stderr


def test_lists_are_wrapped_to_the_terminal_and_not_in_a_file():
    rows = [("one", "loss", "cross entropy of logits that are shifted"), ("three", "x", "y"), ("paper", "each its own")]
    assert listing.in_columns(rows, 32) == [
        "one    loss  cross entropy of",
        "             logits that are",
        "             shifted",
        "three  x     y",
        "paper  each its own",
    ]
    assert listing.in_columns(rows, None)[0] == "one    loss  cross entropy of logits that are shifted"


def test_methods_have_the_names_and_years_of_their_papers(cli):
    out = cli("list", "methods").out
    assert re.search(r"^vs +loss +20\d\d  VS Loss: ", out, re.MULTILINE)
    assert re.search(r"^ce +baseline +Cross Entropy: ", out, re.MULTILINE)  # older than the survey with its figures
    assert max(map(len, listing.in_columns(listing.entries("methods"), 80))) <= 80


def test_lists_by_pattern(cli):
    assert cli("list", "backbones", "cifar_resnet?").out == "cifar_resnet8\n"
    assert cli("list", "methods", "sade").out.split("\n")[1].startswith("sade_tta  experts  2022  SADE + TTA: Weights")
    done = cli("list", "backbones", "resnt50")
    assert done.code == 2
    assert "did you mean resnet50" in done.err


def test_recipes_have_their_epochs_and_rates(cli):
    lines = cli("list", "recipes").out.splitlines()
    assert "standard  imagenet-lt      180 epochs  rate 0.025 cosine  batch 64" in lines
    assert "standard  linear-probing   40 epochs   rate 0.02 cosine   batch 128" in lines
    assert len(lines) == 16


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.4, "0:00"), (40, "0:40"), (3599.6, "1:00:00"), (7510, "2:05:10"), (3 * 86400 + 3700, "3 d 1 h")],
)
def test_a_time_that_is_left(seconds, words):
    assert time_left(seconds) == words


class Clock:
    """A clock that a test moves on."""

    def __init__(self):
        self.now = 100.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(progress_bars, "time", clock)
    return clock


NAMES = ["ce seed 0", "balanced_softmax seed 0", *["balpoe seed 0"] * 7]


def test_a_log_has_lines_of_runs_under_way(clock):
    progress = RunProgress(9, NAMES.__getitem__)
    progress.listener(ProgressUpdate(LOADING, 0.0, run=1))
    assert progress.lines() == ["run 2/9 balanced_softmax seed 0, loading data"]
    clock.now += 60  # which count for none of the training
    progress.listener(ProgressUpdate("train, epoch 1/3", 0.1, run=1))
    clock.now += 20
    progress.listener(ProgressUpdate("train, epoch 2/3", 0.4, run=1, loss=2.314))
    (line,) = progress.lines()
    # 0.3 of the run took 20 s: 0.6 take 40 s, and 8.6 runs 573 s.
    assert line == "run 2/9 balanced_softmax seed 0, epoch 2/3, loss 2.31, 0:40 left (9:33 for all 9)"
    progress.listener(ProgressUpdate("", 1.0, run=1))
    assert progress.lines() == []
    clock.now += 60  # between two runs, as there will be again
    progress.listener(ProgressUpdate("train, epoch 1/3", 0.0, run=2))
    clock.now += 20
    progress.listener(ProgressUpdate("train, epoch 2/3", 0.3, run=2))
    assert progress.lines() == ["run 3/9 balpoe seed 0, epoch 2/3, 0:47 left (21:23 for all 9)"]


def test_all_runs_take_no_less_than_the_one_under_way(clock):
    progress = RunProgress(2, NAMES.__getitem__)
    progress.listener(ProgressUpdate("train, epoch 1/3", 0.0, run=0))
    clock.now += 10
    progress.listener(ProgressUpdate("train, epoch 3/3", 1.0, run=0))
    progress.listener(ProgressUpdate("", 1.0, run=0))
    progress.listener(ProgressUpdate("train, epoch 1/3", 0.0, run=1))
    clock.now += 20
    progress.listener(ProgressUpdate("train, epoch 1/3", 0.1, run=1))
    # At the pace of both, 1.1 runs in 30 s, 0.9 would take 25 s.
    assert progress.lines() == ["run 2/2 balanced_softmax seed 0, epoch 1/3, 3:00 left (3:00 for all 2)"]


def test_a_run_that_starts_from_another_is_timed_from_its_own_beginning(clock):
    progress = RunProgress(5, lambda position: f"gml seed {position}")
    progress.listener(ProgressUpdate("train, epoch 1/40", 0.0, run=0))
    clock.now += 100
    progress.listener(ProgressUpdate("evaluation", 1.0, run=0))  # of the run that it starts from
    clock.now += 300
    progress.listener(ProgressUpdate("features of augmented images, 100 of 200", 100, 200, run=0))
    assert progress.lines() == ["run 1/5 gml seed 0, features of augmented images, 100 of 200"]
    progress.listener(ProgressUpdate("train, epoch 1/40", 0.0, run=0))
    clock.now += 60
    progress.listener(ProgressUpdate("train, epoch 5/40", 0.1, run=0))
    assert progress.lines() == ["run 1/5 gml seed 0, epoch 5/40, 9:00 left (49:00 for all 5)"]


def test_a_run_that_resumes_is_timed_from_there(clock):
    progress = RunProgress(1, NAMES.__getitem__)
    progress.listener(ProgressUpdate("train, epoch 5/10", 0.5))
    clock.now += 10
    progress.listener(ProgressUpdate("train, epoch 6/10", 0.6))
    assert progress.lines() == ["run 1/1 ce seed 0, epoch 6/10, 0:40 left"]
    progress.listener(ProgressUpdate("scaling images to 256", 5, 20))
    assert progress.lines() == ["run 1/1 ce seed 0, scaling images to 256, 0:40 left"], "that is no training"


def test_trials_are_counted_from_the_first_of_the_search_and_name_the_best(clock):
    progress = RunProgress(20, lambda position: "balpoe", "trial")
    progress.skip(3)
    progress.best = "best 91.20 % (trial 2)"
    progress.listener(ProgressUpdate(LOADING, 0.0, run=0))
    assert progress.lines() == ["trial 4/20 balpoe, loading data, best 91.20 % (trial 2)"]


def test_a_log_is_written_now_and_then(monkeypatch, capsys):
    monkeypatch.setattr(progress_bars, "BETWEEN_LINES", 0.01)
    with RunProgress(1, NAMES.__getitem__) as progress:
        progress.listener(ProgressUpdate("train, epoch 1/3", 0.1))
        said = ""
        while "\n" not in said:
            time.sleep(0.01)
            said += capsys.readouterr().err
    assert said.splitlines()[0] == "run 1/1 ce seed 0, epoch 1/3"


@pytest.mark.parametrize("width", [80, 120])
def test_bars_are_aligned_and_fit(clock, width):
    bars = progress_bars._run_bars()
    bars.disable = False
    progress = RunProgress(9, NAMES.__getitem__)
    progress._bars = bars
    progress._total = bars.add_task("", total=1.0, what="", loss="", left="")
    for run in (0, 1):
        progress.listener(ProgressUpdate("train, epoch 10/200", 0.1, run=run))
        clock.now += 20
        progress.listener(ProgressUpdate("train, epoch 20/200", 0.2, run=run, loss=2.3))
    console = Console(width=width, force_terminal=False)
    with console.capture() as captured:
        console.print(bars.get_renderable())
    lines = captured.get().splitlines()
    assert len(lines) == 3
    assert max(map(len, lines)) <= width
    assert lines[0].startswith("0 of 9 runs done")
    assert len({line.index("%") for line in lines}) == 1
    assert all(line.rstrip().endswith(" left") for line in lines)
    assert "1/9 ce seed 0" in lines[1]
    assert "epoch 20/200" in lines[2]
    assert "loss 2.30" in lines[2]


def test_a_terminal_sees_something_before_anything_is_loaded(tmp_path):
    parent, child = pty.openpty()
    started = subprocess.Popen(
        [sys.executable, "-m", "ltbench", "run", "--method", "ceee"],
        stdout=subprocess.DEVNULL, stderr=child, cwd=tmp_path,
    )  # fmt: skip
    os.close(child)
    seen = b""
    while select.select([parent], [], [], 60)[0]:
        try:
            part = os.read(parent, 1000)
        except OSError:  # Linux's, where the other end is closed
            break
        if not part:
            break
        seen += part
    os.close(parent)
    assert started.wait() == 2
    assert seen.startswith(b"ltbench run: loading PyTorch ...\r\x1b[2K"), "and erased before the error"
    assert b"unknown method 'ceee'" in seen


@pytest.mark.slow
def test_a_run_says_what_begins_and_what_comes_next(cli):
    words = ("run", "--backbone", "cifar_resnet8", "--epochs", 1, "--device", "cpu", "--out", "mine")
    done = cli(*words, "--method", "ce")
    assert done.err == "1 run: ce on digits-lt; results in mine\n"
    (path,) = Path("mine").rglob("*.json")
    assert done.out.endswith(f"\nnext: ltbench show {path.stem} --results mine\n")


FOLDER = ("--dataset", "folder-lt", "--data-dir", "images", "--method", "ce", "--backbone", "test_resnet")


@pytest.mark.slow
def test_an_estimate_writes_nothing_into_the_users_folder_and_a_run_says_so(cli, tmp_path):
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for k in range(5):
            pixels = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / name / f"{k}.png")
    settings = (*FOLDER, "--image-size", 32, "--epochs", 1, "--batch-size", 4)
    before = sorted((tmp_path / "images").rglob("*"))
    done = cli("estimate", *settings, "--rounds", 1)
    assert done.code == 0
    assert "epochs of 8 images" in done.out
    assert sorted((tmp_path / "images").rglob("*")) == before
    ran = cli("run", *settings)
    (result,) = Path("runs").rglob("*.json")
    keep = f"ltbench export {result.stem} --format safetensors"
    assert ran.out.endswith(f"the trained weights lie in the cache only; to keep those of a run: {keep}\n")
    assert ran.code == 0
    assert cli(*keep.split()[1:]).code == 0
    said = "2 of 10 images, a fifth of each class, are the test set; images/ltbench-split.csv names them"
    assert f"ltbench: note: {said}\n" in ran.err
    assert (tmp_path / "images" / "ltbench-split.csv").exists()
    assert "ltbench-split" not in cli("run", *settings, "--seeds", 1).err, "it is said once"


def test_heavy_steps_are_estimated_from_light_ones(monkeypatch, tmp_path):
    monkeypatch.setattr(timing, "HEAVY", 0.0)
    told = []
    options = RunOptions(data_dir=tmp_path, device="cpu", listener=told.append)
    (found,) = estimate(RunConfig(method="ce", backbone="cifar_resnet8", epochs=1), options, rounds=1).processes
    assert (found.batch, found.timed) == (64, (2, 6))
    assert found.seconds > 0
    fractions = [update.fraction for update in told]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert {update.message for update in told} == {
        "timing steps of 2 images", "timing steps of 6 images", "timing the evaluation of 2 images"
    }  # fmt: skip


def test_time_and_memory_lie_on_a_straight_line():
    def timed(images, seconds, peak):
        stage = timing.StageTime("train", 10, (seconds, 2 * seconds))
        return timing.ProcessTime(1, images, (stage,), "eager", peak, (images,))

    # 0.5 s and 0.25 s an image; 1000 bytes and 100 bytes an image.
    found = timing.extrapolated(timed(2, 1.0, 1200), timed(6, 2.0, 1600), 64)
    assert found.stages[0].seconds == (16.5, 33.0)
    assert found.peak_memory == 7400
    assert (found.batch, found.timed, found.seconds) == (64, (2, 6), 165.0)
    # A step cannot grow by more than all of it is for each image: noise.
    assert timing.extrapolated(timed(2, 0.1, 0), timed(6, 6.0, 0), 12).stages[0].seconds[0] == 12.0


def test_the_rate_of_a_gpu_is_that_of_a_stored_run_with_the_same_steps(make_result):
    run = resolve(RunConfig(method="ce"))
    result = make_result("ce")
    assert result.cost is not None
    gpu = {**result.provenance, "hardware": {"accelerator": "NVIDIA H100"}}
    stored = result.model_copy(
        update={"config": run.config, "provenance": gpu, "status": "done",
                "cost": result.cost.model_copy(update={"training_images_per_second": 5000.0})}
    )  # fmt: skip
    other = stored.model_copy(update={"config": run.config.replace(precision="bf16"), "run_id": "0" * 12})

    def rates(*results):
        return measured_rates(run, Collection({one.run_id: one for one in results}, {}, [], 0, [], []))

    assert rates(stored, other) == {"NVIDIA H100": 5000.0}
    assert rates(other) == {}
    assert rates(stored.model_copy(update={"provenance": result.provenance})) == {}
    eight = [BatchSplit(processes=8, accumulate=1, batch_norm_images=None)]
    assert rates(stored.model_copy(update={"cost": stored.cost.model_copy(update={"divisions": eight})})) == {}


def test_show_has_one_notation_of_settings(cli, make_result, tmp_path):
    recipe = resolve(RunConfig(method="ce", dataset="cifar10-lt")).recipe
    result = make_result("ce", top1=50.0)
    stored = result.model_copy(update={"config": result.config.replace(recipe=recipe)})
    out = " ".join(cli("show", Store(tmp_path / "runs").save(stored)).out.split())
    assert '"' not in out
    assert "method ce (Cross Entropy) " in out
    assert "recipe standard: epochs=200, batch_size=128, optimizer=sgd, lr=0.1," in out
    assert "augmentation padding=0.125, flip=true, rotation=15 " in out
    assert "contrast" not in out


def test_work_on_large_files_is_told_in_lines_where_output_is_redirected(clock, capsys):
    """The first after three seconds, then one every thirty."""
    begin = clock.now
    with progress_bars.file_bars() as listener:
        for second in range(70):
            clock.now = begin + second
            listener(ProgressUpdate("images.tar", 10 * second, 1000))
        listener(ProgressUpdate("lists", 1.0))
    assert capsys.readouterr().err.splitlines() == ["images.tar: 3%", "images.tar: 33%", "images.tar: 63%"]
