"""Reads tests/golden, renders a case, and compares stage by stage, in the order that finds a fault fastest."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from safetensors.torch import load_file

from mutoscope.engines.skyreels_v3 import checkpoint, text
from mutoscope.engines.skyreels_v3.checkpoint import Networks
from mutoscope.engines.skyreels_v3.pipeline import Decoded, Drawn, Embedded, Referenced, Rules, render
from mutoscope.engines.skyreels_v3.sampling import Denoised
from mutoscope.engines.skyreels_v3.spec import Mode, Precision

GOLDEN = Path(os.environ.get("MUTOSCOPE_GOLDEN", Path(__file__).parents[2] / "golden"))
CHECKPOINT = GOLDEN / "tiny-r2v"
MANIFEST: dict[str, Any] = json.loads((GOLDEN / "manifest.json").read_text())
FUNCTIONS: dict[str, Any] = json.loads((GOLDEN / "functions.json").read_text())
CASES: list[dict[str, Any]] = MANIFEST["cases"]


def is_exact_here() -> bool:
    """Whether this machine rounds as the one that made the data: then strict mode must agree bit for bit."""
    made = MANIFEST["environment"]
    if torch.__version__.split("+")[0] != made["torch"].split("+")[0]:
        return False
    if made.get("made_by") == "reference.py":
        return True
    cpu = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    return (
        made["cpu"] in cpu and "amx_bf16" in cpu and torch.backends.cpu.get_cpu_capability() == made["cpu_capability"]
    )


@functools.cache
def networks(mode: Mode, precision: Precision) -> Networks:
    loading = checkpoint.load(CHECKPOINT, precision, mode, torch.device("cpu"))
    while True:
        try:
            next(loading)
        except StopIteration as end:
            return end.value


@functools.cache
def tensors(name: str, dtype: str) -> dict[str, torch.Tensor]:
    """A case's tensors; what is stored for one of its dtypes only is the same for both."""
    both = [case for case in CASES if case["name"] == name]
    found = {}
    for case in sorted(both, key=lambda case: case["dtype"] == dtype):
        found |= load_file(GOLDEN / case["file"])
    return found


def case_of(name: str, dtype: str) -> dict[str, Any]:
    return next(case for case in CASES if case["name"] == name and case["dtype"] == dtype)


def picture(path: str) -> np.ndarray:
    """A reference as the golden data saw it: alpha dropped, not composited."""
    return np.asarray(ImageOps.exif_transpose(Image.open(GOLDEN / path)).convert("RGB"))


@dataclass
class Recording:
    """What came out at each stage."""

    ids: list[int]
    embeddings: torch.Tensor | None = None
    noise: torch.Tensor | None = None
    references: list[Referenced] = field(default_factory=list)
    steps: list[Denoised] = field(default_factory=list)
    frames: list[np.ndarray] = field(default_factory=list)


def ids_of(networks: Networks, prompt: str, clean: Callable[[str], str] = text.clean) -> list[int]:
    """Token ids as the reference has them, which cuts a long prompt where the engine refuses it."""
    ids = networks.tokenizer.encode(clean(prompt)).ids
    return ids if len(ids) <= 512 else [*ids[:511], 1]


def record(
    networks: Networks,
    case: dict[str, Any],
    rules: Rules | None = None,
    clean: Callable[[str], str] = text.clean,
    pictures: Sequence[np.ndarray] | None = None,
) -> Recording:
    out = Recording(ids_of(networks, case["prompt"], clean))
    guided = case.get("guidance_scale", 1.0) != 1.0
    for event in render(
        networks,
        out.ids,
        pictures or [picture(path) for path in case["refs"]],
        (case["width"], case["height"]),
        case["num_frames"],
        case["seed"],
        steps=case.get("num_inference_steps", 8),
        negative=ids_of(networks, case["negative_prompt"]) if guided else None,
        text_guidance=case.get("guidance_scale", 1.0),
        image_guidance=case.get("guidance_scale_img", 1.0),
        rules=rules,
    ):
        match event:
            case Embedded(prompt=prompt):
                out.embeddings = prompt
            case Drawn(noise=noise):
                out.noise = noise
            case Referenced():
                out.references.append(event)
            case Denoised():
                out.steps.append(event)
            case Decoded(pixels=pixels):
                out.frames.append(pixels)
    return out


