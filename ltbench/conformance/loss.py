"""Checks of the loss of one batch: finite, a sum over images, its gradients, with mixup, compiled."""

from dataclasses import replace

import torch

from ltbench import rng
from ltbench.conformance.checks import check
from ltbench.conformance.tiny_task import COUNTS, Subject
from ltbench.method import Method
from ltbench.training.micro_batches import select


@check
def its_loss_is_finite(subject: Subject) -> None:
    """In every stage the loss is a finite scalar of positive weight."""
    method = subject.make()
    for stage in subject.stages(method):
        subject.begin(method, stage)
        loss = method(*subject.batch(method, stage))
        assert loss.total.ndim == 0, f"Loss.total must be a scalar, got shape {tuple(loss.total.shape)}"
        assert bool(torch.as_tensor(loss.weight) > 0), "Loss.weight must be positive"
        assert bool(loss.mean.isfinite()), f"the loss of stage '{stage.name}' is {loss.mean.item()}"


@check
def the_parts_of_a_batch_add_up(subject: Subject) -> None:
    """Sums and weights of unequal micro-batches are those of the whole, unless the loss couples images and says so.

    Gradient accumulation and several processes rest on that. Batch norm couples images by itself and is put aside.
    """
    if subject.cls.couples_batch:
        return
    method = subject.make()
    for stage in subject.stages(method):
        subject.begin(method, stage)
        method.eval()
        batch, progress = subject.batch(method, stage)
        whole = method(batch, progress)
        losses = [method(select(batch, which), progress) for which in (slice(0, 5), slice(5, None))]
        for name in ("total", "weight"):
            added = sum(torch.as_tensor(getattr(loss, name)) for loss in losses)
            message = (
                f"Loss.{name} of stage '{stage.name}' is not the sum over parts of a batch; say couples_batch = True"
            )
            assert torch.allclose(torch.as_tensor(added), torch.as_tensor(getattr(whole, name)), rtol=1e-5), message


@check
def gradients_reach_every_parameter_that_trains(subject: Subject) -> None:
    """In each stage, gradients reach the parameters that the stage trains."""
    method = subject.make()
    for stage in subject.stages(method):
        subject.begin(method, stage)
        method.zero_grad(set_to_none=True)
        method(*subject.batch(method, stage)).mean.backward()
        for name, weight in method.named_parameters():
            if weight.requires_grad and name.startswith(stage.trains):
                assert weight.grad is not None, f"no gradient reaches {name} in stage '{stage.name}'"


@check
def it_trains_with_and_without_mixup(subject: Subject) -> None:
    """Mixup is a setting of every method: with it, the loss depends on the labels of both images."""
    for alpha in (0.0, 0.5):
        for number in range(len(subject.stages(subject.make()))):
            losses = []
            for other in (0, 1):  # each on a method of its own, since a forward pass may fill queues
                method = subject.make(mixup=alpha)
                for stage in subject.stages(method)[: number + 1]:
                    subject.begin(method, stage)
                _jitter(method)  # a classifier that starts at zero gives every label the same loss
                batch, progress = subject.batch(method, stage)
                if other and (batch.mixed_labels is None or batch.weight is None):
                    break
                if batch.mixed_labels is not None:
                    batch = replace(batch, mixed_labels=(batch.mixed_labels + other) % len(COUNTS))
                with rng.global_stream(0, "forward"):  # of dropout and the like, the same draws
                    losses.append(method(batch, progress).mean)
                assert bool(losses[-1].isfinite()), f"the loss with mixup={alpha} is {losses[-1].item()}"
            assert len(losses) == 1 or not torch.equal(*losses), (
                f"with mixup={alpha} the loss does not depend on Batch.mixed_labels; Batch.loss takes both labels"
            )


def _jitter(method: Method) -> None:
    """Move all parameters a little, each time alike."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in method.parameters():
            weight.add_(0.05 * torch.randn(weight.shape, generator=generator).to(weight))


@check
def its_step_compiles_whole(subject: Subject) -> None:
    """A step compiles and is the same work every time, so that it can be recorded; or ``compiles = False`` says not."""
    if not subject.cls.compiles:
        return
    method = subject.make()
    for stage in subject.stages(method):
        subject.begin(method, stage)
        batch, progress = subject.batch(method, stage)
        torch.compiler.reset()
        compiled = torch.compile(method, fullgraph=True, backend="eager", dynamic=False)
        torch.testing.assert_close(compiled(batch, progress).mean, method(batch, progress).mean)
        with torch.no_grad():
            method.after_step(progress)
        later = replace(
            progress, epoch=progress.epoch + 1, step=progress.step + 1, stage_fraction=progress.stage_fraction + 0.5
        )
        try:
            with torch._dynamo.config.patch(error_on_recompile=True):
                compiled(batch, later)
        except torch._dynamo.exc.RecompileError as error:
            reason = str(error).strip().splitlines()[-1].strip()
            raise AssertionError(
                f"forward depends on more than tensors, and changes from step to step: {reason}"
            ) from None
