"""What a video costs, in integer micro-dollars (1 USD = 1,000,000). Knows nothing of accounts or balances."""

from __future__ import annotations

MICROS_PER_SECOND: dict[str, int] = {
    "skywork-ai/skyreels-v3/reference-to-video": 40_000,
    "mutoscope/animatic/reference-to-video": 0,
}
"""Model id → price of one second of video."""


def quote_micros(model: str, duration: int) -> int:
    """The price of `duration` seconds of `model` (5 s of SkyReels → 200,000). Raises KeyError for an unknown model."""
    return MICROS_PER_SECOND[model] * duration


def usd(micros: int) -> float:
    """Micro-dollars as dollars, for the wire (200,000 → 0.2)."""
    return micros / 1_000_000
