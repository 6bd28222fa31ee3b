"""docs/reliability.md: each experiment owns one section of it, between two markers, and writes no other."""

from __future__ import annotations

import argparse
import os
import platform
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "reliability.md"

_MOST_SHOWN = 20


class Found(Protocol):
    """What came of an experiment: figures in order, and the promises that were not kept, a sentence each."""

    @property
    def figures(self) -> Mapping[str, object]: ...

    @property
    def broken(self) -> Sequence[str]: ...


def conclude(arguments: argparse.Namespace, section: str, heading: str, what: str, found: Found) -> None:
    """Write what a run found, unless it was asked with --no-report: then it is printed alone."""
    text = _text(heading, what, arguments.seed, found.figures, found.broken)
    print(text, flush=True)
    if not arguments.no_report:
        replace(section, text)


def _text(heading: str, what: str, seed: int, figures: Mapping[str, object], broken: Sequence[str]) -> str:
    """`what` says in a sentence or two what was done; `broken` nothing is the verdict that is hoped for."""

    shown = [*broken[:_MOST_SHOWN], *([f"and {len(broken) - _MOST_SHOWN} more"] if len(broken) > _MOST_SHOWN else [])]
    lines = [
        f"## {heading}",
        "",
        what,
        "",
        f"`{command()}`, seed {seed}; {_now()}, {_machine()}, at {_revision()}.",
        "",
        "| | |",
        "|---|---:|",
        *(f"| {name} | {_figure(value)} |" for name, value in figures.items()),
        "",
        *(["**Every promise was kept.**"] if not broken else ["**Broken:**", "", *(f"- {each}" for each in shown)]),
    ]
    return "\n".join(lines)


def replace(section: str, text: str) -> None:
    """Write the lines between a section's markers anew; a section that has none yet comes last."""
    begin, end = f"<!-- {section} -->", f"<!-- /{section} -->"
    whole = f"{begin}\n{text}\n{end}"
    page = PAGE.read_text()
    place = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
    PAGE.write_text(place.sub(lambda _: whole, page) if place.search(page) else f"{page.rstrip()}\n\n{whole}\n")


def command() -> str:
    """The command that this run was started by."""
    return " ".join(["python -m chaos", *sys.argv[1:]])


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")


def _machine() -> str:
    load = os.getloadavg()[1] if hasattr(os, "getloadavg") else 0
    return f"{os.cpu_count()} cores (load {load:.1f}), Python {platform.python_version()}"


def _revision() -> str:
    done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    return done.stdout.strip() or "an unknown revision"


def _figure(value: object) -> str:
    return f"{value:,.2f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)