def apart(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Relative L2 distance."""
    return float((found.double() - expected.double()).norm() / expected.double().norm().clamp_min(1e-12))


def last_apart(found: Recording, case: dict[str, Any]) -> float:
    return apart(found.steps[-1].latents, tensors(case["name"], case["dtype"])["latents"][-1])


@dataclass(frozen=True)
class Limits:
    """How far each stage may be from the golden data (manifest.json: tolerances); zeros mean bit for bit."""

    embeddings: float = 0.0
    pictures: float = 0.0
    prediction: float = 0.0
    latents: float = 0.0
    frame_level: int = 0
    frames_differing: float = 0.0
    psnr: float = 150.0


def limits_of(case: dict[str, Any], exact: bool) -> Limits:
    if exact:
        return Limits()
    if case["dtype"] == "float32":
        return Limits(1e-5, 1e-5, 1e-4, 1e-4, 1, 0.005, 80.0)
    if case["guidance_scale"] != 1.0:
        return Limits(0.02, 1e-5, 0.1, 0.05, 255, 1.0, 36.0)
    return Limits(0.02, 1e-5, 0.03, 0.012, 255, 1.0, 45.0)


def compare(found: Recording, case: dict[str, Any], exact: bool) -> None:
    """Raises AssertionError naming the first stage that differs by more than it may."""
    golden, limits = tensors(case["name"], case["dtype"]), limits_of(case, exact)
    assert found.ids == golden["input_ids"].tolist(), "token ids"
    assert found.embeddings is not None
    assert apart(found.embeddings[:, : len(found.ids)], golden["prompt_embeds"]) <= limits.embeddings, (
        "prompt embeddings"
    )
    assert not found.embeddings[:, len(found.ids) :].any(), "text after the prompt is not zero"
    assert found.noise is not None
    assert torch.equal(found.noise, golden["noise"]), "noise"
    for index, reference in enumerate(found.references):
        if "ref_images_u8" in golden:
            assert np.array_equal(reference.picture, golden["ref_images_u8"][index].numpy()), f"picture {index}"
            mean, std = golden["ref_posterior_mean"][:, :, [index]], golden["ref_posterior_std"][:, :, [index]]
            assert apart(reference.posterior.mean, mean) <= limits.pictures, f"posterior mean {index}"
            assert apart(reference.posterior.std, std) <= limits.pictures, f"posterior deviation {index}"
        latents = golden["ref_latents"][:, :, [index]]
        assert apart(reference.latents, latents) <= limits.pictures, f"reference latents {index}"
    assert len(found.steps) == len(golden["latents"]), "steps"
    for step, after in enumerate(found.steps):
        assert after.prediction.dtype == golden["noise_pred"].dtype, f"precision of prediction {step}"
        assert apart(after.prediction, golden["noise_pred"][step]) <= limits.prediction, f"prediction {step}"
        assert apart(after.latents, golden["latents"][step]) <= limits.latents, f"latents {step}"
    frames, expected = np.concatenate(found.frames), golden["frames_u8"].numpy()
    assert frames.shape == expected.shape, "shape of the frames"
    differing = np.abs(frames.astype(np.int16) - expected)
    assert differing.max() <= limits.frame_level, "frames"
    assert (differing > 0).mean() <= limits.frames_differing, "frames"
    assert psnr(frames, expected) >= limits.psnr, "frames"


def psnr(found: np.ndarray, expected: np.ndarray) -> float:
    error = float(np.mean((found.astype(np.float64) - expected) ** 2))
    return 10 * float(np.log10(255**2 / max(error, 1e-11)))
