"""Odd command lines: exit code 0, 1 or 2, no traceback, no hang, and nothing written where it was not asked for.

The commands and their options are those of the program, so that a new option is tried as well. By hand, longer:
``LTBENCH_FUZZ_CASES=5000 LTBENCH_FUZZ_SEED=7 pytest tests/test_fuzz_command_line.py``.
"""

import os
import random
import shlex
import signal
import socket
import stat
import sys
import time
import warnings
from contextlib import contextmanager

import numpy as np
import pytest
import torch
import typer.main
from PIL import Image

from ltbench import registry
from ltbench.cli import app
from ltbench.config import RunConfig
from ltbench.errors import LtbenchError
from ltbench.models.backbone import Backbone
from ltbench.models.published_resnets import published_name
from ltbench.runs import sweep, train
from ltbench.runs.options import RunOptions
from ltbench.runs.run import run
from ltbench.training import trainer as training

pytestmark = pytest.mark.filterwarnings("default::ltbench.errors.LtbenchWarning")

CASES = int(os.environ.get("LTBENCH_FUZZ_CASES", "200"))
SEED = int(os.environ.get("LTBENCH_FUZZ_SEED", "0"))
PATIENCE = 30  # seconds that a command may take on a busy core

DIGITS = "1" * 5000
DEEP = "[" * 20_000
NUMBERS = [
    "-1", "0", "1", "2", "3", "-0", "7", "0.5", "1e-320", "nan", "inf", "-inf", "1e400", "1e30", "0x10", "1_000", " 5 ",
    "٣", "1,5", "1.0", "+1", "1e3", str(2**31), str(2**63), str(10**30), DIGITS, "-" + DIGITS, "--1", "",
]  # fmt: skip
NAMES = [
    "ce", "balpoe", "ce,balpoe", "all,", ",", ",,", "ce,ce", "digits-lt", "folder-lt", "cifar10-lt", "imagenet-lt",
    "cifar_resnet20", "resnet50.nosuchtag", "resnet50.", ".", "..", "standard", "long", "paper", "[/]", "[bold", "a/b",
    "../up", "\x1b[31mred", "\udcff", "name\udcfe", "a\nb", "=1+1", "$$", "<b>", "%s", "{0}",
    "é" * 300, "x" * 5000, " ",
    "-", "null", "uniform", "forward-5", "backward-", "text", "md", "json", "csv", "html", "latex", "svg", "0-1",
    "0-99999999", "0-999999999999", "3-1", "0,,1", "-", "1-", "0-" + DIGITS, "4294967296", "100,20", "20,100",
    "9e9,1", f"{10**30},5", "١٠٠,٢٠", ",5", "5,", "cpu", "auto", "cuda", "cuda:99", "xyz", "meta", "mps", "cpu:7",
    "poster", "leaderboard", "known", "onnx", "safetensors", "torchscript", "step",
]  # fmt: skip
FILES = [
    "none", "none.toml", "none.json", "file", "file.json", "file.toml", "file/below", "empty.toml", "folder",
    "binary.bin",
    "binary.toml", "binary.json", "digits.toml", "digits.json", "deep.toml", "deep.json", "null.toml", "types.toml",
    "runs.toml", "recipe.toml", "latin.toml", "odd.json", "exits.py", "raises.py", "broken.py", "empty.py", "methods",
    "empty", "images", "images/cut.png", "weights.pth", "weights.safetensors", "wrong.npz", "huge.npz",
    "fine.npz", "big.npz",
    "counts.txt", "digits.txt", "runs", "/dev/null/x", "/proc/none", "x" * 300, "y/" * 900,
    "out\udcff", "runs/digits-lt", "dangling", "loop", "cache",
]  # fmt: skip
SETTINGS = [
    "mixup", "mixup=", "=1", "mixup=a=b=c", "mixup=1=2", "taus=0,1,2", "taus=[0,1", f"taus={DEEP}", f"taus={DIGITS}",
    f"mixup={DIGITS}", "mixup=1e400", "mixup=nan", "mixup=NaN", "mixup=-Infinity", "mixup=null", "mixup=true",
    "mixup=-0", "mixup=0x10", "mixup=[]", "mixup={}", 'mixup={"a":1}', "mixup=\udcff", "taus=1e308,1e308",
    f"experts={10**12}", "experts=-1", "experts=0", "experts=1e9", "width=0", "width=1e9", "width=1e-9",
    " mixup = 0.1 ", "cutmix=1e308", "remix=1e308", "cmo=2", "taus=" + ",".join("1" * 200), "\x1b=1", "tau=1e300",
]  # fmt: skip
WORDS = {  # options that take other values than numbers, names and files
    "--set": SETTINGS,
}
EXTERNAL = ["--name", "theirs", "--dataset", "digits-lt"]
FINE = {  # what makes a command reach its work
    ("run",): ["--method", "ce", "--epochs", "1", "--device", "cpu"],
    ("tune",): ["--method", "ldam", "--trials", "1", "--epochs", "1"],
    ("evaluate",): ["--all"],
    ("score",): ["fine.npz", *EXTERNAL],
    ("import-checkpoint",): ["cifar.pth", *EXTERNAL],
    ("predict",): ["RUN", "images"],
    ("export",): ["RUN", "--format", "safetensors"],
    ("show",): ["RUN"],
    ("list",): ["methods"],
    ("data", "order"): ["digits-lt"],
    ("data", "verify"): ["folder-lt", "--data-dir", "images"],
}
# Command lines that no chance would make.
NASTY = [
    [],
    ["--"],
    ["-"],
    [""],
    ["--version"],
    ["run", "run"],
    ["data"],
    ["data", ""],
    ["data", "verify"],
    ["data", "verify", "digits-lt", "digits-lt"],
    ["run", "--out", ""],
    ["run", "--out=", "--epochs", "1"],
    ["run", "--data-dir", ""],
    ["run", "--config", ""],
    ["run", "--methods-dir", ""],
    ["report", "--results", ""],
    ["report", "--output", ""],
    ["tune", "--out", ""],
    ["show", ""],
    ["evaluate", ""],
    ["check", ""],
    ["score", "", "--name", "x", "--dataset", "digits-lt"],
    ["predict", "", ""],
    ["run", "--seeds", "0-99999999"],
    ["run", "--seeds", "0-999999999999"],
    ["run", "--seeds", f"0-{DIGITS}"],
    ["run", "--seeds", ",".join(f"{10 * first}-{10 * first + 9}" for first in range(1001))],
    ["run", "--epochs", DIGITS],
    ["run", "--epochs", "1000000000"],
    ["run", "--lr", "1e-320", "--epochs", "1"],
    ["run", "--set", f"mixup={DIGITS}"],
    ["run", "--set", f"taus={DEEP}"],
    ["run", "--set", "taus=" + '{"a":' * 9000],
    ["run", "--set", "mixup=0.1=2"],
    ["run", "--backbone", "resnet50.nosuchtag"],
    ["run", "--backbone", "resnet50.nosuchtag", "--pretrained"],
    ["run", "--backbone", "hf-hub:none/none"],
    ["run", "--config", "digits.toml"],
    ["run", "--config", "digits.json"],
    ["run", "--config", "deep.toml"],
    ["run", "--config", "deep.json"],
    ["run", "--config", "/dev/zero"],
    ["run", "--config", "null.toml"],
    ["run", "--config", "types.toml"],
    ["run", "--config", "latin.toml"],
    ["run", "--recipe", "deep.toml"],
    ["run", "--recipe", "digits.toml"],
    ["run", "--recipe", "\udcff.toml"],
    ["run", "--recipe", "folder"],
    ["run", "--parallel", "1000000"],
    ["run", "--parallel", DIGITS],
    ["run", "--workers", "1000000", "--dataset", "folder-lt", "--data-dir", "images"],
    ["run", "--accumulate", "1000000"],
    ["run", "--accumulate", DIGITS],
    ["run", "--batch-size", str(10**18), "--epochs", "1"],
    ["run", "--batch-norm-images", str(10**18)],
    ["run", "--imbalance-ratio", "1e308"],
    ["run", "--device", "cpu:7", "--epochs", "1"],
    ["run", "--epochs", "1", "--epochs", "two"],
    ["run", "--epochs", "1", "--compile", "--no-compile", "--config", "none"],
    ["run", "--methods-dir", "methods", "--method", "exits"],
    ["run", "--methods-dir", "methods", "--method", "stops"],
    ["list", "methods", "--methods-dir", "methods"],
    ["run", "--method", "all", "--methods-dir", "methods", "--dataset", "nothing"],
    ["check", "exits.py"],
    ["check", "raises.py"],
    ["check", "file"],
    ["check", "folder"],
    ["tune", "--trials", "-1"],
    ["tune", "--trials", DIGITS],
    ["tune", "--seed", "-1"],
    ["estimate", "--processes", DIGITS],
    ["estimate", "--processes", "0"],
    ["estimate", "--processes", "-1"],
    ["estimate", "--processes", "1,x"],
    ["estimate", "--rounds", "0"],
    ["evaluate", "--all", "--bins", "1000000000"],
    ["evaluate", "--all", "--bins", DIGITS],
    ["evaluate", "--all", "--shots", f"{10**30},5"],
    ["evaluate", "--all", "--shots", f"{DIGITS},5"],
    ["evaluate", "--all", "--shots", "5,-5"],
    ["evaluate", "--all", "--test-prior", "forward-1e9"],
    ["evaluate", "\udcff"],
    ["evaluate", "x" * 5000],
    ["show", "x" * 5000],
    ["show", "/dev/zero"],
    ["watch", "--interval", "nan"],
    ["watch", "--interval", "1e308", "--once"],
    ["predict", "--top", DIGITS, "none", "images"],
    ["import-checkpoint", "weights.pth", "--name", "x", "--dataset", "digits-lt", "--seed", "-1"],
    ["import-checkpoint", "weights.pth", "--name", "x", "--dataset", "digits-lt", "--logit-prior", "1e308"],
    ["import-checkpoint", "weights.safetensors", "--name", "x", "--dataset", "digits-lt"],
    ["import-checkpoint", "/dev/zero", "--name", "x", "--dataset", "digits-lt"],
    ["score", "/dev/zero", "--name", "x", "--dataset", "digits-lt"],
    ["score", "fine.npz", "--name", "\udcff", "--dataset", "digits-lt"],
    ["score", "fine.npz", "--name", "x", "--dataset", "digits-lt", "--logit-prior", "1e308"],
    ["score", "fine.npz", "--name", "x", "--dataset", "own", "--train-counts", "digits.txt"],
    ["score", "fine.npz", "--name", "x", "--dataset", "own", "--train-counts", "/dev/zero"],
    ["score", "big.npz", "--name", "x", "--dataset", "digits-lt"],
    ["score", "huge.npz", "--name", "x", "--dataset", "digits-lt", "--logit-prior", "1"],
    ["score", "wrong.npz", "--name", "x", "--dataset", "digits-lt"],
    ["run", *FINE["run",], "--out", "out\udcff"],
    ["run", *FINE["run",], "--data-dir", "data\udcff", "--methods-dir", "m\udcff"],
    ["tune", *FINE["tune",], "--out", "tune\udcff"],
    ["score", *FINE["score",], "--out", "out\udcff"],
    ["import-checkpoint", *FINE["import-checkpoint",], "--out", "out\udcff", "--device", "cpu"],
    ["report", "--results", "out\udcff"],
    ["report", "--results", "out\udcff", "--format", "md", "--title", "a"],
    ["report", "--results", "out\udcff", "--format", "html"],
    ["watch", "--results", "out\udcff"],
    ["evaluate", "--all", "--results", "out\udcff", "--format", "json"],
    ["import-checkpoint", "nan.pth", *EXTERNAL],
    ["data", "order", "digits-lt", "--image-size", "-8"],
    ["data", "order", "folder-lt", "--data-dir", "images"],
    ["data", "verify", "folder-lt", "--data-dir", "images", "--decode"],
    ["data", "verify", "folder-lt", "--data-dir", "empty"],
    ["data", "verify", "folder-lt", "--data-dir", "loop"],
    ["report", "--diff", "none"],
    ["report", "--diff", "none", "none"],
    ["report", "--parts", ",,,"],
    ["report", "--title", "\udcff\x1b[31m", "--format", "md"],
    ["bench", "--only", "step,"],
    ["bench", "--rounds", "0"],
    ["run", "--suite", ""],
    ["run", "--suite", "\udcff"],
    ["run", "--suite", "types.toml", "--dry-run"],
    ["run", "--suite", "runs.toml", "--launch", "slurm"],
    ["run", "--epochs", "1", "--emit-array", "--resources", "binary.toml"],
    ["run", "--epochs", "1", "--emit-skypilot", "--resources", "deep.toml"],
    ["run", "--epochs", "1", "--emit-array", "--jobs", "file"],
    ["report", "--suite", "none.toml"],
    ["report", "--suite", "smoke", "--results", "out\udcff"],
    ["task", "none", "0"],
    ["task", "methods", "-1"],
    ["tune", "--storage", "\udcff"],
    ["tune", "--storage", "sqlite:///folder"],
]
SKIPPED = {("run", "--tensorboard"), ("tune", "--tensorboard")}  # a folder of event files, which another test has


