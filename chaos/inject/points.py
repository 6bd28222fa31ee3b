"""Named moments of the journey at which a process can be made to die or to freeze, from outside.

A file in the folder CHAOS_POINTS that is called as the moment arms it: the first process that gets there takes the file
away and is struck, by the signal whose name the file holds. So nothing is restarted to arm another moment.
"""

from __future__ import annotations

import functools
import os
import random
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

_SPARED = 0.3  # of the times that an armed moment comes, so that it is not always the first


@dataclass(frozen=True)
class Point:
    """A function of the product: `module` and `function` (Class.name for a method), and what a person calls it.

    `moments` are before it, after it, and (commit) the end of its transaction, when all is written and nothing
    committed. `keys` tells apart calls that are handed a file's key: name → how the key begins and ends.
    """

    name: str
    module: str
    function: str
    moments: tuple[str, ...] = ("before", "commit", "after")
    keys: tuple[tuple[str, str, str], ...] = ()

    def names(self) -> list[str]:
        """Every moment's own name."""
        whose = [f"{self.name} {key}" for key, _, _ in self.keys] or [self.name]
        return [f"{each}, {moment}" for each in whose for moment in self.moments]


_AROUND = ("before", "after")
_COMMITTED = ("commit", "after")
_KEYS = (
    ("upload", "uploads/", ""),
    ("preview", "previews/", ""),
    ("poster", "outputs/", ".jpg"),
    ("video", "outputs/", ".mp4"),
)

# In the order of the journey. What comes right before a moment is the moment after another: such are left out.
POINTS = [
    Point("upload's row", "mutoscope.uploads", "Uploads.add", _COMMITTED),
    Point("put", "mutoscope.files", "LocalFiles.put", _AROUND, _KEYS),
    Point("file flushed and moved", "mutoscope.files", "_move", _AROUND),
    Point("admit", "mutoscope.admission", "Admission.admit", ("before",)),
    Point("hold", "mutoscope.ledger", "hold", ("after",)),
    Point("Idempotency-Key's row", "mutoscope.admission", "_row", ("before",)),
    Point("group commit", "mutoscope.commits", "GroupCommit._commit", _COMMITTED),
    Point("claim", "mutoscope.store", "Store.claim", _COMMITTED),
    Point("lapse", "mutoscope.store", "Store._lapse", ("after",)),
    Point("advance", "mutoscope.store", "Store.advance", _COMMITTED),
    Point("video closed", "mutoscope.video", "Mp4Writer.__exit__", ("after",)),
    Point("succeed", "mutoscope.store", "Store.succeed"),
    Point("settle or release", "mutoscope.ledger", "close", _AROUND),
    Point("fail", "mutoscope.store", "Store.fail", _COMMITTED),
    Point("give back", "mutoscope.store", "Store.give_back"),
    Point("release of a dead worker's", "mutoscope.store", "Store.release", _COMMITTED),
    Point("cancel", "mutoscope.store", "Store.cancel", _COMMITTED),
    Point("end of a canceled one", "mutoscope.store", "Store.end_canceled", _COMMITTED),
    Point("delivery claimed", "mutoscope.deliveries", "Deliveries.claim", _COMMITTED),
    Point("delivery noted", "mutoscope.deliveries", "Deliveries.note"),
    Point("file deleted", "mutoscope.files", "LocalFiles.delete", _AROUND),
    Point("ended tasks forgotten", "mutoscope.store", "Store.remove", _COMMITTED),
    Point("old uploads forgotten", "mutoscope.uploads", "Uploads.remove"),
    Point("duty taken", "mutoscope.duties", "Duties.take", ("after",)),
    Point("credit", "mutoscope.ledger", "credit", ("after",)),
]

_inside = threading.local()  # .names: functions under way whose transaction's end is a moment


def wrap(module: ModuleType) -> None:
    """Make the moments of a module that has just been imported ones at which it can be struck."""
    for point in POINTS:
        if point.module != module.__name__:
            continue
        *owners, name = point.function.split(".")
        owner: Any = functools.reduce(getattr, owners, module)
        setattr(owner, name, _around(getattr(owner, name), point))


def watch_commits(module: ModuleType) -> None:
    """Make the end of each transaction a moment, of the functions that it belongs to."""
    real = module.Database.write

    @contextmanager
    def write(self: Any) -> Iterator[Any]:
        with real(self) as connection:
            yield connection
            for name in getattr(_inside, "names", ()):
                strike(f"{name}, commit")

    module.Database.write = write


def _around(real: Callable[..., Any], point: Point) -> Callable[..., Any]:
    @functools.wraps(real)
    def wrapped(*arguments: Any, **named: Any) -> Any:
        name = _name(point, arguments)
        if name is None:
            return real(*arguments, **named)
        if "before" in point.moments:
            strike(f"{name}, before")
        names = _inside.__dict__.setdefault("names", [])
        names.append(name)
        try:
            result = real(*arguments, **named)
        finally:
            names.remove(name)
        if "after" in point.moments:
            strike(f"{name}, after")
        return result

    return wrapped


def _name(point: Point, arguments: tuple[Any, ...]) -> str | None:
    if not point.keys:
        return point.name
    key = str(arguments[1])
    fitting = (of for of, begin, end in point.keys if key.startswith(begin) and key.endswith(end))
    return next((f"{point.name} {of}" for of in fitting), None)


def arm(moment: Path, number: str) -> None:
    """Have whoever comes to a moment, named by its file, struck by this signal."""
    fresh = moment.with_name("arming")
    fresh.write_text(number)
    fresh.rename(moment)


def strike(name: str) -> None:
    """Be struck, where this moment is armed."""
    armed = Path(os.environ["CHAOS_POINTS"], name)
    if not armed.exists() or random.random() < _SPARED:
        return
    try:
        number = armed.read_text()
        armed.unlink()
    except FileNotFoundError:  # another process was first
        return
    if number == "SIGSTOP":
        note = armed.with_name(f"{os.getpid()}.stopped")
        note.write_text(name)
    os.kill(os.getpid(), getattr(signal, number))
