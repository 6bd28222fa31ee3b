"""Which part of the model lies where while a clip is rendered: planned from bytes, before anything is loaded.

Bytes are those of `memory.py`, for the published network. Imports no torch and knows no device, only how much is
free on it; `offload.py` carries a plan out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from mutoscope.engines.skyreels_v3.cost import Clip
from mutoscope.engines.skyreels_v3.memory import PLACEMENTS, WHAT, Placement, footprint, weight_bytes

EXACT: frozenset[Placement] = frozenset({"resident", "text offloaded", "blocks offloaded"})
"""Placements that give the same numbers; the others round the weights."""


class PlacementError(Exception):
    """Nothing fits, or what was asked for does not. The sentence has the bytes."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A placement and what it takes, in bytes by part: at the peak on each device, and of pinned host memory."""

    placement: Placement
    device: Mapping[str, int]
    host: Mapping[str, int]
    is_pinned: bool = False

    @property
    def device_bytes(self) -> int:
        return sum(self.device.values())

    @property
    def host_bytes(self) -> int:
        return sum(self.host.values())

    def __str__(self) -> str:
        parts = " + ".join(f"{part} {_gb(count)}" for part, count in self.device.items() if count)
        host = f"; in host memory {_gb(self.host_bytes)}" if self.host_bytes else ""
        return f"{self.placement} ({WHAT[self.placement]}): {_gb(self.device_bytes)} = {parts}{host}"


def plan_of(clip: Clip, placement: Placement, gpus: int = 1, is_pinned: bool = False) -> Plan:
    """What a placement takes for a clip that `gpus` devices share, on each of them."""
    found, parts = footprint(clip, placement, gpus), weight_bytes()
    text = parts["text encoder"] if placement == "resident" else 0
    transformer = found.weights - parts["VAE"] - text
    host = {"text encoder": parts["text encoder"] - text}  # the leader's alone
    if placement == "blocks offloaded":
        host["transformer"] = gpus * parts["transformer"]
    device = {
        "transformer": transformer,
        "text encoder": text,
        "VAE": parts["VAE"],
        "work": found.work,
        "reserve": found.total - found.weights - found.work,
    }
    return Plan(placement, device, {part: count for part, count in host.items() if count}, is_pinned)


def plan_placement(
    clip: Clip, free_bytes: int, host_bytes: int | None = None, gpus: int = 1, pin: Placement | None = None
) -> Plan:
    """The first placement, in the order of preference, that fits the largest clip there will be; or the pinned one.

    `free_bytes` are of the smallest device, `host_bytes` of memory that may be pinned (None: as much as it takes).
    Raises PlacementError with what it takes and what there is.
    """
    plans = [plan_of(clip, placement, gpus, pin is not None) for placement in ([pin] if pin else PLACEMENTS)]
    for plan in plans:
        if _fits(plan, free_bytes, host_bytes):
            return plan
    there = f"{_gb(free_bytes)} are free on the device" + (
        "" if host_bytes is None else f" and {_gb(host_bytes)} in host memory"
    )
    if pin:
        raise PlacementError(f"The placement {plans[0]}, and {there}. {_advice(clip, free_bytes, host_bytes, gpus)}")
    least = min(plans, key=lambda plan: plan.device_bytes)
    raise PlacementError(f"The model does not fit: {there}; the least it takes is {least}.")


def next_placement(plan: Plan, clip: Clip, host_bytes: int | None = None, gpus: int = 1) -> Plan | None:
    """What to try once when a plan ran out of memory all the same: the next that takes less. None after a pinned one.

    The device's own count of free bytes has just proved wrong, so that it is not asked.
    """
    return None if plan.is_pinned else next(_after(plan, clip, host_bytes, gpus), None)


def _after(plan: Plan, clip: Clip, host_bytes: int | None, gpus: int) -> Iterator[Plan]:
    for placement in PLACEMENTS[PLACEMENTS.index(plan.placement) + 1 :]:
        other = plan_of(clip, placement, gpus)
        if other.device_bytes < plan.device_bytes and (host_bytes is None or other.host_bytes <= host_bytes):
            yield other


def _fits(plan: Plan, free_bytes: int, host_bytes: int | None) -> bool:
    return plan.device_bytes <= free_bytes and (host_bytes is None or plan.host_bytes <= host_bytes)


def _advice(clip: Clip, free_bytes: int, host_bytes: int | None, gpus: int) -> str:
    try:
        return f"This fits: {plan_placement(clip, free_bytes, host_bytes, gpus)}."
    except PlacementError:
        return "Nor does any other."


def _gb(count: int) -> str:
    return f"{count / 1e9:.1f} GB"
