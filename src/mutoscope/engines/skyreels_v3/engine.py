"""The engine `skyreels-v3`: SkyReels-V3 Reference-to-Video itself, from the published checkpoint.

Turns a request into the model's terms and the model's events into Steps and Frames; the arithmetic is in `pipeline.py`
and below. Knows nothing of tasks, rows or files.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from importlib.metadata import version
from typing import Any

import torch

from mutoscope import __version__
from mutoscope.engines import Event, Frames, Image, Preview, Step
from mutoscope.engines.skyreels_v3 import building, checkpoint, text
from mutoscope.engines.skyreels_v3.building import Built
from mutoscope.engines.skyreels_v3.cache import Cache, recalling
from mutoscope.engines.skyreels_v3.pipeline import Decoded, Embedded, Previewed, Referenced, Rules, render
from mutoscope.engines.skyreels_v3.placement import Plan
from mutoscope.engines.skyreels_v3.sampling import Denoised, Working, noise_levels
from mutoscope.engines.skyreels_v3.spec import REFERENCE_SLOTS, Options, num_latent_frames
from mutoscope.tasks import InvalidRequestError, VideoRequest

# Shares of a render's progress: what denoising does not take at the model's real size.
_TEXT, _REFERENCES, _DENOISED = 0.01, 0.03, 0.95


class SkyreelsV3:
    """The engine of the contract. Making it checks the checkpoint; `load`, or else the first video, loads it.

    `version` names the code, the checkpoint's fingerprint, the numeric mode and the precision. `recalled` counts what
    the last video found in the cache, and what it had to compute.
    """

    name = "skyreels-v3"
    longest_side: int | None = None

    def __init__(self, options: Options) -> None:
        """Raises CheckpointError when the folder does not hold this model, ValueError for options that can't be had."""
        checkpoint.check(options.checkpoint)
        self.options = options
        digest = checkpoint.fingerprint(options.checkpoint)
        self.version = f"{__version__} {digest[:16]} {options.mode} {options.precision}"
        self.device = building.device_of(options)
        building.attention_of(options, self.device)
        building.check_compiler(options, self.device)
        self.recalled: Counter[str] = Counter()
        self._cache = Cache(options.cache_folder, options.cache_bytes, options.cache_memory_bytes)
        self._built: Built | None = None
        self._plan: Plan | None = None

    def receipt(self) -> dict[str, Any]:
        """The checkpoint's fingerprint, the options, the schedule, the device and the libraries."""
        options = self.options
        return {
            "checkpoint_sha256": checkpoint.fingerprint(options.checkpoint),
            "mode": options.mode,
            "precision": options.precision,
            "steps": options.steps,
            "sigmas": [round(float(level), 8) for level in noise_levels(options.steps)],
            "text_guidance": options.text_guidance,
            "image_guidance": options.image_guidance,
            "negative_prompt": options.negative_prompt,
            "noise": "device" if options.noise_on_device else "cpu",
            "device": str(self.device),
            "gpus": options.gpus,
            "placement": self._built.placement if self._built else "",
            "attention": self._built.attention if self._built else "",
            "compiled": options.compiled,
            "libraries": _libraries(),
            "cache": dict(self.recalled),
        }

    def plan(self) -> Plan:
        """Where the weights will lie, and the bytes of it. Raises PlacementError when nothing fits."""
        return self._plan or building.plan(self.options, self.device)

    def load(self) -> Iterator[Step]:
        """Load the networks, part by part; yields nothing when they are there."""
        if self._built is not None and self._built.crew is not None and self._built.crew.is_over:
            self._built = None  # a rank failed: the next video starts with a new crew
        if self._built is None:
            self._plan = self.plan()
            self._built = yield from _steps(building.build(self.options, self.device, self._plan))

    def generate(self, request: VideoRequest, images: Sequence[Image], scope: str = "") -> Iterator[Event]:
        """Yield a Step for each piece of work, a Preview after each step, and Frames as they are decoded.

        Raises InvalidRequestError. Out of memory before the first frame, the next placement is tried once.
        """
        has_frames = False
        try:
            for event in self._generate(request, images, scope):
                has_frames = has_frames or isinstance(event, Frames)
                yield event
            return
        except torch.OutOfMemoryError:
            failed = self._plan
            other = building.plan_after(failed, self.options, self.device) if failed is not None else None
            self.close()
            if has_frames or other is None:
                raise
            self._plan = other
        yield Step(f"out of memory, trying {other.placement}", 0.0)
        yield from self._generate(request, images, scope)

    def close(self) -> None:
        """Drop the networks, and end the other processes where there are any."""
        if self._built is not None:
            self._built.close()
        self._built = None
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _generate(self, request: VideoRequest, images: Sequence[Image], scope: str) -> Iterator[Event]:
        yield from self.load()
        built = self._built
        assert built is not None
        networks = built.networks
        options = self.options
        if not 1 <= len(images) <= REFERENCE_SLOTS:
            raise InvalidRequestError(
                f"There are {len(images)} reference images; the model takes 1 to {REFERENCE_SLOTS}."
            )
        prompt = text.token_ids(networks.tokenizer, text.clean(request.prompt))
        negative = None
        if options.text_guidance != 1.0 or options.image_guidance != 1.0:
            negative = text.token_ids(networks.tokenizer, text.clean(options.negative_prompt))
        events = render(
            networks,
            prompt,
            [image.rgb() for image in images],
            request.size,
            request.num_frames,
            request.seed,
            steps=options.steps,
            negative=negative,
            text_guidance=options.text_guidance,
            image_guidance=options.image_guidance,
            noise_device=self.device if options.noise_on_device else None,
            rules=self._recalling(built.rules, scope),
            has_previews=options.has_previews,
        )
        latent_frames = num_latent_frames(request.num_frames)
        yield Step("reading the prompt", 0.0)
        with closing(events):  # other processes wait for this one to go on, or to say that it does not
            for event in events:
                match event:
                    case Embedded():
                        yield _looking(0, len(images))
                    case Referenced(index=index) if index + 1 < len(images):
                        yield _looking(index + 1, len(images))
                    case Referenced():
                        yield self._denoising(0, 0)
                    case Working(step=step, fraction=fraction):
                        yield self._denoising(step, step + fraction)
                    case Denoised(step=step) if step + 1 < options.steps:
                        yield self._denoising(step + 1, step + 1)
                    case Denoised():
                        yield Step("rendering", _DENOISED)
                    case Previewed(pixels=pixels):
                        yield Preview(pixels)
                    case Decoded(index=index, pixels=pixels):
                        yield Frames(pixels, _share(_DENOISED, 1.0, (index + 1) / latent_frames))

    def _recalling(self, rules: Rules, scope: str) -> Rules:
        self.recalled = Counter()
        if not scope:
            return rules
        whose = [scope, self.version, building.name_of(self.device), *map(str, _libraries().items())]
        return recalling(rules, self._cache, whose, self.device, self.recalled)

    def _denoising(self, step: int, done: float) -> Step:
        share = _share(_REFERENCES, _DENOISED, done / self.options.steps)
        return Step(f"denoising, step {step + 1} of {self.options.steps}", share)


def _libraries() -> dict[str, str]:
    return {name: version(name) for name in ("torch", "diffusers", "transformers", "tokenizers")}


def _looking(index: int, count: int) -> Step:
    which = f", {index + 1} of {count}" if count > 1 else ""
    return Step(f"looking at the references{which}", _share(_TEXT, _REFERENCES, index / count))


def _steps(loading: Generator[str, None, Built]) -> Generator[Step, None, Built]:
    while True:
        try:
            stage = next(loading)
        except StopIteration as end:
            built: Built = end.value
            return built
        yield Step(stage, 0.0)


def _share(start: float, end: float, fraction: float) -> float:
    return start + (end - start) * fraction
