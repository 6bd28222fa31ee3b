"""The pictures of late, decoded: whoever changes a word of a prompt sends the same references again.

For one scope at a time, by the bytes of their files and never by a name: two accounts' pictures can't meet.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from hashlib import sha256

from mutoscope.references.decode import Picture, decode
from mutoscope.references.limits import Limits

MOST = 4  # a request's references
MOST_BYTES = 2**25  # of one's pixels; larger ones are decoded each time

Decode = Callable[..., Picture]
"""As `decode`: its arguments, what it returns, what it raises."""


class Recent:
    """Decodes, and holds what it decoded for the scope that asked last. For one thread."""

    def __init__(self) -> None:
        self._scope = ""
        self._kept: OrderedDict[tuple[bytes, int | None], Picture] = OrderedDict()

    def decoder(self, scope: str) -> Decode:
        """What decodes for `scope`, an account's id; for "" nothing is held."""
        if scope != self._scope:
            self._scope = scope
            self._kept.clear()
        return self._decode if scope else decode

    def _decode(self, data: bytes, limits: Limits, *, longest_side: int | None, deadline: float) -> Picture:
        key = (sha256(data).digest(), longest_side)
        picture = self._kept.pop(key, None) or decode(data, limits, longest_side=longest_side, deadline=deadline)
        if picture.pixels.nbytes <= MOST_BYTES:
            self._kept[key] = picture
            if len(self._kept) > MOST:
                self._kept.popitem(last=False)
        return picture
