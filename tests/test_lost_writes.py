"""Power cuts that lose what was not flushed: a short profile of `python -m chaos lost-writes`, and its model."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest
from chaos.journal import Disk
from chaos.lostwrites import recorded

needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")


def played(*records: tuple[bytes, int, int, bytes, bytes]) -> Disk:
    disk = Disk(Path("/home"))
    for record in records:
        disk.play(*record)
    return disk


def cuts(disk: Disk, folder: Path) -> set[tuple[tuple[str, bytes], ...]]:
    """Every different state that many power cuts leave: names and contents."""
    chance, found = random.Random(1), set()
    for number in range(200):
        target = folder / str(number)
        disk.cut(target, chance)
        files = sorted(path for path in target.rglob("*") if path.is_file())
        found.add(tuple((str(path.relative_to(target)), path.read_bytes()) for path in files))
    return found


CREATE, WRITE = (b"C", 1, 0, b"/home/a", b""), (b"W", 1, 0, b"x" * 1024, b"")
FLUSH, FLUSH_FOLDER = (b"S", 1, 0, b"", b""), (b"D", 0, 0, b"/home", b"")
RENAME = (b"R", 0, 0, b"/home/a", b"/home/b")


def test_what_was_flushed_lasts_and_the_rest_may_not(tmp_path: Path) -> None:
    whole, torn, empty = b"x" * 1024, b"x" * 512, b""
    assert cuts(played(CREATE, WRITE, FLUSH, FLUSH_FOLDER), tmp_path / "1") == {(("a", whole),)}
    nameless = cuts(played(CREATE, WRITE, FLUSH), tmp_path / "2")
    assert nameless == {(), (("a", whole),)}
    unflushed = cuts(played(CREATE, WRITE, FLUSH_FOLDER), tmp_path / "3")
    assert unflushed == {(("a", content),) for content in (whole, torn, empty)}


def test_a_rename_is_done_or_not_done(tmp_path: Path) -> None:
    done, undone = (("b", b"x" * 1024),), (("a", b"x" * 1024),)
    assert cuts(played(CREATE, WRITE, FLUSH, FLUSH_FOLDER, RENAME), tmp_path / "1") == {done, undone}
    assert cuts(played(CREATE, WRITE, FLUSH, FLUSH_FOLDER, RENAME, FLUSH_FOLDER), tmp_path / "2") == {done}


@pytest.mark.slow
@needs_compiler
def test_a_power_cut_loses_nothing_that_was_acknowledged_and_without_flushes_it_does() -> None:
    with recorded(seconds=2, seed=3) as run:
        found = run.lose_writes(40, seed=3)
        assert found.broken == []
        assert found.figures["power cuts"] == 40
        assert int(str(found.figures["tasks acknowledged by the end"])) > 0
        for part in ("scratch/", "mutoscope.db"):
            assert run.lose_writes(20, seed=3, deaf=part).broken
