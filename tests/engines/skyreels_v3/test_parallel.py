"""One video on several devices, here processes over gloo: the numbers of one process, and a clean end to everything."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mutoscope.engines.skyreels_v3.checkpoint import Networks
from mutoscope.engines.skyreels_v3.crew import Crew
from mutoscope.engines.skyreels_v3.decoding import decode
from mutoscope.engines.skyreels_v3.parallel import Shares
from mutoscope.engines.skyreels_v3.pipeline import Decoded, Rules, render
from mutoscope.engines.skyreels_v3.relay import share
from mutoscope.engines.skyreels_v3.sampling import Denoised, LoopRules, predict
from mutoscope.engines.skyreels_v3.spec import BUCKETS, REFERENCE_SLOTS

from .golden import CHECKPOINT, apart, networks, picture, tensors
from .ranks import SHAPES, build, finish, inputs


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


@pytest.fixture(scope="module", params=[2, pytest.param(4, marks=pytest.mark.slow)])
def crew(request: pytest.FixtureRequest) -> Iterator[tuple[Crew, Networks]]:
    with Crew(request.param, build) as started:
        leader = build(0)
        started.join(leader)
        yield started, leader


def test_shares_differ_by_at_most_one_and_are_in_order() -> None:
    for size, whole in itertools.product((2, 3, 4, 8), (8, 40, 75, 126_000, 125_999)):
        pieces = [Shares(rank, size).mine(whole) for rank in range(size)]
        assert [piece.stop - piece.start for piece in pieces] == Shares(0, size).counts(whole)
        assert pieces[0].start == 0
        assert pieces[-1].stop == whole
        assert all(before.stop == after.start for before, after in itertools.pairwise(pieces))
        assert max(Shares(0, size).counts(whole)) - min(Shares(0, size).counts(whole)) <= 1
    with pytest.raises(ValueError, match="3 can't be shared by 4"):
        Shares(0, 4).counts(3)


def test_the_shapes_leave_every_remainder_that_a_720p_bucket_does() -> None:
    real = {
        (latent_frames + REFERENCE_SLOTS) * (height // 16) * (width // 16) % 8
        for _, height, width in BUCKETS["720P"]
        for latent_frames in (31, 61)
    }
    assert real <= {frames * rows * columns % 8 for frames, rows, columns in SHAPES}


@pytest.mark.parametrize("grid", SHAPES, ids=str)
def test_a_pass_together_is_a_pass_alone(crew: tuple[Crew, Networks], grid: tuple[int, int, int]) -> None:
    together, leader = crew
    alone = networks("fast", "float32")
    given = inputs(alone, grid)
    expected = finish(predict(alone.transformer, *given))
    found = finish(together.predict(leader.transformer, *given))
    assert found.dtype == expected.dtype
    assert apart(found, expected) <= 1e-5


def test_two_texts_take_turns(crew: tuple[Crew, Networks]) -> None:
    together, leader = crew
    alone = networks("fast", "float32")
    both = [inputs(alone, SHAPES[0], seed) for seed in (1, 2, 3)]
    for given in (both[0], both[1], both[0], both[2], both[2], both[0]):
        found = finish(together.predict(leader.transformer, *given))
        assert apart(found, finish(predict(alone.transformer, *given))) <= 1e-5


def test_a_pass_can_be_left_at_each_block(crew: tuple[Crew, Networks]) -> None:
    together, leader = crew
    alone = networks("fast", "float32")
    given = inputs(alone, SHAPES[1])
    expected = finish(predict(alone.transformer, *given))
    for blocks in (1, 2, 3, 1):
        work = together.predict(leader.transformer, *given)
        fractions = [next(work) for _ in range(blocks)]
        assert fractions == [number / 3 for number in range(1, blocks + 1)]
        start = time.monotonic()
        work.close()
        assert apart(finish(together.predict(leader.transformer, *given)), expected) <= 1e-5
        assert time.monotonic() - start < 5


def test_frames_decoded_in_a_relay_are_the_same_bytes(crew: tuple[Crew, Networks]) -> None:
    together, leader = crew
    latents = tensors("c05_1s_25f", "bfloat16")["latents"][-1]
    expected = [frames.numpy().tobytes() for frames in decode(networks("fast", "float32").vae, latents)]
    assert [frames.numpy().tobytes() for frames in together.decode(leader.vae, latents)] == expected
    for taken in (1, 3, len(expected)):
        work = together.decode(leader.vae, latents)
        assert [next(work).numpy().tobytes() for _ in range(taken)] == expected[:taken]
        work.close()
    few = latents[:, :, :2]  # fewer than there are ranks
    assert [frames.numpy().tobytes() for frames in together.decode(leader.vae, few)] == expected[:2]


def events(found: Networks, rules: Rules | None = None) -> Iterator[Any]:
    """A video of 9 frames, 3 × 5 tokens each, with guidance: three passes a step."""
    return render(
        found,
        [263, 276, 1],
        [picture("refs/blobs_64x64_0.png")],
        (80, 48),
        9,
        3,
        steps=3,
        negative=[1],
        text_guidance=2.0,
        image_guidance=1.5,
        rules=rules,
        quiet_seconds=0.0,
    )


def test_a_whole_video_together_is_the_one_made_alone(crew: tuple[Crew, Networks]) -> None:
    together, leader = crew
    rules = Rules(loop=LoopRules(predict=together.predict), decode=together.decode)
    expected = list(events(networks("fast", "float32")))
    for leave_after in (None, 1, 5, 6, 20, len(expected) - 2, None):  # in text, a pass, between passes, frames
        work = events(leader, rules)
        found = list(itertools.islice(work, leave_after))
        work.close()  # type: ignore[attr-defined]
        assert [type(event) for event in found] == [type(event) for event in expected[:leave_after]]
        for event, other in zip(found, expected, strict=False):
            if isinstance(event, Denoised):
                assert apart(event.latents, other.latents) <= 1e-5
            if isinstance(event, Decoded):
                assert np.abs(event.pixels.astype(int) - other.pixels).max() <= 1


def test_layers_are_shared_out_as_evenly_as_can_be() -> None:
    weights = [5, 1, 1, 7, 2, 2, 9, 1, 3]
    for count in range(1, len(weights) + 1):
        pieces = share(weights, count)
        assert [index for piece in pieces for index in range(piece.start, piece.stop)] == list(range(len(weights)))
        heaviest = max(sum(weights[piece]) for piece in pieces)
        assert heaviest == min(
            max(sum(weights[a:b]) for a, b in itertools.pairwise((0, *cuts, len(weights))))
            for cuts in itertools.combinations(range(1, len(weights)), count - 1)
        )


def stock_together(rank: int, folder: str, grid: tuple[int, int, int]) -> None:
    """diffusers' own context parallelism, by the parts of it that a CPU can run."""
    import torch.distributed as dist
    from diffusers import ContextParallelConfig, WanTransformer3DModel
    from diffusers.hooks.context_parallel import apply_context_parallel
    from diffusers.models._modeling_parallel import ParallelConfig

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    stock: Any = WanTransformer3DModel.from_pretrained(CHECKPOINT / "transformer", torch_dtype=torch.float32).eval()
    config = ParallelConfig(context_parallel_config=ContextParallelConfig(ulysses_degree=2))
    mesh = dist.device_mesh.init_device_mesh("cpu", (1, 2), mesh_dim_names=("ring", "ulysses"))
    config.setup(rank, 2, torch.device("cpu"), mesh=mesh)
    for block in stock.blocks:
        block.attn1.processor._parallel_config = config
    apply_context_parallel(stock, config.context_parallel_config, stock._cp_plan)
    generator = torch.Generator().manual_seed(1)
    latents = torch.randn((1, 16, grid[0], 2 * grid[1], 2 * grid[2]), generator=generator)
    words = torch.randn((1, 512, 64), generator=generator)
    with torch.inference_mode():
        found = stock(latents, torch.tensor([749]), words, return_dict=False)[0]
    if rank == 0:
        torch.save(found, f"{folder}/found.pt")
    dist.destroy_process_group()


@pytest.mark.slow
def test_diffusers_own_context_parallelism_agrees(tmp_path: Path) -> None:
    """Where it runs: on token counts that divide."""
    torch.multiprocessing.spawn(stock_together, (str(tmp_path), SHAPES[0]), nprocs=2)
    alone = networks("fast", "float32")
    expected = finish(predict(alone.transformer, *inputs(alone, SHAPES[0])))
    assert apart(torch.load(tmp_path / "found.pt"), expected) <= 1e-5
