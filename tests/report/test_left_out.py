"""Damaged, foreign and half-written files: named, counted, and never a crash or a row that is missing silently."""

import copy
import json
import tempfile
import warnings
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ltbench.errors import LtbenchWarning
from ltbench.report.collection import collect, of_runs
from ltbench.report.contents import contents, parse_parts
from ltbench.report.latex import latex
from ltbench.report.leaderboard import leaderboards
from ltbench.report.left_out import counted, left_out
from ltbench.report.machine_formats import as_csv, as_json
from ltbench.report.markdown import markdown
from ltbench.report.plain_text import text
from ltbench.results.store import Store

ODD = [None, True, -1, 0, 10**30, 1e308, 0.5, "", "x", "!!!!", [], [[1]], [None], {}, {"a": {}}, {"trials": "many"}]
NAMES = parse_parts("all")
fuzz = settings(
    deadline=None, max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@pytest.fixture
def full(make_full_result):
    """The JSON of a full result of a seed."""
    sets = ["forward-2", "uniform"]
    shift = {"distribution": sets, "prior": ["unknown"] * 2, "prior_error": [None] * 2, "images": [4, 6],
             "classes": [2, 3]}  # fmt: skip
    shift |= {name: [50.0, 60.0] for name in ("top1", "macro", "many", "medium", "few", "ece", "mce", "nll")}
    return lambda seed: make_full_result("ce", seed, shift=shift).model_dump_json(indent=1)


def reported(good, other):
    """Report on a good result beside a file of these bytes, which is shown or named; all that is said."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", LtbenchWarning)
        Path(folder, "good.json").write_text(good)
        Path(folder, "other.json").write_bytes(other)
        stored = collect([folder])
        boards = leaderboards(stored)
        parts = list(contents(boards, stored, NAMES))
        for render in (markdown, latex, text):
            assert "2 result files" in render(parts)
        assert as_csv(boards)
        shown = {stored.paths[name].name for row in json.loads(as_json(boards)) for name in row["run_ids"]}
        said = [one.message for one in left_out(stored)]
    assert "good.json" in shown
    assert ("other.json" in shown) != (len(said) == 1 and "other.json" in said[0])
    return said + [str(one.message) for one in caught]


@pytest.mark.slow
@fuzz
@given(data=st.data())
def test_a_file_that_was_not_written_to_its_end(full, data):
    whole = full(1).encode()
    cut = data.draw(st.integers(0, len(whole) - 1))
    (said,) = reported(full(0), whole[:cut])
    assert "not a valid result" in said


@pytest.mark.slow
@fuzz
@given(data=st.data())
def test_a_result_one_of_whose_values_is_another(full, data):
    tree = json.loads(full(1))
    path = data.draw(st.sampled_from(list(paths(tree))))
    changed = copy.deepcopy(tree)
    inner = changed
    for part in path[:-1]:
        inner = inner[part]
    inner[path[-1]] = data.draw(st.sampled_from(ODD))
    reported(full(0), json.dumps(changed).encode())


def paths(tree, before=()):
    """Every place in nested JSON."""
    for name, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
        yield (*before, name)
        if isinstance(value, dict | list):
            yield from paths(value, (*before, name))


@pytest.mark.slow
@pytest.mark.parametrize(
    "content",
    [b"", b"\x00\xff\xfe" * 50, b"[]", b"null", b"1", b'{"name": "not ours"}', b"[" * 10_000, b'{"run_id": NaN}'],
    ids=["empty", "binary", "list", "null", "number", "foreign", "deep", "nan"],
)
def test_what_is_no_result_is_named(full, content):
    (said,) = reported(full(0), content)
    assert "not a valid result" in said


def test_a_figure_that_is_not_a_number_is_refused(full):
    (said,) = reported(full(0), full(1).replace('"macro": 83', '"macro": NaN, "x": 83').encode())
    assert "metrics.test.macro" in said


@pytest.mark.parametrize("text_", ["", "!", "AAAA", "eJwDAAAAAAE="], ids=["empty", "no base64", "no zlib", "no images"])
def test_damaged_outcomes_are_named_and_the_row_is_shown(full, text_):
    tree = json.loads(full(1))
    tree["outcomes"]["predicted"] = text_
    said = reported(full(0), json.dumps(tree).encode())
    assert all("other.json: the packed predictions (outcomes)" in one for one in said)
    assert [one.rpartition("; ")[2] for one in said] == [
        "its row has no interval",
        "the noise floors of its ECE under label shift are not known",
    ]


def test_everything_that_is_left_out_is_named_and_counted(cli, tmp_path, make_result):
    here, there = Store(tmp_path / "here"), Store(tmp_path / "there")
    for store in (here, there):
        store.save(make_result(seed=0))
    failed = here.save(make_result(seed=1, status="failed", reason="the loss is nan"))
    stopped = here.save(make_result(seed=2, status="interrupted", reason="stopped"))
    untested = make_result(seed=3, settings={"validation": True})
    untested = here.save(untested.model_copy(update={"metrics": {"validation": untested.test}}))
    older = here.save(make_result(seed=0).model_copy(update={"run_id": "f" * 12}))
    damaged = here.save(make_result(seed=4))
    damaged.write_text("{")
    (tmp_path / "here" / "folder.json").mkdir()
    shown = cli("report", "--results", "here", "--results", "there", "--format", "md", "--parts", "leaderboard")
    assert shown.code == 0
    for path, why in (
        (failed, "failed: the loss is nan"),
        (stopped, "interrupted: stopped"),
        (untested, "has no figures on the test set"),
        (older, f"the same run as {make_result(seed=0).run_id}"),
    ):
        assert f"left out: {path.relative_to(tmp_path)}: {why}\n" in shown.err
    assert f"{damaged.relative_to(tmp_path)}\n" in shown.err
    assert "here/folder.json" in shown.err
    counts = "2 not readable, 1 failed, 1 interrupted, 1 not tested, 1 of the settings and seed of another, "
    (line,) = [line for line in shown.out.splitlines() if "left out" in line]
    assert line.startswith("8 result files; left out: ")
    assert sorted(line.removeprefix("8 result files; left out: ").rstrip(".").split(", ")) == sorted(
        f"{counts}1 of runs that stand there twice".split(", ")
    )


def test_of_some_methods_the_count_is_still_of_all_files(cli, tmp_path, make_result):
    for method in ("ce", "balpoe"):
        Store(tmp_path / "runs").save(make_result(method))
    assert "2 result files; left out: none." in cli("report", "--method", "ce").out
    assert counted(collect([tmp_path])) == "2 result files; left out: none."


def test_of_a_suite_the_count_is_of_its_files_and_of_damaged_ones(tmp_path, make_result):
    for method in ("ce", "balpoe", "sade"):
        Store(tmp_path).save(make_result(method))
    (tmp_path / "damaged.json").write_text("{")
    stored = collect([tmp_path])
    some = [run_id for run_id, result in stored.results.items() if result.config.method != "sade"]
    assert counted(of_runs(stored, some)) == "3 result files; left out: 1 not readable."


@pytest.mark.parametrize("trials", [3, 4])
def test_the_trials_of_a_search_do_not_have_a_line_each(make_result, cli, tmp_path, trials):
    Store(tmp_path / "runs").save(make_result("ce"))
    for seed in range(trials):
        trial = make_result("balpoe", seed)
        Store(tmp_path / "runs").save(trial.model_copy(update={"metrics": {"validation": trial.metrics["test"]}}))
        Store(tmp_path / "runs").save(make_result("sade", seed, status="pruned", reason="after 3 epochs: macro 1.00"))
    said = cli("report")
    assert said.err.count("left out: ") == (6 if trials == 3 else 2)
    if trials == 4:
        assert "left out: 4 runs have no figures on the test set, e.g. trials of a search; the first: runs/" in said.err
        assert "left out: 4 runs are pruned trials of a search; the first: runs/" in said.err
    counts = {f"{trials} not tested", f"{trials} pruned"}
    (line,) = [line for line in said.out.splitlines() if "left out" in line]
    assert line.startswith(f"{2 * trials + 1} result files; left out: ")
    assert set(line.removesuffix(".").partition("left out: ")[2].split(", ")) == counts
