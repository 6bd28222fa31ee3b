"""How fast and lean SkyReels-V3 is here, against a plain composition of the same diffusers classes, on random weights.

    python benchmarks/skyreels.py denoise [--compile] [--precision float32] [--layers 40 --heads 40 ...]
    python benchmarks/skyreels.py film

`denoise` runs both loops in turns in one process and prints medians, their ratio, and the arithmetic done per second
(and its share of the device's peak, where `--peak-tflops` gives it or the device is known), and which share of the
plain way's time nothing but a faster kernel can save. `film` goes from pictures to an mp4, each way in a process of
its own, and prints peak memory and the time to the first frame. Both run on CPU and on CUDA. On a shared CPU
`--threads 1` counts processor time, which other programs disturb less than the clock's.
"""

from __future__ import annotations

import sys

sys.path[0] = sys.path[0].removesuffix("benchmarks")  # where a `platform` lies that is not the standard library's

import argparse
import json
import resource
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanTransformer3DModel
from PIL import Image
from torch.profiler import ProfilerActivity, profile

from mutoscope.engines.skyreels_v3.conditioning import encode, letterbox, normalise, sample, statistics_of
from mutoscope.engines.skyreels_v3.decoding import decode, to_pixels
from mutoscope.engines.skyreels_v3.heap import return_what_is_freed
from mutoscope.engines.skyreels_v3.numerics import COMPILED, FAST, STRICT, Attention, Numerics, use
from mutoscope.engines.skyreels_v3.sampling import (
    Conditions,
    Denoised,
    LoopRules,
    append_references,
    denoise,
    noise_levels,
    text_keys,
)
from mutoscope.video import Mp4Writer

PEAKS = {"H100": 989, "H200": 989, "B200": 2250, "A100": 312, "L40S": 362, "4090": 165, "5090": 210}  # dense bf16, TF/s
EXAMPLES = Path(__file__).parents[1] / "examples"


def network_of(given: argparse.Namespace, device: torch.device) -> Any:
    """A transformer of the given size with random weights, in float32 where the checkpoint's loader keeps it so."""
    torch.manual_seed(0)
    any_class: Any = WanTransformer3DModel
    network = any_class(
        num_attention_heads=given.heads,
        attention_head_dim=128,
        ffn_dim=given.ffn,
        num_layers=given.layers,
        text_dim=given.text_dim,
    )
    for name, parameter in network.named_parameters():
        if not any(part in name for part in any_class._keep_in_fp32_modules):
            parameter.data = parameter.data.to(getattr(torch, given.precision))
    return network.eval().requires_grad_(False).to(device)


def sharing(network: Any, numerics: Numerics, given: argparse.Namespace, device: torch.device) -> Any:
    """A second network on the same weights, with our attention."""
    other: Any = WanTransformer3DModel
    with torch.device("meta"):
        other = other.from_config(network.config)
    other.load_state_dict(network.state_dict(), assign=True)
    return other.eval().requires_grad_(False), use(other, numerics)


def plain_denoise(
    network: Any, noise: torch.Tensor, references: list[torch.Tensor], text: torch.Tensor, steps: int
) -> Any:
    """What one would write with diffusers' classes: forward, step, forward, step."""
    any_solver: Any = UniPCMultistepScheduler
    solver = any_solver(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=5.0)
    solver.set_timesteps(sigmas=noise_levels(steps), device=noise.device)
    latents = noise
    for timestep in solver.timesteps:
        given = append_references(latents, references).to(text.dtype)
        prediction = network(given, timestep.expand(1), text, return_dict=False)[0][:, :, : noise.shape[2]]
        latents = solver.step(prediction, timestep, latents, return_dict=False)[0]
    return latents


def our_denoise(
    network: Any, attention: Attention, numerics: Numerics, noise: Any, references: Any, text: Any, steps: int
) -> Any:
    conditions = Conditions(references, text_keys(network, attention, text))
    last = noise
    for event in denoise(network, noise, conditions, numerics, steps, LoopRules()):
        if isinstance(event, Denoised):
            last = event.latents
    return last


