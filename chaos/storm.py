"""The frame of what breaks things under load: a fleet, callers, a breaker; then peace, and the check."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.postgres import Postgres, find_binaries
from tests.receiver import receiving

from chaos import invariants
from chaos.fleet import Fleet
from chaos.invariants import Findings
from chaos.load import Load

SUBMITS_PER_SECOND = 50.0
SETTLED_SECONDS = 60.0  # after the last restart, every task has ended


def brave(
    fleet: Fleet, breaker: Callable[[Fleet, Load], None], seed: int, *, rate: float = SUBMITS_PER_SECOND
) -> Findings:
    """Let `breaker` do its worst to a fleet under load; what was broken of what was promised."""
    with contextlib.ExitStack() as stack:
        receiver = stack.enter_context(receiving())
        stack.callback(fleet.close)
        fleet.tend()
        fleet.wait_ready()
        began = time.monotonic()
        load = Load(fleet.urls, fleet.key, rate, seed, webhook=receiver.url("/hook"))
        with load:
            breaker(fleet, load)
            seconds = time.monotonic() - began
        fleet.tend()
        peace = time.monotonic()
        fleet.wait_ready()
        load.settle()
        settled = _until(lambda: invariants.unended(fleet.database_url) == 0, peace + SETTLED_SECONDS)
        settling = time.monotonic() - peace
        _until(lambda: invariants.undelivered(fleet.database_url) == 0, time.monotonic() + SETTLED_SECONDS)
        wrong = fleet.stop()
        found = invariants.check(fleet.database_url, fleet.files(), fleet.scratch, load.promised)
        found.expect(settled, f"not every task had ended {SETTLED_SECONDS:.0f} s after the last restart")
        found.broken += wrong + load.wrong
        arrived = {each.id for each in receiver.received}
        found.expect(
            len(arrived) >= found.delivered, f"{found.delivered} webhooks are delivered, {len(arrived)} arrived"
        )
        said = fleet.installation.log.read_text(errors="replace")
        found.figures = {
            "seconds of storm": seconds,
            "submits attempted a second": load.counts["submits attempted"] / seconds,
            **dict(sorted(load.counts.items())),
            "seconds until every task had ended": settling,
            "starts of processes": sum(member.starts for member in fleet.members),
            "late writes refused (lease lost)": said.count("lease lost: nothing was written"),
            **found.figures,
        }
    return found


@contextlib.contextmanager
def place(kind: str) -> Iterator[tuple[Path, dict[str, object], Postgres | None]]:
    """A home folder, the settings that name its database of this kind, and the server of that, if it has one.

    A run that raises leaves the folder to be looked at.
    """
    folder = Path(tempfile.mkdtemp(prefix="mutoscope-chaos-"))
    print(f"in {folder}", flush=True)
    with contextlib.ExitStack() as stack:
        if kind == "sqlite":
            yield folder / "home", {}, None
            shutil.rmtree(folder)
            return
        binaries = find_binaries()
        if binaries is None:
            raise SystemExit("PostgreSQL is not installed: scripts/install-system-packages")
        server = Postgres(binaries, is_durable=True)
        stack.callback(server.close)
        server.start()
        yield folder / "home", {"database_url": server.fresh()}, server
    shutil.rmtree(folder)


def _until(is_so: Callable[[], bool], moment: float) -> bool:
    while not is_so():
        if time.monotonic() > moment:
            return False
        time.sleep(0.2)
    return True
