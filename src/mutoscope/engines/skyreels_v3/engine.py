"""The engine `skyreels-v3`: SkyReels-V3 Reference-to-Video itself, from the published checkpoint.

Turns a request into the model's terms and the model's events into Steps and Frames; the arithmetic is in `pipeline.py`
and below. Knows nothing of tasks, rows or files.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from importlib.metadata import version
from typing import Any

import torch

from mutoscope import __version__
from mutoscope.engines import Frames, Image, Step
from mutoscope.engines.skyreels_v3 import checkpoint, text
from mutoscope.engines.skyreels_v3.checkpoint import Networks
from mutoscope.engines.skyreels_v3.pipeline import Decoded, Embedded, Referenced, render
from mutoscope.engines.skyreels_v3.sampling import Denoised, Working, noise_levels
from mutoscope.engines.skyreels_v3.spec import REFERENCE_SLOTS, Options, num_latent_frames
from mutoscope.tasks import InvalidRequestError, VideoRequest

# Shares of a render's progress: what denoising does not take at the model's real size.
_TEXT, _REFERENCES, _DENOISED = 0.01, 0.03, 0.95


class SkyreelsV3:
    """The engine of the contract. Making it checks the checkpoint; `load`, or else the first video, loads it.

    `version` names the code, the checkpoint's fingerprint, the numeric mode and the precision.
    """

    name = "skyreels-v3"
    longest_side: int | None = None

    def __init__(self, options: Options) -> None:
        """Raises CheckpointError when the folder does not hold this model."""
        checkpoint.check(options.checkpoint)
        self.options = options
        digest = checkpoint.fingerprint(options.checkpoint)
        self.version = f"{__version__} {digest[:16]} {options.mode} {options.precision}"
        self.device = torch.device(options.device or _best_device())
        self._networks: Networks | None = None

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
            "libraries": {name: version(name) for name in ("torch", "diffusers", "transformers", "tokenizers")},
        }

    def load(self) -> Iterator[Step]:
        """Load the networks, yielding what is about to be loaded; yields nothing when they are there."""
        if self._networks is None:
            options = self.options
            loading = checkpoint.load(options.checkpoint, options.precision, options.mode, self.device)
            self._networks = yield from _steps(loading)

    def generate(self, request: VideoRequest, images: Sequence[Image]) -> Iterator[Step | Frames]:
        """Yield a Step for each piece of work and Frames as they are decoded. Raises InvalidRequestError."""
        yield from self.load()
        networks = self._networks
        assert networks is not None
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
        )
        latent_frames = num_latent_frames(request.num_frames)
        for event in events:
            match event:
                case Embedded():
                    yield Step("reading the prompt", _TEXT)
                case Referenced(index=index):
                    yield Step("looking at the references", _share(_TEXT, _REFERENCES, (index + 1) / len(images)))
                case Working(step=step, fraction=fraction):
                    yield self._denoising(step, step + fraction)
                case Denoised(step=step):
                    yield self._denoising(step, step + 1)
                case Decoded(index=index, pixels=pixels):
                    yield Frames(pixels, _share(_DENOISED, 1.0, (index + 1) / latent_frames))

    def _denoising(self, step: int, done: float) -> Step:
        share = _share(_REFERENCES, _DENOISED, done / self.options.steps)
        return Step(f"denoising, step {step + 1} of {self.options.steps}", share)


def _steps(loading: Generator[str, None, Networks]) -> Generator[Step, None, Networks]:
    while True:
        try:
            stage = next(loading)
        except StopIteration as end:
            networks: Networks = end.value
            return networks
        yield Step(stage, 0.0)


def _share(start: float, end: float, fraction: float) -> float:
    return start + (end - start) * fraction


def _best_device() -> str:
    found = torch.accelerator.current_accelerator()
    return str(found) if found is not None and torch.accelerator.is_available() else "cpu"
