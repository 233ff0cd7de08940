"""The predictions for all test images, packed to be stored in a result."""

import base64
import binascii
import zlib
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ltbench.config import Frozen

_UNIT = 65535


class PackedPredictions(Frozen):
    """One number an image in the test set's order: little-endian 16-bit integers, compressed by zlib, as base64.

    Enough for intervals over images, confusion matrices and other bins when the logits are gone.
    """

    images: int = Field(ge=0, le=2 * 10**7)
    labels: str
    predicted: str = Field(description="the class with the highest probability")
    confidence: str = Field(description="its probability; 65535 stands for 1")

    @classmethod
    def of(
        cls, labels: NDArray[np.int64], predicted: NDArray[np.int64], confidence: NDArray[np.float32]
    ) -> "PackedPredictions":
        """Pack three arrays of one entry an image, (N,)."""
        return cls(
            images=len(labels),
            labels=_pack(labels),
            predicted=_pack(predicted),
            confidence=_pack(np.rint(confidence.astype(np.float64) * _UNIT)),
        )

    def unpack(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """Labels, predicted classes and confidences, (N,) each; confidences to 1e-5.

        Raises:
            ValueError: if the text is damaged.
        """
        return *self.unpack_classes(), _unpack(self.confidence, self.images) / _UNIT

    def unpack_classes(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Labels and predicted classes, (N,) each; see ``unpack``, which takes longer."""
        labels = _unpack_shared(self.labels, self.images)  # the same in all runs on a test set
        return labels, _unpack(self.predicted, self.images)

    def right(self) -> NDArray[np.bool_]:
        """(N,) which images are classified correctly."""
        return np.equal(*self.unpack_classes())


def _pack(values: NDArray[np.int64] | NDArray[np.float64]) -> str:
    return base64.b64encode(zlib.compress(values.astype("<u2").tobytes(), 9)).decode()


def _unpack(text: str, images: int) -> NDArray[np.int64]:
    try:
        packed = base64.b64decode(text, validate=True)
        stream = zlib.decompressobj()
        unpacked = stream.decompress(packed, 2 * images + 2)  # no more, whatever there is
        values = np.frombuffer(unpacked, "<u2", len(unpacked) // 2)
    except (binascii.Error, zlib.error) as error:
        raise ValueError(f"the packed predictions (outcomes) are damaged: {error}") from None
    if len(values) != images or not stream.eof:
        raise ValueError(f"the packed predictions (outcomes) are of {len(values)} images and not of {images}")
    return values.astype(np.int64)


@lru_cache(maxsize=4)
def _unpack_shared(text: str, images: int) -> NDArray[np.int64]:
    """``_unpack`` of text that recurs; nobody can change the array."""
    values = _unpack(text, images)
    values.flags.writeable = False
    return values
