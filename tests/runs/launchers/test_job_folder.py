"""Job folders, what is written for schedulers, and a task on its own; without a scheduler."""

import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import tomllib
from datetime import UTC, datetime, timedelta

import pytest
import yaml

from ltbench.cli import launch
from ltbench.config import RunConfig
from ltbench.errors import LtbenchError
from ltbench.results.store import Store, read
from ltbench.runs.launchers import job_folder, skypilot, slurm, task
from ltbench.runs.launchers.job_folder import Array, JobFolder, TaskOptions, TaskState
from ltbench.runs.launchers.task import Task, scheduler_job
from ltbench.runs.monitor import tasks
from ltbench.runs.monitor.jobs import RunIndex
from ltbench.runs.resolve import resolve
from ltbench.runs.run_list import expand, read_runs
from tests.runs.launchers.conftest import wait_for

CONFIGS = [
    RunConfig(method="ce", epochs=1, backbone="cifar_resnet8"),
    RunConfig(method="balpoe", dataset="imagenet-lt", hyperparameters={"taus": [0.0, 2.0]}, seed=3),
    RunConfig(method="paco", dataset="imagenet-lt"),
    RunConfig(method="paco", recipe={"name": "mine", "epochs": 2}),
]


@pytest.fixture
def make_job(tmp_path):
    def make(configs=CONFIGS, **more):
        options = TaskOptions(out=tmp_path / "runs", data_dir=tmp_path / "data", device="cpu", words=["--workers", "2"])
        return job_folder.create(tmp_path / "jobs", "some", configs, options, **more)

    return make


def test_a_task_is_the_run_that_was_described(make_job):
    job = make_job()
    for number, config in enumerate(CONFIGS):
        described, tuning = read_runs(job.settings_file(number))
        assert (expand(described, {}), tuning) == ([config], None)
    assert JobFolder(job.path).description.tasks == CONFIGS


def test_a_tuned_run_keeps_its_tuning(make_job):
    job = make_job(CONFIGS[:1], tuning={"trials": 7})
    assert read_runs(job.settings_file(0))[1] == {"trials": 7}


def test_two_jobs_of_a_second_have_two_folders(make_job, tmp_path):
    first, second = make_job(), make_job()
    assert first.path != second.path
    assert [one.path for one in job_folder.job_folders(tmp_path / "jobs")] == [first.path, second.path]


def test_the_environment_is_noted_without_secrets(make_job, monkeypatch):
    monkeypatch.setenv("MY_TOKEN", "secret")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    text = (make_job().path / "environment.json").read_text()
    assert "secret" not in text
    assert json.loads(text)["variables"]["OMP_NUM_THREADS"] == "3"
    assert json.loads(text)["executable"] == sys.executable


@pytest.mark.parametrize("number", [-1, 4])
def test_there_is_no_other_task(make_job, number):
    with pytest.raises(LtbenchError, match="give a number from 0 to 3"):
        make_job().settings_file(number)


def test_a_setting_that_toml_cannot_hold_is_refused_before_there_is_a_folder(make_job, tmp_path):
    with pytest.raises(LtbenchError, match="null cannot be written"):
        make_job([RunConfig(hyperparameters={"taus": [None, 1.0]})])
    assert not (tmp_path / "jobs").exists()


def table(tmp_path, text):
    (tmp_path / "resources.toml").write_text(text)
    return slurm.ResourceTable(tmp_path / "resources.toml")


RESOURCES = """
partition = "cpu"
time = 60
[[resources]]
dataset = "imagenet-lt"
partition = "gpu"
time = 2880
gpus_per_node = 1
[[resources]]
method = ["paco", "gpaco"]
dataset = "imagenet-lt"
mem = "64G"
"""


def test_resources_go_by_method_and_data_set(tmp_path):
    found = [table(tmp_path, RESOURCES).of(config) for config in CONFIGS]
    assert [(one.partition, one.time, one.gpus_per_node, one.mem) for one in found] == [
        ("cpu", 60, None, None),
        ("gpu", 2880, 1, None),
        ("gpu", 2880, 1, "64G"),
        ("cpu", 60, None, None),
    ]
    groups = table(tmp_path, RESOURCES).groups(CONFIGS)
    assert [positions for _, positions in groups] == [[0, 3], [1], [2]]


