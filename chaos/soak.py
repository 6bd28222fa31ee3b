"""The soak: a modest mixed load for an hour, and how memory and open files of each process go."""

from __future__ import annotations

import argparse
import contextlib
import statistics
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from chaos import report
from chaos.fleet import Fleet
from chaos.invariants import Findings
from chaos.load import Load
from chaos.storm import brave, place

SAMPLE_SECONDS = 10.0
MOST_MB_PER_10_MIN = 1.0
_WARM = 1 / 4  # of the time, which caches take to fill, is not judged
_READ_SECONDS = 2.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(minutes=60.0)
    parser.add_argument("--rate", type=float, default=2.0, help="submits a second")


def run(arguments: argparse.Namespace) -> bool:
    with place("sqlite") as (home, settings, _):
        found = soak(Fleet(home, settings), arguments.minutes * 60, arguments.rate, arguments.seed)
    what = (
        f"{arguments.rate:g} submits a second for {arguments.minutes:g} minutes, with uploads, cancels and webhooks; "
        f"beside them every {_READ_SECONDS:g} s a list, the bill, the metrics, the page, a stream of events and a "
        "whole video are read. Slopes are those of the straight line through all samples (least squares) but those of "
        "the first quarter, in which caches fill."
    )
    report.conclude(arguments, "soak", "An hour's load", what, found)
    return not found.broken


@dataclass
class Watched:
    """Samples of one process: when, resident memory in MB, open file descriptors."""

    at: list[float] = field(default_factory=list)
    resident: list[float] = field(default_factory=list)
    files: list[int] = field(default_factory=list)

    def sample(self, pid: int, now: float) -> None:
        with contextlib.suppress(OSError):
            resident = resident_mb(pid)
            files = len(list(Path(f"/proc/{pid}/fd").iterdir()))
            self.at.append(now)
            self.resident.append(resident)
            self.files.append(files)

    def mb_per_10_min(self) -> float:
        return slope(*self._settled(self.resident)) * 600

    def files_per_10_min(self) -> float:
        return slope(*self._settled([float(each) for each in self.files])) * 600

    def _settled(self, values: Sequence[float]) -> tuple[Sequence[float], Sequence[float]]:
        first = int(len(values) * _WARM)
        return self.at[first:], values[first:]


def slope(at: Sequence[float], values: Sequence[float]) -> float:
    """Of the straight line through the values, by least squares; 0 for too few of them."""
    return statistics.linear_regression(at, values).slope if len(set(at)) > 1 else 0.0


def resident_mb(pid: int) -> float:
    """The memory of a process that is in RAM, in MB. Raises OSError for one that is gone."""
    fields = dict(line.partition(":")[::2] for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(fields["VmRSS"].split()[0]) / 1024


def soak(fleet: Fleet, seconds: float, rate: float, seed: int) -> Findings:
    """Load for so long, watching."""
    watched: dict[str, Watched] = {}
    read: Counter[str] = Counter()
    wrong: list[str] = []

    def watch(fleet: Fleet, _: Load) -> None:
        began = time.monotonic()
        stopping = threading.Event()
        reader = threading.Thread(target=_read, args=(fleet, stopping, read, wrong), daemon=True)
        reader.start()
        while (now := time.monotonic() - began) < seconds:
            pids = {member.name: member.process.pid for member in fleet.members if member.process is not None}
            supervised = set(fleet.worker_pids()) - set(pids.values())
            pids |= {f"server's worker{number or ''}": pid for number, pid in enumerate(sorted(supervised))}
            for name, pid in pids.items():
                watched.setdefault(name, Watched()).sample(pid, now)
            stopping.wait(SAMPLE_SECONDS)
        stopping.set()
        reader.join()

    found = brave(fleet, watch, seed, rate=rate)
    found.broken += wrong
    for name, samples in sorted(watched.items()):
        grown, files = samples.mb_per_10_min(), samples.files_per_10_min()
        found.expect(grown < MOST_MB_PER_10_MIN, f"{name} grows by {grown:.2f} MB in 10 minutes")
        found.expect(files < 1, f"{name} opens {files:.1f} files more in 10 minutes")
        found.figures |= {
            f"{name}: MB at the end": samples.resident[-1],
            f"{name}: MB more in 10 minutes": grown,
            f"{name}: open files at the end, at most": f"{samples.files[-1]}, {max(samples.files)}",
        }
    found.figures |= dict(sorted(read.items()))
    for member in fleet.members:
        found.expect(member.starts == 1, f"{member.name} ended by itself {member.starts - 1} times")
    return found


def _read(fleet: Fleet, stopping: threading.Event, read: Counter[str], wrong: list[str]) -> None:
    """What people and their programs look at, over and over."""
    with httpx.Client(headers={"Authorization": f"Bearer {fleet.key}"}, timeout=30, trust_env=False) as http:
        for number in range(10**9):
            if stopping.wait(_READ_SECONDS):
                return
            url = fleet.urls[number % len(fleet.urls)]
            try:
                _look_around(http, url, read)
            except (httpx.HTTPError, KeyError, ValueError) as error:
                wrong.append(f"a reader met {type(error).__name__}: {error}")


def _look_around(http: httpx.Client, url: str, read: Counter[str]) -> None:
    for path in ("/", "/metrics", "/readyz", "/api/v3/balance"):
        http.get(url + path).raise_for_status()
    http.post(f"{url}/api/v3/billings/search", json={}).raise_for_status()
    page = http.get(f"{url}/api/v3/predictions").raise_for_status().json()["data"]["items"]
    read["looks at everything"] += 1
    for task in page[:1]:
        events = f"{url}/api/v3/predictions/{task['id']}/events"
        with contextlib.suppress(httpx.ReadTimeout), http.stream("GET", events, timeout=5) as stream:
            next(stream.iter_lines(), None)
        read["streams of events"] += 1
    for task in [task for task in page if task["outputs"]][:1]:
        video = http.get(task["outputs"][0]).raise_for_status().content
        if video[4:8] != b"ftyp":
            raise ValueError(f"{task['id']} is no video")
        read["videos downloaded"] += 1
