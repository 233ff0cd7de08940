"""Long-tailed subsets against the published code's choice of images, and what holds for any labels."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ltbench.data.long_tail import ShotRule, fingerprint, hold_out, largest_head, profile, select

relaxed = settings(deadline=None)
class_sizes = st.lists(st.integers(1, 60), min_size=1, max_size=8)
ratios = st.floats(1, 500)


def labels_of(sizes, seed=0):
    """Labels with these class sizes, in random order."""
    return np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes))


@pytest.mark.parametrize(
    ("case", "ratio", "reverse"),
    [
        ("train_ir100", 100, False),
        ("train_ir50", 50, False),
        ("train_ir10", 10, False),
        ("forward50", 50, False),
        ("forward5", 5, False),
        ("backward50", 50, True),
        ("backward2", 2, True),
    ],
)
def test_the_subset_is_image_by_image_that_of_the_published_code(case, ratio, reverse, golden_losses):
    targets, want = golden_losses("selection")["targets"], golden_losses(f"selection_{case}")
    counts = profile(60, 10, ratio)
    counts = counts[::-1] if reverse else counts
    np.testing.assert_array_equal(counts, want["counts"])
    np.testing.assert_array_equal(select(targets, counts, seed=0), want["indices"])


@pytest.mark.parametrize(
    ("largest", "classes", "ratio", "images", "smallest", "groups"),
    [
        (500, 100, 10, 19573, 50, (69, 31, 0)),
        (500, 100, 50, 12608, 10, (41, 41, 18)),
        (500, 100, 100, 10847, 5, (35, 35, 30)),
        (500, 100, 200, 9502, 2, (30, 31, 39)),
        (5000, 10, 10, 20431, 500, (10, 0, 0)),
        (5000, 10, 50, 13996, 100, (9, 1, 0)),
        (5000, 10, 100, 12406, 50, (8, 2, 0)),
    ],
)
def test_cifar_has_the_published_counts_and_shot_groups(largest, classes, ratio, images, smallest, groups):
    counts = profile(largest, classes, ratio)
    assert (counts.sum(), counts.max(), counts.min()) == (images, largest, smallest)
    shots = ShotRule().groups(counts)
    assert tuple(len(shots[name]) for name in ("many", "medium", "few")) == groups
    labels = labels_of([largest] * classes)
    kept = select(labels, counts)
    np.testing.assert_array_equal(np.bincount(labels[kept], minlength=classes), counts)
    assert len(np.unique(kept)) == images


@relaxed
@given(st.integers(1, 5000), st.integers(1, 120), ratios)
def test_a_profile_falls_from_its_largest_class_to_the_ratio(largest, classes, ratio):
    counts = profile(largest, classes, ratio)
    assert len(counts) == classes
    assert counts[0] == largest
    assert (np.diff(counts) <= 0).all()
    if classes > 1:
        assert counts[-1] == pytest.approx(largest / ratio, abs=1)


def test_a_ratio_of_one_is_balanced():
    assert profile(7, 4, 1).tolist() == [7, 7, 7, 7]


@relaxed
@given(st.lists(st.integers(0, 60), min_size=1, max_size=8), ratios)
def test_the_largest_head_fits_and_one_more_image_would_not(available, ratio):
    available = np.array(available)
    head = largest_head(available, ratio)
    assert (profile(head, len(available), ratio) <= available).all()
    assert (profile(head + 1, len(available), ratio) > available).any()


def test_a_small_ratio_keeps_the_images_of_a_large_one():
    labels = labels_of([500] * 10)
    small, large = (select(labels, profile(500, 10, ratio)) for ratio in (10, 100))
    assert len(small) > len(large)
    assert set(large.tolist()) < set(small.tolist())


def test_the_data_seed_chooses_the_images():
    labels = labels_of([50] * 5)
    counts = profile(50, 5, 10)
    assert select(labels, counts, 3).tolist() == select(labels, counts, 3).tolist()
    assert set(select(labels, counts, 3).tolist()) != set(select(labels, counts, 4).tolist())


def test_numpys_global_generator_is_left_alone():
    state = np.random.get_state()  # noqa: NPY002
    labels = labels_of([30] * 5)
    select(labels, profile(30, 5, 10))
    hold_out(labels, 0)
    np.testing.assert_array_equal(np.random.get_state()[1], state[1])  # noqa: NPY002
    assert np.random.get_state()[2:] == state[2:]  # noqa: NPY002


@relaxed
@given(class_sizes, st.integers(0, 2**32 - 1))
def test_a_fifth_of_each_class_is_held_out(sizes, seed):
    labels = labels_of(sizes)
    held = np.bincount(labels[hold_out(labels, seed)], minlength=len(sizes))
    rounded_half_up = [(2 * size + 5) // 10 for size in sizes]
    want = [0 if size == 1 else max(1, fifth) for size, fifth in zip(sizes, rounded_half_up, strict=True)]
    assert held.tolist() == want


@pytest.mark.parametrize(("size", "held"), [(1, 0), (2, 1), (7, 1), (8, 2), (12, 2), (13, 3), (500, 100)])
def test_held_out_sizes_by_hand(size, held):
    assert hold_out(np.zeros(size, dtype=np.int64), 0).sum() == held


@pytest.mark.parametrize(("size", "held"), [(1, 0), (2, 1), (3, 2), (5, 3), (9, 5)])
def test_half_of_an_odd_class_is_rounded_up(size, held):
    assert hold_out(np.zeros(size, dtype=np.int64), 0, fraction=0.5).sum() == held


def test_the_validation_part_depends_on_the_seed_alone():
    labels = labels_of([40, 20])
    assert (hold_out(labels, 1) == hold_out(labels, 1)).all()
    assert (hold_out(labels, 1) != hold_out(labels, 2)).any()


def test_shot_groups_at_their_bounds():
    assert ShotRule().groups(np.array([101, 100, 20, 19])) == {"many": [0], "medium": [1, 2], "few": [3]}
    assert ShotRule().groups(np.array([500, 200])) == {"many": [0, 1], "medium": [], "few": []}


@pytest.fixture
def labelled():
    generator = np.random.default_rng(0)
    return generator.integers(0, 256, (12, 3, 4, 6), dtype=np.uint8), np.arange(12) % 4


@relaxed
@given(order=st.permutations(range(12)))
def test_the_fingerprint_depends_on_neither_order_nor_storage(order):
    generator = np.random.default_rng(0)
    images, labels = generator.integers(0, 256, (12, 3, 4, 6), dtype=np.uint8), np.arange(12) % 4
    strided = np.asfortranarray(images[order])
    assert fingerprint(strided, labels[order]) == fingerprint(images, labels)


def _other_pixel(images, labels):
    images[5, 1, 2, 3] ^= 1
    return images, labels


def _other_label(images, labels):
    labels[5] += 1
    return images, labels


def _labels_swapped(images, labels):
    labels[[0, 1]] = labels[[1, 0]]
    return images, labels


@pytest.mark.parametrize(
    "change",
    [
        _other_pixel,
        _other_label,
        _labels_swapped,
        lambda images, labels: (images.reshape(12, 3, 6, 4), labels),
        lambda images, labels: (images[:-1], labels[:-1]),
        lambda images, labels: (np.concatenate([images, images[:1]]), np.append(labels, labels[0])),
    ],
    ids=["pixel", "label", "labels swapped", "shape", "image left out", "image twice"],
)
def test_the_fingerprint_sees_a_change_of(change, labelled):
    before = fingerprint(*labelled)
    assert fingerprint(*change(*(part.copy() for part in labelled))) != before