def test_an_array_has_no_more_tasks_than_slurm_allows():
    groups = slurm.ResourceTable(None).groups([CONFIGS[0]] * 2500)
    assert [len(positions) for _, positions in groups] == [1000, 1000, 500]
    assert [positions[0] for _, positions in groups] == [0, 1000, 2000]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("partitoin = 'gpu'", "did you mean partition"),
        ("[[resources]]\nmethod = 'pcao'", "did you mean paco"),
        ("[[resources]]\ndataset = 'imagnet-lt'", "did you mean imagenet-lt"),
        ("[[resources]]\ntimee = 3", "did you mean time"),
        ("resources = 3", r"must be a list of \[\[resources\]\]"),
        ("time = 1\nsignal_before = 31", "more than half of time"),
        ("mem = '3 apples'", "mem"),
    ],
)
def test_bad_resources_are_refused(tmp_path, text, message):
    with pytest.raises(LtbenchError, match=message):
        table(tmp_path, text)


def test_the_script_asks_for_what_the_file_says(make_job, tmp_path):
    job = make_job()
    scripts = slurm.write_scripts(
        job, table(tmp_path, RESOURCES + "setup = ['module load cuda']\nsbatch = { nice = 10 }")
    )
    assert [script.name for script in scripts] == ["array.sh", "array-1.sh", "array-2.sh"]
    text = scripts[2].read_text()
    options = dict(re.findall(r"^#SBATCH --([\w-]+)=?(.*)$", text, re.MULTILINE))
    assert options == {
        "job-name": f"ltbench-{job.path.name}", "array": "0-0%256", "partition": "gpu", "time": "2880", "mem": "64G",
        "gpus-per-node": "1", "signal": "B:USR1@120", "requeue": "", "open-mode": "append", "nice": "10",
        "output": f"{job.path}/logs/slurm-%A_%a.out",
    }  # fmt: skip
    assert "tasks=(2)" in text
    assert text.index("module load cuda") < text.index("exec ")
    assert subprocess.run(["bash", "-n", scripts[2]], check=False).returncode == 0
    assert os.access(scripts[0], os.X_OK)
    assert "tasks=(0 3)" in scripts[0].read_text()


def test_a_script_quotes_what_has_spaces_and_leaves_out_what_is_off(make_job, tmp_path):
    job = make_job()
    written = "sbatch = { comment = 'two words', exclusive = false, verbose = true }"
    text = slurm.write_scripts(job, table(tmp_path, RESOURCES + written))[2].read_text()
    assert "#SBATCH --comment='two words'\n" in text
    assert "exclusive" not in text
    assert "#SBATCH --verbose\n" in text


def test_a_sign_of_life_that_cannot_be_written_does_not_end_a_run(make_job, monkeypatch, tmp_path):
    """The child sleeps for a moment in place of a run."""
    sleeps = tmp_path / "python"
    sleeps.write_text("#!/bin/sh\nexec sleep 0.5\n")
    sleeps.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(sleeps))
    monkeypatch.setattr(task, "STATE_INTERVAL", 0.1)
    one = Task(make_job(), 0)
    write, tried = one.folder.write_state, []

    def fails_at_first(*words):
        tried.append(words)
        if len(tried) == 2:
            raise LtbenchError("cannot save: Disk quota exceeded")
        write(*words)

    monkeypatch.setattr(type(one.folder), "write_state", lambda folder, *words: fails_at_first(*words))
    assert one.carry_out().state == "done"
    assert len(tried) > 3


def test_the_id_of_a_task_is_that_of_the_array_and_its_place(monkeypatch):
    """The last task of an array has the id of the whole array as its own: requeued by that, all would be."""
    monkeypatch.setenv("SLURM_JOB_ID", "14")
    assert scheduler_job() == "14"
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "14")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "1")
    assert scheduler_job() == "14_1"


SKYPILOT = {
    "name": str, "resources": dict, "file_mounts": dict, "setup": str, "run": str,
    "resources.accelerators": str, "resources.cpus": str, "resources.memory": str, "resources.disk_size": int,
    "resources.infra": str, "resources.use_spot": bool, "resources.job_recovery": dict,
    "resources.job_recovery.max_restarts_on_errors": int,
}  # fmt: skip
"""The fields of SkyPilot's schemas for tasks and resources that ltbench may write, and their types."""


