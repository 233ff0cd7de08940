"""What the README shows is what a user gets."""

import re
import shlex
from pathlib import Path

import pytest

from ltbench import cli, conformance, registry
from ltbench.config import RunConfig
from ltbench.runs.options import RunOptions
from ltbench.runs.run import run

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


@pytest.fixture
def example(tmp_path):
    """The method file of the README, as a user would save it."""
    code = re.search(r"```python\n# my_methods/(\w+)\.py\n(.*?)```", README, re.DOTALL)
    file = tmp_path / f"{code[1]}.py"
    file.write_text(code[2])
    name = registry.add_method_file(file)
    yield name
    registry._from_folders.pop(name)


def test_the_example_is_as_short_as_we_say(example):
    code = registry._from_folders[example].read_text()
    assert len([line for line in code.splitlines() if line.strip()]) <= 20


@pytest.mark.slow
def test_the_example_conforms(example):
    outcomes = list(conformance.run(registry.method(example)))
    assert [outcome for outcome in outcomes if not outcome.passed] == []


@pytest.mark.slow
def test_the_example_is_the_poly_loss(example, tmp_path):
    options = RunOptions(out=tmp_path / "results")
    epsilon = lambda value: RunConfig(method=example, epochs=2, hyperparameters={"epsilon": value})  # noqa: E731
    poly, plain = run(epsilon(1.0), options), run(epsilon(0.0), options)
    ce = run(RunConfig(method="ce", epochs=2), options)
    assert plain.metrics["test"].nll == pytest.approx(ce.metrics["test"].nll, rel=1e-3), "epsilon = 0 is cross entropy"
    assert poly.curve[0].loss > plain.curve[0].loss


@pytest.mark.slow
def test_the_leaderboard_is_the_one_of_the_stored_runs(cli, monkeypatch):
    shown = re.search(r"<!-- leaderboard -->\n\n(.*?)\n<!-- /leaderboard -->", README, re.DOTALL)[1]
    command = re.search(r"`ltbench (report --results [^`]+)` prints", README.replace("\n", " "))[1]
    monkeypatch.chdir(ROOT)
    assert shown == cli(*shlex.split(command)).out


@pytest.mark.slow
def test_all_leaderboards_are_those_of_the_stored_runs(cli, monkeypatch):
    page = (ROOT / "results" / "LEADERBOARD.md").read_text()
    monkeypatch.chdir(ROOT)
    assert page == cli(*shlex.split(re.search(r"Made by `ltbench ([^`]+)`", page)[1])).out


@pytest.mark.parametrize("command", re.findall(r"^    (ltbench .*?)(?:  +#.*)?$", README, re.MULTILINE))
def test_every_command_parses(command, monkeypatch):
    from typer.main import get_command

    words = command.split()[1:]
    for part in " ".join(words).split(" && ltbench "):
        context = get_command(cli.app).make_context("ltbench", part.split(), resilient_parsing=False)
        name, sub, rest = context.command.resolve_command(context, context._protected_args + context.args)
        sub.make_context(name, rest, parent=context)
