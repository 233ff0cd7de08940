"""What the C library does with the memory that tensors free on a CPU."""

import ctypes
import os
from functools import cache

KEPT = 2**30
"""Bytes: larger blocks go back to the system as ever; a data set that is no longer needed is such a block."""
# The numbers of these parameters in glibc's malloc.h; mallopt(3).
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4


@cache
def keep_freed_memory() -> bool:
    """Let this process keep the memory that tensors free, for those of the next step.

    glibc asks the system for every block of more than 32 MiB and gives it back when it is freed. The system fills each
    of its pages with zeros before it hands them out again, which takes as long as half of a training step on
    photographs. The price is memory, up to a fourth of the peak: blocks that are kept are divided up.

    Returns:
        Whether the C library does so. Others than glibc have no such setting; a user's own, in the environment
        variables ``MALLOC_MMAP_THRESHOLD_``, ``MALLOC_TRIM_THRESHOLD_`` or ``GLIBC_TUNABLES``, stay as they are.
    """
    if {"MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES"} & os.environ.keys():
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # not on Linux, or another C library
        return False
    # Versions before 2.35 take no threshold above 32 MiB, but do without such blocks.
    kept = mallopt(_MMAP_THRESHOLD, KEPT) or mallopt(_MMAP_MAX, 0)
    return bool(kept and mallopt(_TRIM_THRESHOLD, KEPT))