def fields(values, prefix=""):
    for name, value in values.items():
        yield prefix + name, value
        if isinstance(value, dict) and name in ("resources", "job_recovery"):
            yield from fields(value, f"{prefix}{name}.")


def test_the_file_for_skypilot_has_the_fields_of_its_schema(make_job, tmp_path):
    (tmp_path / "cloud.toml").write_text(
        "accelerators = 'H100:1'\ncpus = '8+'\nmemory = '32+'\ndisk_size = 200\ninfra = 'aws/us-east-1'\n"
        "bucket = 'mine'\ndata = 's3://images'"
    )
    job = make_job()
    path = skypilot.write(job, skypilot.read_resources(tmp_path / "cloud.toml"))
    content = yaml.safe_load(path.read_text())
    for name, value in fields(content):
        assert isinstance(value, SKYPILOT[name]), name
    assert content["resources"]["use_spot"] is True
    assert content["resources"]["accelerators"] == "H100:1"
    mounts = content["file_mounts"]
    assert mounts["~/ltbench-job/tasks"] == str(job.path / "tasks")
    assert mounts["/ltbench"] == {"name": "mine", "mode": "MOUNT"}
    assert mounts["/data"] == {"source": "s3://images", "mode": "MOUNT"}
    assert "export LTBENCH_CACHE=/ltbench/cache" in content["run"], "checkpoints outlive the machine"
    assert subprocess.run(["bash", "-n"], input=content["run"], text=True, check=False).returncode == 0


def test_the_file_for_skypilot_holds_what_the_machine_lacks(cli, tmp_path):
    """The recipe of a file; and words as a shell reads them."""
    (tmp_path / "mine.toml").write_text("epochs = 3")
    (tmp_path / "cloud.toml").write_text('setup = ["echo a\\necho b"]')
    words = ("run", "--method", "ce", "--recipe", "mine.toml", "--emit-skypilot", "--resources", "cloud.toml")
    done = cli(*words, "--device", "cpu", "--jobs", "my jobs", "--tensorboard", "$HOME/`id`")
    assert done.code == 0, done.err
    (path,) = (tmp_path / "my jobs").rglob("skypilot.yaml")
    assert f"sky jobs launch '{path}'" in done.out
    assert "ltbench watch --jobs 'my jobs'" in done.err
    content = yaml.safe_load(path.read_text())
    assert content["setup"] == "echo a\necho b\n"
    assert "--device cpu" in content["run"]
    assert "$HOME" not in content["run"].replace("'", "").partition("--tensorboard")[0]
    settings = tomllib.loads((path.parent / "tasks" / "0000.toml").read_text())
    assert settings["recipe"]["epochs"] == 3
    assert skypilot.portable(RunConfig(weights="timm")) == RunConfig(weights="timm")
    (tmp_path / "mine.pth").touch()
    done = cli("run", "--method", "ce", "--weights", "mine.pth", "--emit-skypilot")
    assert (done.code, "no file of weights" in done.err) == (2, True)


@pytest.mark.parametrize(
    "words", [("--emit-array", "--emit-skypilot"), ("--resources", "nowhere.toml"), ("--per-gpu", 3)]
)
def test_options_without_their_engine_are_refused(cli, words):
    done = cli("run", "--method", "ce", "--dry-run", *words)
    assert (done.code, words[0] in done.err) == (2, True)


def test_a_dry_run_needs_no_gpu(cli):
    assert cli("run", "--method", "ce", "--epochs", 1, "--launch", "gpus", "--dry-run").code == 0


@pytest.mark.slow
def test_the_script_for_skypilot_carries_out_every_run(make_job, cli, tmp_path, monkeypatch):
    """With folders of this machine in place of the bucket; the second run is carried out although the first fails.

    The script calls a function that notes its words and fails once; then they are carried out without a new process.
    """
    job = make_job([CONFIGS[0].replace(dataset="imagenet-lt"), CONFIGS[0]])
    run = yaml.safe_load(skypilot.task_file(job, skypilot.read_resources(None)))["run"]
    run = run.replace("~/ltbench-job", str(job.path)).replace("/ltbench/", f"{tmp_path}/bucket/")
    note = """ltbench() { n=$((${n:-0} + 1)); printf '%s\\n' "$LTBENCH_CACHE" "$@" > "$CALLS/$n"; [ $n != 1 ]; }\n"""
    (calls := tmp_path / "calls").mkdir()
    called = {**os.environ, "CALLS": str(calls)}
    done = subprocess.run(["bash", "-c", note + run], env=called, capture_output=True, text=True, check=False)
    assert done.returncode == 1, "the first of them has failed"
    codes = []
    for number in (1, 2):
        cache, *words = (calls / str(number)).read_text().splitlines()
        assert cache == f"{tmp_path}/bucket/cache"
        monkeypatch.setenv("LTBENCH_CACHE", cache)
        codes.append(cli(*words).code)
    assert codes == [2, 0], "one of them has no data"
    assert len(list(calls.iterdir())) == 2
    assert [read(path).status for path in (tmp_path / "bucket" / "results").rglob("*.json")] == ["done"]


