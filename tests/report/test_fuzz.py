"""Odd results by the hundred beside good ones: every format of the report shows the good ones, and never crashes.

By hand, longer: ``LTBENCH_FUZZ_CASES=2000 LTBENCH_FUZZ_SEED=7 pytest tests/report/test_fuzz.py``.
"""

import json
import os
import random
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ltbench.registry.declared import display_name

CASES = int(os.environ.get("LTBENCH_FUZZ_CASES", "100"))
SEED = int(os.environ.get("LTBENCH_FUZZ_SEED", "0"))
RESULTS = Path(__file__).parents[2] / "results"
GOOD = ("ce", "balpoe")
"""Methods of the results that are left as they are."""
FORMATS = ("text", "md", "csv", "json", "latex", "svg", "html")
SLOW = {"svg", "html"}
"""Drawn for some batches only."""
STRINGS = (
    "", " ", "[/]", "[bold]x", "[link=x]", "$$", "$x$", "$\\frac{$", "a|b", "|", "`x`", "<script>alert(1)</script>",
    "&amp;",
    "</script>", "=1+1", "-x", "@x", "+1", "%s{0}{{x}}", "\\", "\\end{tabular}", "\\input{x}", "a\nb", "\r\n", "\t",
    "\x00",
    "\x1b[31mred\x1b[0m", "\x1b]0;title\x07", "\x85\x9b31m", "\u202eabc", "\u2028", "\ufeff", "\ud800", "\ue000",
    "_x", "__",
    "💥", "字", "é" * 40, "x" * 5000, "0", "-1", "1e999", "nan", "null", "../../x", "a/b", "%", "#", "~", "^", "*",
    "**", "---",
    "# x", "!!!!", "AAAA", "eJwDAAAAAAE=", "2020-01-01T00:00:00", "0001-01-01T00:00:00+23:59",
    "9999-12-31T23:59:59-23:59",
    "forward-", "forward-x", "uniform", "scored", "external", "paper", "gpu",
)  # fmt: skip
VALUES = (
    None, True, False, 0, 1, -1, 2, 3, 15, 100, 101, 150.0, -5.0, 0.5, 1e-300, 5e-324, 1e300, -1e300, 2**31, 2**53,
    2**63, 2**64,
    10**30, 10**400, float("nan"), float("inf"), float("-inf"), [], [None], [0], [[]], [[0.5]], [0.5, "x"], {},
    {"a": None},
    {"a": {"b": [1, {"c": 2}]}}, {"": ""}, {"trials": "many"}, {"trials": 3, "history": 1, "space": []},
    {"trials": 3, "history": [{"number": 0, "params": {}, "macro": 5.0}], "space": {}},
    {"trials": 3, "history": [{"number": 0, "params": {"a": 1}, "macro": 5.0}, {"number": 1, "params": {"a": 2},
    "macro": 6.0}],
     "space": {"a": {"low": 3, "high": 1, "log": True}}},
)  # fmt: skip
NAMES = (
    ("config", "method"), ("config", "dataset"), ("config", "backbone"), ("config", "recipe"), ("config", "recipe",
    "name"),
    ("config", "hyperparameters"), ("config", "hyperparameters", "mixup"), ("config", "hyperparameters", "odd"),
    ("config", "hyperparameters", "taus"), ("data", "classes", 0), ("data", "classes", 3), ("data", "fingerprints",
    "train"),
    ("method", "track"), ("method", "revision"), ("method", "uses"), ("method", "selected"), ("method", "paper"),
    ("method", "paper", "title"), ("method", "paper", "authors"), ("method", "paper", "claims"), ("method", "paper",
    "claims", 0),
    ("method", "paper", "bibtex"), ("method", "paper", "draw"), ("method", "paper", "differs"), ("method",
    "transductive"),
    ("method", "paper", "recipe"), ("method", "paper", "year"), ("config", "imbalance_ratio"), ("config", "recipe",
    "lr"),
    ("config", "recipe", "epochs"), ("config", "recipe", "weight_decay"), ("config", "image_size"), ("config",
    "cache_resized"),
    ("provenance",), ("provenance", "versions"), ("provenance", "finished"), ("provenance", "hardware"),
    ("provenance", "scored"),
    ("reason",), ("status",), ("tuning",), ("curve",), ("curve", 0, "loss"), ("curve", 0, "lr"), ("cost",),
    ("outcomes",),
    ("cost", "training_seconds"), ("cost", "multiply_adds"), ("cost", "parameters"), ("cost", "training"), ("cost",
    "divisions"),
    ("cost", "peak_memory_bytes"), ("shift",), ("shift", "distribution", 0), ("shift", "prior", 0), ("shift", "ece", 0),
    ("metrics", "test", "expert_mean_probability"), ("metrics", "test", "mean_probability"), ("metrics", "test", "nll"),
    ("metrics", "test", "temperature_scaled"), ("metrics", "test", "adaptive_ece"), ("metrics", "extra"),
    ("outcomes", "labels"),
    ("outcomes", "predicted"), ("outcomes", "confidence"), ("outcomes", "images"), ("data", "mean"), ("data", "groups"),
    ("data", "shots"), ("data", "counts"), ("data", "counts", 0), ("run_id",), ("schema_version",), ("data",
    "shots", "many"),
)  # fmt: skip
"""Places whose values a valid result may have otherwise; others are drawn from all that there are."""


