"""What the C library keeps of memory that was freed. Knows no tensor."""

from __future__ import annotations

import ctypes
from functools import cache

_MMAP_THRESHOLD = -3  # mallopt's name for it, in glibc's malloc.h
_LARGE_BYTES = 2**20


@cache
def return_what_is_freed() -> bool:
    """Have large blocks go back to the system as soon as they are freed; whether this C library can.

    glibc keeps more and more of them for later, as larger ones are freed: a process on the CPU that renders a video
    in pieces would hold nearly as much as one that holds the whole. It costs page faults, which are few beside the
    arithmetic.
    """
    try:
        return bool(ctypes.CDLL(None).mallopt(_MMAP_THRESHOLD, _LARGE_BYTES))
    except (OSError, AttributeError):  # another C library, which has ways of its own
        return False