def test_bad_cloud_resources_are_refused(tmp_path):
    (tmp_path / "cloud.toml").write_text("acelerators = 'H100:1'")
    with pytest.raises(LtbenchError, match="did you mean accelerators"):
        skypilot.read_resources(tmp_path / "cloud.toml")


def state(name, *, silent=timedelta(0), **more):
    """A task's state, last seen `silent` ago: before this call, as a suite takes longer than a task may be silent."""
    seen = datetime.now(UTC) - silent
    return TaskState(**{"state": name, "began": seen, "seen": seen, "host": "far", **more})


@pytest.mark.parametrize(
    ("written", "queue", "kind", "words"),
    [
        (None, None, "waiting", "not begun"),
        (None, {"7_0": ("PENDING", "Resources")}, "waiting", "queued as 7_0: Resources"),
        (None, {"7_0": ("RUNNING", "None")}, "running", "starts as 7_0"),
        (None, {"7_0": ("CANCELLED", "None")}, "lost", "it was cancelled"),
        (None, {}, "lost", "it is in no queue any more"),
        ("running", {"7_0": ("RUNNING", "None")}, "running", "on far"),
        ("running", {"7_0": ("NODE_FAIL", "None")}, "lost", "its node failed; see "),
        ("running", {"7_0": ("TIMEOUT", "TimeLimit")}, "lost", "its time was over before it could be requeued; see "),
        ("running", None, "running", "on far"),
        ("silent", None, "lost", "no sign of life from far; see "),
        ("silent", {"7_0": ("RUNNING", "None")}, "running", "on far"),
        ("requeued", None, "waiting", "requeued"),
        ("requeued", {"7_0": ("PENDING", "BeginTime")}, "waiting", "requeued as 7_0: BeginTime"),
        ("failed", {}, "ended", "out of luck"),
        ("done", None, "ended", ""),
    ],
)
def test_how_a_task_is_follows_from_its_file_and_the_queue(make_job, written, queue, kind, words):
    job = make_job(CONFIGS[:2])
    job.write_arrays([Array(scheduler_id="7", tasks=[0, 1])])
    stored = json.loads((job.path / "slurm.json").read_text())
    assert stored == {"arrays": [{"job": "7", "tasks": [0, 1]}]}  # as older versions read it
    if written == "silent":
        job.write_state(0, state("running", silent=timedelta(seconds=tasks.TASK_LOST_AFTER + 60)))
    elif written is not None:
        job.write_state(0, state(written, reason="out of luck" if written == "failed" else None))
    first, _ = tasks.task_states([job], queue)
    assert first.kind == kind
    assert first.words.startswith(words) if words else first.words == ""


def test_a_later_job_stands_for_the_same_run_of_an_earlier_one(make_job):
    first, second = make_job(CONFIGS[:2]), make_job(CONFIGS[1:2])
    first.write_state(1, state("failed", reason="bad luck"))
    assert [(one.job.path, one.number, one.kind) for one in tasks.task_states([first, second], None)] == [
        (first.path, 0, "waiting"),
        (second.path, 0, "waiting"),
    ]


def test_watch_shows_what_waits_and_what_was_lost(make_job, cli, monkeypatch):
    monkeypatch.setattr(tasks, "queue_states", lambda: None)
    job = make_job([CONFIGS[0].replace(seed=seed) for seed in range(4)])
    job.write_state(1, state("running"))
    job.write_state(2, state("running", silent=timedelta(hours=1)))
    job.write_state(3, state("failed", reason="the data set is not there"))
    view = cli("watch", "--once").out
    assert "2 waiting, 0 running, 0 interrupted, 2 failed, 0 done" in view
    assert re.search(r"ce, seed 0 +not begun", view)
    assert re.search(r"ce, seed 1 +on far", view)
    assert re.search(r"ce, seed 2 +no sign of life from far", view)
    assert re.search(r"ce, seed 3 +the data set is not there", view)


