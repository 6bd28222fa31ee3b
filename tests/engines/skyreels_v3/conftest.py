"""Tests of the model itself: they need the `skyreels` extra, and are left out where it is not installed."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

if find_spec("torch") is None or find_spec("diffusers") is None:
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    # The tiny network is too small for threads to help, and they cost much where cores are shared. Same bits.
    import torch

    torch.set_num_threads(1)
