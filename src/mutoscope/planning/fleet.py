"""How many GPU groups keep the wait short: our queue, simulated event by event.

The queue is the one of `store.claim`: the oldest waiting task goes to whichever worker is free, a worker renders one
task at a time, and nobody overtakes. Times are seconds. Knows no GPU: it is given how long tasks take.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Seconds = NDArray[np.float64]

_WARM_UP = 0.2  # of simulated tasks, not counted: the queue starts empty, and a real one does not
_LEAST_TASKS, _MOST_TASKS, _TASKS_PER_GROUP = 40_000, 400_000, 60
_LARGE_LOAD = 200  # groups' worth of work, from which on a simulated run is too short to see the slow swings of a queue


@dataclass(frozen=True, slots=True)
class Service:
    """How long tasks take: these seconds, drawn with these shares (equal when left out)."""

    seconds: tuple[float, ...]
    shares: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not self.seconds or min(self.seconds) <= 0:
            raise ValueError("service times must be more than 0 seconds")
        if self.shares and (len(self.shares) != len(self.seconds) or min(self.shares) < 0 or sum(self.shares) <= 0):
            raise ValueError("each service time needs a share, and shares are not negative")

    @property
    def mean(self) -> float:
        weights = self.shares or (1.0,) * len(self.seconds)
        return sum(s * w for s, w in zip(self.seconds, weights, strict=True)) / sum(weights)

    @property
    def variation(self) -> float:
        """The squared coefficient of variation: 0 when all take the same time, 1 for exponential times."""
        weights = self.shares or (1.0,) * len(self.seconds)
        square = sum(s * s * w for s, w in zip(self.seconds, weights, strict=True)) / sum(weights)
        return max(0.0, square / self.mean**2 - 1)

    def draw(self, count: int, generator: np.random.Generator) -> Seconds:
        """`count` service times."""
        weights = np.array(self.shares or (1.0,) * len(self.seconds))
        return generator.choice(np.array(self.seconds), count, p=weights / weights.sum())


@dataclass(frozen=True, slots=True)
class Fleet:
    """What `groups` workers do with the load. Waits are from submission to claim; `busy` is the share of time at work.

    `longest_queue` is the most tasks that waited at once. `enough` is whether the target was met.
    """

    groups: int
    wait_p50: float
    wait_p95: float
    wait_p99: float
    busy: float
    longest_queue: int
    enough: bool = True


def poisson(per_hour: float, count: int, generator: np.random.Generator) -> Seconds:
    """Arrival times of independent callers."""
    return np.cumsum(generator.exponential(3600 / per_hour, count))


def waits(arrivals: Seconds, services: Seconds, groups: int) -> Seconds:
    """How long each task waits for a worker, first come, first served. `arrivals` ascend."""
    free_at = [0.0] * groups
    found = np.empty(len(arrivals))
    for index, (arrived, takes) in enumerate(zip(arrivals.tolist(), services.tolist(), strict=True)):
        start = max(arrived, free_at[0])
        heapq.heapreplace(free_at, start + takes)
        found[index] = start - arrived
    return found


def simulate(arrivals: Seconds, services: Seconds, groups: int, *, warm_up: float = _WARM_UP) -> Fleet:
    """Run the queue over these arrivals, and count what follows the warm-up."""
    waited = waits(arrivals, services, groups)
    first = int(len(arrivals) * warm_up)
    counted = waited[first:]
    p50, p95, p99 = (float(value) for value in np.percentile(counted, (50, 95, 99)))
    starts = arrivals + waited
    queue = np.arange(1, len(arrivals) + 1) - np.searchsorted(np.sort(starts), arrivals, side="right")
    # Work within the counted span over the time that there was, so that neither end of a run flatters it.
    begin, end = float(arrivals[first]), float(arrivals[-1])
    worked = np.clip(np.minimum(starts + services, end) - np.maximum(starts, begin), 0, None).sum()
    busy = float(worked / ((end - begin) * groups)) if end > begin else 1.0
    return Fleet(groups, p50, p95, p99, min(busy, 1.0), int(max(queue[first:].max(), 0)))


def estimate_wait(service: Service, per_hour: float, groups: int, quantile: float = 0.95) -> float:
    """The wait that `quantile` of tasks stay under, in the long run: Erlang's C, scaled by the times' variation.

    Lee and Longton's approximation of M/G/c: exact for exponential times, close for others where the queue is busy.
    Infinite when there is more work than the groups can do.
    """
    load = per_hour * service.mean / 3600
    if load >= groups:
        return math.inf
    blocked = 1.0
    for number in range(1, groups + 1):
        blocked = load * blocked / (number + load * blocked)
    delayed = blocked / (1 - load / groups * (1 - blocked))
    if delayed <= 1 - quantile:
        return 0.0
    return math.log(delayed / (1 - quantile)) * service.mean * (1 + service.variation) / 2 / (groups - load)


def size(
    service: Service,
    wait_p95: float,
    *,
    per_hour: float = 0.0,
    arrivals: Sequence[float] = (),
    most_groups: int = 1_000_000,
    seed: int = 0,
) -> Fleet:
    """The fewest groups with which 19 of 20 tasks wait at most `wait_p95` seconds.

    Large fleets run so close to their capacity that a queue takes days to show its length; there the simulation starts
    from what `estimate_wait` asks for, and may only ask for more. Arrivals are Poisson at `per_hour`, or these moments
    (seconds, any order), which are then all counted. Raises ValueError when there is no load.
    """
    generator = np.random.default_rng(seed)
    if len(arrivals):
        moments = np.sort(np.asarray(arrivals, np.float64))
        moments -= moments[0]
        services, warm_up, fewest = service.draw(len(moments), generator), 0.0, 1
    elif per_hour > 0:
        load = per_hour * service.mean / 3600
        count = int(min(max(_LEAST_TASKS, _TASKS_PER_GROUP * load), _MOST_TASKS))
        moments = poisson(per_hour, count, generator)
        services, warm_up, fewest = service.draw(count, generator), _WARM_UP, math.floor(load) + 1
        if load > _LARGE_LOAD:
            while fewest < most_groups and estimate_wait(service, per_hour, fewest) > wait_p95:
                fewest += 1
    else:
        raise ValueError("a fleet needs clips an hour, or their arrivals")

    # The same arrivals and times for every size: a wait then never grows with the number of groups.
    def found(groups: int) -> Fleet:
        return simulate(moments, services, groups, warm_up=warm_up)

    low, high = fewest, fewest
    best = found(high)
    while best.wait_p95 > wait_p95 and high < most_groups:
        low, high = high + 1, min(most_groups, high + max(1, high // 50, 2 * (high - fewest)))
        best = found(high)
    if best.wait_p95 > wait_p95:
        return Fleet(high, best.wait_p50, best.wait_p95, best.wait_p99, best.busy, best.longest_queue, enough=False)
    while low < high:
        middle = (low + high) // 2
        tried = found(middle)
        if tried.wait_p95 <= wait_p95:
            high, best = middle, tried
        else:
            low = middle + 1
    return best