def test_the_newest_result_says_that_a_task_is_over(make_job, make_result, tmp_path, monkeypatch):
    """Two ids have the same settings, for example since the data have changed."""
    monkeypatch.setattr(tasks, "queue_states", lambda: None)
    job = make_job(CONFIGS[:1])
    job.write_state(0, state("running", silent=timedelta(hours=1)))
    config, now = resolve(CONFIGS[0]).config, datetime.now(UTC)
    for number, finished in enumerate((now - timedelta(days=9), now + timedelta(seconds=1))):
        result = make_result("ce").model_copy(
            update={"config": config, "run_id": f"{number:012x}", "provenance": {"finished": finished.isoformat()}}
        )
        Store(tmp_path / "runs").save(result)
    found = RunIndex(tmp_path / "cache", [tmp_path / "runs"], tmp_path / "jobs").look()
    assert (len(found.done), found.failed, found.waiting) == (2, [], [])


def test_what_has_failed_is_known_from_results_and_from_job_folders(make_job, make_result, monkeypatch, tmp_path):
    """A run that is interrupted here has not failed; one whose task was cancelled has."""
    monkeypatch.setattr(launch, "queue_states", lambda: None)
    configs = [CONFIGS[0].replace(seed=seed) for seed in range(6)]
    job = make_job(configs[:4])
    job.write_state(0, state("done"))
    job.write_state(1, state("interrupted", reason="it was stopped"))
    job.write_state(2, state("running", silent=timedelta(hours=1)))
    job.write_state(3, state("requeued"))
    unsubmitted = make_job(configs[5:])
    assert unsubmitted.state(0) is None
    stored = [
        make_result("ce", seed, status=status).model_copy(update={"config": resolve(configs[seed]).config})
        for seed, status in ((4, "failed"), (5, "interrupted"))
    ]
    assert launch.that_failed(configs, tmp_path / "jobs", stored) == [configs[1], configs[2], configs[4]]
    folders = tmp_path / "runs", tmp_path / "data"
    assert launch.not_under_way(configs, tmp_path / "jobs", *folders) == [*configs[:3], *configs[4:]]


def test_what_is_under_way_is_a_run_of_the_same_data_weights_and_folders(make_job, monkeypatch, tmp_path):
    monkeypatch.setattr(launch, "queue_states", lambda: None)
    head = CONFIGS[0].replace(train="head", weights="timm", backbone="resnet18", dataset="folder-lt")
    job = make_job([head])
    job.write_state(0, state("running"))

    def kept(config, out="runs", data="data"):
        return launch.not_under_way([config], tmp_path / "jobs", tmp_path / out, tmp_path / data)

    assert kept(head) == []
    for other in (
        head.replace(weights="hf-hub:me/mine"), head.replace(image_size=64), head.replace(labels="labels.csv"),
    ):  # fmt: skip
        assert kept(other) == [other]
    assert kept(head, out="elsewhere") == [head]
    assert kept(head, data="elsewhere") == [head]


def test_a_script_that_nobody_submitted_takes_no_place_of_what_runs(make_job, monkeypatch, tmp_path):
    monkeypatch.setattr(launch, "queue_states", lambda: None)
    running = make_job(CONFIGS[:1])
    running.write_state(0, state("running"))
    make_job(CONFIGS[:1])
    assert launch.not_under_way(CONFIGS[:1], tmp_path / "jobs", tmp_path / "runs", tmp_path / "data") == []
    (shown,) = tasks.task_states(job_folder.job_folders(tmp_path / "jobs"), None)
    assert (shown.job.path, shown.kind) == (running.path, "running")


def test_a_job_whose_method_or_recipe_is_in_a_file_hinders_nobody(make_job, cli, monkeypatch, tmp_path):
    monkeypatch.setattr(tasks, "queue_states", lambda: None)
    monkeypatch.setattr(launch, "queue_states", lambda: None)
    make_job([RunConfig(method="somebodys"), RunConfig(method="ce", recipe="gone.toml"), CONFIGS[0]])
    view = cli("watch", "--once")
    assert (view.code, "3 waiting" in view.out) == (0, True)
    assert launch.not_under_way(CONFIGS[:1], tmp_path / "jobs", tmp_path / "runs", tmp_path / "data") == CONFIGS[:1]


