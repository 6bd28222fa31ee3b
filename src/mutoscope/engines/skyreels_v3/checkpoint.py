"""From a folder to networks that are ready: what is in it is checked first, and another model is refused by name.

The folder has the published layout (model_index.json and a folder per part). Knows nothing of requests.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import struct
from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from tokenizers import Tokenizer
from torch import nn
from transformers import UMT5Config, UMT5EncoderModel

from mutoscope.engines.skyreels_v3.loading import files_in, fill
from mutoscope.engines.skyreels_v3.numerics import COMPILED, FAST, STRICT, Attention, Numerics, use
from mutoscope.engines.skyreels_v3.sampling import schedule
from mutoscope.engines.skyreels_v3.spec import (
    CLASSES,
    DEFAULT_STEPS,
    TIMESTEPS,
    TRANSFORMER_CLASSES,
    TRANSFORMER_CONFIG,
    VAE_CONFIG,
    Mode,
    Precision,
)

Shapes = dict[str, tuple[int, ...]]

_TOKEN_TABLE = {"encoder.embed_tokens.weight": "shared.weight"}
"""The text encoder's table of tokens has two names for one tensor; files carry either or both."""

_SAMPLED_BYTES = 2**16  # of each end of a weight file: enough to tell two trainings of one network apart


class CheckpointError(Exception):
    """The folder does not hold SkyReels-V3 R2V, or not all of it. The sentence says what was found instead."""


@dataclass(frozen=True)
class Networks:
    """The model's parts on their device, and how its attention rounds. Who follows another has no text encoder."""

    tokenizer: Tokenizer
    text_encoder: Any
    vae: Any
    transformer: Any
    numerics: Numerics
    attention: Attention
    device: torch.device


def check(folder: Path) -> None:
    """Raises CheckpointError unless the folder's classes, settings, names and shapes are this model's.

    Reads the JSON files and the headers of the weight files, not the weights.
    """
    _check_classes(_json(folder / "model_index.json"))
    config = _json(folder / "transformer" / "config.json")
    name = config.get("_class_name")
    if name not in TRANSFORMER_CLASSES:
        raise CheckpointError(
            f"{folder / 'transformer'} holds a {name}, which is not SkyReels-V3 R2V (a {TRANSFORMER_CLASSES[0]}). "
            "Other Wan models have tensors of the same names and shapes, and would make a wrong video."
        )
    _check_settings(folder / "transformer", config, WanTransformer3DModel, TRANSFORMER_CONFIG)
    _check_settings(folder / "vae", _json(folder / "vae" / "config.json"), AutoencoderKLWan, VAE_CONFIG)
    text_config = _text_config(folder)
    if text_config.d_model != config.get("text_dim"):
        raise CheckpointError(
            f"The text encoder in {folder} gives embeddings {text_config.d_model} wide, and the transformer reads "
            f"{config.get('text_dim')}."
        )
    if not (folder / "tokenizer" / "tokenizer.json").is_file():
        raise CheckpointError(f"{folder / 'tokenizer'} lacks tokenizer.json.")
    for part in ("transformer", "vae", "text_encoder"):
        _check_tensors(folder / part, shapes_of(_empty(folder, part)), shapes_in(folder / part))


def check_schedule(solver: Any) -> None:
    """Raises CheckpointError unless an 8-step solver goes through the timesteps that the model was distilled for."""
    found = tuple(int(timestep) for timestep in solver.timesteps)
    if found != TIMESTEPS:
        raise CheckpointError(
            f"The installed diffusers computes the timesteps {list(found)} where SkyReels-V3 was trained for "
            f"{list(TIMESTEPS)}: it would make another video."
        )


def fingerprint(folder: Path) -> str:
    """Names a checkpoint: 64 hex digits, from its settings and from the header, the ends and the size of each file."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.suffix == ".json":
            digest.update(path.relative_to(folder).as_posix().encode() + path.read_bytes())
        elif path.suffix == ".safetensors":
            with path.open("rb") as file:
                length = struct.unpack("<Q", file.read(8))[0]
                digest.update(path.relative_to(folder).as_posix().encode() + file.read(length + _SAMPLED_BYTES))
                file.seek(max(0, path.stat().st_size - _SAMPLED_BYTES))
                digest.update(file.read() + str(path.stat().st_size).encode())
    return digest.hexdigest()


def load(
    folder: Path,
    precision: Precision,
    mode: Mode,
    device: torch.device,
    compiled: bool = False,
    has_text_encoder: bool = True,
) -> Generator[str, None, Networks]:
    """Check a checkpoint and load it, yielding what is about to be loaded; returns the networks.

    In bfloat16 the text encoder and the transformer's large matrices are; its norms, modulation and time embedding, and
    the VAE, are float32, as when the model was measured. `compiled` goes with `fast`. Raises CheckpointError.
    """
    yield "checking the weights"
    check(folder)
    check_schedule(schedule(DEFAULT_STEPS))
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer" / "tokenizer.json"))
    text_encoder = None
    if has_text_encoder:
        yield "loading the text encoder"
        text_encoder = _empty(folder, "text_encoder")
        fill(text_encoder, folder / "text_encoder", device, lambda name: dtype, _TOKEN_TABLE)
        text_encoder.encoder.embed_tokens = text_encoder.shared
    yield "loading the VAE"
    vae = _empty(folder, "vae")
    fill(vae, folder / "vae", device, lambda name: torch.float32)
    yield "loading the transformer"
    transformer = _empty(folder, "transformer")
    wide = {*transformer._keep_in_fp32_modules}
    fill(
        transformer,
        folder / "transformer",
        device,
        lambda name: dtype if wide.isdisjoint(name.split(".")) else torch.float32,
    )
    transformer.rope = None  # is in no file, and angles are computed anew
    numerics = STRICT if mode == "strict" else COMPILED if compiled else FAST
    return Networks(tokenizer, text_encoder, vae, transformer, numerics, use(transformer, numerics), device)


def shapes_of(network: nn.Module) -> Shapes:
    """Name → shape of a network's tensors."""
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}


