"""The command that looks at references before they are filmed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import PurePath
from typing import Annotated, Any

import typer
from rich.markup import escape

from mutoscope.cli.terminal import CommandError, err, out
from mutoscope.config import load_settings
from mutoscope.models import ANIMATIC, MODELS, InputError, parse_input


def inspect(
    reference: Annotated[list[str], typer.Argument(help="The reference images: 1 to 4 files or URLs.")],
    prompt: Annotated[str, typer.Option(help="The prompt that they are for; checked for what it mentions.")] = "",
    shape: Annotated[str, typer.Option(help="The shape of the video: 16:9, 9:16 or 1:1.")] = "16:9",
    as_json: Annotated[bool, typer.Option("--json", help="Print what the API would answer.")] = False,
) -> None:
    """Say what is seen in references, and what might be mended, before a video is made of them.

    mutoscope inspect her.jpg street.jpg --prompt "she walks down the street" --shape 9:16
    """
    from mutoscope.client import check_files, open_local
    from mutoscope.inspection import Inspector
    from mutoscope.opening import limits_of

    inputs = {"prompt": prompt.strip() or "-", "aspect_ratio": shape, "images": ["https://file"] * len(reference)}
    try:
        asked = parse_input(MODELS[ANIMATIC], inputs)
    except InputError as error:
        raise CommandError(str(error), 2) from None
    check_files(reference)
    asked = replace(asked, images=tuple(reference), prompt=prompt)
    inspector = Inspector(limits_of(load_settings()), open_local)
    try:
        with err.status("looking at the references"):
            report = inspector.inspect(asked.images, asked.prompt, asked.aspect_ratio).show()
    finally:
        inspector.close()
    if as_json:
        print(json.dumps(report, indent=2))
        return
    for name, found in zip(reference, report["images"], strict=True):
        shown = name if len(name) <= 60 else name[:59] + "…"
        out.print(f"[bold]{found['index']}  {escape(PurePath(shown).name)}[/bold]", highlight=False)
        if found["width"]:
            out.print(f"   {_summary(found, shape)}", highlight=False)
        for line in filter(None, [found["error"], *(advice["message"] for advice in found["advice"])]):
            out.print(f"   - {escape(line)}", highlight=False)
    for advice in report["advice"]:
        out.print(f"- {escape(advice['message'])}", highlight=False)
    if not report["advice"] and not any(found["advice"] or found["error"] for found in report["images"]):
        out.print("Nothing to mend.", highlight=False)


def _summary(found: dict[str, Any], shape: str) -> str:
    parts = [f"{found['format']}, {found['width']} × {found['height']} pixels, {found['bytes'] / 1000:,.0f} kB"]
    if found["kind"]:
        kind = found["kind"]
        parts.append(f"{kind}, {found['coverage']:.0%} of the picture" if found["subject"] else kind)
        if number := len(found["faces"]):
            parts.append("one face" if number == 1 else f"{number} faces")
        parts.append(f"sharpness {found['sharpness']:.2f}")
    if crop := found["crop"]:
        sides = (found["width"], found["height"]) * 2
        left, top, width, height = (round(part * side) for part, side in zip(crop, sides, strict=True))
        parts.append(f"best cropped to {shape} as {width} × {height} from ({left}, {top})")
    return "; ".join(parts)