def test_each_task_is_requeued_as_often_as_its_resources_say(make_job):
    job = make_job(CONFIGS[:2], max_requeues=[0, 5])
    assert JobFolder(job.path).description.max_requeues == [0, 5]
    states = []
    for number in (0, 1):
        job.write_state(number, state("running", attempt=1))
        one = Task(job, number)
        one._requeue = True
        states.append(one._interrupted().state)
    assert states == ["failed", "requeued"]


def test_further_options_of_sbatch_add_up_and_what_is_off_is_left_out(tmp_path, make_job):
    common = 'sbatch = { nice = 100, requeue = false }\n[[resources]]\nmethod = "ce"\nsbatch = { constraint = "a100" }'
    resources = table(tmp_path, common).of(CONFIGS[0])
    assert resources.sbatch == {"nice": 100, "requeue": False, "constraint": "a100"}
    script = slurm.array_script(make_job(), resources, [0])
    assert "--nice=100" in script
    assert "--requeue" not in script


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--launch", "slurm", "--emit-skypilot"), "leave out --launch or --emit-skypilot"),
        (("--launch", "gpus", "--emit-array"), "leave out --launch or --emit-array"),
        (("--labels", "/home/me/labels.csv", "--dataset", "folder-lt", "--emit-skypilot"), "no such table of labels"),
    ],
)
def test_what_an_engine_would_drop_is_refused(cli, words, said):
    done = cli("run", "--method", "ce", *words)
    assert (done.code, said in done.err) == (2, True), done.err


@pytest.mark.slow
def test_a_task_that_is_refused_says_why(make_job, fork_runs):
    fork_runs()
    ended = Task(make_job([CONFIGS[0].replace(dataset="imagenet-lt")]), 0).carry_out()
    assert ended.state == "failed"
    assert "imagenet-lt" in ended.reason.lower() or "ImageNet" in ended.reason


@pytest.mark.slow
def test_a_task_that_is_asked_to_stop_saves_and_goes_on_and_stores_its_run(cli, make_job, fork_runs, tmp_path):
    """Outside of SLURM SIGUSR1 stops it, and the same command resumes; the result is that of an undisturbed run."""
    job = make_job([CONFIGS[0].replace(epochs=20)])
    words = ["task", job.path, 0]
    watcher = multiprocessing.get_context("fork").Process(target=lambda: sys.exit(cli(*words).code))
    watcher.start()
    cache = job.description.cache
    wait_for("a checkpoint", lambda: list(cache.glob("runs/*/heartbeat.json")))
    os.kill(watcher.pid, signal.SIGUSR1)
    watcher.join(60)
    assert watcher.exitcode == 130
    assert job.state(0).state == "requeued"
    assert list(cache.glob("runs/*/checkpoint.pt"))
    fork_runs()
    assert cli(*words).code == 0
    assert (job.state(0).state, job.state(0).attempt) == ("done", 2)
    [path] = (tmp_path / "runs").rglob("*.json")
    assert tomllib.loads(job.settings_file(0).read_text())["epochs"] == 20
    assert read(path).status == "done"
    assert "top-1" in job.log_file(0).read_text()
    assert Task(job, 0).attempt == 3


def test_the_command_refuses_what_is_no_job(cli, tmp_path):
    (tmp_path / "job.json").write_text("{}")
    done = cli("task", ".", 0)
    assert (done.code, "not a job folder" in done.err) == (2, True)
    assert cli("task", "nowhere", 0).code == 2


@pytest.mark.parametrize("option", ["--rerun", "--shard"])
def test_what_would_begin_anew_at_every_requeue_is_refused(cli, option):
    done = cli("run", "--method", "ce", "--emit-array", option)
    assert (done.code, option in done.err) == (2, True)


def test_without_submitit_the_script_is_named(cli, monkeypatch):
    monkeypatch.setattr(slurm, "find_spec", lambda name: None)
    done = cli("run", "--method", "ce", "--launch", "slurm")
    assert done.code == 2
    assert "ltbench[slurm]" in done.err and "--emit-array" in done.err
