"""`mutoscope plan`: what a clip takes, on which GPUs, for how much; and how many a load needs. Without torch.

Puts together what its parts know: the model's `cost` and `memory` count and fit, `gpus` lists, `prediction` times,
`fleet` queues, `traffic` adds up. Nothing here prints or draws: that is for `report` and `chart`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from mutoscope.engines.skyreels_v3.cost import Clip, Cost, cost_of
from mutoscope.planning.fleet import Fleet, Service, size
from mutoscope.planning.gpus import GPUS, Gpu
from mutoscope.planning.prediction import COUNTS, Prediction, predict
from mutoscope.planning.traffic import Traffic, traffic

__all__ = ["COUNTS", "GPUS", "Clip", "FleetPlan", "Load", "Plan", "plan"]


@dataclass(frozen=True, slots=True)
class Load:
    """What comes in, and how long it may wait. Give `clips_per_hour`, or the moments of real `arrivals` in seconds.

    `peak` is the busiest hour over the average one: GPUs are counted for the peak, a day's totals for the average.
    `durations` are shares of clips by seconds of video; `service_seconds` are measured times that replace predicted
    ones. `wait_p95`: 19 of 20 clips start to render within so many seconds.
    """

    clips_per_hour: float = 0.0
    wait_p95: float = 60.0
    peak: float = 1.0
    durations: Mapping[int, float] = field(default_factory=dict)
    arrivals: Sequence[float] = ()
    service_seconds: Sequence[float] = ()
    downloads: float = 1.0
    retention_days: float = 7.0
    seed: int = 0

    @property
    def clips_per_day(self) -> float:
        """On average."""
        if len(self.arrivals):
            span = max(self.arrivals) - min(self.arrivals)
            return len(self.arrivals) / span * 86_400 if span else 0.0
        return self.clips_per_hour * 24


@dataclass(frozen=True, slots=True)
class FleetPlan:
    """What a load needs of one kind of GPU, `prediction.count` of them to a clip. Dollars are for the GPUs alone."""

    prediction: Prediction
    fleet: Fleet
    traffic: Traffic

    @property
    def gpus(self) -> int:
        return self.fleet.groups * self.prediction.count

    @property
    def dollars_per_hour(self) -> float:
        return self.gpus * self.prediction.gpu.dollars_per_hour

    @property
    def dollars_per_clip(self) -> float:
        """With the hours in which GPUs are rented and idle."""
        return self.dollars_per_hour * 24 / self.traffic.clips_per_day if self.traffic.clips_per_day else 0.0


@dataclass(frozen=True, slots=True)
class Plan:
    """The answers. `fleets` is empty unless a load was given; both lists keep the order of the GPUs and counts."""

    clip: Clip
    cost: Cost
    predictions: tuple[Prediction, ...]
    load: Load | None
    fleets: tuple[FleetPlan, ...]

    @property
    def cheapest_fleet(self) -> FleetPlan | None:
        """Of those that meet the target."""
        return min((each for each in self.fleets if each.fleet.enough), key=lambda f: f.dollars_per_hour, default=None)


def plan(
    clip: Clip,
    *,
    gpus: Sequence[Gpu] = GPUS,
    counts: Sequence[int] = COUNTS,
    load: Load | None = None,
) -> Plan:
    """Predict `clip` on each GPU and count, and size a fleet of each for `load`. Raises ValueError for a load of 0."""
    predictions = tuple(predict(clip, gpu, count) for gpu in gpus for count in counts)
    able = [each for each in predictions if each.placement is not None]
    fleets = tuple(_fleet(clip, each, load) for each in able) if load is not None else ()
    return Plan(clip, cost_of(clip), predictions, load, fleets)


def _fleet(clip: Clip, prediction: Prediction, load: Load) -> FleetPlan:
    mix = dict(load.durations) or {clip.seconds: 1.0}
    kinds = {
        seconds: predict(replace(clip, seconds=seconds), prediction.gpu, prediction.count) for seconds in sorted(mix)
    }
    shares = [mix[seconds] / sum(mix.values()) for seconds in kinds]
    if load.service_seconds:
        service = Service(tuple(load.service_seconds))
    else:
        service = Service(tuple(each.seconds for each in kinds.values()), tuple(shares))
    found = size(
        service, load.wait_p95, per_hour=load.clips_per_hour * load.peak, arrivals=load.arrivals, seed=load.seed
    )
    if any(each.placement is None for each in kinds.values()):
        found = replace(found, enough=False)  # a clip of the mix does not fit

    def mean(of: Mapping[int, float]) -> float:
        return sum(share * of[seconds] for share, seconds in zip(shares, kinds, strict=True))

    amount = traffic(
        load.clips_per_day,
        pixels_per_clip=int(
            clip.width * clip.height * mean({seconds: replace(clip, seconds=seconds).num_frames for seconds in kinds})
        ),
        references=clip.references,
        steps=clip.steps,
        denoise_seconds=mean({seconds: each.denoise for seconds, each in kinds.items()}),
        decode_seconds=mean({seconds: each.decode for seconds, each in kinds.items()}),
        waiting_seconds=found.wait_p50,
        retention_days=load.retention_days,
        downloads=load.downloads,
    )
    return FleetPlan(prediction, found, amount)
