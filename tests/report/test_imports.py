"""What a report imports, and what it can do without: libraries that take longer than the report itself."""

import subprocess
import sys
import textwrap

import pytest


@pytest.mark.slow
def test_reports_do_not_import_what_takes_longest():
    """All in one process, so that the test is quick; after each step it is said what has been imported until then."""
    text = """
        import sys

        def tell(step, *heavy):
            print(step, sorted({"torch", "matplotlib.pyplot", *heavy} & sys.modules.keys()))

        from ltbench.registry import declared
        declared.hyperparameter_defaults("sade", "digits-lt", 20.0)
        declared.data_set("cifar10-lt")
        tell("declared", "scipy.stats")
        import ltbench.report.plain_text, ltbench.report.contents
        tell("tables", "scipy.stats")
        import ltbench.report.svg, ltbench.report.find
        tell("svg, find")
        import ltbench.report.page.page
        tell("page")
        import ltbench.report.figures.tuning as tuning
        space = {"mixup": {"low": 0.0, "high": 1.0, "log": False}}
        trials = [{"number": n, "params": {"mixup": n / 9}, "macro": float(n), "ece": 0.0} for n in range(9)]
        assert tuning.importance(tuning.Search("one", "", space, trials)) == {"mixup": 100.0}
        tell("figures")
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(text)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["declared []", "tables []", "svg, find []", "page []", "figures []"]
