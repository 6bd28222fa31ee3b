"""Commands that make videos: serve, worker, render; and models, which says what can be made."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from mutoscope.cli.terminal import CommandError, err, out, show_progress
from mutoscope.config import load_settings
from mutoscope.models import ANIMATIC, MODELS


def _number_or_auto(workers: str) -> str:
    if workers != "auto" and not (workers.isascii() and workers.isdigit()):
        raise typer.BadParameter(f"{workers!r} is not a number, nor auto.")
    return workers


def serve(
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for every interface.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.", min=0, max=65535)] = 8787,
    workers: Annotated[
        str,
        typer.Option(
            help="Worker processes to run beside the API; 0 for none, auto for one per group of GPUs.",
            callback=_number_or_auto,
        ),
    ] = "1",
    gpus_per_video: Annotated[
        int | None,
        typer.Option(help="GPUs that render one video together; with --workers auto, each worker sees its own.", min=1),
    ] = None,
    sandbox: Annotated[bool, typer.Option("--sandbox", help="Render every model with the animatic.")] = False,
) -> None:
    """Run the API, the page and its workers until Ctrl+C.

    Whatever was accepted survives a crash: start it again, and it goes on where it was.
    """
    from mutoscope.serving import run

    settings = load_settings(sandbox=sandbox or None, skyreels_gpus=gpus_per_video)
    run(settings, host, port, None if workers == "auto" else int(workers))


def worker(
    name: Annotated[str, typer.Option(help="A name that no other worker has; drawn when left out.")] = "",
    engine: Annotated[
        list[str] | None,
        typer.Option(help="An engine, or ray:ENGINE on a Ray cluster; may be given again. Else: all that run here."),
    ] = None,
    supervised: Annotated[bool, typer.Option("--supervised", hidden=True)] = False,
) -> None:
    """Render tasks from the queue until Ctrl+C; run it on as many machines as share the database and the files."""
    from mutoscope.engines import ENGINES, ON_RAY
    from mutoscope.serving import run_worker

    for asked in engine or ():
        if asked.removeprefix(ON_RAY) not in ENGINES:
            raise CommandError(f"There is no engine {asked!r}. Engines: {', '.join(ENGINES)}.", 2)
    if len(name) > 64:
        raise CommandError(f"--name has {len(name)} characters; 64 is the most.", 2)
    run_worker(load_settings(), name, engine or (), supervised=supervised)


def render(
    prompt: Annotated[str, typer.Argument(help="What happens in the video: subjects, action, camera, light.")],
    reference: Annotated[
        list[str], typer.Option("-r", "--reference", help="A reference image: a file or a URL; give it 1 to 4 times.")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="The mp4 to write.")],
    shape: Annotated[str, typer.Option("--shape", help="16:9, 9:16 or 1:1.")] = "16:9",
    duration: Annotated[int, typer.Option("--duration", help="Seconds, 5 to 10.")] = 5,
    seed: Annotated[int, typer.Option("--seed", help="The same seed gives the same video; -1 draws one.")] = -1,
    resolution: Annotated[str, typer.Option("--resolution", help="480p, 540p or 720p.")] = "720p",
    engine: Annotated[
        str, typer.Option("--engine", help="animatic, or skyreels-v3 where it is installed.")
    ] = "animatic",
    server: Annotated[str, typer.Option("--server", help="Render on this server instead of in this process.")] = "",
    key: Annotated[str, typer.Option("--key", help="The API key for --server.", envvar="MUTOSCOPE_API_KEY")] = "",
) -> None:
    """Make one video, in this process or on a server.

    mutoscope render "slow push in on her face" -r person.jpg -o out.mp4
    """
    from mutoscope.client import Client, check_files, render_here, render_there
    from mutoscope.models import InputError, parse_input

    inputs = {"prompt": prompt, "aspect_ratio": shape, "duration": duration, "seed": seed, "resolution": resolution}
    try:  # files are no URLs, so they are checked by themselves
        asked = parse_input(MODELS[ANIMATIC], {**inputs, "images": ["https://file"] * len(reference)})
    except InputError as error:
        raise CommandError(str(error), 2) from None
    check_files(reference)
    request = replace(asked, images=tuple(reference))
    if output.is_dir():
        raise CommandError(f"{output} is a folder; name the mp4 to write.", 2)
    if not output.parent.is_dir():
        raise CommandError(f"The folder {output.parent} does not exist.", 2)
    here = {str(model.engine): model.id for model in MODELS.values()}
    if engine not in here:
        raise CommandError(f"There is no engine {engine!r} in this installation. Engines here: {', '.join(here)}.", 2)
    if server and not key:
        raise CommandError("--server needs a key: give --key, or set MUTOSCOPE_API_KEY.", 2)
    started = time.monotonic()
    if server:
        with Client(server, key) as client:
            show_progress(render_there(client, here[engine], request, request.seed, output))
    else:
        show_progress(render_here(load_settings(), engine, request, output))
    size = output.stat().st_size / 2**20
    err.print(
        f"{request.duration} s of {request.aspect_ratio} video by the {engine} engine, seed {request.seed}, "
        f"{size:.1f} MB, made in {time.monotonic() - started:.1f} s",
        highlight=False,
    )
    print(output)


def mcp(
    server: Annotated[
        str, typer.Option("--server", help="The server to ask.", envvar="MUTOSCOPE_SERVER")
    ] = "http://127.0.0.1:8787",
    key: Annotated[str, typer.Option("--key", help="Its API key.", envvar=["MUTOSCOPE_KEY", "MUTOSCOPE_API_KEY"])] = "",
) -> None:
    """Be a server of the Model Context Protocol on standard input and output, for assistants that call tools.

    Needs the extra: pip install 'mutoscope[mcp]'
    """
    if not key:
        raise CommandError("No API key: give --key, or set MUTOSCOPE_KEY.", 2)
    try:
        from mutoscope.mcp import run
    except ModuleNotFoundError as error:
        raise CommandError(f"{error.name} is not installed: pip install 'mutoscope[mcp]'") from None
    run(server, key)


def models() -> None:
    """The models on offer: their ids, prices and inputs."""
    from mutoscope import pricing

    settings = load_settings()
    prices = pricing.Prices(settings.prices, settings.discount_rate)
    for model in MODELS.values():
        micros = prices.quote(model.id, 1).micros
        price = f"${pricing.usd(micros):.2f} per second" if micros else "free"
        out.print(f"[bold]{model.id}[/bold]  {price}  engine {model.engine}", highlight=False)
        out.print(f"  {model.description}\n", highlight=False)
        for name, field in model.accepts.model_fields.items():
            extra = field.json_schema_extra
            allowed = extra["x-allowed"] if isinstance(extra, dict) else ""
            default = "required" if field.is_required() else f"default {field.default}"
            out.print(f"  {name:<13} {allowed} ({default})", highlight=False)
        out.print()
