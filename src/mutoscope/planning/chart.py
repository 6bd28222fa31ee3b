"""A plan as one picture, for a page or a talk: time against money, and what fits into which memory. Drawn by OpenCV.

Knows where things go on the paper, and computes nothing of the plan.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from mutoscope.engines.skyreels_v3.memory import Footprint
from mutoscope.planning import FleetPlan, Load, Plan
from mutoscope.planning.prediction import Prediction

Colour = tuple[int, int, int]
Paper = NDArray[np.uint8]

_SCALE = 2  # drawn at twice the size that it is laid out in, so that it is sharp on any screen
_GIB = 2**30
_WIDTH, _HEIGHT = 1200, 1010
_FLEET_ROW = 40
_INK, _SOFT, _FAINT, _GROUND = (38, 33, 30), (128, 118, 110), (232, 228, 225), (255, 255, 255)  # BGR, as OpenCV has it
_COLOURS: tuple[Colour, ...] = (
    (176, 114, 40), (92, 60, 196), (60, 142, 26), (20, 130, 230), (150, 70, 130), (150, 150, 20), (60, 60, 60),
)  # fmt: skip
_WORK: Colour = (224, 188, 140)
_REST: Colour = (214, 208, 203)
_PLOT = (96, 128, 1150, 600)  # left, top, right, bottom of time against money
_BARS = (170, 716, 1150, 936)


def draw(plan: Plan, path: Path) -> None:
    """Write the picture as a PNG. Raises OSError when it can't be written."""
    fleets = _cheapest_of_each(plan)
    height = _HEIGHT + (100 + _FLEET_ROW * len(fleets) if fleets else 0)
    paper = np.full((height * _SCALE, _WIDTH * _SCALE, 3), _GROUND, np.uint8)
    clip = plan.clip
    references = f"{clip.references} reference{'s' if clip.references > 1 else ''}"
    _text(paper, "What one clip takes, and what it costs", 40, 52, 30, _INK, weight=600)
    _text(
        paper,
        f"{clip.seconds} s of {clip.width}×{clip.height} from {references}, {clip.steps} steps: "
        f"{plan.cost.total / 1e15:,.0f} PFLOP. Predicted, not measured; prices by the hour as shown.",
        40, 82, 16, _SOFT,
    )  # fmt: skip
    _time_and_money(paper, [each for each in plan.predictions if each.placement is not None])
    _memory(paper, plan)
    if fleets and plan.load is not None:
        _fleets(paper, fleets, plan.load)
    written, data = cv2.imencode(".png", paper, [cv2.IMWRITE_PNG_COMPRESSION, 9])
    if not written:
        raise OSError(f"{path} can't be written as a PNG")
    path.write_bytes(data.tobytes())