def shapes_in(folder: Path) -> Shapes:
    """Name → shape of the tensors in a folder's weight files, by their headers. Raises CheckpointError."""
    try:
        files = files_in(folder)
    except ValueError as error:
        raise CheckpointError(f"{folder} has an index that is not JSON.") from error
    if missing := [path.name for path in files if not path.is_file()]:
        raise CheckpointError(f"{folder} lacks {_some(missing)}.")
    if not files:
        raise CheckpointError(f"{folder} holds no .safetensors file.")
    found: Shapes = {}
    for path in files:
        with path.open("rb") as file:
            try:
                length = struct.unpack("<Q", file.read(8))[0]
                header = json.loads(file.read(min(length, 2**27)))
            except (struct.error, ValueError) as error:
                raise CheckpointError(f"{path} is no safetensors file, or was cut off.") from error
        tensors = {name: entry for name, entry in header.items() if name != "__metadata__"}
        end = 8 + length + max((entry["data_offsets"][1] for entry in tensors.values()), default=0)
        if path.stat().st_size != end:
            raise CheckpointError(f"{path} has {path.stat().st_size:,} bytes where its header promises {end:,}.")
        found |= {name: tuple(entry["shape"]) for name, entry in tensors.items()}
    return found


def _empty(folder: Path, part: str) -> Any:
    """A part of the model on the meta device: shapes and no numbers."""
    any_class: Any = {"transformer": WanTransformer3DModel, "vae": AutoencoderKLWan}.get(part)
    with torch.device("meta"):
        if any_class is None:
            return UMT5EncoderModel(_text_config(folder))
        return any_class.from_config(any_class.load_config(folder / part))


def _text_config(folder: Path) -> Any:
    # Eager attention: SDPA moves bfloat16 embeddings by a percent.
    return UMT5Config.from_dict(_json(folder / "text_encoder" / "config.json"), attn_implementation="eager")


def _check_classes(index: Mapping[str, Any]) -> None:
    for part, expected in CLASSES.items():
        entry = index.get(part)
        found = entry[1] if isinstance(entry, list) and len(entry) == 2 else entry
        if found != expected:
            raise CheckpointError(
                f"model_index.json names {found or 'nothing'} as {part}, where SkyReels-V3 R2V has {expected}."
            )
    parts = {key for key, entry in index.items() if not key.startswith("_") and entry is not None}
    if extra := sorted(parts - CLASSES.keys()):
        raise CheckpointError(f"model_index.json names parts that SkyReels-V3 R2V does not have: {_some(extra)}.")


def _check_settings(folder: Path, config: Mapping[str, Any], network: Any, expected: Mapping[str, object]) -> None:
    defaults = inspect.signature(network.__init__).parameters
    for key, value in expected.items():
        found = config.get(key, defaults[key].default)
        found = list(found) if isinstance(found, tuple) else found
        if found != value:
            raise CheckpointError(f"{folder / 'config.json'} says {key} = {found}, where SkyReels-V3 R2V has {value}.")


def _check_tensors(folder: Path, expected: Shapes, found: Shapes) -> None:
    for other, one in _TOKEN_TABLE.items() if "shared.weight" in expected else ():
        if one in found or other in found:
            found = {one: found.get(one, found.get(other, ())), other: found.get(other, found.get(one, ()))} | found
    if missing := sorted(expected.keys() - found.keys()):
        raise CheckpointError(f"{folder} lacks {len(missing)} of {len(expected)} tensors: {_some(missing)}.")
    if extra := sorted(found.keys() - expected.keys()):
        raise CheckpointError(f"{folder} has {len(extra)} tensors that the network does not: {_some(extra)}.")
    if wrong := sorted(name for name in expected if expected[name] != found[name]):
        raise CheckpointError(
            f"{folder}: {wrong[0]} is {_shape(found[wrong[0]])}, where the network's is {_shape(expected[wrong[0]])}"
            + (f" (and {len(wrong) - 1} more)." if len(wrong) > 1 else ".")
        )


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except FileNotFoundError:
        raise CheckpointError(f"{path} is missing: the folder does not hold a whole checkpoint.") from None
    except ValueError as error:
        raise CheckpointError(f"{path} is not JSON.") from error
    if not isinstance(found, dict):
        raise CheckpointError(f"{path} is not a JSON object.")
    return found


def _some(names: Iterable[str]) -> str:
    listed = list(names)
    return ", ".join(listed[:3]) + (", …" if len(listed) > 3 else "")


def _shape(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape)) or "a number"
