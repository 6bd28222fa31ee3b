"""Planning: operations and bytes held against the real network classes, the queue against queueing theory."""

from __future__ import annotations

import io
import json
import math
import subprocess
import sys
import weakref
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import cv2
import numpy as np
import pytest
from rich.console import Console

from mutoscope.engines.skyreels_v3.cost import TEXT_ENCODER, TRANSFORMER, VAE, cost_of
from mutoscope.engines.skyreels_v3.memory import PLACEMENTS, footprint, weight_bytes
from mutoscope.planning import COUNTS, GPUS, Clip, Load, plan
from mutoscope.planning.chart import draw
from mutoscope.planning.fleet import Fleet, Service, estimate_wait, poisson, simulate, size, waits
from mutoscope.planning.gpus import find
from mutoscope.planning.prediction import predict
from mutoscope.planning.questions import PlanError, clip_of, gpus_of, mix_of, numbers_in
from mutoscope.planning.report import as_json, report
from mutoscope.planning.traffic import traffic

HD = Clip()
SHAPES = [
    HD,
    Clip(seconds=10),
    Clip(720, 1280, 6),
    Clip(960, 960, 5),
    Clip(960, 544, 10),
    Clip(848, 480, 5),
]


@pytest.fixture(scope="module")
def networks() -> dict[str, Any]:
    """The published sizes, on the meta device: shapes and no numbers."""
    torch = pytest.importorskip("torch")
    diffusers = pytest.importorskip("diffusers")
    transformers = pytest.importorskip("transformers")
    with torch.device("meta"):
        return {
            "transformer": diffusers.WanTransformer3DModel(
                patch_size=(1, 2, 2),
                num_attention_heads=40,
                attention_head_dim=128,
                in_channels=16,
                out_channels=16,
                text_dim=4096,
                freq_dim=256,
                ffn_dim=13824,
                num_layers=40,
                cross_attn_norm=True,
                qk_norm="rms_norm_across_heads",
            ),
            "vae": diffusers.AutoencoderKLWan(),
            "text": transformers.UMT5EncoderModel(
                transformers.UMT5Config(
                    vocab_size=256_384,
                    d_model=4096,
                    d_kv=64,
                    d_ff=10240,
                    num_layers=24,
                    num_heads=64,
                    feed_forward_proj="gated-gelu",
                    tie_word_embeddings=False,
                )
            ),
        }


def counted(call: Any) -> int:
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter, torch.no_grad(), torch.device("meta"):
        call()
    total: int = counter.get_total_flops()
    return total


@pytest.mark.slow
@pytest.mark.parametrize("clip", SHAPES, ids=lambda clip: f"{clip.width}x{clip.height}-{clip.seconds}s")
def test_a_prediction_costs_what_torch_counts(networks: dict[str, Any], clip: Clip) -> None:
    import torch

    def call() -> None:
        frames, h, w = clip.latent_frames + 4, clip.height // 8, clip.width // 8
        networks["transformer"](
            torch.empty(1, 16, frames, h, w), torch.zeros(1), torch.empty(1, 512, 4096), return_dict=False
        )

    assert cost_of(clip).prediction == pytest.approx(counted(call), rel=0.005)


@pytest.mark.slow
def test_the_other_networks_cost_what_torch_counts(networks: dict[str, Any]) -> None:
    import torch

    for width, height in ((1280, 720), (480, 848)):
        h, w = height // 8, width // 8
        decoded = counted(lambda h=h, w=w: networks["vae"].decode(torch.empty(1, 16, 4, h, w)))
        assert VAE.decode_flops(4, width, height) == pytest.approx(decoded, rel=0.005)
        shape = (1, 3, 1, height, width)
        encoded = counted(lambda shape=shape: networks["vae"].encode(torch.empty(shape)))
        assert VAE.encode_flops(width, height) == pytest.approx(encoded, rel=0.005)
    read = counted(lambda: networks["text"](torch.zeros(1, 512, dtype=torch.long)))
    assert TEXT_ENCODER.flops() == pytest.approx(read, rel=0.005)


