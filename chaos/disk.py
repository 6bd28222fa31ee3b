"""The preloaded disk (`inject/disk.c`): built, switched on for the processes that are started with it, told to fail."""

from __future__ import annotations

import errno
import fcntl
import functools
import struct
import subprocess
import tempfile
from pathlib import Path

_SOURCE = Path(__file__).parent / "inject" / "disk.c"
RECORD = struct.Struct("<QQIIc7x")  # as in disk.c
_FAULT_BYTES = 512

FULL, READ_ONLY = errno.ENOSPC, errno.EROFS


@functools.cache
def library() -> Path:
    """The built library. It needs a C compiler, and raises SystemExit without one."""
    built = Path(tempfile.mkdtemp(prefix="mutoscope-disk-"), "disk.so")
    try:
        subprocess.run(["cc", "-O2", "-Wall", "-shared", "-fPIC", "-o", built, _SOURCE, "-lpthread"], check=True)
    except FileNotFoundError:
        raise SystemExit("A C compiler is needed: apt-get install gcc libc6-dev") from None
    return built


def recorded(home: Path, journal: Path) -> dict[str, str]:
    """The environment of processes all of whose writes below `home` are noted in `journal`, which begins empty."""
    journal.write_bytes(b"")
    return {"LD_PRELOAD": str(library()), "CHAOS_DISK_ROOT": str(home), "CHAOS_DISK_JOURNAL": str(journal)}


def note(journal: Path, kind: bytes, text: str) -> None:
    """Add a record of our own, after all that has been noted until now."""
    data = text.encode()
    with journal.open("ab", buffering=0) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(RECORD.pack(0, 0, len(data), 0, kind) + data)


class Faults:
    """A disk below `home` that works, until it is told not to. `environment` is for the processes that have it."""

    def __init__(self, home: Path, control: Path) -> None:
        self._control = control
        self.mend()
        self.environment = {
            "LD_PRELOAD": str(library()),
            "CHAOS_DISK_ROOT": str(home),
            "CHAOS_DISK_FAULT": str(control),
        }

    def fail(self, error: int, part: str) -> None:
        """From now on nothing is written where a path holds `part`: FULL or READ_ONLY."""
        self._tell(error, part)

    def mend(self) -> None:
        """All works again."""
        self._tell(0, "")

    def _tell(self, error: int, part: str) -> None:
        told = struct.pack("<i", error) + part.encode()
        with self._control.open("r+b" if self._control.exists() else "w+b") as file:
            file.write(told.ljust(_FAULT_BYTES, b"\0"))
