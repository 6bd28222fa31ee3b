"""Damage files at random and read them, many a second: `python -m references.fuzz COUNT [SEED]`, in `tests/`.

Runs the child's own code, here, in one forked process per batch, since starting one per file would take a day. Ends
with the seeds of the batches that killed their process; what a batch's process survives, a child does too.
"""

from __future__ import annotations

import os
import random
import resource
import runpy
import sys
import time
from collections import Counter
from pathlib import Path

import mutoscope.references

from .corpus import RIGHT

BATCH = 500
NUMBERS = (
    b"\0",
    b"\1",
    b"\x7f",
    b"\x80",
    b"\xff",
    b"\0\0\0\0",
    b"\x7f\xff\xff\xff",
    b"\xff\xff\xff\xff",
    b"\xff\xff\xff\x7f",
)


def damaged(file: bytes, chance: random.Random) -> bytes:
    changed = bytearray(file)
    for _ in range(chance.choice((1, 1, 2, 4, 8, 32))):
        end = min(len(changed), chance.choice((64, 300, len(file))))
        at = chance.randrange(max(1, end))
        match chance.randrange(7):
            case 0:
                changed[at : at + 1] = bytes([chance.randrange(256)])
            case 1 | 2:
                number = chance.choice(NUMBERS)
                changed[at : at + len(number)] = number
            case 3:
                changed[at : at + 1] = bytes([changed[at] ^ 1 << chance.randrange(8)]) if at < len(changed) else b""
            case 4:
                del changed[at : at + chance.randrange(1, 64)]
            case 5:
                other = chance.randrange(max(1, len(changed)))
                changed[at:at] = changed[other : other + chance.randrange(1, 200)]
            case 6 if chance.random() < 0.2:
                del changed[max(1, at) :]
    return bytes(changed)


def batch(files: list[bytes], seed: int, result: int) -> None:
    child = runpy.run_path(str(Path(mutoscope.references.__file__).with_name("child.py")))
    resource.setrlimit(resource.RLIMIT_AS, (2**31, 2**31))
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # decoders have much to say about such files
    chance, seen, slowest = random.Random(seed), Counter[str](), 0.0
    for _ in range(BATCH):
        data = damaged(chance.choice(files), chance)
        started = time.perf_counter()
        try:
            image = child["_upright_rgb"](data, 40_000_000, 64, chance.choice((0, 100)))
            if image.mode not in ("RGB", "RGBA") or not image.width * image.height:
                sys.exit(f"{image}")
            seen["shown"] += 1
        except Exception as error:
            seen[type(error).__name__] += 1
        slowest = max(slowest, time.perf_counter() - started)
    os.write(result, repr((dict(seen), slowest, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)).encode())


def main(count: int, seed: int = 0) -> int:
    files = [make() for name, (make, _) in RIGHT.items() if "3000" not in name and "giant" not in name]
    total, slowest, largest, deaths = Counter[str](), 0.0, 0, []
    for at in range(seed, seed + count // BATCH):
        ours, theirs = os.pipe()
        process = os.fork()
        if process == 0:
            try:
                batch(files, at, theirs)
                os._exit(0)
            except BaseException as error:
                os.write(theirs, repr(error).encode())
                os._exit(1)
        os.close(theirs)
        answer = b"".join(iter(lambda pipe=ours: os.read(pipe, 65536), b"")).decode()  # type: ignore[misc]
        os.close(ours)
        _, status = os.waitpid(process, 0)
        if status:
            deaths.append((at, status, answer))
            continue
        seen, took, size = eval(answer)
        total.update(seen)
        slowest, largest = max(slowest, took), max(largest, size)
    print(dict(total), f"slowest {slowest:.2f} s, largest {largest // 1024} MB, deaths {deaths}")
    return len(deaths)


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
