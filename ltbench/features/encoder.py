"""The frozen network that turns images into features."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ltbench import rng
from ltbench.models.backbone import Backbone
from ltbench.models.experts import ExpertNetwork
from ltbench.models.fuse_batch_norm import fuse_batch_norm
from ltbench.models.weights import Weights


class Encoder(nn.Module):
    """A pre-trained network without classifier, in evaluation mode.

    Args:
        backbone: name of a timm model.
        weights: its weights; None: random ones, to be replaced.
        channels: of the images.
        image_size: side of what the network gets, pixels; images of another size are scaled to it.
        precision: fp32, or bf16 for the network's arithmetic.
        fuse: fuse batch norm into convolutions, which is faster; parameters then have other names.
    """

    def __init__(
        self,
        backbone: str,
        weights: Weights | None,
        *,
        channels: int,
        image_size: int,
        precision: str,
        fuse: bool = False,
    ) -> None:
        super().__init__()
        self.image_size, self.precision = image_size, precision
        with rng.restored():  # every initial weight is replaced
            build = Backbone(
                backbone, classes=1, channels=channels, image_size=image_size, head="linear", pretrained=weights
            )
            self.network: ExpertNetwork = build().requires_grad_(False).eval()
        self.num_parameters = sum(weight.numel() for weight in self.network.branches.parameters())
        """Number of the network's parameters, without its classifier."""
        if fuse:
            (branch,) = self.network.branches
            image = torch.rand(1, channels, image_size, image_size, generator=torch.Generator().manual_seed(0))
            self.network.branches[0] = fuse_batch_norm(branch, image)
        self.network.to(memory_format=torch.channels_last)

    @property
    def num_features(self) -> int:
        """D, the number of features of an image."""
        return self.network.num_features

    def train(self, mode: bool = True) -> "Encoder":
        """Stay in evaluation mode: a frozen network has no other."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """(B, D) float32 features of (B, channels, H, W) normalised images."""
        if images.shape[-1] != self.image_size:
            size = (self.image_size, self.image_size)
            images = F.interpolate(images, size, mode="bicubic", antialias=True, align_corners=False)
            images = images.contiguous(memory_format=torch.channels_last)
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            (features,) = self.network.features(images)
        single: Tensor = features.float()
        return single
