"""RIDE: diverse experts that are re-weighted late."""

import torch
from torch import Tensor

from ltbench.method import ClassPrior, Method, MethodConfig, Range, base_run, deferred, hyperparameter
from ltbench.method.losses import effective_number_weights, ldam_cross_entropy, ldam_margins
from ltbench.models.experts import ExpertNetwork

TEACHER_EXPERTS = 6
DISTILL_TEMPERATURE = 1.5


class RIDE(Method):
    """Experts on a shared trunk with the LDAM loss, pushed away from their mean; re-weighted in the last fifth.

    Wang et al. (ICLR 2021). Expert m adds diversity * T^2 KL(mean || expert m) to its own LDAM loss, no gradient
    through the mean; a negative factor pushes experts apart. From four fifths of training on, the LDAM loss is weighted
    by effective numbers, and in the diversity term the logits of rare classes have a lower temperature. Losses are
    summed over experts. The margins need the cosine head. Optionally the mean of the experts learns from a trained run
    with six experts.

    Departures: without the router of the second stage, which saves work and not errors; the prediction is the mean
    of all experts. ``diversity=0`` only leaves the term out; the published code then also trains the mean of the
    experts. Distillation is that of the published code: the mean of the experts' logits learns from the teacher, and
    the whole loss is multiplied by the number of experts, because the code adds it up once for each expert. The text
    of the paper was not at hand. Our teacher is in evaluation mode, and trained with this run's settings, as the
    published one for CIFAR is.
    """

    class Config(MethodConfig):
        experts: int = hyperparameter(3, ge=2, le=8, description="number of experts")
        width: float = hyperparameter(
            0.75, gt=0, le=1, description="width of the experts' stages: 0.75 as published, or 1"
        )
        diversity: float = hyperparameter(
            -0.45,
            search=Range(-0.6, 0.0),
            description="factor of the KL divergence from the mean of the experts; a negative one pushes experts apart",
        )
        reweight: float = hyperparameter(
            0.05,
            search=Range(0.0, 0.1),
            ge=0,
            lt=1,
            description="eta: how far temperatures follow class frequencies in the re-weighted last fifth of training",
        )
        distill: bool = hyperparameter(False, description="whether the experts learn from a run with six experts")

    family = "experts"
    revision = 1
    logit_prior = None  # not known: margins and weights both lean towards the tail
    couples_batch = True  # two means over a batch, of different weights, are added once it is re-weighted
    gathers_across_processes = True
    head = "cosine"
    margins: Tensor
    class_weights: Tensor
    temperatures: Tensor

    def __init__(self, build, prior, config):
        super().__init__(build, prior, config)
        self.register_buffer("margins", ldam_margins(prior.counts))
        self.register_buffer("class_weights", torch.ones(len(prior.counts)))
        self.register_buffer("temperatures", torch.ones(len(prior.counts)))
        self.teacher: ExpertNetwork | None = None
        if config.distill:
            self.teacher = build(TEACHER_EXPERTS, width=config.width, head=self.head).requires_grad_(False).eval()

    def make_network(self, build):
        return build(self.config.experts, width=self.config.width, head=self.head)

    @classmethod
    def uses(cls, run):
        """The teacher: the same run with six experts, without distillation."""
        own = run.hyperparameters
        if not own.get("distill"):
            return {}
        return {"teacher": base_run(run, "ride", **{**own, "experts": TEACHER_EXPERTS, "distill": False})}

    def start_from(self, runs):
        if self.teacher is not None:
            self.teacher.load_state_dict(runs["teacher"].network.state_dict())

    def stages(self, recipe):
        return deferred(recipe)

    def begin(self, stage, data):
        """Switch re-weighting on."""
        if stage.name == "deferred":
            self.class_weights.copy_(effective_number_weights(self.prior.counts, 0.9999))
            self.temperatures.copy_(class_temperatures(self.prior, self.config.reweight))

    def forward(self, batch, progress):
        """The sum over experts of LDAM and diversity, and the distillation of their mean."""
        logits = self.network.experts(batch.images).float()
        experts = logits.unbind()
        own = batch.loss(
            lambda labels: torch.stack([ldam_cross_entropy(expert, labels, self.margins) for expert in experts]).sum(0),
            self.class_weights,
        )
        # The published means differ: LDAM's by the sum of the class weights, the others' by the number of images.
        extra = self.config.diversity * diversity(logits, self.temperatures).mean()
        if self.teacher is not None:
            with torch.no_grad():
                target = self.teacher(batch.images).float()
            extra = extra + divergences(target, logits.mean(0), DISTILL_TEMPERATURE).mean()
        everyone = progress.gather(torch.as_tensor(own.weight).view(1)).sum()
        share = len(batch.labels) / len(progress.gather(batch.labels))
        factor = 1 if self.teacher is None else len(experts)
        return own.plus(everyone * share * extra).times(factor)


def class_temperatures(prior: ClassPrior, reweight: float) -> Tensor:
    """Temperatures that grow with the class frequencies, C pi_c eta + 1 - eta, the largest of them one.

    Args:
        prior: class frequencies.
        reweight: eta; with 0 all are one.

    Returns:
        (C,) float32.
    """
    temperatures = len(prior.counts) * prior.probabilities * reweight + 1 - reweight
    return temperatures / temperatures.max()


def diversity(logits: Tensor, temperatures: Tensor) -> Tensor:
    """How far the experts are from their mean: T^2 KL(mean || expert), summed over experts, T the mean temperature.

    Args:
        logits: (M, B, C).
        temperatures: (C,) that divide the logits.

    Returns:
        (B,) in nats; gradients flow into the experts and not through the mean.
    """
    return divergences(logits.detach().mean(0), logits, temperatures).sum(0)


def divergences(target: Tensor, logits: Tensor, temperatures: Tensor | float) -> Tensor:
    """T^2 KL(target || expert) of softened distributions.

    Args:
        target: (B, C) logits.
        logits: (M, B, C) of the experts, or (B, C) of their mean.
        temperatures: one, or (C,); T is their mean.

    Returns:
        (M, B) or (B,) in nats.
    """
    if not isinstance(temperatures, Tensor):
        temperatures = logits.new_full((), temperatures)  # filled, not copied: a CUDA graph records no copy
    log_p = (target / temperatures).log_softmax(-1)
    log_q = (logits / temperatures).log_softmax(-1)
    return temperatures.mean().square() * (log_p.exp() * (log_p - log_q)).sum(-1)