def flops_per_step(given: argparse.Namespace, tokens: int, text_tokens: int = 512) -> float:
    """Multiply-adds twice, as they are counted: projections, feed-forward and both attentions of every layer."""
    dim = given.heads * 128
    linear = 2 * tokens * (4 * dim * dim + 2 * dim * dim + 2 * dim * given.ffn) + 2 * text_tokens * 2 * dim * dim
    attention = 4 * dim * tokens * (tokens + text_tokens)
    return float(given.layers * (linear + attention))


def timed(work: Callable[[], Any], device: torch.device) -> tuple[float, Any]:
    if device.type != "cpu":
        torch.accelerator.synchronize()
    clock = time.process_time if device.type == "cpu" and torch.get_num_threads() == 1 else time.perf_counter
    begun = clock()
    found = work()
    if device.type != "cpu":
        torch.accelerator.synchronize()
    return clock() - begun, found


@torch.inference_mode()
def bench_denoise(given: argparse.Namespace, device: torch.device) -> None:
    """Both loops in turns, so that a busy machine slows both; medians of the runs and of their ratios."""
    network = network_of(given, device)
    numerics = STRICT if given.mode == "strict" else COMPILED if given.compile else FAST
    ours, attention = sharing(network, numerics, given, device)
    dtype = getattr(torch, given.precision)
    rows, columns = given.height // 8, given.width // 8
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn((1, 16, given.latent_frames, rows, columns), generator=generator).to(device)
    references = [torch.randn((1, 16, 1, rows, columns), generator=generator).to(device)]
    text = torch.zeros((1, 512, given.text_dim))
    text[:, :60] = torch.randn((1, 60, given.text_dim), generator=generator)
    text = text.to(device, dtype)
    tokens = (given.latent_frames + 4) * (rows // 2) * (columns // 2)

    def plain() -> Any:
        return plain_denoise(network, noise, references, text, given.steps)

    def fast() -> Any:
        return our_denoise(ours, attention, numerics, noise, references, text, given.steps)

    (_, one), (_, two) = timed(plain, device), timed(fast, device)  # warm both up
    apart = float((one.double() - two.double()).norm() / one.double().norm())
    pairs = [(timed(plain, device)[0], timed(fast, device)[0]) for _ in range(given.rounds)]
    for name, seconds in (("plain", [pair[0] for pair in pairs]), ("ours", [pair[1] for pair in pairs])):
        median = statistics.median(seconds)
        rate = flops_per_step(given, tokens) * given.steps / median / 1e12
        peak = given.peak_tflops or known_peak(device)
        share = f", {100 * rate / peak:.0f} % MFU" if peak else ""
        print(
            f"{name:>6}: {median / given.steps:.3f} s a step ({min(seconds) / given.steps:.3f} best), "
            f"{rate:.2f} TF/s{share}"
        )
    print(f" floor: {unavoidable(plain, device):.2f} of plain's time is attention and matrix products")
    ratios = [ours / plain for plain, ours in pairs]
    print(
        f" ratio: {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f}), {tokens} tokens, "
        f"{given.precision}, {given.mode}{', compiled' if given.compile else ''}; latents {apart:.1e} apart"
    )


def unavoidable(work: Callable[[], Any], device: torch.device) -> float:
    """The share of attention and matrix products in the time of some work: what is left to save is the rest."""
    kind = ProfilerActivity.CPU if device.type == "cpu" else ProfilerActivity.CUDA
    with profile(activities=[kind]) as profiled:
        work()
    times = {
        each.key: each.self_cpu_time_total if device.type == "cpu" else each.self_device_time_total
        for each in profiled.key_averages()
    }
    products = ("attention", "addmm", "gemm", "fmha", "flash", "nvjet")
    return sum(spent for key, spent in times.items() if any(name in key for name in products)) / sum(times.values())


def known_peak(device: torch.device) -> float:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
    return next((float(peak) for part, peak in PEAKS.items() if part in name), 0.0)


@torch.inference_mode()
def film_once(given: argparse.Namespace, device: torch.device) -> None:
    """Pictures → latents of references → frames → mp4, our way or the plain way; prints a line of JSON."""
    torch.manual_seed(0)
    any_vae: Any = AutoencoderKLWan
    vae = any_vae(base_dim=given.vae_dim).eval().requires_grad_(False).to(device)
    pictures = [np.asarray(Image.open(EXAMPLES / "chelsea.jpg").convert("RGB"))] * 2
    latents = torch.randn((1, 16, given.latent_frames, given.height // 8, given.width // 8)).to(device)
    begun = time.perf_counter()
    level = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    first = 0.0
    with tempfile.TemporaryDirectory() as folder:
        with Mp4Writer(Path(folder) / "out.mp4", (given.width, given.height), {}) as writer:
            for picture in pictures:
                posterior = encode(vae, letterbox(picture, given.width, given.height))
                normalise(vae, sample(posterior, torch.randn(posterior.mean.shape)))
            if given.plain:
                mean, scale = statistics_of(vae)
                video = vae.decode(latents / scale.to(latents) + mean.to(latents), return_dict=False)[0]
                # As diffusers' VideoProcessor and export_to_video do it: tensor → floats → pictures → arrays.
                floats = (video * 0.5 + 0.5).clamp(0, 1)[0].permute(1, 2, 3, 0).cpu().float().numpy()
                shown = [Image.fromarray((frame * 255).round().astype(np.uint8)) for frame in floats]
                for frame in [np.array(one) for one in shown]:
                    first = first or time.perf_counter() - begun
                    writer.add(frame[None])
            else:
                if device.type == "cpu":
                    return_what_is_freed()
                for decoded in decode(vae, latents):
                    pixels = to_pixels(decoded)
                    first = first or time.perf_counter() - begun
                    writer.add(pixels)
        seconds = time.perf_counter() - begun
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    device_peak = torch.cuda.max_memory_allocated() if device.type == "cuda" else 0
    print(json.dumps({"first": first, "all": seconds, "peak": peak, "grown": peak - level, "device": device_peak}))


def bench_film(given: argparse.Namespace) -> None:
    """Both ways, a process each; the peaks are of the whole process."""
    found = {}
    for name, flag in (("plain", ["--plain"]), ("ours", [])):
        done = subprocess.run(
            [sys.executable, __file__, "film-once", *sys.argv[2:], *flag], capture_output=True, text=True
        )
        if done.returncode:
            raise SystemExit(done.stderr)
        found[name] = one = json.loads(done.stdout.splitlines()[-1])
        print(
            f"{name:>6}: first frame {one['first']:.2f} s, all {one['all']:.1f} s, peak {one['peak'] / 1024:.0f} MiB "
            f"(+{one['grown'] / 1024:.0f})" + (f", device {one['device'] / 2**20:.0f} MiB" if one["device"] else "")
        )
    ratios = {key: found["ours"][key] / found["plain"][key] for key in ("first", "all", "peak", "grown")}
    print(" ratio: " + ", ".join(f"{key} {ratio:.3f}" for key, ratio in ratios.items()))


def main() -> None:
    """Read the command line and run one benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["denoise", "film", "film-once"])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--precision", default="bfloat16", choices=["bfloat16", "float32"])
    parser.add_argument("--mode", default="fast", choices=["fast", "strict"])
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--plain", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--peak-tflops", type=float, default=0.0)
    network = {"layers": 8, "heads": 4, "ffn": 1384, "text_dim": 512, "vae_dim": 16}
    work = {"height": 320, "width": 576, "latent_frames": 0, "steps": 2, "rounds": 5, "threads": 0}
    for name, value in (network | work).items():
        parser.add_argument("--" + name.replace("_", "-"), type=int, default=value)
    given = parser.parse_args()
    given.latent_frames = given.latent_frames or (3 if given.what == "denoise" else 31)
    device = torch.device(given.device)
    if given.threads:
        torch.set_num_threads(given.threads)
    if given.what == "denoise":
        bench_denoise(given, device)
    elif given.what == "film":
        bench_film(given)
    else:
        film_once(given, device)


if __name__ == "__main__":
    main()
