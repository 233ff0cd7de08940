"""BBN: two branches, with uniform and with reversed sampling, whose weights in the loss shift in training."""

from dataclasses import replace

from pydantic import model_validator

from ltbench.method import Method, MethodConfig, Weighted
from ltbench.method.losses import cross_entropy


class BBN(Method):
    """One branch learns from uniform sampling, the other from rare classes; one loss shifts from head to tail.

    Zhou et al. (CVPR 2020), "bilateral-branch network", equations 1 to 5. With a = 1 - (share of training done)^2 the
    logits are 2 (a z + (1 - a) z'), where z are those of the first branch for an image of uniform sampling, with label
    y, and z' those of the second for an image of reversed sampling (its class drawn by 1 / n_c), with label y'. The
    loss is a CE(., y) + (1 - a) CE(., y'). Prediction is z + z' of one image; as experts the two have twice their
    logits, of which that is the mean.

    The branches share the early stages of the network and own the others, as experts do here, and pass their images one
    after the other. The authors' classifier is one linear layer on the features of both, so whatever the recipe says
    the heads are linear: a cosine head has logits of the same size whatever its features, so that the sum never leaves
    out the branch that is wrong: on digits-lt it errs about whole classes (74 % macro accuracy for a seed, 93 % with
    linear heads).

    Departures: the authors' branches share all but the last block; there is a bias of each branch; the share of
    training grows from step to step and not from epoch to epoch. Mixing is of the first branch's images.
    """

    class Config(MethodConfig):
        @model_validator(mode="after")
        def _refuse_sharpness_by_class(self):
            """Refuse CC-SAM, which would not know the classes of the second branch's images."""
            if self.sam and self.sam_variant == "cc-sam":
                raise ValueError("CC-SAM perturbs the classes of one batch, and BBN has two; leave sam_variant out")
            return self

    family = "experts"
    head = "linear"
    revision = 1

    def make_network(self, build):
        return build(2, head=self.head)

    def samplers(self, labels, stage):
        rare = Weighted(self.prior.counts[labels].double() ** -2)
        return {**super().samplers(labels, stage), "rare": rare}

    def forward(self, batch, progress):
        """The loss a CE(2 (a z + (1 - a) z'), y) + (1 - a) CE(2 (a z + (1 - a) z'), y')."""
        rare = batch.streams["rare"]
        own, other = (self._branch(number, one.images) for number, one in enumerate((batch, rare)))
        early = 1 - progress.stage_fraction.to(own.device) ** 2
        logits = 2 * (early * own + (1 - early) * other)
        later = (1 - early) * cross_entropy(logits, rare.labels)
        loss = batch.loss(lambda labels: early * cross_entropy(logits, labels) + later)
        if batch.sharpness is None:
            return loss
        own_sharp = batch.loss(lambda labels: early * cross_entropy(logits, labels)).sharp
        return replace(loss, sharp=own_sharp + (batch.sharpness[rare.labels] * later).sum())  # y' has its own share

    def experts(self, images):
        """Twice the logits of each branch."""
        return 2 * self.network.experts(images)

    def _branch(self, number, images):
        """The logits of a branch, (B, C)."""
        return self.network.heads[number](self.network.branches[number](self.network.trunk(images)))