def _time_and_money(paper: Paper, predictions: Sequence[Prediction]) -> None:
    left, top, right, bottom = _PLOT
    if not predictions:
        _text(paper, "None of these GPUs has the memory for it.", left, (top + bottom) // 2, 20, _SOFT)
        return
    times = [each.seconds for each in predictions]
    costs = [each.dollars for each in predictions]
    first, last = math.log(min(times) / 1.25), math.log(max(times) * 1.25)
    step = _round_step(max(costs) * 1.12 / 5)
    highest = step * math.ceil(max(costs) * 1.12 / step)

    def x_of(seconds: float) -> float:
        return left + (math.log(seconds) - first) / (last - first) * (right - left)

    def y_of(dollars: float) -> float:
        return bottom - dollars / highest * (bottom - top)

    for number in range(round(highest / step) + 1):
        y = y_of(number * step)
        _line(paper, (left, y), (right, y), _FAINT if number else _SOFT, 1)
        _text(paper, f"${number * step:.2f}", left - 10, y + 5, 14, _SOFT, align=1.0)
    for seconds in (5, 10, 15, 30, 60, 120, 300, 600, 1200, 2400, 3600, 7200, 14_400, 36_000):
        if first < math.log(seconds) < last:
            x = x_of(seconds)
            _line(paper, (x, top), (x, bottom), _FAINT, 1)
            unit = (
                f"{seconds} s"
                if seconds < 120
                else f"{seconds // 60} min"
                if seconds < 7200
                else f"{seconds // 3600} h"
            )
            _text(paper, unit, x, bottom + 24, 14, _SOFT, align=0.5)
    _text(paper, "dollars a clip", left, top - 14, 14, _SOFT, weight=500)
    _text(paper, "time a clip takes", right, bottom + 46, 14, _SOFT, align=1.0, weight=500)
    _text(paper, "a line joins 1, 2, 4 and 8 GPUs on one clip", left, bottom + 46, 14, _SOFT)

    taken: list[tuple[float, float, float, float]] = []
    dots = [(x_of(each.seconds), y_of(each.dollars)) for each in predictions]
    names = list(dict.fromkeys(each.gpu.name for each in predictions))
    for name in names:
        colour = _COLOURS[names.index(name) % len(_COLOURS)]
        mine = [each for each in predictions if each.gpu.name == name]
        places = [(x_of(each.seconds), y_of(each.dollars)) for each in mine]
        for one, other in zip(places, places[1:], strict=False):  # noqa: RUF007 - reads as what it draws
            _line(paper, one, other, colour, 2)
    for name in names:
        colour = _COLOURS[names.index(name) % len(_COLOURS)]
        for each in (each for each in predictions if each.gpu.name == name):
            _dot(paper, (x_of(each.seconds), y_of(each.dollars)), colour, 13 if each.count > 1 else 11)
            _text(
                paper, str(each.count), x_of(each.seconds), y_of(each.dollars) + 5, 13, _GROUND, align=0.5, weight=600
            )
    for name in names:
        colour = _COLOURS[names.index(name) % len(_COLOURS)]
        alone = next(each for each in predictions if each.gpu.name == name)
        label = f"{name}  ${alone.gpu.dollars_per_hour:.2f}/h"
        _label(paper, label, (x_of(alone.seconds), y_of(alone.dollars)), colour, dots, taken)


def _label(
    paper: Paper,
    text: str,
    at: tuple[float, float],
    colour: Colour,
    dots: Sequence[tuple[float, float]],
    taken: list[tuple[float, float, float, float]],
) -> None:
    """Write beside a dot where nothing else is: the first of some places, by preference."""
    width = _width(text, 15, 600)
    left, top, right, bottom = _PLOT
    x, y = at
    places = [(x - width / 2, y + 34), (x - width / 2, y - 22), (x + 20, y + 5), (x - width - 20, y + 5)]
    places += [(x - width / 2 + dx, y + dy) for dy in (54, -42, 74, -62) for dx in (0, 40, -40)]

    def crowd(place: tuple[float, float]) -> float:
        box = (place[0] - 4, place[1] - 17, place[0] + width + 4, place[1] + 5)
        outside = box[0] < left or box[2] > right + 40 or box[1] < top - 10 or box[3] > bottom - 2
        hits = sum(box[0] - 13 < dx < box[2] + 13 and box[1] - 13 < dy < box[3] + 13 for dx, dy in dots)
        hits += sum(box[0] < b[2] and b[0] < box[2] and box[1] < b[3] and b[1] < box[3] for b in taken)
        return hits + 100 * outside

    best = min(places, key=crowd)
    taken.append((best[0] - 4, best[1] - 17, best[0] + width + 4, best[1] + 5))
    _text(paper, text, best[0], best[1], 15, colour, weight=600)


def _memory(paper: Paper, plan: Plan) -> None:
    left, top, right, bottom = _BARS
    least = min(each.count for each in plan.predictions)
    alone = [each for each in plan.predictions if each.count == least]
    footprints: list[Footprint] = [footprint for footprint, _ in alone[0].fits]
    sizes: dict[float, list[str]] = {}
    for one in alone:
        sizes.setdefault(round(one.gpu.memory_bytes / _GIB), []).append(one.gpu.name)
    highest = max(max(sizes) * 1.02, max(each.total for each in footprints) / _GIB * 1.08)

    def x_of(gibibytes: float) -> float:
        return left + gibibytes / highest * (right - left)

    where = "on one GPU" if least == 1 else f"on each of {least} GPUs"
    title = f"Memory at the peak {where}"
    _text(paper, title, 40, top - 26, 20, _INK, weight=600)
    x = 40 + _width(title, 20, 600) + 24
    for colour, what in ((_COLOURS[0], "weights"), (_WORK, "work"), (_REST, "driver and slack")):
        _box(paper, (x, top - 38), (x + 13, top - 25), colour)
        _text(paper, what, x + 20, top - 26, 14, _SOFT)
        x += 20 + _width(what, 14, 400) + 22
    ended = -math.inf  # where the last label on the upper line ends
    for gibibytes, names in sorted(sizes.items()):
        x = x_of(gibibytes)
        label = ", ".join(names)
        half = max(_width(label, 14, 500), _width("000 GiB", 13, 400)) / 2
        lower = 0.0 if x - half > ended + 6 else 38.0
        ended = x + half if not lower else ended
        _line(paper, (x, top), (x, bottom - 16 + lower), _SOFT, 1)
        _text(paper, label, x, bottom + lower, 14, _INK, align=0.5, weight=500)
        _text(paper, f"{gibibytes:.0f} GiB", x, bottom + 17 + lower, 13, _SOFT, align=0.5)
    row = (bottom - top - 24) / len(footprints)
    for number, each in enumerate(footprints):
        y = top + number * row
        _text(paper, each.placement, left - 12, y + row / 2 + 5, 15, _INK, align=1.0)
        start = 0.0
        for end, colour in ((each.weights, _COLOURS[0]), (each.weights + each.work, _WORK), (each.total, _REST)):
            _box(paper, (x_of(start), y + 6), (x_of(end / _GIB), y + row - 6), colour)
            start = end / _GIB
        needed = f"{each.total / _GIB:.0f} GiB"
        _box(paper, (x_of(start) + 2, y + 6), (x_of(start) + 14 + _width(needed, 14, 500), y + row - 6), _GROUND)
        _text(paper, needed, x_of(start) + 8, y + row / 2 + 5, 14, _INK, weight=500)


def _cheapest_of_each(plan: Plan) -> list[FleetPlan]:
    found: dict[str, FleetPlan] = {}
    for each in plan.fleets:
        name = each.prediction.gpu.name
        if each.fleet.enough and (name not in found or each.dollars_per_hour < found[name].dollars_per_hour):
            found[name] = each
    return sorted(found.values(), key=lambda each: each.dollars_per_hour)


def _fleets(paper: Paper, fleets: Sequence[FleetPlan], load: Load) -> None:
    left, right, top = 170, 700, _HEIGHT + 70
    asked = f"{len(load.arrivals):,} clips as they came" if len(load.arrivals) else ""
    asked = asked or f"{load.clips_per_hour * load.peak:,.0f} clips an hour"
    _text(paper, f"A fleet for {asked}", 40, top - 30, 20, _INK, weight=600)
    x = 40 + _width(f"A fleet for {asked}", 20, 600) + 24
    _text(paper, f"dollars an hour; 95 % of the clips start within {load.wait_p95:g} s", x, top - 30, 14, _SOFT)
    highest = max(each.dollars_per_hour for each in fleets)
    names = list(dict.fromkeys(each.prediction.gpu.name for each in fleets))
    for number, each in enumerate(fleets):
        y = top + number * _FLEET_ROW
        _text(paper, names[number], left - 12, y + 21, 15, _INK, align=1.0)
        end = left + each.dollars_per_hour / highest * (right - left)
        _box(paper, (left, y + 2), (end, y + _FLEET_ROW - 10), _COLOURS[0] if number == 0 else _WORK)
        sharing = "one to a clip" if each.prediction.count == 1 else f"{each.prediction.count} to a clip"
        price = f"${each.dollars_per_hour:,.0f}"
        _text(paper, price, end + 10, y + 21, 15, _INK, weight=600)
        busy = f"{each.fleet.busy:.0%}" if each.fleet.busy < 0.985 else f"{each.fleet.busy:.1%}"
        said = f"{each.gpus:,} GPUs, {sharing}, {busy} busy"
        _text(paper, said, end + 20 + _width(price, 15, 600), y + 21, 14, _SOFT)


def _round_step(value: float) -> float:
    power = 10.0 ** math.floor(math.log10(value))
    return next(part * power for part in (1, 2, 2.5, 5, 10) if part * power >= value)


def _at(point: tuple[float, float]) -> tuple[int, int]:
    return round(point[0] * _SCALE), round(point[1] * _SCALE)


def _line(paper: Paper, start: tuple[float, float], end: tuple[float, float], colour: Colour, width: int) -> None:
    cv2.line(paper, _at(start), _at(end), colour, width * _SCALE, cv2.LINE_AA)


def _dot(paper: Paper, place: tuple[float, float], colour: Colour, radius: int) -> None:
    cv2.circle(paper, _at(place), (radius + 2) * _SCALE, _GROUND, -1, cv2.LINE_AA)
    cv2.circle(paper, _at(place), radius * _SCALE, colour, -1, cv2.LINE_AA)


def _box(paper: Paper, corner: tuple[float, float], opposite: tuple[float, float], colour: Colour) -> None:
    cv2.rectangle(paper, _at(corner), _at(opposite), colour, -1)


def _text(
    paper: Paper, text: str, x: float, y: float, size: int, colour: Colour, *, align: float = 0.0, weight: int = 400
) -> None:
    place = _at((x - align * _width(text, size, weight), y))
    cv2.putText(paper, text, place, colour, cv2.FontFace("sans"), size * _SCALE, weight)


def _width(text: str, size: int, weight: int) -> float:
    box = cv2.getTextSize((0, 0), text, (0, 0), cv2.FontFace("sans"), size * _SCALE, weight)
    return float(box[2]) / _SCALE
