"""What a person asks on the command line, in the plan's terms; what can't be understood is one sentence.

Knows the words (16:9, 720p, H100=2.50, 5:80,10:20) and no arithmetic of the answers.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import get_args

from mutoscope.engines.skyreels_v3.cost import Clip
from mutoscope.engines.skyreels_v3.spec import DEFAULT_STEPS, REFERENCE_SLOTS, Resolution, bucket
from mutoscope.planning.gpus import GPUS, Gpu, find
from mutoscope.tasks import SIZES

_MOST_SECONDS = 60


class PlanError(ValueError):
    """A question that has no answer as it was put; the message says what can be asked."""


def clip_of(
    shape: str = "16:9",
    resolution: str = "720p",
    seconds: int = 5,
    references: int = REFERENCE_SLOTS,
    steps: int = DEFAULT_STEPS,
    *,
    guidance: bool = False,
) -> Clip:
    """The clip that a shape and a resolution mean, in the model's own size for them. Raises PlanError."""
    sizes = {str(name): size for name, size in SIZES["720p"].items()}
    if shape not in sizes:
        raise PlanError(f"The shape {shape!r} is unknown: it can be {', '.join(sizes)}.")
    found: Resolution | None = next((name for name in get_args(Resolution) if name == resolution.upper()), None)
    if found is None:
        known = ", ".join(name.lower() for name in get_args(Resolution))
        raise PlanError(f"The resolution {resolution!r} is unknown: it can be {known}.")
    if not 1 <= seconds <= _MOST_SECONDS:
        raise PlanError(f"{seconds} s of video can't be planned: it can be 1 to {_MOST_SECONDS}.")
    if not 1 <= references <= REFERENCE_SLOTS:
        raise PlanError(f"{references} references can't be planned: the model takes 1 to {REFERENCE_SLOTS}.")
    if steps < 1:
        raise PlanError(f"{steps} steps can't be planned: it takes at least 1.")
    width, height = bucket(*sizes[shape], found)
    return Clip(width, height, seconds, references, steps, 3 if guidance else 1)


def gpus_of(names: Sequence[str] = (), prices: Sequence[str] = ()) -> tuple[Gpu, ...]:
    """The GPUs of these names (all, if none is given), with prices as `NAME=DOLLARS` an hour. Raises PlanError."""
    chosen = {gpu.name: gpu for gpu in ([_find(name) for name in names] or GPUS)}
    for text in prices:
        name, _, dollars = text.partition("=")
        gpu = _find(name)
        amount = _number(dollars, text, "a price is NAME=DOLLARS an hour, like H100=2.50")
        if gpu.name in chosen:
            chosen[gpu.name] = replace(gpu, dollars_per_hour=amount, price_source="given")
    return tuple(chosen.values())


def mix_of(text: str) -> dict[int, float]:
    """Shares of clips by duration: `5:80,10:20`. An empty text is an empty mix. Raises PlanError."""
    why = "a mix is SECONDS:SHARE pairs, like 5:80,10:20"
    found: dict[int, float] = {}
    for pair in filter(None, (part.strip() for part in text.split(","))):
        seconds, colon, share = pair.partition(":")
        if not seconds.strip().isdecimal() or not colon or not 1 <= int(seconds) <= _MOST_SECONDS:
            raise PlanError(f"{pair!r} can't be used: {why}.")
        found[int(seconds)] = found.get(int(seconds), 0) + _number(share, pair, why)
    if found and not sum(found.values()):
        raise PlanError(f"{text!r} can't be used: some share must be more than 0.")
    return found


def numbers_in(path: Path) -> list[float]:
    """The numbers of a file: a JSON list, or one to a line; lines that begin with # are left out. Raises PlanError."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise PlanError(f"{path} can't be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise PlanError(f"{path} is not text.") from error
    if text.lstrip().startswith("["):
        try:
            listed = [str(each) for each in json.loads(text)]
        except ValueError as error:
            raise PlanError(f"{path} is not JSON: {error}.") from error
    else:
        listed = [line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    if not listed:
        raise PlanError(f"{path} holds no numbers.")
    return [_number(each, each, f"{path} holds one number of seconds to a line") for each in listed]


def _find(name: str) -> Gpu:
    try:
        return find(name)
    except KeyError:
        known = ", ".join(gpu.name for gpu in GPUS)
        raise PlanError(f"The GPU {name.strip()!r} is not in the table: it has {known}.") from None


def _number(text: str, whole: str, why: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not math.isfinite(found) or found < 0:
        raise PlanError(f"{whole!r} can't be used: {why}.")
    return found
