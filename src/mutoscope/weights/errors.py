"""What can go wrong with weights, as one sentence for the person who asked for them."""

from __future__ import annotations


class WeightsError(Exception):
    """Weights could not be had, or are not what they should be; the message says what to do.

    * WeightsError
      + LicenceError  the licence was not accepted
    """


class LicenceError(WeightsError):
    """The licence was not accepted, so nothing was downloaded."""
