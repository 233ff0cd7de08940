"""The frozen features of a run: who computes them, where they are kept, and their loaders."""

import hashlib
from dataclasses import dataclass
from functools import lru_cache

import torch

from ltbench.config import Augment, ResolvedRun, canonical_json
from ltbench.data.dataset import Dataset
from ltbench.data.images import Images
from ltbench.data.loading.base import Loader
from ltbench.features.encoder import Encoder
from ltbench.features.loader import FeatureLoader
from ltbench.files import paths
from ltbench.models.weights import Weights
from ltbench.progress import ProgressListener, silent

VERSION = 1
"""Version of the features. It is raised when they change, so that those in the cache are not used."""


@dataclass(frozen=True)
class FrozenFeatures:
    """The frozen features of the images of a run.

    Args:
        run: its settings.
        weights: of the frozen network.
        data: its images.
        device: that computes features and keeps them.
    """

    run: ResolvedRun
    weights: Weights
    data: Dataset
    device: torch.device

    @property
    def encoder(self) -> Encoder:
        """The frozen network, built once for all runs of a process."""
        run, channels = self.run, self.data.shape[0]
        return _encoder(run.backbone, self.weights, channels, run.image_size, run.config.precision, str(self.device))

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of an image's features, as methods get them: D, 1, 1."""
        return self.encoder.num_features, 1, 1

    def loader(self, part: Images, images: Loader, listener: ProgressListener = silent) -> FeatureLoader:
        """Batches of the features of a part.

        Args:
            part: its images.
            images: their loader.
            listener: hears of the progress of computing.
        """
        settings = {
            "version": VERSION,
            "weights": self.weights.sha256,
            "backbone": self.run.backbone,
            "image size": self.run.image_size,
            "precision": self.run.config.precision,
            "device": self.device.type,  # kernels of a GPU round otherwise
            "normalisation": [self.data.mean, self.data.std],
            "images": self.data.order_hash(part),
            "decoding": [self.data.image_size, self.data.cache_resized, self.data.decode],
            "views": self.run.config.feature_views,
        }

        def key(how: Augment) -> str:
            text = canonical_json([settings, how.model_dump(mode="json")])
            return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

        return FeatureLoader(
            images,
            self.encoder,
            key=key,
            folder=paths.cache_dir() / "features",
            views=self.run.config.feature_views or 0,
            listener=listener,
        )


@lru_cache(maxsize=1)
def _encoder(backbone: str, weights: Weights, channels: int, image_size: int, precision: str, device: str) -> Encoder:
    encoder = Encoder(backbone, weights, channels=channels, image_size=image_size, precision=precision, fuse=True)
    return encoder.to(torch.device(device))
