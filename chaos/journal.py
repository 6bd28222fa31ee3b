"""What a power cut may leave of a recorded run: what was flushed, and of the rest whatever chance keeps.

As strict as POSIX allows: bytes of a file last once the file was flushed, and its name once the folder was. Of a file's
later writes any may be lost, and each may be torn between sectors; of a folder's later changes, too, except that a
rename is done or not done. Knows nothing of what the files mean.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TypeVar

from chaos.disk import RECORD

Item = TypeVar("Item")

_SECTOR = 512
MARKS = b"APKB"
"""Kinds of records of our own: an acknowledged task, an acknowledged upload, a key that was shown, the load's begin."""


@dataclass
class Node:
    """A file, or a folder: what of it has been flushed, and what was written since: (offset, bytes), or a new size."""

    is_folder: bool = False
    is_deaf: bool = False
    flushed: bytearray = field(default_factory=bytearray)
    later: list[tuple[int, bytes | None]] = field(default_factory=list)

    def flush(self) -> None:
        self.flushed = self.whole()
        self.later.clear()

    def whole(self) -> bytearray:
        """As any process sees it."""
        content = bytearray(self.flushed)
        for offset, data in self.later:
            _apply(content, offset, data)
        return content

    def survived(self, chance: random.Random) -> bytearray:
        content = bytearray(self.flushed)
        for offset, data in _some(self.later, chance):
            if data is not None and chance.random() < 0.2:  # torn
                sectors = chance.randrange(len(data) // _SECTOR + 1)
                data = data[: sectors * _SECTOR]
            _apply(content, offset, data)
        return content


Change = dict[str, Node | None]
"""What one call does to names: each is a node's now, or nobody's."""


class Disk:
    """The state after the records that were played; `root` is the folder that was recorded.

    `deaf`: files that were made under a path with this part in it are never flushed, as if nobody had asked.
    """

    def __init__(self, root: Path, deaf: str = "") -> None:
        self._root = str(root)
        self._deaf = deaf
        self._nodes: dict[int, Node] = {}
        self._names: dict[str, Node] = {}  # as any process sees them
        self._flushed: dict[str, Node] = {}
        self._later: list[Change] = []
        self.marks: dict[bytes, list[str]] = {bytes([kind]): [] for kind in MARKS}

    def play(self, kind: bytes, inode: int, offset: int, first: bytes, second: bytes) -> None:
        """One record."""
        if kind in self.marks:
            self.marks[kind].append(first.decode())
            return
        if kind == b"W":
            self._nodes[inode].later.append((offset, first))
            return
        if kind == b"T":
            self._nodes[inode].later.append((offset, None))
            return
        if kind == b"S":
            if not self._nodes[inode].is_deaf:
                self._nodes[inode].flush()
            return
        path = first.decode()
        if kind == b"D":
            self._flush_folder(path)
        elif kind == b"C":
            node = self._nodes[inode] = Node(is_deaf=bool(self._deaf) and self._deaf in path)
            self._change({path: node})
        elif kind == b"M":
            self._change({path: Node(is_folder=True)})
        elif kind in (b"U", b"X"):
            self._change({path: None})
        else:
            node = self._names[path]
            self._change({second.decode(): node} | ({path: None} if kind == b"R" else {}))

    def content(self, key: str) -> bytes | None:
        """The bytes of a file as any process saw it, by its path below the root."""
        node = self._names.get(f"{self._root}/{key}")
        return bytes(node.whole()) if node is not None else None

    def cut(self, target: Path, chance: random.Random) -> None:
        """Write what a power cut now may leave to `target`, a folder that does not exist."""
        names: dict[str, Node | None] = {**self._flushed}
        for change in _some(self._later, chance):
            names |= change
        left = {name: node for name, node in names.items() if node is not None}
        contents: dict[int, bytearray] = {}
        target.mkdir(mode=0o700, parents=True)
        for name, node in sorted(left.items()):
            above = [str(each) for each in PurePosixPath(name).parents]
            if any(each not in left for each in above[: above.index(self._root)]):
                continue  # a folder that is gone takes all with it
            path = target / PurePosixPath(name).relative_to(self._root)
            if node.is_folder:
                path.mkdir(mode=0o700)
                continue
            if id(node) not in contents:
                contents[id(node)] = node.survived(chance)
            path.write_bytes(contents[id(node)])
            path.chmod(0o600)

    def _change(self, change: Change) -> None:
        self._later.append(dict(change))
        _rename(self._names, change)

    def _flush_folder(self, folder: str) -> None:
        for change in self._later:
            mine = {name: node for name, node in change.items() if name.rpartition("/")[0] == folder}
            _rename(self._flushed, mine)
            for name in mine:
                del change[name]
        self._later = [change for change in self._later if change]


def records(journal: Path) -> Iterator[tuple[bytes, int, int, bytes, bytes]]:
    """(kind, inode, offset, first, second) of each, in order."""
    with journal.open("rb") as file:
        while head := file.read(RECORD.size):
            inode, offset, first, second, kind = RECORD.unpack(head)
            yield kind, inode, offset, file.read(first), file.read(second)


def _apply(content: bytearray, offset: int, data: bytes | None) -> None:
    end = offset if data is None else offset + len(data)
    if len(content) < end:
        content.extend(bytes(end - len(content)))
    if data is None:
        del content[offset:]
    else:
        content[offset:end] = data


def _rename(names: dict[str, Node], change: Change) -> None:
    for name, node in change.items():
        if node is None:
            names.pop(name, None)
        else:
            names[name] = node


def _some(items: list[Item], chance: random.Random) -> list[Item]:
    """None of them, all, those until one, or any."""
    match chance.randrange(4):
        case 0:
            return []
        case 1:
            return items
        case 2:
            return items[: chance.randrange(len(items) + 1)]
    return [item for item in items if chance.random() < 0.5]
