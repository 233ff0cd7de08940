"""The augmentations that several papers share, for the recipes of their authors."""

from ltbench.config import Augment

CIFAR = Augment(padding=0.125, flip=True)
"""Crop from 4 pixels of padding, mirror: LDAM and most others."""
CIFAR_ROTATED = Augment(padding=0.125, flip=True, rotation=15)
"""RIDE, SADE and BalPoE."""
CIFAR_AUTOAUGMENT_CUTOUT = Augment(padding=0.125, flip=True, policy="cifar10", cutout=0.5)
"""PaCo's first view, NCL, CMO, balanced softmax, ProCo."""
INATURALIST = Augment(crop=(0.08, 1.0), flip=True)
"""Random resized crop, mirror."""
IMAGENET = Augment(crop=(0.08, 1.0), flip=True, jitter=(0.4, 0.4, 0.4, 0.0))
"""The usual one for training on ImageNet."""
IMAGENET_RANDAUGMENT = IMAGENET.model_copy(update={"policy": "randaugment"})
"""Of long trainings and of classifying views beside contrastive ones."""
IMAGENET_SIMCLR = Augment(
    crop=(0.08, 1.0), flip=True, jitter=(0.4, 0.4, 0.4, 0.1), jitter_chance=0.8, grey=0.2
)  # fmt: skip
"""Contrastive views without blur: BCL and ProCo."""
IMAGENET_BLURRED = IMAGENET.model_copy(update={"grey": 0.2, "blur": 0.5})
"""Contrastive views of PaCo, and of GPaCo on iNaturalist."""
