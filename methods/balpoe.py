"""BalPoE: a balanced product of calibrated experts."""

import warnings

import numpy as np
import torch
from pydantic import model_validator
from torch import Tensor

from ltbench.errors import LtbenchWarning
from ltbench.method import Choice, Method, MethodConfig, Range, hyperparameter
from ltbench.method.losses import expert_logit_adjusted_cross_entropy


class BalPoE(Method):
    """Experts on a shared trunk, each with a logit-adjusted loss of its own strength tau; their logits averaged.

    Aimar et al. (CVPR 2023). Expert m learns p(x|y) pi^(1 - tau_m); where the taus average to one, the product of
    the experts is unbiased. Mixup keeps each expert calibrated, which that argument needs. The loss is the mean
    over experts (not the sum, as for SADE and RIDE), the experts have full width, and expert logits are used raw.
    """

    class Config(MethodConfig):
        taus: tuple[float | tuple[float, ...], ...] = hyperparameter(
            (0.0, 1.0, 2.0),
            search={"experts": Choice((2, 3, 4, 5)), "spread": Range(0.0, 2.0)},
            min_length=1,
            description="tau of each expert, the strength of its logit adjustment; a number, or one for each class",
        )
        mixup: float = hyperparameter(
            0.4, search=Range(0.0, 1.0), ge=0, description="alpha of mixup's Beta(alpha, alpha); 0 turns it off"
        )
        width: float = hyperparameter(
            1.0, gt=0, le=1, description="width of the experts' stages: 1 as published, or 0.75"
        )

        @model_validator(mode="before")
        @classmethod
        def _expand(cls, values):
            """``experts`` and ``spread`` stand for taus evenly spaced from 1 - spread to 1 + spread."""
            values = dict(values)
            if isinstance(values.get("taus"), int | float):
                values["taus"] = (values["taus"],)  # one expert
            if {"experts", "spread"} & set(values):
                if "taus" in values:
                    raise ValueError("give either taus, or experts and spread")
                values["taus"] = _spaced(values.pop("experts", 3), values.pop("spread", 1.0))
            return values

    family = "experts"
    revision = 1
    taus: Tensor

    def __init__(self, build, prior, config):
        super().__init__(build, prior, config)
        classes = len(prior.counts)
        self.register_buffer("taus", torch.stack([_per_class(tau, classes) for tau in config.taus]))
        mean = self.taus.mean(0)
        if not torch.allclose(mean, torch.ones(classes), atol=1e-4):
            message = f"the taus average to {mean.mean():.4g} and not to one: the combined prediction is biased"
            warnings.warn(message, LtbenchWarning, stacklevel=2)

    def make_network(self, build):
        return build(len(self.config.taus), width=self.config.width, head=self.head)

    @property
    def logit_prior(self):
        mean = self.taus.mean(0)
        return 1.0 - float(mean[0]) if torch.allclose(mean, mean[0]) else None

    def forward(self, batch, progress):
        """The mean over experts of CE(z_m + tau_m log pi, y)."""
        logits = self.network.experts(batch.images)
        return batch.loss(lambda labels: expert_logit_adjusted_cross_entropy(logits, labels, self.log_prior, self.taus))


def _spaced(experts, spread):
    if not isinstance(experts, int) or experts < 1 or not isinstance(spread, int | float) or not 0 <= spread < np.inf:
        raise ValueError(f"experts must be 1, 2, ... and spread at least 0 (got {experts!r} and {spread!r})")
    taus = np.linspace(1 - spread, 1 + spread, experts) if experts > 1 else [1.0]
    return tuple(round(float(tau), 4) for tau in taus)


def _per_class(tau, classes):
    values = torch.tensor(tau, dtype=torch.float32)
    if values.ndim and len(values) != classes:
        raise ValueError(f"a tau has {len(values)} numbers for {classes} classes")
    return values.expand(classes).clone()
