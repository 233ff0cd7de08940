"""A SLURM of the tests' own: two nodes on this machine, ended with them; and runs that tasks start by a fork."""

import multiprocessing
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import warnings
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest

from ltbench import cli
from ltbench.runs.launchers import task

COMMANDS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scontrol", "scancel")
CONF = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmctldPort={ports[0]}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/ctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/ctld.log
SlurmdLogFile={folder}/%n.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
KillWait=10
SchedulerParameters=bf_interval=2,sched_interval=3
NodeName=n[1-2] NodeHostname={host} NodeAddr=127.0.0.1 Port=[{ports[1]}-{ports[2]}] CPUs=2 RealMemory=2000
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def free_ports():
    """A port for the controller, and two neighbours for the nodes."""
    for first in range(20000 + os.getpid() % 10000, 60000, 10):
        with suppress(OSError):
            for port in (first, first + 1, first + 2):
                with socket.socket() as one:
                    one.bind(("127.0.0.1", port))
            return first, first + 1, first + 2
    raise AssertionError("no free ports")


def called(*words):
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, (words, done.stderr)
    return done.stdout


def wait_for(what, condition, seconds=240):
    """Wait until a condition holds; it may take long on a busy machine."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.2)
    raise AssertionError(f"timed out: {what}")


@pytest.fixture(scope="session")
def slurm():
    """Start SLURM; gives its folder. ``SLURM_CONF`` names it to all its commands."""
    missing = [name for name in COMMANDS if shutil.which(name) is None]
    assert not missing, f"apt-get install slurm-wlm munge: {', '.join(missing)}"
    folder = Path("/tmp") / f"ltbench-slurm-{os.getpid()}"
    folder.mkdir(mode=0o755)
    key = folder / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o600)
    for name in ("state", "spool-n1", "spool-n2"):
        (folder / name).mkdir()
    conf = folder / "slurm.conf"
    conf.write_text(CONF.format(folder=folder, host=socket.gethostname(), ports=free_ports()))
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("SLURM_CONF", str(conf))
        try:
            files = [f"--{name}-file={folder}/munge.{name}" for name in ("pid", "log", "seed")]
            called("munged", "--force", f"--key-file={key}", f"--socket={folder}/munge.socket", *files)
            called("slurmctld")
            for node in ("n1", "n2"):
                called("slurmd", "-N", node)
            wait_for("idle nodes", lambda: called("sinfo", "-h", "-o", "%D %t").split() == ["2", "idle"], 60)
            yield folder
        finally:
            subprocess.run(["scancel", "--me"], capture_output=True, check=False)
            with suppress(AssertionError):
                wait_for("the end of all jobs", lambda: not called("squeue", "-h"), 30)
            for name in ("n1", "n2", "ctld", "munge"):
                with suppress(OSError, ValueError):
                    end(int((folder / f"{name}.pid").read_text()))
            shutil.rmtree(folder, ignore_errors=True)


def end(process):
    """End a daemon, and wait for it."""
    os.kill(process, signal.SIGTERM)
    with suppress(OSError):
        for _ in range(50):
            if Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return
            time.sleep(0.1)
        os.kill(process, signal.SIGKILL)


class ForkedRun:
    """What tasks use of ``subprocess.Popen``: ``python -m ltbench`` in a fork, which need not import torch again."""

    def __init__(self, words, *, cwd, env, stdin, stdout, stderr):
        assert words[:3] == [sys.executable, "-m", "ltbench"]
        assert (stdin, stderr) == (subprocess.DEVNULL, subprocess.STDOUT)
        about = (words[3:], cwd, env, stdout.fileno())
        self._process = multiprocessing.get_context("fork").Process(target=called_anew, args=about)
        self._process.start()
        self.pid = self._process.pid

    def poll(self):
        return self._process.exitcode

    def wait(self, timeout=None):
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired("ltbench", timeout)
        return self._process.exitcode

    def terminate(self):
        self._process.terminate()

    def kill(self):
        self._process.kill()


def called_anew(words, folder, environment, log):
    """Be ``ltbench`` as a new process begins: of its parent it has the imported modules and blocked signals alone."""
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for stream in (1, 2):
        os.dup2(log, stream)
    sys.stdout, sys.stderr = (os.fdopen(stream, "w", closefd=False) for stream in (1, 2))
    warnings.resetwarnings()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["ltbench", *words]
    cli.main()


@pytest.fixture
def fork_runs(monkeypatch):
    """Let tasks fork their runs from the call of this on; where their start is not looked at."""
    others = {name: getattr(subprocess, name) for name in ("run", "DEVNULL", "STDOUT", "TimeoutExpired")}
    forking = SimpleNamespace(Popen=ForkedRun, CalledProcessError=subprocess.CalledProcessError, **others)
    return lambda: monkeypatch.setattr(task, "subprocess", forking)