def test_parameters_are_counted_to_the_last(networks: dict[str, Any]) -> None:
    def of(module: Any) -> int:
        return sum(parameter.numel() for parameter in module.parameters())

    assert TRANSFORMER.num_parameters == of(networks["transformer"])
    assert TRANSFORMER.num_block_parameters == of(networks["transformer"].blocks)
    assert TEXT_ENCODER.num_parameters == of(networks["text"])
    assert VAE.num_parameters == of(networks["vae"])


def peak_bytes(call: Any, network: Any) -> int:
    """Bytes of tensors that are alive at once, at most, besides the network's own; attention is fused."""
    import torch
    from torch.overrides import TorchFunctionMode
    from torch.utils._python_dispatch import TorchDispatchMode

    class Live(TorchDispatchMode):
        alive = peak = 0
        seen: ClassVar = {each.untyped_storage()._cdata for each in (*network.parameters(), *network.buffers())}

        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            out = function(*args, **(kwargs or {}))
            for each in torch.utils._pytree.tree_leaves(out):
                if isinstance(each, torch.Tensor) and (storage := each.untyped_storage())._cdata not in self.seen:
                    self.seen.add(storage._cdata)
                    Live.alive += storage.nbytes()
                    Live.peak = max(Live.peak, Live.alive)
                    weakref.finalize(storage, self.gone, storage._cdata, storage.nbytes())
            return out

        def gone(self, key: int, num_bytes: int) -> None:
            self.seen.discard(key)
            Live.alive -= num_bytes

    class Fused(TorchFunctionMode):
        def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if function is torch.nn.functional.scaled_dot_product_attention:
                return torch.empty_like(args[0] if args else kwargs["query"])
            return function(*args, **(kwargs or {}))

    with torch.no_grad(), torch.device("meta"), Live(), Fused():
        call()
    return Live.peak


