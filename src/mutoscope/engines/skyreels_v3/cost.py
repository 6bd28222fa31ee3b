"""What one clip costs to compute: tokens, multiplications and parameters, in closed form, from the published sizes.

A multiplication and its addition count as two floating-point operations, as vendors' peaks do. Knows no GPU, no second
and no dollar. The tests hold it against torch's own counter on the real network classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import pairwise

from mutoscope.engines.skyreels_v3.spec import (
    DEFAULT_STEPS,
    LATENT_CHANNELS,
    REFERENCE_SLOTS,
    SPACE_FACTOR,
    TEXT_TOKENS,
    num_latent_frames,
)
from mutoscope.tasks import FPS

_PATCH = 2  # latent pixels each way that make one token


@dataclass(frozen=True, slots=True)
class Transformer:
    """Sizes of the denoising network; the defaults are the published ones."""

    layers: int = 40
    dim: int = 5120
    heads: int = 40
    ffn: int = 13824
    text_dim: int = 4096
    freq_dim: int = 256

    @property
    def num_parameters(self) -> int:
        """All of them, as `sum(p.numel())` counts."""
        d, ffn = self.dim, self.ffn
        attention = 4 * (d * d + d) + 2 * d  # q, k, v, out; two norms over all heads
        block = 2 * attention + (d * ffn + ffn) + (ffn * d + d) + 2 * d + 6 * d  # + cross norm, modulation
        embed = LATENT_CHANNELS * _PATCH**2 * d + d
        time = (self.freq_dim * d + d) + (d * d + d) + (d * 6 * d + 6 * d)
        text = (self.text_dim * d + d) + (d * d + d)
        head = d * LATENT_CHANNELS * _PATCH**2 + LATENT_CHANNELS * _PATCH**2 + 2 * d
        return self.layers * block + embed + time + text + head

    @property
    def num_block_parameters(self) -> int:
        """Those of all blocks together: what is offloaded block by block, or quantised."""
        d, ffn = self.dim, self.ffn
        return self.layers * (8 * (d * d + d) + 4 * d + 2 * d * ffn + ffn + d + 2 * d + 6 * d)


@dataclass(frozen=True, slots=True)
class TextEncoder:
    """Sizes of the UMT5-XXL encoder."""

    layers: int = 24
    dim: int = 4096
    heads: int = 64
    head_dim: int = 64
    ffn: int = 10240
    vocabulary: int = 256_384
    buckets: int = 32

    @property
    def num_parameters(self) -> int:
        inner = self.heads * self.head_dim
        block = 4 * self.dim * inner + self.buckets * self.heads + 3 * self.dim * self.ffn + 2 * self.dim
        return self.vocabulary * self.dim + self.layers * block + self.dim

    def flops(self, tokens: int = TEXT_TOKENS) -> int:
        """Of one prompt."""
        inner = self.heads * self.head_dim
        linear = 2 * tokens * (4 * self.dim * inner + 3 * self.dim * self.ffn)
        return self.layers * (linear + 4 * tokens * tokens * inner)


@dataclass(frozen=True, slots=True)
class Vae:
    """Sizes of the video autoencoder (Wan 2.1's)."""

    base: int = 96
    multiples: tuple[int, ...] = (1, 2, 4, 4)
    residuals: int = 2
    doubles_time: tuple[bool, ...] = (True, True, False)  # of the decoder's upsamplings

    @property
    def num_parameters(self) -> int:
        """Counted once on the published class."""
        return 126_892_531

    def decode_flops(self, latent_frames: int, width: int, height: int) -> int:
        """Of a clip of `width` × `height` pixels. The first latent frame gives one frame, each other four."""
        h, w = height // SPACE_FACTOR, width // SPACE_FACTOR
        post = 2 * LATENT_CHANNELS**2 * latent_frames * h * w
        return post + self._decode_chunk(h, w, True) + (latent_frames - 1) * self._decode_chunk(h, w, False)

    def encode_flops(self, width: int, height: int) -> int:
        """Of one picture."""
        h, w = height, width
        channels = [self.base * multiple for multiple in (1, *self.multiples)]
        total = _conv(3, channels[0], 27) * h * w
        for stage, (before, after) in enumerate(pairwise(channels)):
            for number in range(self.residuals):
                total += _residual(before if number == 0 else after, after) * h * w
            if stage < len(self.multiples) - 1:
                h, w = h // 2, w // 2
                total += _conv(after, after, 9) * h * w
        top = channels[-1]
        total += _middle(top, h * w)
        total += _conv(top, 2 * LATENT_CHANNELS, 27) * h * w
        return total + _conv(2 * LATENT_CHANNELS, 2 * LATENT_CHANNELS, 1) * h * w

    def _decode_chunk(self, h: int, w: int, is_first: bool) -> int:
        channels = [self.base * multiple for multiple in (self.multiples[-1], *reversed(self.multiples))]
        frames = 1
        total = _conv(LATENT_CHANNELS, channels[0], 27) * h * w + _middle(channels[0], h * w)
        for stage, (before, after) in enumerate(pairwise(channels)):
            entering = before // 2 if stage else before
            for number in range(self.residuals + 1):
                total += _residual(entering if number == 0 else after, after) * frames * h * w
            if stage < len(self.multiples) - 1:
                if self.doubles_time[stage] and not is_first:
                    total += _conv(after, 2 * after, 3) * frames * h * w
                    frames *= 2
                h, w = h * 2, w * 2
                total += _conv(after, after // 2, 9) * frames * h * w
        return total + _conv(channels[-1], 3, 27) * frames * h * w


TRANSFORMER = Transformer()
TEXT_ENCODER = TextEncoder()
VAE = Vae()


@dataclass(frozen=True, slots=True)
class Clip:
    """What is asked for: size in pixels, seconds, references, denoising steps, and whether guidance triples a step."""

    width: int = 1280
    height: int = 720
    seconds: int = 5
    references: int = 4
    steps: int = DEFAULT_STEPS
    predictions: int = 1  # of the network a step; guidance by text and images makes it 3

    @property
    def num_frames(self) -> int:
        return FPS * self.seconds + 1

    @property
    def latent_frames(self) -> int:
        """Of the video alone."""
        return num_latent_frames(self.num_frames)

    @property
    def tokens(self) -> int:
        """That the network sees. All reference slots count, for the empty ones are part of the model."""
        per_frame = (self.height // (SPACE_FACTOR * _PATCH)) * (self.width // (SPACE_FACTOR * _PATCH))
        return (self.latent_frames + REFERENCE_SLOTS) * per_frame


@dataclass(frozen=True, slots=True)
class Cost:
    """Floating-point operations of one clip by part; `linear` and `attention` are of one prediction of the network."""

    linear: int
    attention: int
    denoise: int
    decode: int
    encode: int
    text: int

    @property
    def prediction(self) -> int:
        return self.linear + self.attention

    @property
    def total(self) -> int:
        return self.denoise + self.decode + self.encode + self.text


@cache
def cost_of(clip: Clip, network: Transformer = TRANSFORMER) -> Cost:
    """The operations of one clip (5 s of 1280×720: 16.1 PFLOP a prediction, 8 of them)."""
    n, d = clip.tokens, network.dim
    patch = 2 * n * d * LATENT_CHANNELS * _PATCH**2
    once = 2 * (network.freq_dim * d + d * d + 6 * d * d) + 2 * TEXT_TOKENS * (network.text_dim * d + d * d)
    block = 2 * n * (6 * d * d + 2 * d * network.ffn) + 2 * TEXT_TOKENS * 2 * d * d
    linear = 2 * patch + once + network.layers * block
    attention = network.layers * 4 * n * (n + TEXT_TOKENS) * d
    return Cost(
        linear=linear,
        attention=attention,
        denoise=clip.steps * clip.predictions * (linear + attention),
        decode=VAE.decode_flops(clip.latent_frames, clip.width, clip.height),
        encode=clip.references * VAE.encode_flops(clip.width, clip.height),
        text=TEXT_ENCODER.flops() * (1 if clip.predictions == 1 else 2),
    )


def _conv(before: int, after: int, kernel: int) -> int:
    return 2 * before * after * kernel


def _residual(before: int, after: int) -> int:
    return _conv(before, after, 27) + _conv(after, after, 27) + (_conv(before, after, 1) if before != after else 0)


def _middle(channels: int, pixels: int) -> int:
    attention = (_conv(channels, 3 * channels, 1) + _conv(channels, channels, 1)) * pixels + 4 * pixels**2 * channels
    return 2 * _residual(channels, channels) * pixels + attention
