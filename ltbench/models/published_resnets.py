"""The published CIFAR ResNets, single and multi-expert: from their state dictionaries to our networks.

The names are those of LDAM's code (Cao et al., NeurIPS 2019; ``layer2.0.conv1.weight``, ``linear.weight``) and of the
multi-expert networks of RIDE, SADE and BalPoE (``layer2s.<m>.0.conv1.weight``, ``linears.<m>.weight``).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import timm
from torch import Tensor

from ltbench.errors import LtbenchError
from ltbench.models.backbone import Backbone
from ltbench.models.experts import ExpertNetwork

_WRAPPERS = re.compile(r"^(module\.|backbone\.)+")
_WIDTHS = {64: 1.0, 48: 0.75}
"""Width by the channels of the last stage."""


@dataclass(frozen=True)
class Architecture:
    """What the shapes of a state dictionary say about its network."""

    backbone: str
    """cifar_resnet20 to 56."""
    experts: int
    width: float
    """Width of the experts' own stages: 1 or 0.75."""
    head: str
    """linear or cosine."""
    classes: int
    channels: int
    """Channels of the images."""

    def __str__(self) -> str:
        experts = f"{self.experts} experts" if self.experts > 1 else "one expert"
        return f"{self.backbone} with {experts} of width {self.width:g}, {self.head} head, {self.classes} classes"

    def network(self) -> ExpertNetwork:
        """The network, with weights of its own."""
        build = Backbone(
            self.backbone, classes=self.classes, channels=self.channels, image_size=32, head=self.head
        )  # convolutions and a mean over places: any size gives the same weights
        return build(self.experts, width=self.width)


def read_network(state: Mapping[str, Tensor], where: object) -> tuple[Architecture, ExpertNetwork]:
    """The network of a published state dictionary.

    A cosine classifier's weight is (D, C) there, with a column a class; its scale, which the dictionaries do not hold,
    is 30, as in all of these codes.

    Args:
        state: by published names, which may begin with "module." (data parallel) or "backbone." (RIDE and later).
        where: it comes from, for messages.

    Raises:
        LtbenchError: if it is not one of these networks; names entries that are missing, unknown or of another shape.
    """
    found = {_WRAPPERS.sub("", name): value for name, value in state.items()}
    architecture = _architecture(found, where)
    network = architecture.network()
    several = "linears.0.weight" in found
    ours = {published_name(name, several=several): (name, value) for name, value in network.state_dict().items()}
    if architecture.head == "cosine":
        found = {
            name: value.T if name.startswith("linear") and value.ndim == 2 else value for name, value in found.items()
        }
    faults = {
        "missing": [name for name in ours if name not in found and not name.endswith("num_batches_tracked")],
        "unknown": [name for name in found if name not in ours],
        "of another shape": [
            f"{name}: {_shape(found[name])} and not {_shape(value)}"
            for name, (_, value) in ours.items()
            if name in found and found[name].shape != value.shape
        ],
    }
    if any(faults.values()):
        raise LtbenchError(
            f"its entries do not fit {architecture}: {'; '.join(_listed(kind, faults[kind]) for kind in faults)}",
            where=where,
            hint="give a state dictionary of a published CIFAR ResNet, with nothing added or taken away",
        )
    wrong = [name for name, value in found.items() if not value.isfinite().all()]
    if wrong:
        raise LtbenchError(
            f"NaN or infinity in {_listed(f'of its {len(found)} entries', wrong)}",
            where=where,
            hint="its training has diverged, or the file is damaged",
        )
    # Batch norms count batches since PyTorch 0.4.1 only; their predictions do not depend on it.
    network.load_state_dict({ours[name][0]: value for name, value in found.items()}, strict=False)
    return architecture, network


def published_name(ours: str, *, several: bool) -> str:
    """The published name of an entry of our network's state dictionary.

    Args:
        ours: its name in our network.
        several: whether the published code numbers the experts.
    """
    match = re.fullmatch(r"(?:trunk|(heads|branches)\.(\d+))\.(?:model\.)?(.+)", ours)
    assert match is not None, ours
    place, number, rest = match.groups()
    if place == "heads":
        return f"linears.{number}.{rest}" if several else f"linear.{rest}"
    return re.sub(r"^layer([23])\.", rf"layer\1s.{number}.", rest) if several else rest


def _architecture(state: Mapping[str, Tensor], where: object) -> Architecture:
    several = "linears.0.weight" in state
    head, last = ("linears.0", "layer3s.0") if several else ("linear", "layer3")
    first, widest, classifier = (
        state.get(name) for name in ("conv1.weight", f"{last}.0.conv2.weight", f"{head}.weight")
    )
    blocks = {name.split(".")[1] for name in state if name.startswith("layer1.")}
    backbone = f"cifar_resnet{6 * len(blocks) + 2}"
    if (
        (first is None or first.ndim != 4)
        or (widest is None or widest.shape[0] not in _WIDTHS)
        or (classifier is None or classifier.ndim != 2)
        or not timm.is_model(backbone)
    ):
        shown = ", ".join(list(state)[:4])
        raise LtbenchError(
            f"the {len(state)} entries are no weights of a published CIFAR ResNet ({shown}, ...)",
            where=where,
            hint="names and shapes must be those of LDAM's or RIDE's ResNet-20 to 56: conv1.weight, layer1.0..., "
            "layer3.0... or layer3s.0.0..., linear.weight or linears.0.weight, with 64 or 48 channels at the end",
        )
    linear = f"{head}.bias" in state
    return Architecture(
        backbone=backbone,
        experts=sum(re.fullmatch(r"linears?\.(\d+\.)?weight", name) is not None for name in state),
        width=_WIDTHS[widest.shape[0]],
        head="linear" if linear else "cosine",
        classes=classifier.shape[0 if linear else 1],
        channels=first.shape[1],
    )


def _listed(kind: str, names: list[str]) -> str:
    return f"{len(names)} {kind}" + (f" ({', '.join(names[:4])}{', ...' if len(names) > 4 else ''})" if names else "")


def _shape(value: Tensor) -> str:
    return " x ".join(map(str, value.shape)) or "a scalar"
