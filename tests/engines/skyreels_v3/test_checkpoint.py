"""Another model, half a model, or a library that computes another schedule is refused, and the sentence says why."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UniPCMultistepScheduler
from safetensors.torch import load_file, save_file

from mutoscope.engines.skyreels_v3.checkpoint import CheckpointError, check, check_schedule, fingerprint
from mutoscope.engines.skyreels_v3.engine import SkyreelsV3
from mutoscope.engines.skyreels_v3.sampling import schedule, unipc
from mutoscope.engines.skyreels_v3.spec import Options

from .golden import CHECKPOINT

VAE = "vae/diffusion_pytorch_model.safetensors"
TRANSFORMER = "transformer/diffusion_pytorch_model-00002-of-00003.safetensors"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return shutil.copytree(CHECKPOINT, tmp_path / "checkpoint")


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_tensors(path: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


def refusal(folder: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        check(folder)
    sentence = str(caught.value)
    assert sentence.endswith(".")
    return sentence


def test_the_published_layout_is_taken() -> None:
    check(CHECKPOINT)


def test_a_text_to_video_wan_is_refused_though_its_tensors_have_the_same_names(folder: Path) -> None:
    edit(folder / "transformer/config.json", _class_name="WanTransformer3DModel")
    assert "holds a WanTransformer3DModel, which is not SkyReels-V3 R2V" in refusal(folder)


@pytest.mark.parametrize(
    ("part", "entry"),
    [
        ("transformer", ["diffusers", "SkyReelsV2Transformer3DModel"]),
        ("vae", ["diffusers", "AutoencoderKL"]),
        ("text_encoder", ["transformers", "T5EncoderModel"]),
        ("scheduler", ["diffusers", "FlowMatchEulerDiscreteScheduler"]),
        ("tokenizer", None),
    ],
)
def test_another_class_is_named(folder: Path, part: str, entry: list[str] | None) -> None:
    edit(folder / "model_index.json", **{part: entry})
    assert f"names {entry[1] if entry else 'nothing'} as {part}" in refusal(folder)


def test_an_image_to_video_model_s_extra_part_is_named(folder: Path) -> None:
    edit(folder / "model_index.json", image_encoder=["transformers", "CLIPVisionModel"])
    assert "image_encoder" in refusal(folder)


@pytest.mark.parametrize(
    ("part", "changes", "found"),
    [
        ("transformer", {"in_channels": 36}, "in_channels = 36"),
        ("transformer", {"image_dim": 1280}, "image_dim = 1280"),
        ("transformer", {"patch_size": [1, 1, 1]}, "patch_size = [1, 1, 1]"),
        ("vae", {"z_dim": 48}, "z_dim = 48"),
        ("vae", {"temperal_downsample": [False, False, True]}, "temperal_downsample = [False, False, True]"),
        ("transformer", {"text_dim": 4096}, "reads 4096"),
    ],
)
def test_another_setting_is_named(folder: Path, part: str, changes: dict, found: str) -> None:
    edit(folder / part / "config.json", **changes)
    assert found in refusal(folder)


def test_missing_extra_and_misshapen_tensors_are_named(folder: Path) -> None:
    edit_tensors(folder / VAE, lambda tensors: tensors.pop("post_quant_conv.bias"))
    assert "lacks 1 of" in (sentence := refusal(folder))
    assert "post_quant_conv.bias" in sentence
    edit_tensors(folder / VAE, lambda tensors: tensors.update({"post_quant_conv.bias": torch.zeros(16)}))
    check(folder)
    edit_tensors(folder / VAE, lambda tensors: tensors.update({"post_quant_conv.spare": torch.zeros(16)}))
    assert "has 1 tensors that the network does not: post_quant_conv.spare" in refusal(folder)
    edit_tensors(folder / VAE, lambda tensors: tensors.pop("post_quant_conv.spare"))
    edit_tensors(folder / VAE, lambda tensors: tensors.update({"post_quant_conv.bias": torch.zeros(4, 4)}))
    assert "post_quant_conv.bias is 4×4, where the network's is 16" in refusal(folder)


def test_fewer_layers_than_the_settings_say_are_missing_tensors(folder: Path) -> None:
    edit(folder / "transformer/config.json", num_layers=4)
    assert "blocks.3." in refusal(folder)
    edit(folder / "transformer/config.json", num_layers=2)
    assert "has 2" in (sentence := refusal(folder))
    assert "blocks.2." in sentence


def test_a_lost_or_cut_shard_is_named(folder: Path) -> None:
    shard = folder / TRANSFORMER
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-1])
    assert f"has {len(whole) - 1:,} bytes where its header promises {len(whole):,}" in refusal(folder)
    shard.write_bytes(b"<html>not found</html>")
    assert "no safetensors file" in refusal(folder)
    shard.unlink()
    assert f"lacks {shard.name}" in refusal(folder)


@pytest.mark.parametrize("path", ["model_index.json", "vae/config.json", "tokenizer/tokenizer.json", VAE])
def test_a_missing_file_is_named(folder: Path, path: str) -> None:
    (folder / path).unlink()
    assert Path(path).name.split(".")[-1] in refusal(folder)


def test_an_empty_or_absent_folder_is_no_checkpoint(tmp_path: Path) -> None:
    assert "model_index.json is missing" in refusal(tmp_path)
    with pytest.raises(CheckpointError, match="is missing"):
        SkyreelsV3(Options(tmp_path / "nowhere"))


def test_the_library_s_own_schedule_is_refused() -> None:
    check_schedule(schedule(8))
    theirs = unipc()
    theirs.set_timesteps(8)
    with pytest.raises(CheckpointError, match=r"\[999, 972, 937, 893"):
        check_schedule(theirs)
    stored: Any = UniPCMultistepScheduler.from_pretrained(CHECKPOINT / "scheduler")
    stored.set_timesteps(8)
    with pytest.raises(CheckpointError, match="another video"):
        check_schedule(stored)


def test_the_fingerprint_tells_checkpoints_apart(folder: Path) -> None:
    assert fingerprint(folder) == fingerprint(CHECKPOINT)
    edit_tensors(folder / VAE, lambda tensors: tensors["post_quant_conv.bias"].add_(1))
    assert fingerprint(folder) != fingerprint(CHECKPOINT)
