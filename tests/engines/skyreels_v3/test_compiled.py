"""Blocks that torch compiles: the golden numbers within rounding, one compilation for all blocks, none in strict."""

from __future__ import annotations

import shutil

import pytest
import torch
from torch._dynamo.utils import counters

from mutoscope.engines.skyreels_v3 import checkpoint
from mutoscope.engines.skyreels_v3.checkpoint import Networks
from mutoscope.engines.skyreels_v3.engine import SkyreelsV3
from mutoscope.engines.skyreels_v3.spec import Options

from .golden import CHECKPOINT, case_of, compare, record


def compiled() -> Networks:
    loading = checkpoint.load(CHECKPOINT, "float32", "fast", torch.device("cpu"), compiled=True)
    while True:
        try:
            next(loading)
        except StopIteration as end:
            return end.value


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of torch's compiler
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_golden_cases_of_several_sizes_from_two_compilations() -> None:
    torch._dynamo.reset()
    counters.clear()
    networks = compiled()
    for name in ("c01_1ref_16x9", "c03_3ref_1x1", "c08_prompt_edge"):
        case = case_of(name, "float32")
        compare(record(networks, case), case, exact=False)
    assert counters["stats"]["unique_graphs"] == 2, "one for the first size, one for all others, whatever the blocks"
    assert not counters["graph_break"]


def test_strict_refuses_to_be_compiled() -> None:
    with pytest.raises(ValueError, match="compiled is True and mode is 'strict'"):
        Options(CHECKPOINT, mode="strict", compiled=True)


def test_the_receipt_says_whether_blocks_are_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    assert SkyreelsV3(Options(CHECKPOINT)).receipt()["compiled"] is False
    if shutil.which("g++"):
        assert SkyreelsV3(Options(CHECKPOINT, compiled=True)).receipt()["compiled"] is True
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ValueError, match="needs a C\\+\\+ compiler"):
        SkyreelsV3(Options(CHECKPOINT, compiled=True))
