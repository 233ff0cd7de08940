"""Results on disk: whole or not at all, and readable ever after."""

import json
import multiprocessing
import os
import resource
import signal
import stat
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from ltbench.config import RunConfig
from ltbench.errors import LtbenchError
from ltbench.files import atomic, paths
from ltbench.files.atomic import remove_abandoned, write_bytes, write_text
from ltbench.results import store
from ltbench.results.records import ExpertsRecord
from ltbench.results.schema import SCHEMA_VERSION
from ltbench.results.store import Store, parsed, read, read_field
from ltbench.runs import train
from ltbench.runs.options import RunOptions
from ltbench.runs.run import run
from ltbench.runs.sweep import run_all


@contextmanager
def disk_with_room_for(size):
    """Every write beyond so many bytes of a file fails, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_result_comes_back_as_it_was(tmp_path, make_result):
    store = Store(tmp_path / "runs")
    result = make_result("balpoe", 3, few=None, settings={"hyperparameters": {"taus": [0, 1.5]}}, tuning={"trials": 4})
    assert store.get(result.config, result.run_id) is None
    path = store.save(result)
    assert path == tmp_path / "runs" / "digits-lt" / "balpoe" / f"{result.run_id}.json"
    assert read(path) == result
    assert store.get(result.config, result.run_id) == result


def test_a_result_is_plain_json_with_its_schema(tmp_path, make_result):
    content = json.loads(Store(tmp_path).save(make_result(top1=61.5, few=None)).read_text())
    assert content["schema_version"] == SCHEMA_VERSION
    assert content["metrics"]["test"]["top1"] == 61.5
    assert content["metrics"]["test"]["few"] is None


def test_saving_again_replaces(tmp_path, make_result):
    store = Store(tmp_path)
    store.save(make_result(status="failed", reason="the loss is nan"))
    path = store.save(make_result())
    assert read(path).status == "done"
    assert names_in(path.parent) == [path.name]


@pytest.mark.parametrize("status", ["failed", "interrupted"])
def test_what_is_done_is_not_lost_to_a_rerun_that_is_not(status, tmp_path, make_result):
    store, done = Store(tmp_path), make_result()
    path = store.save(done)
    store.save(make_result(status=status, reason="stopped"))
    assert read(path) == done
    store.save(make_result(top1=60.0))
    assert read(path).test.top1 == 60.0


def test_a_result_that_has_not_looked_at_the_test_set_has_no_figures_of_it(make_result):
    assert make_result(status="failed").test is None
    assert make_result(top1=12.0).test.top1 == 12.0


def test_a_full_disk_leaves_the_old_file_and_nothing_half_written(tmp_path, make_result):
    store = Store(tmp_path)
    path = store.save(make_result(reason="old"))
    before = path.read_bytes()
    with disk_with_room_for(100), pytest.raises(LtbenchError, match="cannot save: File too large") as caught:
        store.save(make_result(reason="new"))
    assert str(path) in str(caught.value)
    assert path.read_bytes() == before
    assert names_in(path.parent) == [path.name]


def test_weights_on_a_full_disk_give_the_systems_reason(tmp_path):
    path = tmp_path / "checkpoint.pt"
    with disk_with_room_for(1000), pytest.raises(LtbenchError, match="cannot save: File too large"):
        write_bytes(path, lambda stream: torch.save(torch.zeros(10_000), stream))
    assert names_in(tmp_path) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, TypeError])
def test_a_write_that_breaks_off_leaves_nothing(tmp_path, error):
    path = tmp_path / "file"
    write_text(path, "old")

    def break_off(stream):
        stream.write(b"half")
        raise error

    with pytest.raises(error):
        write_bytes(path, break_off)
    assert path.read_text() == "old"
    assert names_in(tmp_path) == ["file"]


def test_a_stored_file_can_be_read_by_others_as_the_umask_allows(tmp_path):
    write_text(tmp_path / "file", "text")
    (tmp_path / "plain").write_text("text")
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)


def test_writing_in_threads_leaves_the_umask_as_it_was(tmp_path, monkeypatch):
    before = os.umask(0o027)

    def slow(mask, real=os.umask):
        found = real(mask)
        time.sleep(0.005)  # for others to come in between
        return found

    with monkeypatch.context() as patched, ThreadPoolExecutor(4) as pool:
        patched.setattr(os, "umask", slow)
        list(pool.map(lambda i: write_text(tmp_path / f"{i}", ""), range(8)))
    assert os.umask(before) == 0o027
    assert {stat.S_IMODE((tmp_path / f"{i}").stat().st_mode) for i in range(8)} == {0o640}


def test_a_folder_that_cannot_be_made_is_found_before_the_work(tmp_path, make_result):
    (tmp_path / "file").write_text("")
    store = Store(tmp_path / "file" / "runs")
    with pytest.raises(LtbenchError, match="results cannot be saved: Not a directory") as caught:
        store.check_writable()
    assert str(tmp_path / "file" / "runs") in str(caught.value)
    assert "--out" in str(caught.value)
    with pytest.raises(LtbenchError, match="cannot save: "):
        store.save(make_result())


def test_a_folder_that_is_there_but_takes_no_files_is_found_before_the_work():
    with pytest.raises(LtbenchError, match="results cannot be saved"):
        Store(Path("/proc")).check_writable()


def test_checking_leaves_an_empty_folder(tmp_path):
    Store(tmp_path / "a" / "b").check_writable()
    assert names_in(tmp_path / "a" / "b") == []


def damage(content, how):
    values = json.loads(content)
    if how == "another schema":
        values["schema_version"] = 2
    elif how == "an unknown key":
        values["colour"] = "red"
    elif how == "a missing key":
        del values["method"]
    return json.dumps(values)


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("cut off", "the file: Invalid JSON"),
        ("empty", "the file: Invalid JSON"),
        ("no result", "not a valid result: "),
        ("not text", "not a valid result: "),
        ("another schema", "schema_version: Input should be 1"),
        ("an unknown key", "colour: Extra inputs are not permitted"),
        ("a missing key", "method: Field required"),
    ],
)
def test_a_damaged_result_is_named_with_what_is_wrong(tmp_path, make_result, how, reason):
    path = Store(tmp_path).save(make_result())
    whole = path.read_text()
    contents = {"cut off": whole[:200], "empty": "", "no result": "[1, 2]", "not text": b"\xff\xfe\x00"}
    content = contents[how] if how in contents else damage(whole, how)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(LtbenchError, match="not a valid result: ") as caught:
        read(path)
    assert reason in str(caught.value)
    assert f"where: {path}" in str(caught.value)
    assert "delete it and run again" in str(caught.value)


def test_a_missing_result_and_a_folder_are_no_results(tmp_path):
    for path in (tmp_path / "none.json", tmp_path):
        with pytest.raises(LtbenchError, match="cannot read the result") as caught:
            read(path)
        assert str(path) in str(caught.value)


@pytest.fixture
def stored_result():
    """A result of a real run."""
    return read(min((Path(__file__).parents[2] / "results" / "suites" / "digits-lt" / "balpoe").iterdir()))


def test_fields_that_are_not_needed_stay_at_their_defaults(tmp_path, stored_result):
    result = stored_result.model_copy(update={"reason": 'a\n "curve": [\n  {"b": 1}\n ],\n "shift": {\n }'})
    path = Store(tmp_path).save(result)
    content = path.read_bytes()
    assert result.curve and result.shift is not None
    assert parsed(content, path, ["curve", "shift"]) == result.model_copy(update={"curve": [], "shift": None})
    assert parsed(content, path, ["shift"]) == result.model_copy(update={"shift": None})
    assert parsed(content, path) == result


def test_one_field_is_read_alone(tmp_path, stored_result):
    result = stored_result.model_copy(update={"reason": 'a\n "curve": [\n  {"b": 1}\n ],\n "shift": {\n }'})
    path = Store(tmp_path).save(result)
    names = ("curve", "shift", "reason", "tuning", "run_id", "provenance")  # provenance is the last one
    assert [read_field(path, name) for name in names] == [getattr(result, name) for name in names]
    path.write_text(path.read_text().replace('"seed": 0', '"seed": []'))  # damage elsewhere is not looked at
    assert read_field(path, "curve") == result.curve
    assert read_field(path, "shift") == result.shift


def test_a_damaged_field_is_named_when_it_is_read_alone(tmp_path, stored_result):
    path = Store(tmp_path).save(stored_result)
    tree = json.loads(path.read_text())
    tree["shift"]["top1"][3] = 100.5
    path.write_text(json.dumps(tree, indent=1))
    assert read_field(path, "curve") == stored_result.curve
    with pytest.raises(LtbenchError, match=r"not a valid result: shift\.top1\.3"):
        read_field(path, "shift")


@pytest.mark.parametrize("layout", [{}, {"indent": 4}, {"separators": (",", ":")}])
def test_a_result_in_another_layout_is_read_whole(layout, tmp_path, stored_result):
    result = stored_result
    content = json.dumps(json.loads(result.model_dump_json()), **layout).encode()
    assert parsed(content, tmp_path / "one.json", ["curve", "shift"]) == result
    (tmp_path / "one.json").write_bytes(content)
    assert read_field(tmp_path / "one.json", "curve") == result.curve


def test_a_field_at_the_end_is_read_as_well(tmp_path, stored_result):
    fields = json.loads(stored_result.model_dump_json())
    fields["curve"] = fields.pop("curve")  # the comma before it stays when it is left out
    content = json.dumps(fields, indent=1).encode()
    assert parsed(content, tmp_path / "one.json", ["curve"]) == stored_result


@pytest.mark.slow
def test_a_damaged_stored_run_is_not_silently_replaced(tmp_path):
    options = RunOptions(out=tmp_path, device="cpu")
    config = RunConfig(method="ce", backbone="cifar_resnet8", epochs=1)
    first = run(config, options)
    path = Store(tmp_path).path(first.config, first.run_id)
    assert run(config, options) == first
    path.write_text("{")
    with pytest.raises(LtbenchError, match="not a valid result"):
        run(config, options)
    assert path.read_text() == "{"


@pytest.mark.parametrize(
    ("shared", "own", "words"),
    [
        (["pos_embed", *(f"blocks.{i}" for i in range(9))], ["blocks.9", "blocks.10", "norm"],
         "3, which share pos_embed, blocks.0 to blocks.8; each has its own blocks.9, blocks.10, norm"),
        (["conv1", "bn1", "layer1"], ["layer2", "layer3"],
         "3, which share conv1, bn1, layer1; each has its own layer2, layer3"),
        ([], [], "3 complete networks"),
    ],
)  # fmt: skip
def test_the_division_among_experts_in_words(shared, own, words):
    assert str(ExpertsRecord(count=3, shared=shared, own=own)) == words


def in_another_process(work, *words):
    """Do something in a process like this one, meanwhile; gives the process."""
    process = multiprocessing.get_context("fork").Process(target=work, args=words)
    process.start()
    return process


def until(what):
    end = time.monotonic() + 60
    while not what():
        assert time.monotonic() < end, "nothing happens"
        time.sleep(0.01)


@pytest.mark.slow
@pytest.mark.parametrize("status", ["failed", "interrupted"])
def test_a_done_result_that_comes_between_the_look_and_the_write_of_another_process_stays(
    status, tmp_path, make_result, monkeypatch
):
    done, other = make_result(), make_result(status=status, reason="stopped")
    folder = tmp_path / "runs"
    looked, saved = tmp_path / "looked", tmp_path / "saved"

    def slow(path, new, replace, real=store._gives_way):
        found = real(path, new, replace)
        looked.touch()  # it has seen that there is no result
        time.sleep(0.5)
        return found

    def interrupted():
        store._gives_way = slow
        Store(folder).save(other)

    def finished():
        until(looked.exists)
        Store(folder).save(done)
        saved.touch()

    processes = [in_another_process(interrupted), in_another_process(finished)]
    until(looked.exists)
    assert not saved.exists(), "the other one waits"
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert read(Store(folder).path(done.config, done.run_id)) == done


def test_what_is_done_is_written_once_unless_it_is_run_again(tmp_path, make_result):
    store, first, second = Store(tmp_path), make_result(top1=50.0), make_result(top1=60.0)
    path = store.save(first, replace=False)
    store.save(second, replace=False)
    assert read(path) == first
    store.save(second, replace=True)
    assert read(path) == second
    trial = first.model_copy(update={"metrics": {}})  # has not looked at the test set
    path.write_text(trial.model_dump_json())
    store.save(second, replace=False)
    assert read(path) == second
    older = first.model_copy(update={"config": first.config.replace(image_size=9)})  # a default was another
    path.write_text(older.model_dump_json())
    store.save(second, replace=False)
    assert read(path) == second
    path.write_text("{")  # damaged while the run was under way
    store.save(second, replace=False)
    assert read(path) == second


@pytest.mark.slow
def test_of_two_processes_that_train_a_run_without_knowing_of_each_other_the_first_counts(tmp_path, monkeypatch):
    config, options = (
        RunConfig(method="ce", backbone="cifar_resnet8", epochs=1),
        RunOptions(out=tmp_path / "runs", device="cpu"),
    )
    fit = train.fit

    def meanwhile(*args, **settings):
        history = fit(*args, **settings)
        with monkeypatch.context() as patched:  # another machine, whose cache is another
            patched.setattr("ltbench.runs.train.fit", fit)
            patched.setenv("LTBENCH_CACHE", str(tmp_path / "other cache"))
            theirs.append(run(config, options))
        return history

    theirs = []
    monkeypatch.setattr("ltbench.runs.train.fit", meanwhile)
    mine = run(config, options)
    assert mine == theirs[0]
    (path,) = options.out.rglob("*.json")
    assert read(path) == mine


def killed_while_writing(path):
    """Be killed in the middle of a file."""

    def write(stream):
        stream.write(b"half")
        stream.flush()
        os.kill(os.getpid(), signal.SIGKILL)

    write_bytes(path, write)


def writes_slowly(path):
    """Write a file, of which the second half waits for a word."""

    def write(stream):
        stream.write(b"half")
        stream.flush()
        until(path.with_name("go on").exists)
        stream.write(b" and half")

    write_bytes(path, write)


def age(path, seconds):
    """Have a file be that old."""
    then = time.time() - seconds
    os.utime(path, (then, then))


def test_what_killed_processes_have_left_is_removed_and_what_others_are_writing_stays(tmp_path):
    inner = tmp_path / "a" / "b"
    killed = in_another_process(killed_while_writing, inner / "result.json")
    killed.join()
    assert killed.exitcode == -signal.SIGKILL
    (left,) = names_in(inner)
    assert left.startswith(".result.json.")
    remove_abandoned(tmp_path)
    assert names_in(inner) == [left], "another machine, whose locks are not seen here, may be writing it"
    age(inner / left, atomic.RECENT)
    writing = in_another_process(writes_slowly, inner / "other.json")
    until(lambda: any(path.stat().st_size for path in inner.glob(".other.json.*")))
    kept = {".hidden", ".x.tmp", ".gitignore", "plain.json", ".lock", ".result.json.tmp"}
    for name in kept:
        (inner / name).write_text("")
    for name, hours in ((".old.json.abcdefg8", 25), (".new.json.abcdefg8", 23), (".notes.abcdefg8", 25)):
        (inner / name).write_text("")
        age(inner / name, 3600 * hours)
    age(next(inner.glob(".other.json.*")), atomic.RECENT)
    remove_abandoned(tmp_path)
    (temporary,) = inner.glob(".other.json.*")
    kept |= {".new.json.abcdefg8", ".notes.abcdefg8"}
    assert set(names_in(inner)) == {*kept, temporary.name}
    (inner / "go on").touch()
    writing.join()
    assert (inner / "other.json").read_text() == "half and half"
    assert set(names_in(inner)) == {*kept, "go on", "other.json"}


def test_where_there_are_no_locks_a_day_must_pass(tmp_path, monkeypatch):
    monkeypatch.setattr(atomic, "LOCKS", False)
    write_text(tmp_path / "file", "text")
    for name, hours in ((".a.json.abcdefg8.tmp", 25), (".b.json.abcdefg8.tmp", 23)):
        (tmp_path / name).write_text("")
        age(tmp_path / name, 3600 * hours)
    remove_abandoned(tmp_path)
    assert names_in(tmp_path) == [".b.json.abcdefg8.tmp", "file"]
    remove_abandoned(tmp_path / "nowhere")


@pytest.mark.parametrize("replace", [True, False])
def test_where_there_are_no_locks_a_file_is_closed_before_it_is_moved(tmp_path, monkeypatch, replace):
    """Windows, which has none of ours, refuses to move an open file."""
    real = {name: getattr(os, name) for name in ("rename", "replace", "link")}

    def closed(name):
        def move(source, *rest, **options):
            opened = {os.path.realpath(number) for number in Path("/proc/self/fd").iterdir()}
            assert str(Path(source).resolve()) not in opened
            return real[name](source, *rest, **options)

        return move

    monkeypatch.setattr(atomic, "LOCKS", False)
    for name in real:
        monkeypatch.setattr(os, name, closed(name))
    assert write_bytes(tmp_path / "file", lambda stream: stream.write(b"text"), replace=replace)
    assert (tmp_path / "file").read_text() == "text"
    assert names_in(tmp_path) == ["file"]


def test_a_file_that_is_swept_as_it_is_made_is_made_anew(tmp_path, monkeypatch):
    monkeypatch.setattr(atomic, "RECENT", 0.0)
    real, made = Path.open, []

    def swept(path, mode="r", *rest, **options):
        stream = real(path, mode, *rest, **options)
        if mode == "xb":
            made.append(path)
        if len(made) == 1:
            remove_abandoned(tmp_path)  # before the writer has its lock
            assert names_in(tmp_path) == []
        return stream

    monkeypatch.setattr(Path, "open", swept)
    write_text(tmp_path / "file", "text")
    assert len(made) == 2
    assert names_in(tmp_path) == ["file"]


def test_a_sweep_removes_what_killed_processes_have_left_of_results_and_in_the_cache(tmp_path):
    results, cache = tmp_path / "runs", paths.cache_dir() / "runs"
    for path in (
        results / "digits-lt" / "other" / "x.json",
        cache / "abc" / "checkpoint.pt",
        cache / "abc" / "test.npz",
    ):
        killed = in_another_process(killed_while_writing, path)
        killed.join()
    left = [*tmp_path.rglob(".*.tmp"), *cache.rglob(".*.tmp")]
    assert len(left) == 3
    for path in left:
        age(path, atomic.RECENT)
    run_all([], RunOptions(out=results, device="cpu"), lambda result, recalled: None)
    assert not [*tmp_path.rglob(".*.tmp"), *cache.rglob(".*.tmp")]