def commands():
    """Every command as words, with its options (and whether they are flags) and the number of its arguments."""
    found = {}

    def walk(command, words):
        if hasattr(command, "commands"):
            for name, inner in command.commands.items():
                walk(inner, (*words, name))
            return
        options = [one for one in command.params if one.param_type_name == "option"]
        arguments = [one for one in command.params if one.param_type_name == "argument"]
        found[words] = [(one.opts[0], one.is_flag, one.nargs) for one in options], len(arguments)

    walk(typer.main.get_command(app), ())
    return found


def odd_command(draw, known):
    """A command with some options, most of them odd; often beside arguments that are fine."""
    words = draw.choice(list(known))
    options, arguments = known[words]
    line = list(words)
    if words in FINE and draw.random() < 0.6:
        line += FINE[words]
    else:
        for _ in range(max(0, arguments + draw.choice([0, 0, 0, 0, -1, 1]))):
            line.append(draw.choice(draw.choice([FILES, FILES, NAMES, NUMBERS])))
    for _ in range(draw.choice([1, 1, 2, 2, 3, 4]) if options else 0):
        option, is_flag, nargs = draw.choice(options)
        if (words[0], option) in SKIPPED:
            continue
        values = [draw.choice(WORDS.get(option) or draw.choice([NUMBERS, NAMES, FILES])) for _ in range(nargs)]
        if is_flag:
            line.append(option)
        elif draw.random() < 0.1 and nargs == 1:
            line.append(f"{option}={values[0]}")
        else:
            line += [option, *values]
    if draw.random() < 0.05:
        line.insert(draw.randrange(len(line) + 1), draw.choice(["--", "-x", "--no-such-option", "-h", "", "\udcff"]))
    return line


