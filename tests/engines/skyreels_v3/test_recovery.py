"""A hundred cancels and twenty allocation failures: memory is back at its level, and the next video is right."""

from __future__ import annotations

import gc
import random
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from mutoscope.engines import Frames, Image
from mutoscope.engines.skyreels_v3.engine import SkyreelsV3
from mutoscope.engines.skyreels_v3.spec import Options
from mutoscope.tasks import VideoRequest

from .golden import CHECKPOINT, picture

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads /proc")]

LEVEL = 8  # MiB that the allocator may keep: less than one set of networks, or the features of a few videos


class Small(VideoRequest):
    """5 frames of 64×48 pixels."""

    size = (64, 48)
    num_frames = 5


REQUEST = Small("A paper boat drifts.", ("file:0",), seed=1)


@pytest.fixture
def engine() -> SkyreelsV3:
    # Pinned, so that running out of memory is an end, and not the beginning of another placement.
    return SkyreelsV3(Options(CHECKPOINT, precision="float32", steps=2, placement="resident", has_previews=False))


def events(engine: SkyreelsV3) -> Iterator[Any]:
    return iter(engine.generate(REQUEST, [Image(picture("refs/blobs_90x160_0.png"))]))


def video(engine: SkyreelsV3) -> bytes:
    return b"".join(event.pixels.tobytes() for event in events(engine) if isinstance(event, Frames))


def resident() -> float:
    """MiB of this process in memory."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20


def test_a_hundred_cancels_at_any_point(engine: SkyreelsV3) -> None:
    expected = video(engine)
    count = sum(1 for _ in events(engine))
    assert count > 6
    points = random.Random(7)
    levels = []
    for number in range(100):
        work = events(engine)
        for _ in range(points.randint(1, count - 1)):
            next(work)
        work.close()  # type: ignore[attr-defined]
        if number % 10 == 9:
            levels.append(resident())
    assert levels[-1] - levels[0] < LEVEL
    assert video(engine) == expected


def layers_in_turn(engine: SkyreelsV3) -> list[str]:
    """The names of all networks' layers in the order in which a video first comes to them."""
    assert engine._built is not None
    seen: dict[str, None] = {}
    hooks = [
        module.register_forward_pre_hook(lambda *_, name=name: seen.setdefault(name))
        for name, module in layers_of(engine).items()
    ]
    video(engine)
    for hook in hooks:
        hook.remove()
    return list(seen)


def layers_of(engine: SkyreelsV3) -> dict[str, nn.Module]:
    assert engine._built is not None
    networks = engine._built.networks
    parts = {"text": networks.text_encoder, "vae": networks.vae, "transformer": networks.transformer}
    return {f"{part} {name}": module for part, network in parts.items() for name, module in network.named_modules()}


def test_twenty_failures_to_allocate_at_twenty_depths(engine: SkyreelsV3) -> None:
    def no_room(*_: object) -> None:
        raise torch.OutOfMemoryError("as if the device were full")

    expected = video(engine)
    names = layers_in_turn(engine)
    levels = []
    for number in range(20):
        list(engine.load())
        layer = layers_of(engine)[names[number * (len(names) - 1) // 19]]
        layer.register_forward_pre_hook(no_room)
        gone = weakref.ref(layer)
        del layer
        with pytest.raises(torch.OutOfMemoryError):
            video(engine)
        if number % 5 == 4:
            levels.append(resident())
            assert gone() is None, "the networks went with the failure"
            assert video(engine) == expected
    assert levels[-1] - levels[0] < LEVEL
