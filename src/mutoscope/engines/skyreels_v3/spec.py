"""What SkyReels-V3 R2V is, in numbers: its checkpoint, sizes, counts and schedule; and what an operator may choose.

Knows no tensor, no file and no library: nothing here imports torch, so that validation and planning stay light. Figures
come from the published checkpoint and from the reference implementation's behaviour (git 28c771e, 2026-01-30).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from mutoscope.engines.skyreels_v3.memory import Placement

TEXT_TOKENS = 512  # rows of text that cross attention sees; what the prompt leaves over is zeros, and is not masked
REFERENCE_SLOTS = 4  # latent frames after the video's, whether they are used or not
LATENT_CHANNELS = 16
TIME_FACTOR = 4  # video frames per latent frame, after the first
SPACE_FACTOR = 8  # pixels per latent pixel, each way
SIZE_MULTIPLE = 16  # pixels: the VAE's 8 times the network's patch of 2

DEFAULT_STEPS = 8
FLOW_SHIFT = 5.0
TRAIN_STEPS = 1000
TIMESTEPS = (999, 972, 937, 892, 833, 749, 624, 416)
"""The 8 timesteps that the model was distilled for. A library that computes others makes another video."""

CLASSES = {
    "scheduler": "UniPCMultistepScheduler",
    "text_encoder": "UMT5EncoderModel",
    "tokenizer": "T5TokenizerFast",
    "transformer": "WanTransformer3DModel",
    "vae": "AutoencoderKLWan",
}
"""model_index.json names these parts and classes; the pipeline's own name there (WanPipeline) says nothing."""

TRANSFORMER_CLASSES = ("SkyReelsC1WanI2v3DModel", "SkyReelsA2WanI2v3DModel")
"""transformer/config.json tells this model from a text-to-video Wan, whose tensors have the same names and shapes."""

TRANSFORMER_CONFIG: dict[str, object] = {
    "in_channels": 16,
    "out_channels": 16,
    "patch_size": [1, 2, 2],
    "freq_dim": 256,
    "eps": 1e-06,
    "cross_attn_norm": True,
    "qk_norm": "rms_norm_across_heads",
    "image_dim": None,
    "added_kv_proj_dim": None,
    "pos_embed_seq_len": None,
}
"""What must hold of any size of this network; widths and depths may differ (the real one: 40 layers of 40 × 128)."""

VAE_CONFIG: dict[str, object] = {
    "z_dim": 16,
    "temperal_downsample": [False, True, True],
    "in_channels": 3,
    "out_channels": 3,
    "patch_size": None,
    "is_residual": False,
    "scale_factor_temporal": 4,
    "scale_factor_spatial": 8,
}

Mode = Literal["fast", "strict"]
Precision = Literal["bfloat16", "float32"]
Resolution = Literal["480P", "540P", "720P"]


@dataclass(frozen=True, slots=True)
class Options:
    """What an operator chooses for this engine.

    `mode`: `strict` computes as the reference does, bit for bit on the same CPU; `fast` differs by rounding.
    `device`: empty takes the accelerator if there is one. `noise_on_device` draws noise where the network runs: the
    reference's numbers for a seed, but other numbers on other devices. Guidance of 1 is none; text and image guidance
    together cost three predictions a step instead of one. `gpus` render one video together. `placement` and
    `attention` pin what is otherwise chosen by what fits and what the device has. `has_previews`: each step hands out
    what the video is going to look like. `compiled` has torch compile the network's blocks, which takes a minute
    before the first video and again before the first of another size. What prompts and references became is kept in
    `cache_memory_bytes` of memory, and in `cache_bytes` of `cache_folder`, where there is one.
    """

    checkpoint: Path
    mode: Mode = "fast"
    precision: Precision = "bfloat16"
    device: str = ""
    noise_on_device: bool = False
    steps: int = DEFAULT_STEPS
    text_guidance: float = 1.0
    image_guidance: float = 1.0
    negative_prompt: str = ""
    gpus: int = 1
    placement: Placement | None = None
    attention: str | None = None
    has_previews: bool = True
    compiled: bool = False
    cache_folder: Path | None = None
    cache_bytes: int = 2**31
    cache_memory_bytes: int = 2**28

    def __post_init__(self) -> None:
        if self.gpus < 1:
            raise ValueError(f"gpus is {self.gpus}: it must be 1 or more")
        if not 1 <= self.steps <= TRAIN_STEPS:
            raise ValueError(f"steps is {self.steps}: it must be 1 to {TRAIN_STEPS}")
        if self.mode not in ("fast", "strict"):
            raise ValueError(f"mode is {self.mode!r}: it must be fast or strict")
        if self.precision not in ("bfloat16", "float32"):
            raise ValueError(f"precision is {self.precision!r}: it must be bfloat16 or float32")
        if self.compiled and self.mode == "strict":
            raise ValueError(
                "compiled is True and mode is 'strict': compiled blocks round otherwise, so mode must be fast"
            )


