"""A plan in words and tables for a terminal, and as JSON. Knows how to say it, and computes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from typing import Any, TypeVar

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from mutoscope.engines.skyreels_v3.memory import WHAT, weight_bytes
from mutoscope.planning import FleetPlan, Load, Plan
from mutoscope.planning.prediction import Prediction

Row = TypeVar("Row")


def report(plan: Plan) -> Iterator[RenderableType]:
    """What to print, part by part."""
    yield _work(plan)
    yield _times(plan)
    yield _memory(plan)
    if plan.load is not None:
        yield _fleets(plan, plan.load)
        if plan.cheapest_fleet is not None:
            yield _day(plan.cheapest_fleet, plan.load)
    yield _sources(plan)


def as_json(plan: Plan) -> dict[str, Any]:
    """The same for programs: seconds, bytes, dollars, floating-point operations; sources with the numbers."""
    return {
        "clip": {**asdict(plan.clip), "num_frames": plan.clip.num_frames, "tokens": plan.clip.tokens},
        "flops": {**asdict(plan.cost), "prediction": plan.cost.prediction, "total": plan.cost.total},
        "weight_bytes": weight_bytes(),
        "gpus": {each.gpu.name: asdict(each.gpu) for each in plan.predictions},
        "predictions": [
            {
                "gpu": each.gpu.name,
                "count": each.count,
                "placement": each.placement,
                "seconds": each.seconds,
                "seconds_low": each.low,
                "seconds_high": each.high,
                "denoise_seconds": each.denoise,
                "decode_seconds": each.decode,
                "other_seconds": each.other,
                "dollars": each.dollars,
                "bytes": {one.placement: {"total": one.total, "fits": fits} for one, fits in each.fits},
            }
            for each in plan.predictions
        ],
        "load": None if plan.load is None else {"clips_per_day": plan.load.clips_per_day, **_said(plan.load)},
        "fleets": [
            {
                "gpu": each.prediction.gpu.name,
                "gpus_per_clip": each.prediction.count,
                "gpus": each.gpus,
                **asdict(each.fleet),
                "dollars_per_hour": each.dollars_per_hour,
                "dollars_per_clip": each.dollars_per_clip,
                "traffic": asdict(each.traffic),
            }
            for each in plan.fleets
        ],
    }


def _work(plan: Plan) -> RenderableType:
    clip, cost = plan.clip, plan.cost
    references = f"{clip.references} reference{'s' if clip.references > 1 else ''}"
    title = Text.assemble(
        ("One clip: ", "bold"),
        (f"{clip.seconds} s of {clip.width}×{clip.height}", "bold cyan"),
        f" ({clip.num_frames} frames) from {references}, {clip.steps} steps"
        + (", with guidance" if clip.predictions > 1 else ""),
    )
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 2))
    table.add_column(style="dim")
    table.add_column(justify="right")
    table.add_column(style="dim")
    table.add_row("tokens", f"{clip.tokens:,}", "what the network looks at: squares of 16×16 pixels, 4 frames deep")
    share = cost.attention / cost.prediction
    table.add_row("one step", _flop(cost.prediction * clip.predictions), f"{share:.0%} of it attention")
    table.add_row("all steps", _flop(cost.denoise), "the time of a clip is nearly all here")
    table.add_row("decoding", _flop(cost.decode), "by the VAE, in float32")
    table.add_row("the rest", _flop(cost.encode + cost.text), "references and prompt")
    return Group(Text(), title, Text(), table)


def _times(plan: Plan) -> RenderableType:
    table = _table()
    table.add_column("GPU", style="bold", no_wrap=True)
    table.add_column("an hour", justify="right", style="dim", no_wrap=True)
    table.add_column("on", justify="right", no_wrap=True)
    table.add_column("a clip takes", justify="right", no_wrap=True)
    table.add_column("best–worst", justify="right", style="dim", no_wrap=True)
    table.add_column("and costs", justify="right", no_wrap=True)
    table.add_column("placement", no_wrap=True)
    fitting = [each for each in plan.predictions if each.placement is not None]
    cheapest = min(fitting, key=lambda each: each.dollars, default=None)
    fastest = min(fitting, key=lambda each: each.seconds, default=None)
    for each, is_first in _grouped(table, plan.predictions, lambda each: each.gpu.name):
        name = each.gpu.name if is_first else ""
        price = f"${each.gpu.dollars_per_hour:.2f}" if is_first else ""
        if each.placement is None:
            table.add_row(name, price, f"{each.count}×", "–", "", "–", Text("does not fit", style="red"))
            continue
        table.add_row(
            name,
            price,
            f"{each.count}×",
            Text(_duration(each.seconds), style="bold green" if each is fastest else "cyan"),
            _span(each.low, each.high),
            Text(_dollars(each.dollars), style="bold green" if each is cheapest else ""),
            each.placement,
        )
    title = Text.assemble(("Time and money", "bold"), ("  the fastest and the cheapest in green", "dim"))
    return Group(Text(), title, Text(), table)


def _memory(plan: Plan) -> RenderableType:
    table = _table()
    table.add_column("placement", style="bold", no_wrap=True)
    table.add_column("needs", justify="right", style="cyan", no_wrap=True)
    table.add_column("what it is", style="dim", no_wrap=True)
    table.add_column("fits on")
    alone = _alone(plan)
    for index, (footprint, _) in enumerate(alone[0].fits):
        names = ", ".join(each.gpu.name for each in alone if each.fits[index][1])
        where = names or Text("none of these", style="red")
        table.add_row(footprint.placement, _gib(footprint.total), WHAT[footprint.placement], where)
    count = alone[0].count
    where = "on one GPU" if count == 1 else f"on each of {count} GPUs"
    title = Text.assemble(("Memory", "bold"), (f"  at the peak {where}; the first that fits is taken", "dim"))
    return Group(Text(), title, Text(), table)


def _fleets(plan: Plan, load: Load) -> RenderableType:
    table = _table()
    table.add_column("GPU", style="bold", no_wrap=True)
    for heading in ("a clip on", "GPUs", "busy", "typical wait", "95 % wait", "longest queue", "an hour", "a clip"):
        width = 7 if heading in ("an hour", "a clip") else None
        table.add_column(heading, justify="right", style="cyan" if heading == "GPUs" else "", min_width=width)
    for each, is_first in _grouped(table, plan.fleets, lambda each: each.prediction.gpu.name):
        style = "bold green" if each is plan.cheapest_fleet else ""
        table.add_row(
            each.prediction.gpu.name if is_first else "",
            f"{each.prediction.count}×",
            f"{each.gpus:,}" if each.fleet.enough else Text("not met", style="red"),
            f"{each.fleet.busy:.0%}" if each.fleet.busy < 0.985 else f"{each.fleet.busy:.1%}",
            _duration(each.fleet.wait_p50),
            _duration(each.fleet.wait_p95),
            f"{each.fleet.longest_queue:,}",
            Text(_dollars(each.dollars_per_hour), style=style),
            Text(_dollars(each.dollars_per_clip), style=style),
        )
    if len(load.arrivals):
        asked = f"{len(load.arrivals):,} clips as they arrived"
    else:
        asked = f"{load.clips_per_hour * load.peak:,.0f} clips an hour" + (" at the peak" if load.peak != 1 else "")
    title = Text.assemble(
        ("A fleet for ", "bold"),
        (asked, "bold cyan"),
        (f"  95 % of them start within {_duration(load.wait_p95)}", "dim"),
    )
    return Group(Text(), title, Text(), table)


def _day(fleet: FleetPlan, load: Load) -> RenderableType:
    found = fleet.traffic
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 2))
    table.add_column(style="dim")
    table.add_column(justify="right")
    table.add_column(style="dim")
    table.add_row(
        "database", f"{found.writes_per_second:,.0f} writes/s", f"{found.writes_per_clip:,.0f} transactions a clip"
    )
    table.add_row("", f"{found.polls_per_second:,.0f} reads/s", "callers who ask every 2 s")
    table.add_row("storage", _bytes(found.stored_bytes), f"outputs and uploads, kept {load.retention_days:g} days")
    table.add_row("uploads", f"{_bytes(found.ingress_per_day)}/day", "references, 1.5 MB each")
    table.add_row(
        "egress",
        f"{_bytes(found.egress_per_day)}/day",
        f"{_bits(found.egress_bits_per_second)} on average; {_bytes(found.clip_bytes)} a clip, "
        f"{load.downloads:g} download{'s' if load.downloads != 1 else ''}",
    )
    gpu = f"{fleet.gpus:,} × {fleet.prediction.gpu.name}"
    title = Text.assemble(
        ("A day of ", "bold"), (f"{found.clips_per_day:,.0f} clips", "bold cyan"), (f"  on {gpu}", "dim")
    )
    return Group(Text(), title, Text(), table)


def _sources(plan: Plan) -> RenderableType:
    gpus = list({each.gpu.name: each.gpu for each in plan.predictions}.values())
    lines: list[RenderableType] = [
        Text("Predicted, not measured", style="bold"),
        Text(
            "Operations are exact. Seconds are operations over the share of a GPU's peak that was reached elsewhere; "
            "the VAE's share (30 %), sizes of files and 1 s around each clip are assumed.",
            style="dim",
        ),
    ]
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 2))
    table.add_column(no_wrap=True)
    table.add_column(style="dim")
    for gpu in gpus:
        table.add_row(f"{gpu.name} at {gpu.share:.0%} of {gpu.bf16:,.0f} TFLOP/s", gpu.share_source)
    for link in {gpu.link.name: gpu.link for gpu in gpus}.values():
        table.add_row(f"several GPUs, {link.name}", link.source)
    for source in dict.fromkeys(gpu.price_source for gpu in gpus):
        names = [gpu.name for gpu in gpus if gpu.price_source == source]
        table.add_row("prices" if len(names) == len(gpus) else f"prices of {', '.join(names)}", source)
    return Group(Text(), *lines, Text(), table, Text())


def _table() -> Table:
    return Table(box=None, padding=(0, 1, 0, 1), header_style="dim")


def _grouped(table: Table, rows: Iterable[Row], name_of: Callable[[Row], str]) -> Iterator[tuple[Row, bool]]:
    """Each row, and whether it is the first of its name; an empty line goes between names."""
    name = ""
    for row in rows:
        is_first = name_of(row) != name
        if is_first and name:
            table.add_row()
        name = name_of(row)
        yield row, is_first


def _alone(plan: Plan) -> list[Prediction]:
    least = min(each.count for each in plan.predictions)
    return [each for each in plan.predictions if each.count == least]


def _said(load: Load) -> dict[str, Any]:
    said = asdict(load)
    said["arrivals"] = len(load.arrivals)
    said["service_seconds"] = len(load.service_seconds)
    return said


def _flop(flops: float) -> str:
    return f"{flops / 1e15:,.1f} PFLOP" if flops >= 1e14 else f"{flops / 1e12:,.0f} TFLOP"


def _duration(seconds: float) -> str:
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds < 600:
        return f"{seconds:,.0f} s"
    return f"{seconds / 60:,.0f} min" if seconds < 36_000 else f"{seconds / 3600:,.0f} h"


def _span(low: float, high: float) -> str:
    """Two durations, in the unit of the longer."""
    if high < 600:
        return f"{low:,.0f}–{high:,.0f} s"
    return f"{low / 60:,.0f}–{high / 60:,.0f} min" if high < 36_000 else f"{low / 3600:,.1f}–{high / 3600:,.1f} h"


def _dollars(amount: float) -> str:
    return f"${amount:,.0f}" if amount >= 1000 else f"${amount:,.2f}" if amount >= 1 else f"${amount:.3f}"


def _gib(num_bytes: float) -> str:
    return f"{num_bytes / 2**30:.1f} GiB"


def _bits(per_second: float) -> str:
    return f"{per_second / 1e9:,.1f} Gbit/s" if per_second >= 1e9 else f"{per_second / 1e6:,.1f} Mbit/s"


def _bytes(num_bytes: float) -> str:
    for unit, size in (("PB", 1e15), ("TB", 1e12), ("GB", 1e9)):
        if num_bytes >= size:
            return f"{num_bytes / size:,.1f} {unit}"
    return f"{num_bytes / 1e6:,.1f} MB"
