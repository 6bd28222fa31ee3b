"""The models on offer: their ids, what they accept, and which engine renders them.

What a model accepts is declared here once. Validation, error sentences, OpenAPI, the page's form, the CLI's options and
the documentation derive from it. Nothing here loads an engine.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from mutoscope.tasks import MAX_SEED, SIZES, Resolution, Shape, VideoRequest

MAX_PROMPT = 5_000
MAX_IMAGES = 4
MAX_URL = 8_192
_MOST_SHOWN = 80

SKYREELS = "skywork-ai/skyreels-v3/reference-to-video"
ANIMATIC = "mutoscope/animatic/reference-to-video"


class InputError(ValueError):
    """A model's input can't be used: names the field, its value, and what is allowed."""


def _only_whole_numbers(value: Any) -> Any:
    # JSON has one kind of number, so 5.0 is 5; but True, "5" and 5.5 are mistakes, not durations.
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError("not a whole number")
    return value


def _strip(value: Any) -> Any:
    return value.strip() if isinstance(value, str) else value


def _address(value: Any) -> Any:
    if not isinstance(value, str):
        raise ValueError("not a string")
    value = value.strip()
    value.encode()  # JSON can hold halves of letters, which no address does: UnicodeEncodeError is a ValueError
    scheme = value[:8].lower()
    if scheme.startswith("data:"):
        return value
    if not scheme.startswith(("http://", "https://")) or len(value) > MAX_URL:
        raise ValueError("neither a URL nor a data URI")
    return value


WholeNumber = Annotated[int, BeforeValidator(_only_whole_numbers)]
Address = Annotated[str, BeforeValidator(_address)]


class ReferenceToVideo(BaseModel):
    """The inputs of reference-to-video. Unknown fields are ignored, null means absent."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    prompt: Annotated[str, BeforeValidator(_strip)] = Field(
        min_length=1,
        max_length=MAX_PROMPT,
        title="Prompt",
        description="What happens in the video: subjects, action, camera, light.",
        json_schema_extra={"x-allowed": f"a text of 1 to {MAX_PROMPT:,} characters"},
    )
    images: list[Address] = Field(
        min_length=1,
        max_length=MAX_IMAGES,
        title="Images",
        description="The reference images: people, animals, objects or places that the video shows.",
        json_schema_extra={
            "x-allowed": f"a list of 1 to {MAX_IMAGES} http(s) URLs or data:image/…;base64 URIs",
            "x-ui-component": "uploader",
            "x-accept": "image/*",
        },
    )
    aspect_ratio: Shape = Field(
        "16:9",
        title="Shape",
        description="The shape of the video: 1280×720, 720×1280 or 960×960 pixels.",
        json_schema_extra={"x-allowed": "one of 16:9, 9:16, 1:1"},
    )
    duration: WholeNumber = Field(
        5,
        ge=5,
        le=10,
        title="Duration",
        description="Length of the video in seconds.",
        json_schema_extra={"x-allowed": "a whole number from 5 to 10", "x-ui-component": "slider", "step": 1},
    )
    seed: WholeNumber = Field(
        -1,
        ge=-1,
        le=MAX_SEED,
        title="Seed",
        description="The same seed, prompt and images give the same video; -1 draws one.",
        json_schema_extra={"x-allowed": f"a whole number from 0 to {MAX_SEED}, or -1 to have one drawn"},
    )

    resolution: Resolution = Field(
        "720p",
        title="Resolution",
        description="The size of the video: 480p and 540p render sooner.",
        json_schema_extra={
            "x-allowed": "one of 480p, 540p, 720p",
            "x-sizes": {name: {of: list(size) for of, size in sizes.items()} for name, sizes in SIZES.items()},
        },
    )

    def to_request(self) -> VideoRequest:
        """The request for an engine, its seed drawn if it was left open."""
        seed = self.seed if self.seed >= 0 else secrets.randbelow(2**32)
        return VideoRequest(self.prompt, tuple(self.images), self.aspect_ratio, self.duration, seed, self.resolution)


