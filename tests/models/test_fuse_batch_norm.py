"""Batch norm fused into convolutions: the same features, and no norm where one could be fused."""

import pytest
import timm
import torch
from torch import nn

from ltbench.models.fuse_batch_norm import fuse_batch_norm


@pytest.mark.parametrize(
    ("name", "left"), [("test_efficientnet", 0), ("test_resnet", 0), ("test_vit", 0), ("densenet121", 62)]
)
def test_features_stay_as_they_are(name, left):
    network = timm.create_model(name, num_classes=0).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):  # as after training
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
            module.running_mean.normal_(std=0.2)
            module.running_var.uniform_(0.5, 1.5)
    size = 160 if name == "test_vit" else 64
    fused = fuse_batch_norm(network, torch.rand(1, 3, size, size))
    images = torch.randn(2, 3, size, size)
    with torch.no_grad():
        torch.testing.assert_close(fused(images), network(images), rtol=1e-4, atol=1e-4)
    kept = [module for module in fused.modules() if isinstance(module, nn.BatchNorm2d)]
    assert len(kept) == left
    assert sum(isinstance(module, nn.BatchNorm2d) for module in network.modules()) >= len(kept)


def test_a_convolution_that_feeds_two_modules_keeps_its_norm():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.convolution, self.norm = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)
            self.other = nn.Conv2d(4, 4, 1)

        def forward(self, images):
            shared = self.convolution(images)
            return (self.norm(shared) + self.other(shared)).mean((2, 3))

    network = Twice().eval()
    network.norm.running_mean.fill_(0.5)
    assert fuse_batch_norm(network, torch.rand(1, 3, 8, 8)) is network
