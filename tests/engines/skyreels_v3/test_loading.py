"""Loading a checkpoint of the official layout, larger than the tiny one, takes little more memory than it keeps."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from mutoscope.engines.skyreels_v3 import checkpoint

from .golden import CHECKPOINT

MIB = 2**20

_CHILD = """
import json, sys
from pathlib import Path
import torch
from mutoscope.engines.skyreels_v3 import checkpoint

def level(name):
    return int(Path("/proc/self/status").read_text().split(name + ":")[1].split()[0]) * 1024

def loaded(folder, device):
    before = {name: level(name) for name in ("VmRSS", "RssAnon")}
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    work = checkpoint.load(Path(folder), "bfloat16", "fast", torch.device(device))
    while True:
        try:
            next(work)
        except StopIteration as end:
            found = end.value
            return found, level("VmHWM") - before["VmRSS"], level("RssAnon") - before["RssAnon"]

folder, tiny = sys.argv[1:]
loaded(tiny, "cpu")  # whatever libraries load on their first use
out = {}
for device in ("meta", "cpu"):
    networks, peak, anonymous = loaded(folder, device)
    out[device] = {"peak": peak, "anonymous": anonymous}
parts = {"transformer": networks.transformer, "text_encoder": networks.text_encoder, "vae": networks.vae}
out["bytes"] = {name: sum(each.nbytes for each in part.parameters()) for name, part in parts.items()}
out["precisions"] = sorted({str(each.dtype) for each in networks.text_encoder.parameters()})
print(json.dumps(out))
"""


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """About 170 MB of transformer in bfloat16 and 130 MB of text encoder in float32, in three files each."""
    folder = shutil.copytree(CHECKPOINT, tmp_path_factory.mktemp("weights") / "large")
    changes: dict[str, dict[str, Any]] = {
        "transformer": {"num_layers": 20, "num_attention_heads": 4, "attention_head_dim": 128, "ffn_dim": 2048}
        | {"text_dim": 512},
        "text_encoder": {"d_model": 512, "d_ff": 2048, "num_layers": 8, "num_heads": 8, "d_kv": 64},
    }
    for part, change in changes.items():
        path = folder / part / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | change))
        for old in (folder / part).glob("*.safetensors*"):
            old.unlink()
        precision = torch.float32 if part == "text_encoder" else torch.bfloat16
        shapes = checkpoint.shapes_of(checkpoint._empty(folder, part))
        shapes.pop("encoder.embed_tokens.weight", None)
        names = sorted(shapes)
        files = {f"model-{number + 1}.safetensors": names[number::3] for number in range(3)}
        for file, some in files.items():
            save_file({name: torch.zeros(shapes[name], dtype=precision) for name in some}, folder / part / file)
        index = {"weight_map": {name: file for file, some in files.items() for name in some}}
        (folder / part / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_host_holds_no_more_than_a_tenth_over_the_largest_part(large: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, str(large), str(CHECKPOINT)], capture_output=True, text=True, check=True
    )
    found = json.loads(done.stdout.splitlines()[-1])
    sizes = found["bytes"]
    assert sizes["transformer"] > 160 * MIB
    assert sizes["text_encoder"] > 60 * MIB
    # Each part goes on to a device, here one that keeps nothing, before the next is read.
    assert found["meta"]["peak"] <= 1.1 * sizes["transformer"]
    # Where it is to stay on the host: what its files hold in another precision, and their pages for the rest.
    assert found["precisions"] == ["torch.bfloat16"]
    assert found["cpu"]["anonymous"] <= 1.1 * sizes["text_encoder"] + 4 * MIB
    assert found["cpu"]["peak"] <= 1.1 * sum(sizes.values())


def test_who_follows_loads_no_text_encoder() -> None:
    work = checkpoint.load(CHECKPOINT, "float32", "fast", torch.device("cpu"), has_text_encoder=False)
    stages = []
    found: Any = None
    while found is None:
        try:
            stages.append(next(work))
        except StopIteration as end:
            found = end.value
    assert found.text_encoder is None
    assert stages == ["checking the weights", "loading the VAE", "loading the transformer"]
