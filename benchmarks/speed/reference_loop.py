"""The way research code of this field trains, as the yardstick for ltbench's loop.

One image at a time through PIL transforms in worker processes, float32 in NCHW, experts one after the other, loss and
accuracy read by the host in every step. The same recipe as ``ltbench run --method balpoe --dataset cifar100-lt``:
crop, flip and rotation, mixup by batch, SGD with momentum and weight decay, no dropped last batch.
"""

import itertools
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)


class PilImages(Dataset[tuple[Tensor, int]]):
    """Images that are decoded and transformed one at a time.

    Args:
        images: (N, 3, H, W) uint8.
        labels: (N,).
        train: augment by crop, flip and rotation; else only normalise.
    """

    def __init__(self, images: np.ndarray, labels: np.ndarray, *, train: bool) -> None:
        self.images = images.transpose(0, 2, 3, 1)
        self.labels = labels
        varied = [
            transforms.RandomCrop(32, padding=4),
            transforms.RandomHorizontalFlip(),
            transforms.RandomRotation(15),
        ]
        plain = [transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
        self.transform = transforms.Compose([*varied, *plain] if train else plain)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.images[index])), int(self.labels[index])


def loader(data: PilImages, *, train: bool, batch_size: int = 128, workers: int = 2) -> DataLoader[tuple[Tensor, int]]:
    """Batches from worker processes."""
    return DataLoader(data, batch_size, shuffle=train, num_workers=workers, persistent_workers=workers > 0)


def train_epoch(
    network: nn.Module,
    batches: DataLoader[tuple[Tensor, int]],
    optimiser: torch.optim.Optimizer,
    log_prior: Tensor,
    taus: Sequence[float] = (0.0, 1.0, 2.0),
    alpha: float = 0.4,
) -> tuple[float, float]:
    """One epoch of BalPoE; mean loss and training accuracy (of the labels that weigh more)."""
    network.train()
    total, right, seen = 0.0, 0, 0
    for images, labels in batches:
        share = np.random.beta(alpha, alpha)  # noqa: NPY002  (as that code does)
        order = torch.randperm(len(labels))
        logits = network.experts(share * images + (1 - share) * images[order])
        loss = torch.zeros(())
        for tau, expert in zip(taus, logits, strict=True):
            adjusted = expert + tau * log_prior
            loss = (
                loss
                + share * F.cross_entropy(adjusted, labels)
                + (1 - share) * F.cross_entropy(adjusted, labels[order])
            )
        loss = loss / len(taus)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        total += loss.item() * len(labels)
        right += (logits.mean(0).argmax(1) == labels).sum().item()
        seen += len(labels)
    return total / seen, right / seen


@torch.no_grad()
def evaluate(network: nn.Module, batches: DataLoader[tuple[Tensor, int]]) -> tuple[Tensor, Tensor]:
    """(N, C) logits and (N,) labels of a data set."""
    network.eval()
    parts = [(network(images), labels) for images, labels in batches]
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
