"""The GPUs that a plan may choose from: what their makers state, what was measured on them, and what they rent for.

Peaks are dense, with float32 accumulation. A share of the peak is what a 14-billion video transformer reached in a
published measurement, or is marked as assumed. Knows no model.
"""

from __future__ import annotations

from dataclasses import dataclass

_RENT = "the low end of RunPod's list, March 2026; elsewhere, and on demand, up to twice that"

WAN_REPORT = "Wan 2.1's own efficiency table: T2V-14B 720p takes 1838, 945, 497, 288 s on 1, 2, 4, 8 H100"
LIGHTX2V = "LightX2V's README: Wan2.1-I2V-14B 480p, 8 RTX 4090D 4.3 times as fast as one"


@dataclass(frozen=True, slots=True)
class Link:
    """How GPUs of one machine share a clip: the speed-up of 1, 2, 4, 8 over one, and where it was measured."""

    name: str
    speedups: dict[int, float]
    source: str


NVLINK = Link("NVLink", {1: 1.0, 2: 1.94, 4: 3.70, 8: 6.38}, WAN_REPORT)
PCIE = Link("PCIe", {1: 1.0, 2: 1.62, 4: 2.63, 8: 4.27}, f"{LIGHTX2V}; 2 and 4 interpolated")


@dataclass(frozen=True, slots=True)
class Gpu:
    """One kind of GPU. TFLOP/s, GB/s and dollars an hour; `memory_mib` as the driver reports it.

    `share` is the part of the bf16 peak that denoising reaches: a careful engine with the best exact attention kernel;
    `low` and `high` bound it. `host_gbs` is the way to host memory, `tf32` what the VAE's float32 convolutions run at.
    """

    name: str
    memory_mib: int
    bf16: float
    fp8: float | None
    tf32: float
    bandwidth_gbs: float
    host_gbs: float
    low: float
    share: float
    high: float
    link: Link
    dollars_per_hour: float
    specification: str
    share_source: str
    price_source: str = _RENT

    @property
    def memory_bytes(self) -> int:
        return self.memory_mib * 2**20


_H100_SHARE = (
    "LightX2V's README, Wan2.1-I2V-14B 480p on one H100 (3.3 PFLOP a step): diffusers 9.77 s (35 %), SGLang 6.13 s "
    "(55 %), LightX2V 5.18 s (65 %)"
)

GPUS: tuple[Gpu, ...] = (
    Gpu("H100", 81_559, 989, 1979, 495, 3350, 50, 0.35, 0.55, 0.65, NVLINK, 2.69, "NVIDIA H100 SXM", _H100_SHARE),
    Gpu(
        "H200", 143_771, 989, 1979, 495, 4800, 50, 0.35, 0.55, 0.65, NVLINK, 3.59, "NVIDIA H200 SXM",
        "LightX2V's documentation: Wan2.1-I2V-14B 720p with the official code, 974 s for 520 PFLOP on one H200 (54 %)",
    ),
    Gpu(
        "B200", 183_359, 2250, 4500, 1100, 8000, 50, 0.35, 0.50, 0.62, NVLINK, 5.98, "NVIDIA HGX B200",
        "NVIDIA FlashDreams' benchmarks: Wan 2.1 runs 2.36 times as fast on a GB200 as on an H100, times H100's share",
    ),
    Gpu(
        "A100", 81_920, 312, None, 156, 2039, 25, 0.45, 0.60, 0.65, NVLINK, 1.39, "NVIDIA A100 80 GB SXM",
        "Wan 2.1's own efficiency table: T2V-14B 720p, 650 PFLOP in 3343 s on one A100 (62 %)",
    ),
    Gpu(
        "L40S", 46_068, 362, 733, 183, 864, 25, 0.35, 0.45, 0.55, PCIE, 0.79, "NVIDIA L40S",
        "assumed: 4090's share, less what 350 W take from it; no measurement found",
    ),
    Gpu(
        "4090", 24_564, 165, 330, 83, 1008, 25, 0.50, 0.65, 0.75, PCIE, 0.34, "NVIDIA RTX 4090",
        "LightX2V's README: the same step by diffusers on an RTX 4090D, 30.5 s (73 % of its 147 TFLOP/s)",
    ),
    Gpu(
        "5090", 32_607, 209.5, 419, 105, 1792, 50, 0.50, 0.65, 0.75, PCIE, 0.69, "NVIDIA RTX 5090",
        "assumed: the 4090's share; no measurement found",
    ),
)  # fmt: skip
"""The fastest kinds of data centre first, then workstation and desktop cards."""


def find(name: str) -> Gpu:
    """The GPU of this name, in any case, with or without `RTX`. Raises KeyError."""
    wanted = name.upper().replace("RTX", "").replace("NVIDIA", "").strip(" -_")
    for gpu in GPUS:
        if gpu.name == wanted:
            return gpu
    raise KeyError(name)
