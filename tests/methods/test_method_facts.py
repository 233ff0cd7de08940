"""Every method's paper, claims, recipes, defaults and search space are as written down in ``golden/method_facts.json``.

``python -m tests.methods.facts`` writes the file anew, for a change that is meant.
"""

import json

import pytest

from ltbench import registry
from tests.methods import facts

GOLDEN = json.loads(facts.FILE.read_text())


@pytest.mark.slow
@pytest.mark.parametrize("name", registry.method_names())
def test_what_is_said_about_a_method_is_as_written_down(name):
    found = facts.facts(name)
    assert found.keys() == GOLDEN[name].keys()
    for fact, want in GOLDEN[name].items():
        assert found[fact] == want, fact


def test_every_method_written_down_is_there():
    assert set(GOLDEN) == set(registry.method_names())
