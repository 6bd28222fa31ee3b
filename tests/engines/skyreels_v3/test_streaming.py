"""Frames as they are decoded, control between blocks, and nothing left behind when the work is left halfway."""

from __future__ import annotations

import gc
import hashlib
import os
import resource
import subprocess
import sys
import weakref
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLWan

from mutoscope.engines.skyreels_v3.conditioning import statistics_of
from mutoscope.engines.skyreels_v3.decoding import decode, layers_of, run, to_pixels
from mutoscope.engines.skyreels_v3.numerics import rotary_angles
from mutoscope.engines.skyreels_v3.pipeline import Decoded, Drawn, render
from mutoscope.engines.skyreels_v3.sampling import Denoised, Working, predict, text_keys

from .golden import CHECKPOINT, networks, picture, tensors


@pytest.mark.parametrize("is_by_frame", [True, False], ids=["frame by frame", "a plane at once"])
@torch.inference_mode()
def test_streamed_frames_are_the_whole_clip_s_bytes(is_by_frame: bool) -> None:
    vae = networks("fast", "float32").vae
    latents = tensors("c05_1s_25f", "bfloat16")["latents"][-1]
    mean, scale = statistics_of(vae)
    whole = to_pixels(vae.decode(latents / scale + mean).sample)
    decoder = partial(run, [*layers_of(vae.decoder)], is_by_frame=is_by_frame)
    parts = [to_pixels(frames) for frames in decode(vae, latents, decoder)]
    assert [len(part) for part in parts] == [1, 4, 4, 4, 4, 4, 4]
    assert np.concatenate(parts).tobytes() == whole.tobytes()


@torch.inference_mode()
def test_frames_of_a_size_that_has_other_kernels_one_by_one_are_the_whole_clip_s() -> None:
    torch.manual_seed(0)
    vae = AutoencoderKLWan(base_dim=16).eval()
    latents = torch.randn((1, 16, 3, 30, 4))
    mean, scale = statistics_of(vae)
    whole = vae.decode(latents / scale + mean).sample
    assert torch.equal(torch.cat([*decode(vae, latents)], dim=2), whole)


@torch.inference_mode()
def test_a_decode_left_halfway_leaves_the_next_one_alone() -> None:
    vae = networks("fast", "float32").vae
    latents = tensors("c03_3ref_1x1", "float32")["latents"][-1]
    before = [frames.clone() for frames in decode(vae, latents)]
    left = decode(vae, latents)
    next(left)
    other = decode(vae, latents)
    next(other)
    left.close()
    assert torch.equal(next(other), before[1])


def events(**changes: Any) -> Iterator[Any]:
    given: dict[str, Any] = {
        "prompt": [263, 276, 1],
        "pictures": [picture("refs/blobs_64x64_0.png")],
        "size": (64, 48),
        "num_frames": 9,
        "seed": 3,
        "steps": 2,
    }
    return render(networks("fast", "float32"), **(given | changes))


def test_everything_is_yielded_in_order() -> None:
    assert [type(event).__name__ for event in events(pictures=[picture("refs/blobs_64x64_0.png")] * 2)] == [
        *("Embedded", "Drawn", "Referenced", "Referenced"),
        *("Denoised", "Denoised"),
        *("Decoded", "Decoded", "Decoded"),
    ]


def test_a_step_that_takes_long_can_be_left_at_each_block() -> None:
    seen = []
    work = events(negative=[1], text_guidance=2.0, quiet_seconds=0.0)
    for event in work:
        if isinstance(event, Working):
            seen.append((event.step, round(event.fraction, 3)))
        if isinstance(event, Denoised) and event.step == 0:
            break
    # Three layers, three passes (prompt, no prompt, nothing).
    assert seen == [(0, round(ninth / 9, 3)) for ninth in range(1, 10)]


def test_long_steps_yield_about_once_a_second_and_short_ones_never() -> None:
    assert not [event for event in events() if isinstance(event, Working)]


@pytest.mark.parametrize("leave_at", ["Embedded", "Drawn", "Referenced", "Denoised", "Decoded"])
def test_tensors_go_when_the_work_is_left(leave_at: str) -> None:
    alive: list[weakref.ref[torch.Tensor]] = []
    work = events()
    for event in work:
        if isinstance(event, Drawn):
            alive.append(weakref.ref(event.noise))
        if isinstance(event, Denoised):
            alive.append(weakref.ref(event.latents))
        if type(event).__name__ == leave_at:
            break
    del event
    work.close()
    del work
    gc.collect()
    assert not [ref for ref in alive if ref() is not None]


