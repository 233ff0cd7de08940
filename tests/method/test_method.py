"""What method files are made of: stages, samplers, shared losses, runs to start from."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ltbench.config import Recipe, RunConfig
from ltbench.method import Batch, base_run, class_balanced, deferred
from ltbench.training.schedule import plan, recipe_lr


@given(st.integers(1, 400), st.floats(0, 1))
def test_deferred_stages_share_the_epochs_and_the_schedule(epochs, share):
    recipe = Recipe(epochs=epochs)
    planned = plan(deferred(recipe, share), recipe)
    assert [lr for stage in planned for lr in stage.lrs] == [recipe_lr(recipe, epoch) for epoch in range(epochs)]
    assert len(planned) <= 2
    assert [stage.stage.name for stage in planned] == ["train", "deferred"][: len(planned)]


def test_deferred_reweighting_begins_at_epoch_160_of_200():
    first, second = plan(deferred(Recipe(epochs=200)), Recipe(epochs=200))
    assert (first.epochs, second.epochs) == (160, 40)


def test_class_balanced_sampling_draws_each_class_alike():
    labels = torch.repeat_interleave(torch.arange(3), torch.tensor([9000, 900, 100]))
    drawn = labels[class_balanced(labels)(np.random.default_rng(0))]
    assert len(drawn) == len(labels)
    shares = torch.bincount(drawn) / len(drawn)
    assert shares.numpy() == pytest.approx([1 / 3] * 3, abs=0.02)  # standard deviation .0047


def test_a_weighted_loss_by_hand():
    # Losses = label + 1; classes weigh 1 and 3. Sum 1*1 + 3*2 = 7 over 1 + 3 = 4.
    batch = Batch((torch.zeros(2, 1, 1, 1),), torch.arange(2), torch.tensor([0, 1]))
    weights = torch.tensor([1.0, 3.0])
    loss = batch.loss(lambda labels: labels + 1.0, weights)
    assert (loss.total.item(), loss.mean.item()) == (7.0, 7 / 4)
    # A quarter of the first label and three of the second: 1/4 * 1 + 3/4 * 6 and 1/4 * 6 + 3/4 * 1, over the same mix
    # of weights: 1/4 * 1 + 3/4 * 3 and 1/4 * 3 + 3/4 * 1.
    batch.mixed_labels, batch.weight = torch.tensor([1, 0]), torch.tensor(0.25)
    loss = batch.loss(lambda labels: labels + 1.0, weights)
    assert (loss.total.item(), float(loss.weight)) == (4.75 + 2.25, 2.5 + 1.5)


def test_weights_of_one_change_nothing():
    batch = Batch((torch.zeros(3, 1, 1, 1),), torch.arange(3), torch.tensor([0, 1, 1]))
    plain, weighted = batch.loss(torch.Tensor.float), batch.loss(torch.Tensor.float, torch.ones(2))
    assert plain.mean == weighted.mean


def test_a_base_run_shares_everything_but_the_methods_own_settings():
    run = RunConfig(method="crt", seed=3, epochs=7, hyperparameters={"mixup": 0.2, "cmo": 0.5, "epochs": 10})
    assert base_run(run, "ce") == run.replace(method="ce", hyperparameters={"mixup": 0.2, "cmo": 0.5})
    assert base_run(run, "ride", mixup=0.0, experts=6).hyperparameters == {"mixup": 0.0, "cmo": 0.5, "experts": 6}
