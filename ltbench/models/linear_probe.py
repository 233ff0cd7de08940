"""The networks that are trained on frozen features: a head, or several on small adapters."""

from torch import Tensor, nn

from ltbench.models.experts import ExpertNetwork
from ltbench.models.heads import HEADS

REDUCTION = 4
"""Features over the width of an adapter's bottleneck (Gao et al., CLIP-Adapter, IJCV 2024, section 4.1)."""


class LinearProbe:
    """Builds networks on the frozen features of one backbone, in the place of networks on images.

    Features are normalised by batch norm without scale and shift, as for linear probing by He et al. (MAE, CVPR 2022,
    appendix A.1). A single network is its head; each of several experts has an adapter of its own before its head.

    Args:
        features: D, their number.
        classes: C.
        head: linear or cosine, unless a method asks for another.
    """

    def __init__(self, features: int, *, classes: int, head: str) -> None:
        self.features, self.classes, self.head = features, classes, head

    def __call__(
        self, experts: int = 1, *, width: float = 1.0, head: str | None = None, shared: bool = True
    ) -> ExpertNetwork:
        """See ``ltbench.method.BackboneFactory``; the width is that of the adapters, and features are always shared."""
        trunk = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(self.features, affine=False))
        hidden = max(1, round(width * self.features / REDUCTION))
        branches = [Adapter(self.features, hidden) if experts > 1 else nn.Identity() for _ in range(experts)]
        make_head = HEADS[head or self.head]
        return ExpertNetwork(trunk, branches, [make_head(self.features, self.classes) for _ in range(experts)])


class Adapter(nn.Module):
    """A bottleneck beside the identity, which it starts as: x + W2 relu(W1 x).

    Args:
        features: D.
        hidden: width of the bottleneck.
    """

    def __init__(self, features: int, hidden: int) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(features, hidden), nn.Linear(hidden, features)
        nn.init.kaiming_normal_(self.down.weight)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, features: Tensor) -> Tensor:
        """(B, D) from the same."""
        adapted: Tensor = features + self.up(self.down(features).relu())
        return adapted
