"""Networks made ready in each way there is, and the same frames from all of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from mutoscope.engines import Event, Frames, Image, Step
from mutoscope.engines.skyreels_v3.engine import SkyreelsV3
from mutoscope.engines.skyreels_v3.spec import Options
from mutoscope.tasks import VideoRequest

from .golden import CHECKPOINT
from .test_engine import images, pixels, request


@pytest.fixture(scope="module")
def resident() -> np.ndarray:
    return pixels(SkyreelsV3(Options(CHECKPOINT, precision="float32")), request(), images())


@pytest.mark.parametrize("placement", ["text offloaded", "blocks offloaded"])
def test_weights_that_lie_elsewhere_make_the_same_frames(resident: np.ndarray, placement: str) -> None:
    engine = SkyreelsV3(Options(CHECKPOINT, precision="float32", placement=placement))
    assert np.array_equal(pixels(engine, request(), images()), resident)
    assert engine.receipt()["placement"] == placement


@pytest.mark.slow
def test_two_processes_make_one_video_twice_and_can_be_left(resident: np.ndarray) -> None:
    engine = SkyreelsV3(Options(CHECKPOINT, precision="float32", gpus=2))
    try:
        assert np.abs(pixels(engine, request(), images()).astype(int) - resident).max() <= 1
        assert engine._built is not None
        assert engine._built.crew is not None
        [follower] = engine._built.crew.processes
        if (maps := Path(f"/proc/{follower.pid}/maps")).exists():  # of the files that a process has its weights from
            assert "/vae/" in maps.read_text()
            assert "/text_encoder/" not in maps.read_text()
            assert "/text_encoder/" in Path("/proc/self/maps").read_text()
        work = engine.generate(request(), images())
        while "denoising" not in getattr(next(work), "stage", ""):
            pass
        work.close()  # type: ignore[attr-defined]
        assert np.abs(pixels(engine, request(), images()).astype(int) - resident).max() <= 1
    finally:
        engine.close()


def test_out_of_memory_the_next_placement_is_tried_once(resident: np.ndarray) -> None:
    engine = Starved(1)
    events = list(engine.generate(request(), images()))
    assert "out of memory, trying text offloaded" in [event.stage for event in events if isinstance(event, Step)]
    frames = np.concatenate([event.pixels for event in events if isinstance(event, Frames)])
    assert np.array_equal(frames, resident)
    assert engine.receipt()["placement"] == "text offloaded"
    with pytest.raises(torch.OutOfMemoryError):
        list(Starved(2).generate(request(), images()))


class Starved(SkyreelsV3):
    """Runs out of memory as it begins, so many times."""

    def __init__(self, times: int) -> None:
        super().__init__(Options(CHECKPOINT, precision="float32"))
        self.times = times

    def _generate(self, request: VideoRequest, images: Sequence[Image], scope: str) -> Iterator[Event]:
        yield from self.load()
        if self.times:
            self.times -= 1
            raise torch.OutOfMemoryError("as if the device were full")
        yield from super()._generate(request, images, scope)


def test_an_attention_kernel_that_cannot_be_had_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="no attention back end 'fast'"):
        SkyreelsV3(Options(CHECKPOINT, attention="fast"))
