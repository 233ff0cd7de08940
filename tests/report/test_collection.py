"""The results of some folders, read once."""

import pytest

from ltbench.errors import LtbenchError
from ltbench.report.collection import collect, of_methods
from ltbench.results.store import Store


def test_the_runs_of_some_methods(tmp_path, make_result):
    for method in ("ce", "balpoe", "sade"):
        Store(tmp_path).save(make_result(method))
    (tmp_path / "damaged.json").write_text("{")
    stored = collect([tmp_path])
    some = of_methods(stored, ["ce", "sade"])
    assert {result.config.method for result in some.results.values()} == {"ce", "sade"}
    assert set(some.paths) == set(some.results)
    assert some.problems == stored.problems != []
    assert of_methods(stored, []) == stored
    with pytest.raises(LtbenchError, match=r"unknown method 'balpo'(?s:.*)did you mean balpoe"):
        of_methods(stored, ["balpo"])
