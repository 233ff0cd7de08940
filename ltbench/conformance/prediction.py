"""Checks of prediction: shapes, independence of other images, no side effects."""

import torch

from ltbench.conformance.suite import check
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
def predicting_changes_nothing(subject: Subject) -> None:
    """Evaluation leaves parameters and buffers alone."""
    method = subject.trained_method()
    before = state(method)
    with torch.no_grad():
        method.predict(next(subject.test.eval_batches()).images)
    assert_equal(before, state(method), "predict changes the method's state")
