"""Predictions that are too large for memory."""

import pytest
import torch

from ltbench.evaluation.measure import measure, of_images
from ltbench.evaluation.predict import Predictions
from ltbench.files import memmap


@pytest.mark.slow
def test_figures_do_not_depend_on_where_the_tables_lie(stored_run, tmp_path, monkeypatch):
    generator = torch.Generator().manual_seed(0)
    experts = torch.randn(3, 400, 7, generator=generator)
    labels = torch.randint(0, 7, (400,), generator=generator)
    counts = [500, 200, 100, 50, 20, 10, 5]
    data = stored_run(experts.mean(0), labels, counts).result.data
    path = tmp_path / "test.npz"
    Predictions(experts.mean(0), experts, labels).save(path, run_id="1")

    def figures():
        found = Predictions.load(path)
        assert found.about == {"run_id": "1"}
        assert torch.equal(found.experts, experts)
        about = of_images(found, data, logit_prior=0.5, transductive=False)
        return measure(found.logits, found.labels, found.experts, data.groups, 1.3), about["shift"]

    expected = figures()
    monkeypatch.setattr(memmap, "IN_MEMORY", 0)
    assert figures() == expected