def test_a_hundred_cancels_leave_memory_at_its_level() -> None:
    def tensors_alive() -> int:
        gc.collect()
        return sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects())

    list(events())
    level = tensors_alive()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number in range(100):
        work = events(steps=1)
        for _ in range(number % 7 + 1):
            next(work)
        work.close()
    assert tensors_alive() == level
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 20_000  # KiB
    assert [event.pixels.tobytes() for event in events() if isinstance(event, Decoded)] == [
        event.pixels.tobytes() for event in events() if isinstance(event, Decoded)
    ]


def test_inference_mode_does_not_leak_to_whoever_drives() -> None:
    for _ in events():
        assert not torch.is_inference_mode_enabled()
        assert torch.is_grad_enabled()


@torch.inference_mode()
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_forward_pass_is_the_network_s_own(precision: Any) -> None:
    """Our pass, which can be left between blocks, against diffusers' forward with diffusers' processors."""
    from diffusers import WanTransformer3DModel
    from diffusers.models.normalization import RMSNorm

    dtype = getattr(torch, precision)
    stock: Any = WanTransformer3DModel.from_pretrained(CHECKPOINT / "transformer", torch_dtype=dtype).eval()
    strict = networks("strict", precision)
    generator = torch.Generator().manual_seed(1)
    latents = torch.randn((1, 16, 6, 12, 16), generator=generator).to(dtype)
    embeddings = torch.randn((1, 512, 64), generator=generator).to(dtype)
    timestep = torch.tensor([749])
    for block in stock.blocks:
        for attention in (block.attn1, block.attn2):
            for name in ("norm_q", "norm_k"):
                norm = RMSNorm(128, 1e-6)
                norm.weight = getattr(attention, name).weight
                setattr(attention, name, norm)
    expected = stock(latents, timestep, embeddings, return_dict=False)[0]

    text = text_keys(strict.transformer, strict.attention, embeddings)
    angles = rotary_angles(32, (6, 6, 8), torch.complex128, torch.device("cpu"))
    work = predict(strict.transformer, latents, timestep, text, angles)
    fractions = []
    while True:
        try:
            fractions.append(next(work))
        except StopIteration as end:
            found = end.value
            break
    assert fractions == [1 / 3, 2 / 3, 1.0]
    assert found.dtype == expected.dtype
    # Only the RoPE's precision is left between them.
    assert (found - expected).abs().max() <= (1e-5 if precision == "float32" else 0.05)


def test_the_same_seed_gives_the_same_frames_and_another_does_not() -> None:
    def frames(seed: int) -> bytes:
        return b"".join(event.pixels.tobytes() for event in events(seed=seed) if isinstance(event, Decoded))

    assert frames(3) == frames(3)
    assert frames(3) != frames(4)
    assert frames(2**63 - 1)  # the largest that the API takes


@pytest.mark.slow
def test_another_process_gives_the_same_frames() -> None:
    program = f"""
import hashlib, sys, torch
torch.set_num_threads({torch.get_num_threads() + 1})
sys.path.insert(0, {str(Path(__file__).parents[3])!r})
from tests.engines.skyreels_v3.test_streaming import digest
print(digest())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split()[-1] == digest()


def digest() -> str:
    return hashlib.sha256(
        b"".join(event.pixels.tobytes() for event in events() if isinstance(event, Decoded))
    ).hexdigest()


@pytest.mark.slow
def test_memory_does_not_grow_with_the_clip() -> None:
    """Past the first frames, whose buffers the allocator keeps, the process's peak stays where it is."""
    program = _DECODE.format(root=str(Path(__file__).parents[3]))
    # Freed buffers go back to the system at once, so that the peak is the program's and not the allocator's.
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"},
        capture_output=True,
        text=True,
        check=True,
    )
    peaks = [int(line) for line in done.stdout.split()]
    assert len(peaks) == 31
    clip = 26 * 4 * 3 * 128 * 192 * 4 // 1024  # KiB of float32 frames decoded between the two
    assert peaks[30] - peaks[4] < clip / 10


_DECODE = """
import sys, torch
sys.path.insert(0, {root!r})
torch.set_num_threads(1)
from mutoscope.engines.skyreels_v3.decoding import decode, to_pixels
from tests.engines.skyreels_v3.golden import networks
latents = torch.randn((1, 16, 31, 16, 24), generator=torch.Generator().manual_seed(0))
vae = networks("fast", "float32").vae
with torch.inference_mode():
    for frames in decode(vae, latents):
        to_pixels(frames)
        # Not ru_maxrss: a process inherits that from the one that started it.
        print(int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]))
"""


def test_sizes_and_counts_are_checked_before_any_work() -> None:
    for changes in ({"size": (64, 50)}, {"pictures": []}, {"pictures": [picture("refs/blobs_64x64_0.png")] * 5}):
        with pytest.raises(ValueError, match=r"multiple|references"):
            next(iter(events(**changes)))
