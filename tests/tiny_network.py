"""A small network without batch norm, which every method can train."""

import torch.nn.functional as F
from torch import nn

from ltbench.models.experts import ExpertNetwork
from ltbench.models.heads import HEADS

CLASSES = 4


class Tiny(nn.Module):
    """Images to D features, with a norm that looks at one image."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(inputs, outputs, 3, 2, 1), nn.GroupNorm(2, outputs)

    def forward(self, x):
        return F.silu(self.norm(self.convolution(x)))


class Pooled(Tiny):
    def forward(self, x):
        return super().forward(x).mean((2, 3))


def tiny(experts=1, *, width=1.0, head=None, shared=True):
    """The network, as a ``BackboneFactory``."""
    trunk = Tiny(3, 8) if shared else nn.Identity()
    branches = [Pooled(8, 12) if shared else nn.Sequential(Tiny(3, 8), Pooled(8, 12)) for _ in range(experts)]
    return ExpertNetwork(trunk, branches, [HEADS[head or "cosine"](12, CLASSES) for _ in range(experts)])
