"""Long-tailed class counts, which images are kept, and shot groups."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from ltbench.data.images import ImageFiles

IntArray = NDArray[np.int64]
"""Labels, class counts, or positions of images."""
TEST_FRACTION = 0.2
"""Fraction of each class that is the test set where a data set has none."""


def profile(largest: int, classes: int, ratio: float) -> IntArray:
    """Exponentially falling class counts: n_c = floor(n_max * (1 / ratio)^(c / (C - 1))).

    Cui et al., "Class-Balanced Loss" (CVPR 2019), section 5.1, as the LDAM code rounds it.

    Args:
        largest: number of images of the first class.
        classes: number of classes, C.
        ratio: imbalance ratio, the first count over the last; at least 1.

    Returns:
        (C,) counts, the last of which may be 0.
    """
    if classes < 2:
        return np.full(classes, largest, dtype=np.int64)
    falling = 1 / ratio
    return np.array([int(largest * falling ** (c / (classes - 1))) for c in range(classes)], dtype=np.int64)


def step_profile(largest: int, classes: int, ratio: float) -> IntArray:
    """Class counts of two heights: the first half of the classes has n_max images, the others floor(n_max / ratio).

    Buda et al., "A systematic study of the class imbalance problem" (2018), with half of the classes minor, as in Cao
    et al., "Learning Imbalanced Datasets with Label-Distribution-Aware Margin Loss" (NeurIPS 2019). Of an odd number
    of classes the larger half has n_max.

    Args:
        largest: number of images of a class of the first half.
        classes: number of classes, C.
        ratio: imbalance ratio; at least 1.

    Returns:
        (C,) counts, the last of which may be 0.
    """
    minor = np.arange(classes) >= classes - classes // 2
    return np.where(minor, int(largest / ratio), largest).astype(np.int64)


PROFILES = {"exp": profile, "step": step_profile}
"""What ``--imbalance`` names: class counts from the largest class to the smallest."""


def class_order(classes: int, seed: int | None) -> IntArray:
    """(C,) the labels from the largest class to the smallest: as they are, or drawn.

    Args:
        classes: number of classes.
        seed: seed of the draw; None: as they are.
    """
    from ltbench import rng

    labels = np.arange(classes)
    return labels if seed is None else rng.numpy_generator(seed, "class order").permutation(labels)


def largest_head(available: IntArray, ratio: float, imbalance: str = "exp") -> int:
    """The largest n_max whose profile no class is too small for.

    Args:
        available: (C,) number of images of each class, in the order of the profile.
        ratio: imbalance ratio.
        imbalance: exp or step.
    """
    classes = len(available)
    for largest in range(int(available.max()), 0, -1):
        if (PROFILES[imbalance](largest, classes, ratio) <= available).all():
            return largest
    return 0


def select(labels: IntArray, counts: IntArray, seed: int = 0) -> IntArray:
    """The images of a long-tailed subset, by the rule of the LDAM code that CIFAR-LT papers share.

    Class by class, the class's indices are shuffled whole and the first n_c kept. One stream serves all classes,
    and the shuffle does not depend on n_c, so that the subset for ratio 10 contains that for ratio 100.

    Args:
        labels: (N,) of all images.
        counts: (C,) number of images to keep of each class.
        seed: seed of numpy's legacy generator (0 in the papers); numpy's global generator is left alone.

    Returns:
        Indices into ``labels``, in class order.
    """
    generator = np.random.RandomState(seed)
    kept = []
    for label, count in enumerate(counts):
        members = np.flatnonzero(labels == label)
        generator.shuffle(members)
        kept.append(members[:count])
    return np.concatenate(kept)


def take_whole(order: IntArray, size: int, duplicates: IntArray | None = None) -> IntArray:
    """The first ``size`` of some images, with copies of one image kept together.

    Args:
        order: (K,) images in order of preference.
        size: number of images to take; fewer where copies do not fit in, but at least one image, with its copies.
        duplicates: (N,) for every image one that has the same bytes, the same for all copies; None: there are none.

    Returns:
        At most ``size`` of them, or the smallest set of copies; never all of them, so that it may be none.
    """
    if duplicates is None:
        return order[:size]
    group = duplicates[order]
    names, sizes = np.unique(group, return_counts=True)
    taken: list[int] = []
    left = size
    for name in dict.fromkeys(group.tolist()):
        own = int(sizes[np.searchsorted(names, name)])
        if own <= left:
            taken.append(name)
            left -= own
    if not taken and size > 0 and len(names) > 1:
        taken.append(min(dict.fromkeys(group.tolist()), key=lambda name: sizes[np.searchsorted(names, name)]))
    return order[np.isin(group, taken)]


def hold_out(
    labels: IntArray,
    seed: int,
    fraction: float = 0.2,
    duplicates: IntArray | None = None,
    *,
    stream: str = "validation",
) -> NDArray[np.bool_]:
    """Which images form the validation part: a fraction of each class, rounded half up.

    A class of two or more images gives at least one and keeps at least one; a class of one keeps it. Copies of one
    image stay together: a class may give fewer for that, and a class that has nothing but copies of one image gives
    none.

    Args:
        labels: (N,).
        seed: seed of the draw; the same for every run on this data.
        fraction: fraction of each class.
        duplicates: (N,) as `take_whole` takes them.
        stream: name of the stream of random numbers; another one for another part.

    Returns:
        (N,) True for what is held out.
    """
    from ltbench import rng

    held_out = np.zeros(len(labels), dtype=bool)
    generator = rng.numpy_generator(seed, stream)
    for label in np.unique(labels):
        members = generator.permutation(np.flatnonzero(labels == label))
        size = min(max(int(fraction * len(members) + 0.5), 1), len(members) - 1)
        held_out[take_whole(members, size, duplicates)] = True
    if duplicates is not None:  # copies that stand in two classes, one of which gave them
        held_out &= ~np.isin(duplicates, duplicates[~held_out])
    return held_out


@dataclass(frozen=True)
class ShotRule:
    """Which classes are many-, medium- and few-shot, by training images: > many, few..many, < few.

    Liu et al., "Large-Scale Long-Tailed Recognition in an Open World" (CVPR 2019).
    """

    many: int = 100
    few: int = 20

    def groups(self, counts: IntArray) -> dict[str, list[int]]:
        """The class labels in each group; a group may be empty."""
        return {
            "many": np.flatnonzero(counts > self.many).tolist(),
            "medium": np.flatnonzero((counts >= self.few) & (counts <= self.many)).tolist(),
            "few": np.flatnonzero(counts < self.few).tolist(),
        }


def fingerprint_files(files: "ImageFiles") -> str:
    """A hash of the names, sizes and labels of image files, whatever their order and the folders they lie in.

    Their content is not read: of a hundred thousand photographs that would take minutes in every run.

    Raises:
        LtbenchError: if one of them is missing.
    """
    from ltbench.data.images import image_read_error

    lines = []
    for name, label in zip(files.names.tolist(), files.labels.tolist(), strict=True):
        try:
            size = (files.root / name).stat().st_size
        except OSError as error:
            raise image_read_error(files.root / name, error) from None
        lines.append(f"{name.rpartition('/')[2]}\0{size}\0{label}\n")
    return hashlib.blake2b("".join(sorted(lines)).encode(), digest_size=8).hexdigest()


def fingerprint(images: NDArray[np.uint8], labels: IntArray) -> str:
    """A hash of a set of labelled images that does not depend on their order or on how they are stored.

    Args:
        images: (N, channels, height, width).
        labels: (N,).
    """
    return fingerprint_digests(digests(images, labels))


def fingerprint_digests(singles: Sequence[bytes]) -> str:
    """The same, of the hash of each image."""
    return hashlib.blake2b(b"".join(sorted(singles)), digest_size=8).hexdigest()


def digests(images: NDArray[np.uint8], labels: IntArray) -> list[bytes]:
    """The hash of each labelled image."""
    shape = str(images.shape[1:]).encode()
    found = []
    for image, label in zip(images, labels.tolist(), strict=True):
        one = hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=16)  # its bytes, not copied
        one.update(shape + str(label).encode())
        found.append(one.digest())
    return found
