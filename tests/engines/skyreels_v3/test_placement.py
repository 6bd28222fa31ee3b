"""Placements: planned to the byte, refused with it, and carried out on a CPU as they are on a GPU."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any, get_args

import pytest
import torch
from torch import nn

from mutoscope.engines.skyreels_v3.attention import BACKENDS, PACKAGES, choose
from mutoscope.engines.skyreels_v3.checkpoint import Networks
from mutoscope.engines.skyreels_v3.cost import Clip
from mutoscope.engines.skyreels_v3.memory import PLACEMENTS, Placement, footprint
from mutoscope.engines.skyreels_v3.offload import Visitors, apply_placement
from mutoscope.engines.skyreels_v3.placement import EXACT, PlacementError, next_placement, plan_of, plan_placement
from mutoscope.engines.skyreels_v3.sampling import predict, text_keys
from mutoscope.engines.skyreels_v3.spec import Mode, Precision
from mutoscope.engines.skyreels_v3.text import embed

from .golden import apart, networks
from .ranks import SHAPES, finish, inputs

CLIP = Clip()  # 5 s of 720p
GB = 10**9
CPU = torch.device("cpu")


# -- The plan


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_parts_add_up_to_what_is_planned(placement: Placement) -> None:
    for gpus in (1, 8):
        plan = plan_of(CLIP, placement, gpus)
        assert plan.device_bytes == footprint(CLIP, placement, gpus).total
        assert all(count >= 0 for count in plan.device.values())
    assert (plan_of(CLIP, placement).host_bytes > 0) == (placement != "resident")


@pytest.mark.parametrize(
    ("free", "host", "expected"),
    [
        (141, None, "resident"),
        (80, None, "resident"),
        (52, None, "text offloaded"),
        (40, None, "blocks offloaded"),
        (40, 20, "int8 weights"),
    ],
)
def test_the_first_that_fits_is_taken(free: int, host: int | None, expected: str) -> None:
    plan = plan_placement(CLIP, free * GB, None if host is None else host * GB)
    assert plan.placement == expected
    assert plan.device_bytes <= free * GB
    earlier = PLACEMENTS[: PLACEMENTS.index(plan.placement)]
    for other in (plan_of(CLIP, placement) for placement in earlier):
        assert other.device_bytes > free * GB or (host is not None and other.host_bytes > host * GB)


def test_more_devices_make_room() -> None:
    longer = Clip(seconds=10)
    free = plan_of(longer, "text offloaded").device_bytes
    assert plan_placement(longer, free).placement == "text offloaded"
    assert plan_placement(longer, free - 1).placement == "blocks offloaded"
    assert plan_placement(longer, free - 1, gpus=4).placement == "text offloaded"
    assert plan_of(CLIP, "text offloaded", 4).host_bytes == plan_of(CLIP, "text offloaded").host_bytes
    alone, four = plan_of(CLIP, "blocks offloaded").host, plan_of(CLIP, "blocks offloaded", 4).host
    assert four == {"text encoder": alone["text encoder"], "transformer": 4 * alone["transformer"]}


def test_a_pin_is_kept_or_refused_with_the_bytes() -> None:
    pinned = plan_placement(CLIP, 141 * GB, pin="fp8 weights")
    assert pinned.placement == "fp8 weights"
    assert pinned.is_pinned
    assert next_placement(pinned, CLIP) is None
    needed = plan_of(CLIP, "resident").device_bytes / 1e9
    with pytest.raises(PlacementError) as refused:
        plan_placement(CLIP, 40 * GB, pin="resident")
    assert f"{needed:.1f} GB = transformer" in str(refused.value)
    assert "40.0 GB are free" in str(refused.value)
    assert "This fits: blocks offloaded" in str(refused.value)
    with pytest.raises(PlacementError, match=r"does not fit: 4\.0 GB are free.*the least it takes is blocks offloaded"):
        plan_placement(CLIP, 4 * GB)
    with pytest.raises(PlacementError, match=r"and 1\.0 GB in host memory.*Nor does any other"):
        plan_placement(CLIP, 4 * GB, GB, pin="blocks offloaded")


def test_after_running_out_comes_one_that_takes_less() -> None:
    for placement in PLACEMENTS:
        plan = plan_of(CLIP, placement)
        after = next_placement(plan, CLIP)
        if after is not None:
            assert after.device_bytes < plan.device_bytes
    assert [getattr(next_placement(plan_of(CLIP, each), CLIP), "placement", None) for each in PLACEMENTS] == [
        "text offloaded",
        "blocks offloaded",
        None,
        None,
        None,
    ]
    short = next_placement(plan_of(CLIP, "text offloaded"), CLIP, host_bytes=20 * GB)
    assert short is not None
    assert short.placement == "int8 weights"


# -- Carried out


def fresh(mode: Mode, precision: Precision) -> Networks:
    return networks.__wrapped__(mode, precision)


@torch.inference_mode()
def whole(found: Networks, seed: int = 1) -> Any:
    """Embeddings and one pass: what every part has a hand in."""
    embeddings = embed(found.text_encoder, [263, 276, 1])
    latents, moment, _, angles = inputs(networks("fast", "float32"), SHAPES[0], seed)
    latents = latents.to(found.transformer.patch_embedding.weight.dtype)
    angles = angles.to(found.numerics.angles)
    keys = text_keys(found.transformer, found.attention, embeddings)
    return embeddings, finish(predict(found.transformer, latents, moment, keys, angles))


@pytest.mark.parametrize(("mode", "precision"), [("fast", "bfloat16"), ("strict", "float32")])
@pytest.mark.parametrize("placement", sorted(EXACT))
def test_offloading_changes_no_bit(mode: Mode, precision: Precision, placement: Placement) -> None:
    placed = apply_placement(fresh(mode, precision), placement, CPU)
    for seed in (1, 2):
        for found, expected in zip(whole(placed, seed), whole(networks(mode, precision), seed), strict=True):
            assert torch.equal(found, expected)


@pytest.mark.skipif(find_spec("torchao") is None, reason="needs torchao")
@pytest.mark.filterwarnings("ignore")  # of torchao's own imports
@pytest.mark.parametrize(("placement", "limit"), [("int8 weights", 0.02), ("fp8 weights", 0.05)])
def test_rounded_weights_stay_near(placement: Placement, limit: float) -> None:
    """Limits for the tiny network, whose weights are random; measured: 1.3 % and 3.7 % of the velocity."""
    before = networks("fast", "bfloat16")
    placed = apply_placement(fresh("fast", "bfloat16"), placement, CPU)
    embeddings, velocity = whole(placed)
    assert torch.equal(embeddings, whole(before)[0])
    assert 0 < apart(velocity, whole(before)[1]) <= limit
    untouched = placed.transformer.condition_embedder.time_embedder.linear_1.weight
    assert torch.equal(untouched, before.transformer.condition_embedder.time_embedder.linear_1.weight)


class Chain(nn.Module):
    """Five layers that say, whenever one computes, which of them hold weights that are not at home."""

    def __init__(self, seen: list[list[int]]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8)) for _ in range(5))
        self.home = [layer[0].weight.data_ptr() for layer in self.layers]
        for layer in self.layers:
            layer[1].register_forward_hook(lambda *_: seen.append(self.away()))

    def away(self) -> list[int]:
        return [n for n, layer in enumerate(self.layers) if layer[0].weight.data_ptr() != self.home[n]]


@torch.no_grad()
def test_weights_visit_one_after_another_and_leave() -> None:
    seen: list[list[int]] = []
    chain = Chain(seen)
    given = torch.ones(1, 8)
    expected = given
    for layer in chain.layers:
        expected = layer(expected)
    seen.clear()
    visitors = Visitors(list(chain.layers), CPU)
    out = given
    rooms = set()
    for layer in chain.layers:
        out = layer(out)
        rooms.add(visitors.num_bytes)
    assert torch.equal(out, expected)
    assert seen == [[0], [1], [2], [3], [4]]
    assert chain.away() == []
    assert rooms == {2 * 4 * (64 + 8), 0}  # two layers' worth, until the last has gone
    assert visitors.num_bytes == 0


@torch.no_grad()
def test_a_pass_left_halfway_or_failed_leaves_the_next_one_right() -> None:
    chain = Chain([])
    given = torch.ones(1, 8)
    first = chain.layers[0](given)
    second = chain.layers[1](first)
    Visitors(list(chain.layers), CPU)
    assert torch.equal(chain.layers[0](given), first)  # and no further: layer 1 is on its way
    with pytest.raises(RuntimeError, match="shapes"):
        chain.layers[0](torch.ones(1, 7))
    assert chain.away() == []
    assert torch.equal(chain.layers[0](given), first)
    assert torch.equal(chain.layers[1](first), second)


def test_modules_that_visit_in_turn_must_be_alike() -> None:
    with pytest.raises(ValueError, match="not alike"):
        Visitors([nn.Linear(4, 4), nn.Linear(4, 5)], CPU)


# -- Attention

FA2, FA3 = "flash_attn", "flash_attn_interface"


@pytest.mark.parametrize(
    ("capability", "packages", "is_half", "expected"),
    [
        (None, PACKAGES, True, "native"),  # CPU, ROCm, Apple
        ((7, 5), PACKAGES, True, "native"),
        ((8, 0), (), True, "native"),
        ((8, 0), (FA2,), True, "flash"),
        ((8, 9), PACKAGES, True, "flash"),
        ((9, 0), (), True, "_native_cudnn"),
        ((9, 0), (FA2,), True, "_native_cudnn"),
        ((9, 0), (FA2, FA3), True, "_flash_3"),
        ((9, 0), PACKAGES, False, "native"),
        ((10, 0), PACKAGES, True, "_native_cudnn"),
        ((10, 3), (), True, "_native_cudnn"),
        ((12, 0), PACKAGES, True, "native"),
    ],
)
def test_the_fastest_exact_back_end_is_chosen(capability: Any, packages: Any, is_half: bool, expected: str) -> None:
    chosen = choose(capability, packages, is_half)
    assert chosen.name == expected
    assert not chosen.is_lossy
    assert chosen.package != "kernels"


@pytest.mark.parametrize(
    ("asked", "capability", "packages", "is_half", "sentence"),
    [
        ("fastest", (9, 0), PACKAGES, True, "no attention back end 'fastest'; there are native, "),
        ("sage", (9, 0), (), True, "sage needs the package sageattention"),
        ("_flash_3", (8, 0), PACKAGES, True, "needs CUDA capability 9.0; the device has 8.0"),
        ("flash", None, PACKAGES, True, "needs CUDA capability 8.0; the device has none"),
        ("flash", (8, 0), PACKAGES, False, "computes in 16 bits"),
    ],
)
def test_what_can_t_be_had_is_refused(asked: str, capability: Any, packages: Any, is_half: bool, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        choose(capability, packages, is_half, asked)


def test_lossy_ones_come_by_name_only() -> None:
    assert choose((9, 0), PACKAGES, asked="sage").is_lossy
    assert choose((9, 0), PACKAGES, asked="_native_flash").name == "_native_flash"
    assert {name for name, backend in BACKENDS.items() if backend.is_lossy} == {
        name for name in BACKENDS if "sage" in name
    }


def test_names_are_diffusers_and_it_takes_them_on_our_processors() -> None:
    from diffusers.models.attention_dispatch import AttentionBackendName

    assert BACKENDS.keys() <= {name.value for name in AttentionBackendName}
    placed = fresh("fast", "float32")
    expected = whole(placed)[1]
    for block in placed.transformer.blocks:
        assert block.attn1.processor is placed.attention
    placed.attention._attention_backend = AttentionBackendName("_native_math")
    assert apart(whole(placed)[1], expected) <= 1e-5


def test_placements_are_those_of_the_plan() -> None:
    assert set(get_args(Placement)) == set(PLACEMENTS) == EXACT | {"int8 weights", "fp8 weights"}
