"""Commands about SkyReels-V3 itself: pull its weights, plan the machines for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from mutoscope.cli.terminal import CommandError, err, out, show_progress
from mutoscope.config import load_settings


def pull(
    model: Annotated[str, typer.Argument(help="What to bring; there is one model.")] = "skyreels-v3",
    source: Annotated[str, typer.Option("--from", help="hf, modelscope, or a folder that holds the weights.")] = "hf",
    to: Annotated[Path | None, typer.Option(help="Where to keep them; else where the server looks.")] = None,
    accept_licence: Annotated[
        bool, typer.Option("--accept-licence", help="Accept the licence of the weights without being asked.")
    ] = False,
    check: Annotated[bool, typer.Option("--check", help="Bring nothing; verify what is there.")] = False,
) -> None:
    """Bring the weights of SkyReels-V3: resumed where it broke off, verified, ready to serve."""
    from mutoscope import weights

    if model != "skyreels-v3":
        raise CommandError(f"There are no weights of {model!r} to pull; there are those of skyreels-v3.", 2)
    folder = to or load_settings().skyreels_weights
    if check:
        steps = weights.check(folder)
    else:
        if not accept_licence and not weights.is_licence_accepted(folder):
            err.print(weights.LICENCE_NOTICE, weights.LICENCE.url, sep="\n", highlight=False)
            accept_licence = typer.confirm("Do you accept it?", err=True)
        steps = weights.pull(weights.open_source(source), folder, licence_accepted=accept_licence)
    show_progress(steps)
    err.print("The weights are whole." if check else "The weights are ready to serve.", highlight=False)
    print(folder)


def plan(
    shape: Annotated[str, typer.Option(help="16:9, 9:16 or 1:1.")] = "16:9",
    resolution: Annotated[str, typer.Option(help="480p, 540p or 720p.")] = "720p",
    duration: Annotated[int, typer.Option(help="Seconds of video.")] = 5,
    references: Annotated[int, typer.Option(help="Reference images, 1 to 4.")] = 4,
    steps: Annotated[int, typer.Option(help="Denoising steps; the model was made for 8.")] = 8,
    guidance: Annotated[bool, typer.Option("--guidance", help="With guidance: three predictions a step.")] = False,
    gpu: Annotated[list[str] | None, typer.Option(help="A GPU, like H100; may be given again. Else: all.")] = None,
    count: Annotated[
        list[int] | None, typer.Option(help="GPUs for one video: 1, 2, 4 or 8; may be given again. Else: all.")
    ] = None,
    price: Annotated[list[str] | None, typer.Option(help="Dollars an hour of a GPU, like H100=2.50.")] = None,
    clips_per_hour: Annotated[float, typer.Option(help="Size a fleet for so many clips an hour.", min=0)] = 0,
    clips_per_day: Annotated[float, typer.Option(help="The same, by the day.", min=0)] = 0,
    wait: Annotated[float, typer.Option(help="Seconds within which 19 of 20 clips start.", min=0)] = 60,
    peak: Annotated[float, typer.Option(help="The busiest hour over the average one.", min=1)] = 1,
    mix: Annotated[str, typer.Option(help="Shares by duration, like 5:80,10:20.")] = "",
    arrivals: Annotated[Path | None, typer.Option(help="A file of real arrivals, in seconds.")] = None,
    service_times: Annotated[Path | None, typer.Option(help="A file of measured seconds per clip.")] = None,
    downloads: Annotated[float, typer.Option(help="How often a clip is downloaded.", min=0)] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
    chart: Annotated[Path | None, typer.Option(help="Draw a chart into this PNG.")] = None,
) -> None:
    """Know before renting: seconds, dollars and memory of a clip on each GPU, and how many a load needs.

    mutoscope plan --clips-per-day 10000 --chart plan.png
    """
    from mutoscope import planning
    from mutoscope.planning import questions, report

    per_hour = clips_per_hour or clips_per_day / 24
    counts = tuple(count or planning.COUNTS)
    if unknown := set(counts) - set(planning.COUNTS):
        raise CommandError(f"--count is {min(unknown)}: it must be of {', '.join(map(str, planning.COUNTS))}.", 2)
    load = None
    if per_hour or arrivals:
        load = planning.Load(
            clips_per_hour=per_hour,
            wait_p95=wait,
            peak=peak,
            durations=questions.mix_of(mix),
            arrivals=questions.numbers_in(arrivals) if arrivals else (),
            service_seconds=questions.numbers_in(service_times) if service_times else (),
            downloads=downloads,
            retention_days=load_settings().retention_days,
        )
    clip = questions.clip_of(shape, resolution, duration, references, steps, guidance=guidance)
    found = planning.plan(clip, gpus=questions.gpus_of(gpu or (), price or ()), counts=counts, load=load)
    if as_json:
        print(json.dumps(report.as_json(found), indent=2))
    else:
        for part in report.report(found):
            out.print(part)
    if chart:
        from mutoscope.planning.chart import draw

        draw(found, chart)
        err.print(f"The chart is in {chart}.", highlight=False)