def num_latent_frames(num_frames: int) -> int:
    """Latent frames of a clip of `num_frames` (1, 5, 9, ...). Raises ValueError for any other count."""
    if num_frames < 1 or (num_frames - 1) % TIME_FACTOR:
        raise ValueError(f"{num_frames} frames: the count must be 1 more than a multiple of {TIME_FACTOR}")
    return (num_frames - 1) // TIME_FACTOR + 1


def check_size(size: tuple[int, int]) -> None:
    """Raises ValueError unless width and height, in pixels, are what the network can divide."""
    width, height = size
    if width < SIZE_MULTIPLE or height < SIZE_MULTIPLE or width % SIZE_MULTIPLE or height % SIZE_MULTIPLE:
        raise ValueError(f"{width}×{height} pixels: each side must be a multiple of {SIZE_MULTIPLE}")


def bucket(width: int, height: int, resolution: Resolution) -> tuple[int, int]:
    """(width, height) that the model renders for a picture's shape: the trained bucket of the nearest ratio.

    The first of two equally near ratios wins; sides are cut to multiples of 16 pixels.
    """
    ratio = height / width
    near = min(BUCKETS[resolution], key=lambda each: abs(each[0] - ratio))
    return near[2] // SIZE_MULTIPLE * SIZE_MULTIPLE, near[1] // SIZE_MULTIPLE * SIZE_MULTIPLE


def _table(text: str) -> Sequence[tuple[float, int, int]]:
    rows = (row.replace(":", " ").replace("x", " ").split() for row in text.split(","))
    return [(float(ratio), int(height), int(width)) for ratio, height, width in rows]


# Nominal height/width ratio: height x width, in pixels, before they are cut to multiples of 16.
BUCKETS: dict[Resolution, Sequence[tuple[float, int, int]]] = {
    "480P": _table(
        "0.38: 392x1046, 0.43: 420x980, 0.48: 444x925, 0.50: 452x904, 0.53: 466x880, 0.54: 470x870, "
        "0.56: 480x854, 0.62: 506x810, 0.67: 522x784, 0.75: 554x738, 1.00: 640x640, 1.33: 740x555, "
        "1.50: 784x522, 1.78: 854x480, 1.89: 880x466, 2.00: 906x454, 2.08: 924x444"
    ),
    "540P": _table(
        "0.34: 416x1216, 0.38: 464x1216, 0.40: 464x1152, 0.43: 496x1152, 0.48: 496x1024, 0.50: 512x1024, "
        "0.53: 512x960, 0.57: 544x960, 0.60: 544x912, 0.63: 576x912, 0.67: 576x864, 0.72: 624x864, "
        "0.75: 624x832, 0.79: 656x832, 0.84: 656x784, 0.92: 720x784, 1.00: 720x720, 1.09: 784x720, "
        "1.26: 784x624, 1.33: 832x624, 1.40: 832x592, 1.49: 880x592, 1.62: 880x544, 1.78: 960x544, "
        "1.88: 960x512, 2.00: 1024x512, 2.13: 1024x480"
    ),
    "720P": _table(
        "0.38: 588x1568, 0.43: 628x1466, 0.48: 666x1388, 0.50: 678x1356, 0.53: 698x1318, 0.54: 706x1306, "
        "0.56: 720x1280, 0.62: 758x1212, 0.67: 784x1176, 0.75: 832x1110, 1.00: 960x960, 1.33: 1108x832, "
        "1.50: 1176x784, 1.78: 1280x720, 1.89: 1320x698, 2.00: 1358x680, 2.08: 1386x666"
    ),
}
