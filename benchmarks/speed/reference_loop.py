"""The way research code of this field trains, as the yardstick for ltbench's loop.

One image at a time through PIL transforms in worker processes, float32 in NCHW, experts one after the other, loss and
accuracy read by the host in every step, evaluation through the same loader. The recipe is that of
``ltbench run --method balpoe --dataset cifar100-lt``: crop, flip and rotation, one mixup weight a batch, SGD with
momentum and weight decay, no dropped last batch.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
TAUS = (0.0, 1.0, 2.0)
Batches = Iterable[tuple[Tensor, Tensor]]


class Block(nn.Module):
    """Two convolutions and a shortcut that subsamples and pads with zeros."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.changes, self.missing = stride > 1 or inputs != outputs, (outputs - inputs) // 2

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, outputs, H / stride, W / stride)."""
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        if self.changes:
            x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.missing, self.missing))
        return F.relu(out + x)


class CosineHead(nn.Module):
    """Cosines between features and class directions, times 30."""

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(F.normalize(torch.empty(classes, features).uniform_(-1, 1), dim=1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C) from (B, D)."""
        return 30 * F.linear(F.normalize(x, dim=1), F.normalize(self.weight, dim=1))


class Experts(nn.Module):
    """A ResNet with three experts: stem and first stage shared, the rest and a cosine head for each.

    Args:
        classes: C.
        blocks: in each stage; 5 make a ResNet-32.
    """

    def __init__(self, classes: int, blocks: int = 5) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.layer1 = stage(blocks, 16, 16, 1)
        self.rest = nn.ModuleList(nn.Sequential(stage(blocks, 16, 32, 2), stage(blocks, 32, 64, 2)) for _ in TAUS)
        self.heads = nn.ModuleList(CosineHead(64, classes) for _ in TAUS)

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, C) logits of one expert after the other."""
        x = self.layer1(self.stem(x))
        return [head(rest(x).mean((2, 3))) for rest, head in zip(self.rest, self.heads, strict=True)]


def stage(blocks: int, inputs: int, outputs: int, stride: int) -> nn.Sequential:
    """Blocks, the first of which changes the width."""
    return nn.Sequential(Block(inputs, outputs, stride), *(Block(outputs, outputs, 1) for _ in range(blocks - 1)))


class PilImages(Dataset[tuple[Tensor, int]]):
    """Images that are transformed one at a time.

    Args:
        images: (N, 3, H, W) uint8.
        labels: (N,).
        augmented: the PIL transforms before conversion and normalisation.
    """

    def __init__(self, images: np.ndarray, labels: np.ndarray, augmented: Sequence[object] = ()) -> None:
        self.images = images.transpose(0, 2, 3, 1)
        self.labels = labels
        self.transform = transforms.Compose([*augmented, transforms.ToTensor(), transforms.Normalize(MEAN, STD)])

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.images[index])), int(self.labels[index])


def crop_flip_rotate() -> list[object]:
    """The training transforms of the RIDE, SADE and BalPoE codes on CIFAR."""
    return [
        transforms.RandomCrop(32, padding=4),
        transforms.RandomHorizontalFlip(),
        transforms.RandomRotation(15),
    ]


def loader(data: PilImages, *, train: bool, batch_size: int = 128, workers: int = 2) -> DataLoader[tuple[Tensor, int]]:
    """Batches from worker processes."""
    return DataLoader(data, batch_size, shuffle=train, num_workers=workers, persistent_workers=workers > 0)


def mixing(alpha: float = 0.4) -> Iterator[float]:
    """A mixup weight for every batch."""
    while True:
        yield np.random.beta(alpha, alpha)  # noqa: NPY002  (as that code does)


def train_epoch(
    network: nn.Module,
    batches: Batches,
    optimiser: torch.optim.Optimizer,
    log_prior: Tensor,
    shares: Iterator[float] | None = None,
    orders: Iterator[Tensor] | None = None,
) -> list[float]:
    """One epoch of BalPoE; the loss of every step.

    Args:
        network: gives a list of logits.
        batches: of images and labels.
        optimiser: of its parameters.
        log_prior: (C,).
        shares: mixup weights; drawn if not given.
        orders: permutations of the batches for mixup; drawn if not given.
    """
    network.train()
    shares = shares or mixing()
    device = log_prior.device
    losses, right, seen = [], 0, 0
    for batch in batches:
        images, labels = (part.to(device) for part in batch)
        share = next(shares)
        order = next(orders) if orders else torch.randperm(len(labels))
        logits = network(share * images + (1 - share) * images[order])
        loss = torch.zeros((), device=device)
        for tau, expert in zip(TAUS, logits, strict=True):
            adjusted = expert + tau * log_prior
            loss = loss + share * F.cross_entropy(adjusted, labels)
            loss = loss + (1 - share) * F.cross_entropy(adjusted, labels[order])
        loss = loss / len(TAUS)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
        right += (torch.stack(logits).mean(0).argmax(1) == labels).sum().item()
        seen += len(labels)
    return losses


@torch.no_grad()
def evaluate(network: nn.Module, batches: Batches) -> tuple[Tensor, Tensor]:
    """(N, C) logits and (N,) labels of a data set."""
    network.eval()
    device = next(network.parameters()).device
    parts = [(torch.stack(network(images.to(device))).mean(0).cpu(), labels) for images, labels in batches]
    return torch.cat([logits for logits, _ in parts]), torch.cat([labels for _, labels in parts])


def ece_and_mce(logits: np.ndarray, labels: np.ndarray, bins: int = 15) -> tuple[float, float]:
    """Calibration errors with numpy, a mask a bin."""
    shifted = np.exp(logits - logits.max(1, keepdims=True))
    probs = shifted / shifted.sum(1, keepdims=True)
    confidence, right = probs.max(1), probs.argmax(1) == labels
    edges = np.linspace(0, 1, bins + 1)
    ece, mce = 0.0, 0.0
    for low, high in itertools.pairwise(edges):
        inside = (confidence > low) & (confidence <= high)
        if inside.any():
            gap = abs(right[inside].mean() - confidence[inside].mean())
            ece, mce = ece + gap * inside.mean(), max(mce, gap)
    return ece, mce