@pytest.mark.slow
def test_work_needs_the_memory_that_live_tensors_take(networks: dict[str, Any]) -> None:
    import torch

    from mutoscope.engines.skyreels_v3.decoding import decode
    from mutoscope.engines.skyreels_v3.numerics import FAST, LeanBlock, use

    stock = networks["transformer"].blocks[0].to(torch.bfloat16)
    for kept in (stock.norm2, stock.scale_shift_table):
        kept.data = kept.data.float() if isinstance(kept, torch.Tensor) else kept.float()
    alone = SimpleNamespace(blocks=[stock])
    use(alone, FAST)
    block: LeanBlock = alone.blocks[0]
    n, d = HD.tokens, TRANSFORMER.dim

    def attend() -> None:
        hidden = torch.empty(1, n, d, dtype=torch.bfloat16)
        keys = torch.empty(2, 1, 512, TRANSFORMER.heads, 128, dtype=torch.bfloat16)
        block(hidden, (keys[0], keys[1]), torch.empty(1, 6, d), torch.empty(n, 1, 64, dtype=torch.complex64))

    text_keys = TRANSFORMER.layers * 2 * 2 * 512 * d
    measured = peak_bytes(attend, block) + text_keys
    small = replace(HD, width=64, height=64)  # where nothing but weights matters
    work = footprint(HD, "blocks offloaded").work
    vae = networks["vae"]

    def show() -> None:
        shown = decode(vae, torch.empty(1, 16, 31, HD.height // 8, HD.width // 8))
        for _ in range(3):
            next(shown)

    assert work == pytest.approx(max(measured, peak_bytes(show, vae)), rel=0.03)
    long = Clip(seconds=10)
    grown = (measured - text_keys) * long.tokens / n + text_keys
    assert footprint(long, "blocks offloaded").work == pytest.approx(grown, rel=0.05)
    assert footprint(small, "blocks offloaded").work == weight_bytes()["text encoder"]


@pytest.mark.parametrize(
    ("clip", "tokens", "linear", "attention"),
    [  # PFLOP a prediction, measured with torch's counter when the model was first examined
        (HD, 126_000, 3.01, 13.01),
        (Clip(seconds=6), 147_600, 3.53, 17.85),
        (Clip(seconds=8), 190_800, 4.56, 29.82),
        (Clip(seconds=10), 234_000, 5.59, 44.86),
        (Clip(960, 544, 5), 71_400, 1.71, 4.18),
        (Clip(848, 480, 10), 103_350, 2.47, 8.75),
    ],
)
def test_known_figures(clip: Clip, tokens: int, linear: float, attention: float) -> None:
    assert clip.tokens == tokens
    cost = cost_of(clip)
    assert cost.linear / 1e15 == pytest.approx(linear, rel=0.005)
    assert cost.attention / 1e15 == pytest.approx(attention, rel=0.007)  # that figure leaves the text's keys out
    assert cost.denoise == 8 * cost.prediction


def test_known_figures_of_the_whole_clip() -> None:
    cost = cost_of(HD)
    assert cost.prediction / 1e15 == pytest.approx(16.08, rel=0.005)
    assert cost.decode / 1e12 == pytest.approx(954, rel=0.005)
    assert VAE.decode_flops(61, 1280, 720) / 1e12 == pytest.approx(1897, rel=0.005)
    assert cost.encode / 4 / 1e12 == pytest.approx(6.5, rel=0.01)
    assert TRANSFORMER.num_parameters / 1e9 == pytest.approx(14.288, abs=0.001)
    assert {name: round(value / 1e9, 1) for name, value in weight_bytes().items()} == {
        "transformer": 28.6,
        "text encoder": 11.4,
        "VAE": 0.5,
    }
    assert cost_of(replace(HD, predictions=3)).denoise == 3 * cost.denoise
    assert cost_of(replace(HD, references=1)).denoise == cost.denoise, "empty reference slots are computed too"


def test_what_fits_where() -> None:
    def fitting(name: str, clip: Clip = HD, count: int = 1) -> list[str]:
        return [each.placement for each, fits in predict(clip, find(name), count).fits if fits]

    assert fitting("H100") == list(PLACEMENTS)
    assert fitting("A100") == [name for name in PLACEMENTS if name != "fp8 weights"], "it has no fp8"
    assert fitting("L40S") == ["text offloaded", "blocks offloaded", "int8 weights", "fp8 weights"]
    assert fitting("4090") == fitting("4090", Clip(seconds=10)) == ["blocks offloaded"]
    longer = Clip(seconds=20)
    assert fitting("4090", longer) == []
    assert fitting("4090", longer, 2) == ["blocks offloaded"], "two share the tokens"
    assert predict(longer, find("4090")).placement is None
    for placement in PLACEMENTS:
        totals = [footprint(Clip(seconds=seconds), placement).total for seconds in (5, 6, 8, 10)]
        assert totals == sorted(totals)
    assert footprint(HD, "int8 weights").weights < footprint(HD, "text offloaded").weights / 1.9


def test_time_and_money_of_one_clip() -> None:
    alone = predict(HD, find("H100"))
    assert alone.denoise == pytest.approx(236, rel=0.01)  # 128.6 PFLOP at 55 % of 989 TFLOP/s
    assert alone.low < alone.seconds < alone.high
    assert alone.dollars == pytest.approx(alone.seconds / 3600 * 2.69)
    eight = predict(HD, find("H100"), 8)
    assert eight.denoise == pytest.approx(alone.denoise / 6.38)
    assert eight.dollars == pytest.approx(eight.seconds * 8 / 3600 * 2.69)
    assert eight.dollars > alone.dollars, "sharing a clip buys time with money"
    for gpu in GPUS:
        assert gpu.low < gpu.share < gpu.high < 1
        times = [predict(HD, gpu, count).seconds for count in COUNTS]
        assert times == sorted(times, reverse=True)
        assert all(gpu.link.speedups[count] <= count for count in COUNTS)


def test_streaming_blocks_is_hidden_behind_long_steps_only() -> None:
    card = find("4090")
    long, short = predict(HD, card), predict(Clip(128, 128, 1, steps=1), card)
    assert long.denoise == pytest.approx(cost_of(HD).denoise / (card.bf16 * 1e12 * card.share))
    narrow = predict(Clip(128, 128, 1, steps=1), replace(card, memory_mib=20_000))
    assert narrow.placement == "blocks offloaded"
    assert narrow.denoise == pytest.approx(28.1 / 25, rel=0.01), "28 GB at 25 GB/s"
    assert short.placement != "blocks offloaded" or short.denoise == narrow.denoise


def test_tasks_are_served_in_their_order_by_whoever_is_free() -> None:
    arrivals, services = np.array([0.0, 1.0, 2.0, 3.0]), np.array([10.0, 2.0, 5.0, 1.0])
    assert waits(arrivals, services, 1).tolist() == [0.0, 9.0, 10.0, 14.0]
    assert waits(arrivals, services, 2).tolist() == [0.0, 0.0, 1.0, 5.0]  # at 3 s the third worked until 8 s
    assert waits(arrivals, services, 4).tolist() == [0.0] * 4
    found = simulate(arrivals, services, 1, warm_up=0.0)
    assert found.longest_queue == 3
    assert found.wait_p50 == 9.5


def test_one_worker_with_equal_times_waits_as_pollaczek_and_khinchine_say() -> None:
    generator = np.random.default_rng(1)
    arrivals = poisson(per_hour=3600 * 0.8, count=400_000, generator=generator)
    waited = waits(arrivals, np.ones(len(arrivals)), 1)
    assert waited[50_000:].mean() == pytest.approx(0.8 / (2 * (1 - 0.8)), rel=0.05)


def test_many_workers_with_exponential_times_wait_as_erlang_says() -> None:
    generator = np.random.default_rng(2)
    arrivals = poisson(per_hour=3600 * 8, count=400_000, generator=generator)
    found = simulate(arrivals, generator.exponential(1.0, len(arrivals)), 10)
    delayed = 0.40918  # Erlang's C for 8 erlangs on 10 servers, from the tables
    assert found.wait_p95 == pytest.approx(math.log(delayed / 0.05) / 2, rel=0.07)
    assert found.busy == pytest.approx(0.8, abs=0.01)
    exponential = tuple(-math.log(1 - (number + 0.5) / 2000) for number in range(2000))
    assert estimate_wait(Service(exponential), 3600 * 8, 10) == pytest.approx(math.log(delayed / 0.05) / 2, rel=0.02)


def test_the_estimate_meets_the_simulation_where_the_queue_is_busy() -> None:
    generator = np.random.default_rng(3)
    arrivals = poisson(per_hour=3600 * 9, count=600_000, generator=generator)
    for seconds in ((1.0,), (0.5, 1.5)):  # the less the times vary, the shorter the wait
        service = Service(seconds)
        found = simulate(arrivals, service.draw(len(arrivals), generator), 10)
        assert estimate_wait(service, 3600 * 9, 10) == pytest.approx(found.wait_p95, rel=0.12), seconds


def test_a_fleet_is_as_small_as_the_target_allows() -> None:
    service = Service((240.0, 750.0), (0.8, 0.2))
    assert service.mean == 342.0
    found = size(service, 60, per_hour=200)
    assert found.enough
    assert found.wait_p95 <= 60
    generator = np.random.default_rng(0)
    arrivals = poisson(200, 40_000, generator)
    assert simulate(arrivals, service.draw(40_000, generator), found.groups - 1).wait_p95 > 60
    groups = [size(service, target, per_hour=200).groups for target in (1, 30, 300, 3000)]
    assert groups == sorted(groups, reverse=True)
    assert groups[0] > groups[-1] >= math.floor(200 * 342 / 3600) + 1
    assert size(service, 60, per_hour=200, most_groups=20) == replace(
        size(service, 60, per_hour=200, most_groups=20), groups=20, enough=False
    )


def test_a_large_fleet_has_the_room_that_a_short_run_does_not_show() -> None:
    service, per_hour = Service((244.0,)), 41_667.0
    found = size(service, 60, per_hour=per_hour)
    load = per_hour * 244 / 3600
    assert load + 2 < found.groups < load * 1.02
    assert estimate_wait(service, per_hour, found.groups) <= 60
    assert estimate_wait(service, per_hour, math.floor(load)) == math.inf
    assert size(service, 60, per_hour=4000).groups == pytest.approx(
        size(service, 60, per_hour=2900).groups * 4000 / 2900, rel=0.03
    ), "the two ways to size a fleet meet"


def test_a_fleet_for_given_arrivals() -> None:
    burst = [1000.0] * 10
    assert size(Service((60.0,)), 0, arrivals=burst).groups == 10
    assert size(Service((60.0,)), 60, arrivals=burst).groups == 5
    assert isinstance(size(Service((60.0,)), 600, arrivals=burst), Fleet)
    with pytest.raises(ValueError, match="clips an hour"):
        size(Service((60.0,)), 60)
    with pytest.raises(ValueError, match="more than 0"):
        Service((0.0,))


def test_a_million_clips_a_day() -> None:
    found = plan(HD, gpus=gpus_of(["H100"]), counts=(1, 8), load=Load(clips_per_hour=1e6 / 24, wait_p95=30))
    alone, eight = found.fleets
    assert alone.gpus > 1e6 / 86_400 * alone.prediction.seconds
    assert alone.gpus < 1e6 / 86_400 * alone.prediction.seconds * 1.03
    assert eight.gpus == 8 * eight.fleet.groups
    assert found.cheapest_fleet is alone
    amount = alone.traffic
    assert amount.clips_per_day == pytest.approx(1e6)
    assert amount.writes_per_second == pytest.approx(1e6 / 86_400 * amount.writes_per_clip)
    running = alone.prediction.denoise + alone.prediction.decode
    assert amount.writes_per_clip > 3 + 4 + 8 + running / 5
    assert amount.egress_per_day == pytest.approx(1e6 * (amount.clip_bytes + 120_000))
    assert amount.stored_bytes == pytest.approx(7 * (amount.egress_per_day + amount.ingress_per_day))
    assert alone.dollars_per_clip == pytest.approx(alone.gpus * 2.69 * 24 / 1e6)


def test_a_mix_a_peak_and_measured_times_change_the_fleet() -> None:
    def gpus(**asked: Any) -> int:
        load = Load(clips_per_hour=500, wait_p95=60, **asked)
        return plan(HD, gpus=gpus_of(["H100"]), counts=(1,), load=load).fleets[0].gpus

    plain = gpus()
    assert gpus(durations={5: 1.0}) == plain
    assert gpus(durations={5: 80, 10: 20}) > plain * 1.2
    assert gpus(peak=2.0) > plain * 1.8
    assert gpus(service_seconds=[30.0, 32.0]) < plain / 5
    cards = gpus_of(["4090"])
    mixed = plan(HD, gpus=cards, counts=(1,), load=Load(500, 60, durations={5: 1, 20: 1})).fleets[0]
    assert not mixed.fleet.enough, "20 s do not fit on one of them"


def test_traffic_follows_its_parts() -> None:
    asked: dict[str, Any] = {
        "pixels_per_clip": 10**8,
        "references": 2,
        "steps": 8,
        "denoise_seconds": 40.0,
        "decode_seconds": 5.0,
        "waiting_seconds": 15.0,
    }
    found = traffic(86_400, **asked)
    assert found.writes_per_clip == 3 + 2 + 2 + 8 + 40 + 20 + 9
    assert found.writes_per_second == found.writes_per_clip
    assert found.polls_per_second == 30
    assert found.clip_bytes == 1_250_000
    assert traffic(86_400, **asked, downloads=3).egress_per_day == 3 * found.egress_per_day
    assert traffic(86_400, **asked, retention_days=14).stored_bytes == 2 * found.stored_bytes


def test_questions_are_understood() -> None:
    assert clip_of("9:16", "480P", 10, 1) == Clip(480, 848, 10, 1)
    assert clip_of(guidance=True).predictions == 3
    assert [gpu.name for gpu in gpus_of()] == ["H100", "H200", "B200", "A100", "L40S", "4090", "5090"]
    chosen = gpus_of(["rtx 4090", "h100"], ["H100=2", "B200=9"])
    assert [(gpu.name, gpu.dollars_per_hour) for gpu in chosen] == [("4090", 0.34), ("H100", 2.0)]
    assert chosen[1].price_source == "given"
    assert mix_of("5:80, 10:20") == {5: 80, 10: 20}
    assert mix_of("") == {}


@pytest.mark.parametrize(
    ("ask", "sentence"),
    [
        (lambda: clip_of("4:3"), "shape '4:3' is unknown: it can be 16:9, 9:16, 1:1"),
        (lambda: clip_of(resolution="1080p"), "resolution '1080p' is unknown: it can be 480p, 540p, 720p"),
        (lambda: clip_of(seconds=0), "0 s of video"),
        (lambda: clip_of(references=5), "takes 1 to 4"),
        (lambda: clip_of(steps=0), "at least 1"),
        (lambda: gpus_of(["K80"]), "'K80' is not in the table: it has H100, H200"),
        (lambda: gpus_of(prices=["H100"]), "like H100=2.50"),
        (lambda: gpus_of(prices=["H100=nan"]), "like H100=2.50"),
        (lambda: gpus_of(prices=["H100=-1"]), "like H100=2.50"),
        (lambda: mix_of("5"), "like 5:80,10:20"),
        (lambda: mix_of("5:0"), "more than 0"),
        (lambda: numbers_in(Path("/nowhere")), "can't be read"),
    ],
)
def test_questions_that_have_no_answer_are_one_sentence(ask: Any, sentence: str) -> None:
    with pytest.raises(PlanError) as caught:
        ask()
    assert sentence in str(caught.value)


def test_numbers_are_read_from_lines_and_from_json(tmp_path: Path) -> None:
    (tmp_path / "lines").write_text("# seconds\n1\n 2.5 \n\n3\n")
    (tmp_path / "json").write_text("[1, 2.5, 3]")
    (tmp_path / "bad").write_text("1\ntwo\n")
    (tmp_path / "empty").write_text("# nothing\n")
    assert numbers_in(tmp_path / "lines") == numbers_in(tmp_path / "json") == [1, 2.5, 3]
    for name in ("bad", "empty"):
        with pytest.raises(PlanError):
            numbers_in(tmp_path / name)


@pytest.mark.parametrize("columns", [80, 120])
def test_the_report_says_all_of_it_at_any_width(columns: int) -> None:
    screen = io.StringIO()
    console = Console(file=screen, width=columns, color_system=None)
    found = plan(Clip(seconds=20), load=Load(clips_per_hour=60, wait_p95=120))
    for part in report(found):
        console.print(part)
    text = screen.getvalue()
    assert max(len(line.rstrip()) for line in text.splitlines()) <= columns
    for expected in ("450,000", "does not fit", "Predicted, not measured", "writes/s", "resident", "5090", "RunPod"):
        assert expected in text
    assert "…" not in text, "nothing is cut"


def test_json_holds_the_same_numbers() -> None:
    found = plan(HD, counts=(1, 2), load=Load(clips_per_hour=60, arrivals=(), wait_p95=120))
    data = json.loads(json.dumps(as_json(found), allow_nan=False))
    assert data["clip"]["tokens"] == 126_000
    assert data["flops"]["prediction"] == found.cost.prediction
    assert len(data["predictions"]) == 2 * len(GPUS)
    first = data["predictions"][0]
    assert (first["gpu"], first["count"], first["placement"]) == ("H100", 1, "resident")
    assert first["seconds"] == found.predictions[0].seconds
    assert first["bytes"]["resident"]["total"] == found.predictions[0].fits[0][0].total
    assert data["fleets"][0]["gpus"] == found.fleets[0].gpus
    assert data["gpus"]["B200"]["share_source"]
    assert as_json(plan(HD))["fleets"] == []


@pytest.mark.slow
def test_the_chart_is_a_picture_of_this_plan(tmp_path: Path) -> None:
    pictures = {}
    for name, found in {
        "one": plan(HD),
        "other": plan(Clip(seconds=10), gpus=gpus_of(["H100", "4090"])),
        "fleet": plan(HD, load=Load(clips_per_hour=60)),
        "none": plan(Clip(seconds=60), gpus=gpus_of(["4090"]), counts=(1,)),
    }.items():
        draw(found, tmp_path / f"{name}.png")
        pictures[name] = cv2.imread(str(tmp_path / f"{name}.png"))
        assert (tmp_path / f"{name}.png").stat().st_size < 500_000
    assert pictures["one"].shape == (2020, 2400, 3)
    assert (pictures["one"] != pictures["other"]).any()
    assert pictures["fleet"].shape[0] > pictures["one"].shape[0]
    for picture in pictures.values():
        assert 0.005 < (picture.min(axis=2) < 250).mean() < 0.5, "ink on white"
        assert (picture[:40] == 255).all(), "a margin"
        assert (picture[:, :40] == 255).all()
        assert (picture[:, -20:] == 255).all()


def test_planning_loads_no_torch() -> None:
    program = "import sys, mutoscope.planning.report; print([m for m in ('torch', 'cv2') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
