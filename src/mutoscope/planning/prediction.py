"""How long a clip takes on which GPUs, and what that costs: operations over the speed that such GPUs reach.

A prediction, not a measurement: arithmetic bounds this model, so that time is operations over peak times share.
"""

from __future__ import annotations

from dataclasses import dataclass

from mutoscope.engines.skyreels_v3.cost import TRANSFORMER, Clip, cost_of
from mutoscope.engines.skyreels_v3.memory import PLACEMENTS, Footprint, Placement, footprint, weight_bytes
from mutoscope.planning.gpus import Gpu

COUNTS = (1, 2, 4, 8)
"""GPUs that may share a clip: divisors of the 40 heads."""

_VAE_SHARE = 0.30  # of the TF32 peak; assumed, as are the seconds around a clip
_AROUND_SECONDS = 1.0  # references, the last frames' encoding, files and rows


@dataclass(frozen=True, slots=True)
class Prediction:
    """One clip on `count` GPUs. Seconds by part; `low` and `high` are the whole at the GPU's best and worst share.

    `placement` is the first that fits, None when none does; `fits` has the bytes of each.
    """

    gpu: Gpu
    count: int
    placement: Placement | None
    fits: tuple[tuple[Footprint, bool], ...]
    denoise: float
    decode: float
    other: float
    low: float
    high: float
    dollars: float

    @property
    def seconds(self) -> float:
        return self.denoise + self.decode + self.other


def predict(clip: Clip, gpu: Gpu, count: int = 1) -> Prediction:
    """Predict one clip on `count` GPUs of one machine. Raises KeyError for a count that has no measured speed-up."""
    fits = tuple(
        (each, each.total <= gpu.memory_bytes and (each.placement != "fp8 weights" or gpu.fp8 is not None))
        for each in (footprint(clip, placement, count) for placement in PLACEMENTS)
    )
    placement = next((each.placement for each, does in fits if does), None)
    parts = _seconds(clip, gpu, count, placement, gpu.share)
    total = sum(parts)
    return Prediction(
        gpu=gpu,
        count=count,
        placement=placement,
        fits=fits,
        denoise=parts[0],
        decode=parts[1],
        other=parts[2],
        low=sum(_seconds(clip, gpu, count, placement, gpu.high)),
        high=sum(_seconds(clip, gpu, count, placement, gpu.low)),
        dollars=total * count * gpu.dollars_per_hour / 3600,
    )


def _seconds(clip: Clip, gpu: Gpu, count: int, placement: Placement | None, share: float) -> tuple[float, float, float]:
    cost = cost_of(clip)
    speedup = gpu.link.speedups[count]
    num_predictions = clip.steps * clip.predictions
    prediction = cost.prediction / (gpu.bf16 * 1e12 * share * speedup)
    if placement == "blocks offloaded":  # each GPU streams all blocks in, while it computes
        blocks = 2 * TRANSFORMER.num_block_parameters
        prediction = max(prediction, blocks / (gpu.host_gbs * 1e9))
    vae_speed = gpu.tf32 * 1e12 * _VAE_SHARE
    text = cost.text / (gpu.bf16 * 1e12 * share)
    if placement != "resident":
        text += weight_bytes()["text encoder"] / (gpu.host_gbs * 1e9)
    return num_predictions * prediction, cost.decode / vae_speed, cost.encode / vae_speed + text + _AROUND_SECONDS
