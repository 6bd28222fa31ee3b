"""Ranks that fail, die or are left: everything ends, soon, and says why."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import torch

from mutoscope.engines.skyreels_v3.crew import Crew, RankFailed
from mutoscope.engines.skyreels_v3.sampling import predict

from .golden import apart, networks
from .ranks import SHAPES, build, build_faulty, fail, finish, inputs

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


def test_heads_that_don_t_divide_and_a_rank_that_dies() -> None:
    """Four heads on three ranks, in the other mode; then one rank is killed in the middle of a pass."""
    strict = functools.partial(build, mode="strict", precision="bfloat16")
    with Crew(3, strict) as together:
        leader, alone = strict(0), networks("strict", "bfloat16")
        together.join(leader)
        for grid in SHAPES[:3]:
            given = inputs(alone, grid)
            expected = finish(predict(alone.transformer, *given))
            assert apart(finish(together.predict(leader.transformer, *given)), expected) <= 1e-3
        others = psutil.Process().children()
        followers = [process.pid for process in together.processes]
        work = together.predict(leader.transformer, *given)
        next(work)
        os.kill(followers[0], signal.SIGKILL)
        start = time.monotonic()
        with pytest.raises(RankFailed, match="GPU 2 of the 3"):
            finish(work)
        assert time.monotonic() - start < 10
        assert not [pid for pid in followers if psutil.pid_exists(pid)]
        assert len(psutil.Process().children()) <= len(others) - 2
        with pytest.raises(RankFailed, match="GPU 2 of the 3"):
            next(together.predict(leader.transformer, *given))


def test_what_goes_wrong_on_either_side_ends_the_crew() -> None:
    with Crew(2, build) as together:
        leader = build(0)
        together.join(leader)
        followers = [process.pid for process in together.processes]
        latents, moment, text, angles = inputs(leader, SHAPES[0])
        start = time.monotonic()
        with pytest.raises(RuntimeError, match="size") as caught:  # the leader's angles are those of another size
            finish(together.predict(leader.transformer, latents, moment, text, angles[:-3]))
        assert not isinstance(caught.value, RankFailed)
        assert time.monotonic() - start < 10
        assert together.is_over
        assert not [pid for pid in followers if psutil.pid_exists(pid)]


def test_a_rank_that_fails_says_why_and_ends_the_crew() -> None:
    with Crew(2, build_faulty) as together:
        leader = build(0)
        together.join(leader)
        start = time.monotonic()
        with pytest.raises(RankFailed, match=r"GPU 2 of the 2 .* failed: MemoryError: no room for the second block"):
            finish(together.predict(leader.transformer, *inputs(leader, SHAPES[0])))
        assert time.monotonic() - start < 10
        assert not [process for process in together.processes if psutil.pid_exists(process.pid)]


def test_a_rank_that_can_t_load_says_why() -> None:
    with Crew(2, fail) as together, pytest.raises(RankFailed, match="did not start: MemoryError: no room for the"):
        together.join(networks("fast", "float32"))
    assert together.is_over
    with pytest.raises(ValueError, match="a crew of 1"):
        Crew(1, fail)


def test_followers_end_with_their_leader(tmp_path: Path) -> None:
    program = f"""
import os, signal, sys, torch
sys.path.insert(0, {str(Path(__file__).parents[3])!r})
from tests.engines.skyreels_v3.ranks import *
from mutoscope.engines.skyreels_v3.crew import Crew
if __name__ == "__main__":
    together = Crew(2, build)
    leader = build(0)
    together.join(leader)
    work = together.predict(leader.transformer, *inputs(leader, SHAPES[0]))
    next(work)
    print(together.processes[0].pid, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    script = tmp_path / "leader.py"
    script.write_text(program)
    died = subprocess.run([sys.executable, str(script)], stdout=subprocess.PIPE, text=True, timeout=120)
    follower = int(died.stdout)
    start = time.monotonic()
    while psutil.pid_exists(follower) and psutil.Process(follower).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() - start < 10
        time.sleep(0.05)