def bases() -> list[dict[str, Any]]:
    """Stored results of several kinds: with experts, with a search, with nothing trained."""
    kinds = ("balpoe", "ce", "sade", "crt", "logit_adjustment_posthoc")
    paths = [plain(kind)[0] for kind in kinds]
    tuned = sorted(path for path in (RESULTS / "tuned").rglob("*.json"))[:1]
    return [json.loads(path.read_text()) for path in [*paths, *tuned]]


def plain(method: str) -> list[Path]:
    """The stored results of a method without SAM, whose settings are so many that the first files share no seeds."""
    files = sorted((RESULTS / "suites/digits-lt" / method).glob("*.json"))
    return [file for file in files if "sam" not in json.loads(file.read_text())["config"]["hyperparameters"]]


def places(tree: Any, before: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in nested JSON."""
    found = []
    for name, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
        found.append((*before, name))
        if isinstance(value, dict | list):
            found += places(value, (*before, name))
    return found


def changed(tree: Any, place: tuple[Any, ...], change: Callable[[Any, Any], None]) -> None:
    """Change what holds a place, as far as it is there."""
    for part in place[:-1]:
        below = tree.get(part) if isinstance(tree, dict) else tree[part] if part in range(len(tree)) else None
        if isinstance(below, dict | list):
            tree = below
        else:
            return
    last = place[-1]
    if isinstance(tree, dict) or (isinstance(last, int) and last < len(tree)):
        change(tree, last)


def mutated(rng: random.Random, number: int, trees: list[dict[str, Any]]) -> tuple[bytes, str]:
    """The bytes of an odd result, and in words what is odd about it."""
    tree = json.loads(json.dumps(rng.choice(trees)))
    tree["run_id"], tree["config"]["seed"] = f"{number + 1:012x}", 100 + number
    if rng.random() < 0.5:
        tree["config"]["method"] = f"odd{number}"
    said = []
    for _ in range(rng.choice((1, 1, 2, 3))):
        place = rng.choice(NAMES) if rng.random() < 0.7 else rng.choice(places(tree))
        kind = rng.choice(("set", "set", "set", "text", "text", "text", "drop", "longer", "shorter", "key"))
        value = rng.choice(STRINGS if kind in ("text", "key") else VALUES)
        said.append(f"{kind} {'.'.join(map(str, place))} {str(value)[:40]!r}")

        def change(holder: Any, name: Any, kind: str = kind, value: Any = value) -> None:
            old = holder.get(name) if isinstance(holder, dict) else holder[name]
            if kind in ("set", "text"):
                holder[name] = [value] if isinstance(old, list) and kind == "text" else value
            elif kind == "drop":
                holder.pop(name, None) if isinstance(holder, dict) else holder.pop(name)
            elif kind == "key" and isinstance(old, dict):
                old[value] = rng.choice(VALUES + STRINGS)
            elif isinstance(old, list) and old:
                holder[name] = old + old[-1:] if kind == "longer" else old[:-1]

        changed(tree, place, change)
    raw = json.dumps(tree).encode()
    whole = rng.random()
    if whole < 0.03:
        raw = raw[: rng.randrange(len(raw))]
        said.append(f"cut at {len(raw)}")
    elif whole < 0.06:
        place_ = rng.randrange(len(raw))
        raw = raw[:place_] + bytes([rng.randrange(256)]) + raw[place_ + 1 :]
        said.append(f"byte {place_} changed")
    elif whole < 0.08:
        odd = rng.choice(
            [b"[" * 100_000, b'{"a":' * 50_000, b"\xff\xfe", b"null", b"1" * 5000, b'"', b"", b"{}", b"\x00" * 99]
        )
        raw = odd if rng.random() < 0.5 else raw[:-1] + b', "provenance": ' + odd
        said.append(f"ends in {odd[:20]!r}")
    elif whole < 0.1:
        raw = raw[:-1] + b', "status": "done", "config": {}}'
        said.append("keys twice")
    return raw, "; ".join(said)


def check(cli: Callable[..., Any], folder: Path, style: str, *more: str) -> None:
    """The report of a folder in a format: no crash, and the good rows are there; figures may find nothing to draw."""
    parts = ["--parts", "all"] if style in ("text", "md", "latex", "svg") and not more else []
    said = cli("report", "--results", folder, "--format", style, *parts, *more)
    assert said.code in ((0, 1) if more else (0,)), said.err
    for crash in ("Traceback", "unexpected error"):
        assert crash not in said.err
    if more:
        return
    for method in GOOD:
        assert method in said.out or display_name(method) in said.out
    for act in ("\x1b", "\x9b", "\u202e", "\x00"):
        assert act not in said.out
        assert act not in said.err


def run(
    cli: Callable[..., Any], rng: random.Random, odd: list[tuple[bytes, str]], styles: list[tuple[str, ...]]
) -> None:
    """Report on odd results beside good ones; a failure names the first odd one that does it alone."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for method in GOOD:
            for path in plain(method)[:6]:
                shutil.copy(path, folder)
        for number, (content, _) in enumerate(odd):
            (folder / f"odd{number}.json").write_bytes(content)
        for style in styles:
            try:
                check(cli, folder, *style)
            except BaseException as error:
                if len(odd) == 1:
                    raise AssertionError(f"{style}: {odd[0][1]}: {type(error).__name__}: {error}") from error
                for one in odd:
                    run(cli, rng, [one], [style])
                raise AssertionError(f"{style}: only together: {[words for _, words in odd]}") from error


def styles_of(batch: int, figures: str, folder: Path) -> list[tuple[str, ...]]:
    """Each format for text; of those that are drawn one a batch, in turn."""
    drawn = [("svg",), ("html",), ("text", "--figures", figures, "--output", str(folder / "figures"))]
    return [*((style,) for style in FORMATS if style not in SLOW), drawn[batch % len(drawn)]]


@pytest.mark.slow
@pytest.mark.usefixtures("leaderboards_once")
@pytest.mark.filterwarnings("ignore")
def test_odd_results_leave_the_report_of_the_good_ones_whole(cli, tmp_path):
    rng = random.Random(SEED)
    trees, size = bases(), 50
    batches = CASES // size
    for batch in range(batches):
        odd = [mutated(rng, batch * size + number, trees) for number in range(size)]
        run(cli, rng, odd, styles_of(batch, "reliability,cost,shift,tuning", tmp_path))
