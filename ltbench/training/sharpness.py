"""Sharpness-aware minimization: the gradient is taken where the loss is higher nearby. Settings of every method.

SAM (Foret et al., ICLR 2021) minimises the largest loss within a radius rho of the weights w. To first order that is
L(w + e) with e = rho g / |g|, where g is the gradient of L at w and |g| its norm over all weights that train. A step
therefore takes two passes over a batch, one for e and one for the gradient at w + e, which the optimiser then applies
to w. Rangwani et al. (NeurIPS 2022): in long-tailed training this escapes the saddle points of rare classes.

Three variants treat classes differently. With L_c the part of the loss that is of class c:

- ImbSAM (Zhou et al., ICCV 2023): SAM for the tail, the usual gradient for all other classes. With T the sum of L_c
  over the tail, the gradient of L - T at w plus that of T at w + rho g / |g|, g of T alone.
- Focal-SAM (Li et al., ICML 2025): the same with T the sum of s_c L_c, s_c = lambda (1 - pi_c)^gamma, where pi_c is the
  frequency of class c. SAM is lambda = 1 and gamma = 0; ImbSAM has s_c = 1 in the tail and 0 elsewhere.
- CC-SAM (Zhou et al., CVPR 2023): the classifier alone is perturbed, for each class of a batch on its own: with W its P
  weights and n_c the class's training images, e_c = rho (P |W|^2 / (4 |g_c|^2 (n_c - 1)))^(1/4) g_c / |g_c| in each of
  its tensors, g_c the gradient of the mean loss of the batch's images of the class. The gradient is that of
  (1 - lambda) L at w plus lambda L_c at w + e_c, summed over classes.

What holds for all of them:

- A batch is one batch: g is the gradient of the mean loss of all its images, those of all micro-batches and processes
  together, so that neither ``--accumulate`` nor the number of processes is a setting. The paper's code on several
  accelerators perturbs each by its own gradient unless told otherwise.
- All passes are of one function of the weights: the images are those that were drawn and mixed once, dropout and
  stochastic depth draw the same masks, and batch norm's running statistics and all other buffers of a method start
  every pass as they were. They are left as the first pass, at w, has made them. The paper's code does so, too; those of
  Rangwani et al., of ImbSAM and of Focal-SAM update running statistics in every pass, with new masks.
- Weight decay is no part of g, as in the PyTorch codes; momentum, schedules and ``after_step`` see one step.
- All stages that train on labelled images are sharpness-aware, and the runs that a method starts from. Weights are
  perturbed that the stage trains. Adaptation to unlabelled test images is not.

Departures: mixed images count for both of their classes, each with its share of the weight. A term of a loss that is
of no class (RIDE's diversity) is not perturbed by the variants. The ImbSAM code also doubles the loss of the tail,
which is another loss and no matter of the optimiser. In the CC-SAM code the classifier is unperturbed when features get
their gradient, and mixed images have one hard label in L_c; its second stage is not part of this setting. n_c - 1 is at
least 1.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor

from ltbench.errors import LtbenchError
from ltbench.method import Batch, Loss, Method, MethodConfig, Progress
from ltbench.training.distributed.sharding import is_sharded, local_shard
from ltbench.training.gradient import Gradient

TINY = 1e-12
"""Added to norms that are divided by, as in the published codes."""


def class_shares(config: MethodConfig, counts: Tensor) -> Tensor | None:
    """The share of each class's loss that is sharpness-aware, (C,) float64; None where that is the whole loss.

    Args:
        config: settings of the method; sharpness-aware.
        counts: (C,) training images of each class.

    Raises:
        LtbenchError: if no class belongs to the tail.
    """
    counts = counts.double()
    match config.sam_variant:
        case "imbsam":
            assert config.sam_tail is not None
            tail = counts < config.sam_tail
            if not tail.any():
                raise LtbenchError(
                    f"no class has fewer than {config.sam_tail} training images; the smallest has {int(counts.min())}",
                    where="--set sam_tail",
                    hint="set a larger sam_tail, or leave sam_variant out, which is SAM for all classes",
                )
            return tail.double()
        case "focal-sam":
            assert config.sam_share is not None
            assert config.sam_gamma is not None
            return config.sam_share * (1 - counts / counts.sum()) ** config.sam_gamma
        case "cc-sam":
            assert config.sam_share is not None
            return torch.full_like(counts, config.sam_share)
        case _:
            return None


def sharpness_aware(gradient: Gradient) -> "Gradient | SharpnessAwareGradient":
    """The gradient as the method's settings want it: sharpness-aware if ``sam`` is on, else as it is.

    Raises:
        LtbenchError: as ``class_shares``.
    """
    config, method = gradient.method.config, gradient.method
    if not config.sam:
        return gradient
    kinds = {"imbsam": ClassSharesGradient, "focal-sam": ClassSharesGradient, "cc-sam": ClassConditionalGradient}
    shares = class_shares(config, method.prior.counts)
    if shares is None:
        return SharpnessAwareGradient(gradient, config.sam)
    return kinds[config.sam_variant](gradient, config.sam, shares.to(method.log_prior))


class SharpnessAwareGradient:
    """SAM's gradient: leaves in the parameters the one of the mean loss at w + e, and the parameters as they were.

    Args:
        gradient: of one pass, be it in one piece or summed over micro-batches and processes.
        rho: radius.
    """

    def __init__(self, gradient: Gradient, rho: float) -> None:
        self.gradient, self.rho = gradient, rho
        self.random = False
        """Whether a pass has drawn from the device's generator, as dropout does."""

    @property
    def method(self) -> Method:
        """The method that is trained."""
        return self.gradient.method

    @property
    def forward(self) -> Callable[[Batch, Progress], Loss]:
        """The method, or what torch.compile has made of it."""
        return self.gradient.forward

    @forward.setter
    def forward(self, forward: Callable[[Batch, Progress], Loss]) -> None:
        self.gradient.forward = forward

    def __call__(self, batch: Batch, progress: Progress, size: int) -> tuple[Tensor, Tensor | float]:
        """Compute the gradient; see ``Gradient``. The loss is that at w.

        Raises:
            LtbenchError: if the variant needs the loss of each class and the method does not give it.
            RuntimeError: while a CUDA graph is recorded, if the step cannot be.
        """
        with self._passes(batch.labels.device) as begin_pass:
            begin_pass()
            found = self.gradient(batch, progress, size)
            begin_pass()
            with perturbed(self._ascent()):
                self.gradient(batch, progress, size)
        return found

    def _weights(self) -> list[Tensor]:
        """What the stage trains; looked up anew, since sharding puts others in their place."""
        return [weight for group in self.gradient.optimiser.param_groups for weight in group["params"]]

    def _kept(self) -> list[tuple[Tensor, Tensor]]:
        """The weights with their gradients, which the next pass leaves alone."""
        return [(weight, weight.grad) for weight in self._weights() if weight.grad is not None]

    def _ascent(self) -> list[tuple[Tensor, Tensor]]:
        """The weights and e, from the gradients that they have."""
        kept = self._kept()
        gradients = [local_shard(gradient) for _, gradient in kept]
        scaled = torch._foreach_mul(gradients, self.rho / (self._norm(kept) + TINY))
        return [(local_shard(weight), e) for (weight, _), e in zip(kept, scaled, strict=True)]

    def _norm(self, kept: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
        """The norm of all gradients together; of sharded ones over all processes."""
        norms = torch.stack(torch._foreach_norm([local_shard(gradient) for _, gradient in kept]))
        if self.gradient.options.shard:  # whose steps are not recorded, as a copy to the GPU could not be
            divided = torch.tensor([is_sharded(weight) for weight, _ in kept], device=norms.device)
            squares = norms.square()
            others = (squares * divided).sum()
            self.gradient.options.group.all_reduce([others])
            return (squares[~divided].sum() + others).sqrt()
        norm: Tensor = torch.linalg.vector_norm(norms)
        return norm

    @contextmanager
    def _passes(self, device: torch.device) -> Iterator[Callable[[], None]]:
        """Let several passes be of one function; gives what is to be called before each.

        The method's buffers and the global generators start every pass as they were before the first, and the buffers
        are left as the first pass has made them.
        """
        buffers = list(self.method.buffers())
        before = [buffer.clone() for buffer in buffers]
        generators = None if _is_recorded(device) else _generator_states(device)
        after: list[Tensor] = []
        passes = 0

        def begin_pass() -> None:
            nonlocal passes, after
            passes += 1
            if passes == 1:
                return
            if passes == 2:
                after = [buffer.clone() for buffer in buffers]
                self._look_at_draws(generators, device)
            _copy(buffers, before)
            if generators is not None:
                _set_generator_states(device, generators)

        try:
            yield begin_pass
        finally:
            if after:
                _copy(buffers, after)

    def _look_at_draws(self, before: list[Tensor] | None, device: torch.device) -> None:
        """Note whether the first pass has drawn from the generators, which a recorded step cannot turn back."""
        if before is not None:
            drawn = (not torch.equal(*pair) for pair in zip(before, _generator_states(device), strict=True))
            self.random = self.random or any(drawn)
        elif self.random:
            raise RuntimeError("every pass of a sharpness-aware step needs the same random draws")


class ClassSharesGradient(SharpnessAwareGradient):
    """The gradient of ImbSAM and Focal-SAM: a share of each class's loss is sharpness-aware, the rest is not.

    Args:
        gradient: of one pass.
        rho: radius.
        shares: (C,) of each class.
    """

    def __init__(self, gradient: Gradient, rho: float, shares: Tensor) -> None:
        super().__init__(gradient, rho)
        self.shares = shares

    def __call__(self, batch: Batch, progress: Progress, size: int) -> tuple[Tensor, Tensor | float]:
        """Compute the gradient; see ``SharpnessAwareGradient``."""
        batch = replace(batch, sharpness=self.shares)
        with self._passes(batch.labels.device) as begin_pass:
            begin_pass()
            found = self.gradient(batch, progress, size, self._rest)
            rest = self._kept()
            begin_pass()
            self.gradient(batch, progress, size, self._sharp)
            begin_pass()
            with perturbed(self._ascent()):
                self.gradient(batch, progress, size, self._sharp)
        _add_gradients(rest)
        return found

    def _sharp(self, loss: Loss) -> Tensor:
        """The part of a loss that is sharpness-aware."""
        if loss.sharp is None:
            raise LtbenchError(
                f"the loss of {type(self.method).__name__} is not made of one value a sample",
                where=f"--set sam_variant={self.method.config.sam_variant}",
                hint="let its forward return what batch.loss gives; or leave sam_variant out, which is SAM",
            )
        return loss.sharp

    def _rest(self, loss: Loss) -> Tensor:
        return loss.total - self._sharp(loss)


class ClassConditionalGradient(ClassSharesGradient):
    """CC-SAM's gradient: for each class of the batch, the classifier is perturbed on its own.

    A step takes one pass, and two for each class that the batch has.
    """

    def __call__(self, batch: Batch, progress: Progress, size: int) -> tuple[Tensor, Tensor | float]:
        """Compute the gradient; see ``SharpnessAwareGradient``."""
        device = batch.labels.device
        if _is_recorded(device):
            raise RuntimeError("the passes of a step depend on the classes of its batch")
        images = self._images_of_classes(batch)
        with self._passes(device) as begin_pass:
            begin_pass()
            found = self.gradient(replace(batch, sharpness=self.shares), progress, size, self._rest)
            summed = self._kept()
            for c in images.nonzero().flatten().tolist():
                only = torch.zeros_like(self.shares)
                only[c] = self.shares[c]
                begin_pass()
                self.gradient(replace(batch, sharpness=only), progress, size, self._sharp)
                e = self._ascent_of_classifier(c, found[1] / (images[c] * self.shares[c]))
                begin_pass()
                with perturbed(e):
                    self.gradient(replace(batch, sharpness=only), progress, size, self._sharp)
                _add_gradients(summed)
                summed = self._kept()
        return found

    def _images_of_classes(self, batch: Batch) -> Tensor:
        """(C,) images of each class in the batch of all processes; mixed ones with their weight."""
        images = torch.zeros_like(self.shares)
        weight = images.new_ones(()) if batch.weight is None else batch.weight.to(images)
        images.index_add_(0, batch.labels, weight.expand(len(batch.labels)))
        if batch.mixed_labels is not None:
            images.index_add_(0, batch.mixed_labels, (1 - weight).expand(len(batch.labels)))
        self.gradient.options.group.all_reduce([images])
        return images

    def _ascent_of_classifier(self, c: int, to_mean: Tensor) -> list[tuple[Tensor, Tensor]]:
        """The classifier's weights and e_c.

        Args:
            c: index of the class.
            to_mean: factor that makes of the gradients that of the class's mean loss.
        """
        own = set(self.method.network.heads.parameters())
        kept = [(weight, to_mean * gradient) for weight, gradient in self._kept() if weight in own]
        if not kept:
            return []
        others = (self.method.prior.counts[c] - 1).clamp(min=1).item()
        size = torch.stack(torch._foreach_norm([weight.detach() for weight, _ in kept])).norm()
        count = sum(weight.numel() for weight, _ in kept)
        found = []
        for weight, gradient in kept:
            norm = gradient.norm() + TINY
            radius = self.rho * (count * (size / norm) ** 2 / (4 * others)) ** 0.25
            found.append((weight, radius / norm * gradient))
        return found


@contextmanager
def perturbed(ascent: Sequence[tuple[Tensor, Tensor]]) -> Iterator[None]:
    """Add to each weight its e, as long as the context lasts; afterwards they are what they were, bit by bit."""
    weights = [weight.detach() for weight, _ in ascent]
    before = [weight.clone() for weight in weights]
    if weights:
        torch._foreach_add_(weights, [e for _, e in ascent])
    try:
        yield
    finally:
        _copy(weights, before)


def _add_gradients(others: Sequence[tuple[Tensor, Tensor]]) -> None:
    """Add gradients to those that weights have."""
    for weight, gradient in others:
        weight.grad = gradient if weight.grad is None else weight.grad.add_(gradient)


def _copy(to: list[Tensor], source: list[Tensor]) -> None:
    if to:
        with torch.no_grad():
            torch._foreach_copy_(to, source)


def _is_recorded(device: torch.device) -> bool:
    """Whether what happens now becomes part of a CUDA graph."""
    return device.type == "cuda" and torch.cuda.is_current_stream_capturing()


def _generator_states(device: torch.device) -> list[Tensor]:
    """The states of torch's global generators, of the CPU and of the device."""
    states = [torch.get_rng_state()]
    return states if device.type == "cpu" else [*states, torch.get_device_module(device).get_rng_state(device)]


def _set_generator_states(device: torch.device, states: Sequence[Tensor]) -> None:
    torch.set_rng_state(states[0])
    if device.type != "cpu":
        torch.get_device_module(device).set_rng_state(states[1], device)