@dataclass(frozen=True, slots=True)
class Model:
    """One model id of the API."""

    id: str
    title: str
    engine: Literal["animatic", "skyreels-v3"]
    description: str
    tips: tuple[str, ...]
    accepts: type[ReferenceToVideo] = ReferenceToVideo


MODELS: dict[str, Model] = {
    model.id: model
    for model in (
        Model(
            SKYREELS,
            "SkyReels-V3",
            "skyreels-v3",
            "SkyReels-V3 Reference-to-Video (14B): a video of the people, objects and places in 1 to 4 images, as the "
            "prompt directs.",
            (
                "Say who does what, where, and in which light; then what the camera does.",
                "One subject per image, large and sharp, and in full view, works best; a place may be an image too.",
                "Describe what the images show in the words of the prompt, so that each is found again.",
                "An image in the shape of the video is used whole; another is padded with white.",
            ),
        ),
        Model(
            ANIMATIC,
            "Animatic",
            "animatic",
            "A storyboard in motion, on any machine and free: the references are cut out, composed and filmed by a "
            "camera that the prompt directs. It does not act, and it is not SkyReels.",
            (
                "Direct the camera: push in, pull out, pan, tilt, crane, truck, orbit, roll, handheld, static.",
                "Slow and fast, night, warm and cold light, snow, rain, dust and depth of field are understood too.",
                "A place becomes the background, people and things stand before it, in the order of the images.",
            ),
        ),
    )
}


def parse_input(model: Model, body: Any) -> VideoRequest:
    """Check a model's input. Raises InputError naming the field, its value and what is allowed."""
    if not isinstance(body, dict):
        raise InputError("The body must be a JSON object with prompt and images.")
    try:
        return model.accepts.model_validate({k: v for k, v in body.items() if v is not None}).to_request()
    except ValidationError as error:
        raise InputError(_explain(model, error)) from None


def quoted_duration(model: Model, value: Any) -> int:
    """The seconds of video that a price is asked for; None takes the default. Raises InputError."""
    if value is None:
        return int(model.accepts.model_fields["duration"].default)
    return parse_input(model, {"prompt": "-", "images": ["http://-"], "duration": value}).duration


def _explain(model: Model, error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    name = str(first["loc"][0])
    extra = model.accepts.model_fields[name].json_schema_extra
    allowed = extra["x-allowed"] if isinstance(extra, dict) else ""
    if first["type"] == "missing":
        return f"{name} is missing: it must be {allowed}."
    where = name + "".join(f"[{index}]" for index in first["loc"][1:] if isinstance(index, int))
    value = first["input"]
    if isinstance(value, str | list) and first["type"].endswith("too_long"):
        found = f"{len(value):,} {'characters' if isinstance(value, str) else 'items'} long"
    else:
        found = shown(value)
    return f"{where} is {found}: {name} must be {allowed}."


def shown(value: Any) -> str:
    """A value of a JSON body as an error sentence quotes it: JSON, 80 characters of it at most."""
    if isinstance(value, str):
        value = value[:_MOST_SHOWN]
    try:
        text = json.dumps(value, ensure_ascii=False, default=str)
    except RecursionError:
        return "nested too deep"
    text = text.encode("utf-8", "backslashreplace").decode()  # halves of letters can't be answered
    return text if len(text) <= _MOST_SHOWN else text[: _MOST_SHOWN - 1] + "…"


def schema_of(model: Model) -> dict[str, Any]:
    """The JSON Schema of a model's input, fields in the order a form shows them."""
    schema = model.accepts.model_json_schema()
    for field in schema["properties"].values():
        field.pop("x-allowed", None)
    return {
        "type": "object",
        "required": schema["required"],
        "x-order-properties": list(schema["properties"]),
        "properties": schema["properties"],
    }
