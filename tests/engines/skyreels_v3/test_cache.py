"""What was computed before is found again, exactly, by whom it belongs to, within bounds; what is damaged is not."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mutoscope.engines import Frames, Image
from mutoscope.engines.skyreels_v3.cache import Cache, key_of, recalling
from mutoscope.engines.skyreels_v3.conditioning import Posterior
from mutoscope.engines.skyreels_v3.engine import SkyreelsV3
from mutoscope.engines.skyreels_v3.pipeline import Decoded, Rules, render
from mutoscope.engines.skyreels_v3.spec import Options

from .golden import CHECKPOINT, networks, picture
from .test_engine import images, pixels, request

NOTHING = Posterior(torch.zeros(1), torch.ones(1))
ALL_HITS = {"prompt_hits": 1, "reference_hits": 2}
ALL_MISSES = {"prompt_misses": 1, "reference_misses": 2}


def open_engine(folder: Path | None = None, **options: Any) -> SkyreelsV3:
    return SkyreelsV3(
        Options(CHECKPOINT, **{"precision": "float32", "has_previews": False, **options}, cache_folder=folder)
    )


def film(engine: SkyreelsV3, scope: str, *given: Image, prompt: str = "A paper boat drifts.") -> bytes:
    events = engine.generate(request(prompt), given or images(), scope)
    return b"".join(event.pixels.tobytes() for event in events if isinstance(event, Frames))


@pytest.fixture(scope="module")
def engine() -> SkyreelsV3:
    return open_engine()


@pytest.fixture(scope="module")
def expected(engine: SkyreelsV3) -> bytes:
    return pixels(engine, request(), images()).tobytes()


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_hit_gives_the_bytes_of_a_miss_in_this_process_and_in_another(tmp_path: Path, precision: str) -> None:
    expected = film(open_engine(precision=precision), "")
    first = open_engine(tmp_path / "cache", precision=precision)
    assert film(first, "ann") == expected
    assert first.recalled == ALL_MISSES
    assert film(first, "ann") == expected
    assert first.recalled == ALL_HITS
    other = open_engine(tmp_path / "cache", precision=precision)
    assert film(other, "ann") == expected
    assert other.recalled == other.receipt()["cache"] == ALL_HITS


def test_nobody_else_s_and_nothing_else_is_a_hit(tmp_path: Path, engine: SkyreelsV3, expected: bytes) -> None:
    kept = open_engine(tmp_path)
    film(kept, "ann")
    assert film(kept, "bob") == expected
    assert kept.recalled == ALL_MISSES
    blobs, gradient = images()
    assert film(kept, "ann", gradient, prompt="A paper boat sinks.") == film(
        engine, "", gradient, prompt="A paper boat sinks."
    )
    assert kept.recalled == {"prompt_misses": 1, "reference_hits": 1}
    for other in (open_engine(tmp_path, mode="strict"), open_engine(tmp_path, precision="bfloat16")):
        film(other, "ann", blobs)
        assert other.recalled == {"prompt_misses": 1, "reference_misses": 1}
    number = len(list(tmp_path.iterdir()))
    film(kept, "")
    assert (kept.recalled, len(list(tmp_path.iterdir()))) == ({}, number)


@torch.inference_mode()
def test_a_prompt_that_is_found_needs_no_text_encoder() -> None:
    found = networks("fast", "float32")
    cache, counts = Cache(None, 0, 2**24), Counter[str]()
    rules = recalling(Rules(), cache, ["ann"], found.device, counts)

    def run(have: Any) -> bytes:
        events = render(have, [5, 9, 1], [picture("refs/blobs_90x160_0.png")], (32, 32), 1, 3, steps=2, rules=rules)
        return b"".join(event.pixels.tobytes() for event in events if isinstance(event, Decoded))

    assert run(found) == run(replace(found, text_encoder=None))
    assert counts == {"prompt_misses": 1, "prompt_hits": 1, "reference_misses": 1, "reference_hits": 1}


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-9] ^= 1
    path.write_bytes(data)


def swap(path: Path) -> None:
    """Another key's whole file, as a mended file system may leave it."""
    other = next(each for each in path.parent.iterdir() if each != path)
    path.write_bytes(other.read_bytes())


@pytest.mark.parametrize("damage", [cut, empty, flip, swap])
def test_a_damaged_file_is_a_miss(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    def put() -> Cache:
        cache = Cache(tmp_path, 2**20, 0)
        for number in range(2):
            cache.put(key_of(str(number)), {"x": torch.full((50,), float(number))})
        return cache

    cache = put()
    assert cache.get(key_of("1")) is not None
    damage(tmp_path / key_of("1"))
    assert cache.get(key_of("1")) is None
    put()
    found = cache.get(key_of("1"))
    assert found is not None
    assert torch.equal(found["x"], torch.ones(50))


@pytest.mark.parametrize("where", ["memory", "folder"])
def test_what_was_used_least_lately_makes_room(tmp_path: Path, where: str) -> None:
    cache = Cache(tmp_path, 40_000, 0) if where == "folder" else Cache(None, 0, 40_000)
    for number in range(3):
        cache.put(str(number), {"x": torch.full((3000,), float(number))})  # 12,000 bytes and a header
        if where == "folder":
            os.utime(tmp_path / str(number), (number, number))
    assert cache.get("0") is not None
    cache.put("3", {"x": torch.full((3000,), 3.0)})
    assert [key for key in "0123" if cache.get(key)] == ["0", "2", "3"]
    if where == "folder":
        assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 40_000


def test_what_is_larger_than_all_room_is_not_kept(tmp_path: Path) -> None:
    cache = Cache(tmp_path, 1000, 1000)
    cache.put("large", {"x": torch.zeros(3000)})
    assert (cache.get("large"), list(tmp_path.iterdir())) == (None, [])


def test_a_disk_that_can_t_be_written_fails_no_video(tmp_path: Path, engine: SkyreelsV3, expected: bytes) -> None:
    blocked = tmp_path / "cache"
    blocked.write_text("not a folder")
    kept = open_engine(blocked)
    assert film(kept, "ann") == film(kept, "ann") == expected
    assert kept.recalled == ALL_HITS  # from memory


def test_keys_of_other_parts_are_other_keys() -> None:
    assert len({key_of("ab", "c"), key_of("a", "bc"), key_of("abc"), key_of("ab", "c", "")}) == 4


def test_a_picture_s_shape_is_part_of_its_key() -> None:
    seen: list[tuple[int, ...]] = []
    rules = replace(Rules(), encode=lambda vae, picture: seen.append(picture.shape) or NOTHING)
    remembering = recalling(rules, Cache(None, 0, 2**20), [""], torch.device("cpu"), Counter())
    for shape in ((16, 32, 3), (32, 16, 3), (16, 32, 3)):
        remembering.encode(None, np.zeros(shape, np.uint8))
    assert seen == [(16, 32, 3), (32, 16, 3)]