def lines(run_id):
    """All command lines of the test."""
    draw, known = random.Random(SEED), commands()
    every = NASTY + [odd_command(draw, known) for _ in range(CASES)]
    return [[run_id if word == "RUN" else word for word in line] for line in every]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A folder with a finished run, images and all kinds of files; the cache and the home folder are in it."""
    folder = tmp_path_factory.mktemp("fuzz") / "here"
    folder.mkdir()
    texts = {
        "file": "", "empty.toml": "", "file.json": "[]", "file.toml": "method = 'ce'\nepochs = 1\n", "empty.py": "",
        "digits.toml": f"epochs = {DIGITS}", "digits.json": DIGITS, "digits.txt": f"{DIGITS}\n{DIGITS}\n",
        "deep.toml": f"epochs = {DEEP}",
        "deep.json": DEEP, "null.toml": "method = 'a\\u0000b'\nrecipe = '\\u0000.toml'",
        "types.toml": "method = [1, [2], {a = 3}]\nseeds = {a = 1}\nlr = 2020-01-01\nruns = [{hyperparameters = 3}]",
        "runs.toml": "[[runs]]\nmethod = 3\n[[runs]]\nseeds = [[1]]",
        "recipe.toml": "epochs = 1\nmilestones = [2, nan]",
        "odd.json": '{"run_id": ["a"], "config": {"seed": 1e999}}', "counts.txt": "30\n20\n",
        "exits.py": "import sys\nsys.exit()", "raises.py": "raise BaseException('odd')", "broken.py": "class (:",
        "methods/exits.py": "raise SystemExit(0)",
        "methods/stops.py": "from ltbench_methods.ce import CrossEntropy\nclass Stops(CrossEntropy):\n    'One.'\n"
        "    revision = 1\n    def stages(self, recipe):\n        raise SystemExit(0)\n",
    }  # fmt: skip
    for name, text in texts.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    for name in ("folder", "empty", "home", "tmp"):
        (folder / name).mkdir()
    noise = np.random.default_rng(0)
    for name in ("binary.bin", "binary.toml", "binary.json"):
        (folder / name).write_bytes(noise.bytes(2000))
    (folder / "latin.toml").write_bytes("method = 'é'".encode("latin-1"))
    (folder / "dangling").symlink_to("nowhere")
    (folder / "loop").symlink_to("loop")
    for part in ("train", "test"):
        for group in ("ant", "bee"):
            for number in range(2):
                path = folder / "images" / part / group / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(noise.integers(0, 256, (12, 12, 3), dtype=np.uint8)).save(path)
    (folder / "images" / "cut.png").write_bytes((folder / "images/train/ant/0.png").read_bytes()[:60])
    torch.save({"conv1.weight": torch.full((16, 3, 3, 3), float("nan"))}, folder / "weights.pth")
    build = Backbone("cifar_resnet20", classes=10, channels=1, image_size=8, head="linear")
    published = {published_name(name, several=False): value for name, value in build(1).state_dict().items()}
    torch.save(published, folder / "cifar.pth")
    torch.save({**published, "conv1.weight": published["conv1.weight"] / 0}, folder / "nan.pth")
    (folder / "weights.safetensors").write_bytes(noise.bytes(500))
    np.savez(folder / "wrong.npz", logits=np.zeros((400, 10), dtype=object))
    np.savez(folder / "huge.npz", logits=noise.normal(size=(400, 10)) * 9e29)
    np.savez(folder / "fine.npz", logits=noise.normal(size=(400, 10)))
    np.savez_compressed(folder / "big.npz", logits=np.zeros((3_000_000, 10), dtype=np.float32))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LTBENCH_CACHE", str(folder / "cache"))
        run(RunConfig(method="ce", backbone="cifar_resnet8", epochs=1), RunOptions(device="cpu", out=folder / "runs"))
    return folder


@pytest.fixture
def writes(world):
    """Where files were written outside the folder of the test, as a list that grows."""
    seen = []
    watching = True

    def hook(event, args):
        if not watching or not args:
            return
        if event == "open":
            path, mode, flags = args
            writing = (isinstance(mode, str) and set(mode) & set("wax+")) or (
                isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            )
        else:
            path, writing = (
                args[0],
                event in ("os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.symlink", "os.link"),
            )
        if not writing or isinstance(path, int):
            return
        name = os.path.abspath(os.fsdecode(path))  # noqa: PTH100  (Path.absolute keeps "..")
        inside = f"{name}{os.sep}".startswith(f"{world.parent}{os.sep}") or "__pycache__" in name
        if not inside and not (os.path.exists(name) and stat.S_ISCHR(os.stat(name).st_mode)):  # noqa: PTH110, PTH116
            seen.append(f"{event} {name}")

    sys.addaudithook(hook)  # for good: it can only be told to rest
    yield seen
    watching = False


@contextmanager
def patience(seconds):
    """Raise an error in what takes longer."""

    def stop(number, frame):
        raise TimeoutError(f"it took more than {seconds} seconds")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def fault(cli, line):
    """Why a command line is at fault; None if it is not."""
    try:
        with patience(PATIENCE), warnings.catch_warnings():  # each call of main() lays a function round the last one's
            done = cli(*line)
    except BaseException as error:  # with LTBENCH_TRACEBACK, whatever ltbench did not expect
        if isinstance(error, KeyboardInterrupt):
            raise
        place = error.__traceback__
        while place.tb_next:
            place = place.tb_next
        return (
            f"{type(error).__name__}: {str(error)[:300]} ({place.tb_frame.f_code.co_filename}, line {place.tb_lineno})"
        )
    if done.code not in (0, 1, 2):
        return f"exit code {done.code}"
    if "out of memory" in done.err:
        return "it takes all memory"
    if "Traceback" in done.err:
        return f"a traceback: {done.err[-300:]}"
    if done.code == 2 and not done.err.strip():
        return "exit code 2 without a word"
    return None


def shown(line):
    """A command line to be pasted into a shell, its long words cut."""
    return shlex.join(["ltbench", *(word if len(word) < 120 else f"{word[:60]}...({len(word)})" for word in line)])


@pytest.fixture
def quick(monkeypatch, world):
    """No training, no network, no measurements; everything goes to the folder of the test."""
    import ltbench_speed.contests

    def refuse(*args, **options):
        raise OSError("there is no network in this test")

    fit = train.fit

    def untrained(*args, **options):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(training._Trainer, "_run_stage", lambda self, planned: None)
            return fit(*args, **options)

    def in_this_process(configs, options, processes, take):
        for position, config in enumerate(configs):
            try:
                take(position, *sweep.run_or_recall(config, options))
            except LtbenchError as error:
                take(position, error, False)

    monkeypatch.setattr("ltbench.runs.train.fit", untrained)
    monkeypatch.setattr(sweep, "run_parallel", in_this_process)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(ltbench_speed.contests, "contests", lambda *args: [])
    for name, where in {
        "LTBENCH_CACHE": "cache",
        "HOME": "home",
        "TMPDIR": "tmp",
        "TORCHINDUCTOR_CACHE_DIR": "tmp",
    }.items():
        monkeypatch.setenv(name, str(world / where))
    monkeypatch.setattr("tempfile.tempdir", str(world / "tmp"))
    monkeypatch.setenv("LTBENCH_TRACEBACK", "1")
    for line in NASTY:
        assert all("\0" not in word for word in line)


@pytest.mark.slow
def test_odd_command_lines_are_one_message_at_most(cli, quick, world, writes, monkeypatch):
    monkeypatch.chdir(world)
    faults, slow = [], []
    for line in lines(next((world / "runs").rglob("*.json")).stem):
        began, so_far = time.monotonic(), len(writes)
        with registry.temporary_methods():
            wrong = fault(cli, line)
        if len(writes) > so_far:
            wrong = f"{wrong or ''} it writes elsewhere: {writes[so_far:][:3]}"
        if wrong:
            faults.append(f"{shown(line)}\n    {wrong}")
        slow.append((time.monotonic() - began, shown(line)))
    if os.environ.get("LTBENCH_FUZZ_CASES"):
        sys.stdout.writelines(f"{seconds:.1f} s  {line}\n" for seconds, line in sorted(slow)[-15:])
    assert not faults, f"{len(faults)} of {len(slow)} command lines are at fault:\n" + "\n".join(faults)
