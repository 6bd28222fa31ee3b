"""What a video costs, in integer micro-dollars (1 USD = 1,000,000). Knows nothing of accounts or balances."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import ROUND_FLOOR, Decimal

MICROS_PER_USD = 1_000_000

MICROS_PER_SECOND: Mapping[str, int] = {
    "skywork-ai/skyreels-v3/reference-to-video": 40_000,
    "mutoscope/animatic/reference-to-video": 0,
}
"""Model id → price of one second of video, where the operator sets no other."""


@dataclass(frozen=True, slots=True)
class Quote:
    """What a video costs: by the list, and what is charged after the discount."""

    list_micros: int
    micros: int


@dataclass(frozen=True, slots=True)
class Prices:
    """One installation's price list.

    `discount_rate` is the part of the list's price that is charged: 0.9 is 10 % off.
    """

    micros_per_second: Mapping[str, int] = field(default_factory=dict)
    discount_rate: float = 1.0

    def quote(self, model: str, duration: int) -> Quote:
        """The price of `duration` seconds of `model` (5 s of SkyReels → 200,000). Raises KeyError for another model."""
        per_second = self.micros_per_second.get(model, MICROS_PER_SECOND[model])
        listed = per_second * duration
        return Quote(listed, int((listed * Decimal(str(self.discount_rate))).to_integral_value(ROUND_FLOOR)))


def usd(micros: int) -> float:
    """Micro-dollars as dollars, for the wire (200,000 → 0.2)."""
    return micros / MICROS_PER_USD


def micros(dollars: float | str | Decimal) -> int:
    """Dollars as micro-dollars (0.2 → 200,000). Raises ValueError for what is no amount."""
    try:
        amount = Decimal(str(dollars)) * MICROS_PER_USD
        if not amount.is_finite() or abs(amount) > MICROS_PER_USD * 10**9:
            raise ValueError
        return int(amount.to_integral_value(ROUND_FLOOR))
    except (ArithmeticError, ValueError):
        raise ValueError(f"{dollars!r} is not an amount of dollars") from None
