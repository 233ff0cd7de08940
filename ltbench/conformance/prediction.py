"""Checks of prediction: shapes, independence of other images, no side effects."""

import torch

from ltbench.config import RunConfig
from ltbench.conformance.checks import check
from ltbench.conformance.tiny_task import COUNTS, Subject, assert_equal, state


@check
def predictions_have_the_right_shape(subject: Subject) -> None:
    """(B, C), finite, also for one image, and independent of the images beside it."""
    method = subject.trained_method()
    images = next(subject.test.eval_batches()).images
    with torch.no_grad():
        logits, experts = method.predict(images), method.experts(images)
        alone = method.predict(images[:1])
    classes = len(COUNTS)
    assert logits.shape == (len(images), classes), f"predict gives {tuple(logits.shape)}, not (B, C)"
    assert experts.ndim == 3, f"experts gives {tuple(experts.shape)}, not (M, B, C)"
    assert experts.shape[1:] == logits.shape, f"experts gives {tuple(experts.shape)}, not (M, B, C)"
    assert bool(logits.isfinite().all()), "predict gives numbers that are not finite"
    assert torch.allclose(alone, logits[:1], atol=1e-3), "a prediction depends on the images beside it"


@check
def training_does_not_unlearn(subject: Subject) -> None:
    """After training, the mean accuracy over the classes of the training images is not far below chance.

    That of a loss with the wrong sign is. The task is so short that little more can be asked, and nothing of a method
    that starts from other runs, which are untrained here.
    """
    if subject.cls.uses(RunConfig(hyperparameters=subject.cls.Config().model_dump(mode="json"))):
        return
    method = subject.trained_method()
    with torch.no_grad():
        found = [method.predict(batch.images).argmax(1) for batch in subject.train.eval_batches()]
    right = (torch.cat(found).cpu() == subject.train.labels.cpu()).double()
    by_class = [right[subject.train.labels.cpu() == label].mean().item() for label in range(len(COUNTS))]
    macro, chance = sum(by_class) / len(COUNTS), 1 / len(COUNTS)
    assert macro >= chance / 2, (
        f"after training, {macro:.0%} of the training images are right, mean over classes; guessing has {chance:.0%}: "
        "the loss may have the wrong sign"
    )


@check
def predicting_changes_nothing(subject: Subject) -> None:
    """Evaluation leaves parameters and buffers alone."""
    method = subject.trained_method()
    before = state(method)
    with torch.no_grad():
        method.predict(next(subject.test.eval_batches()).images)
    assert_equal(before, state(method), "predict changes the method's state")
