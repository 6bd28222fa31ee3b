"""The engine against the reference implementation's own numbers: every case, precision, mode and stage."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from mutoscope.engines.skyreels_v3.spec import Mode, bucket

from .golden import CASES, GOLDEN, MANIFEST, compare, is_exact_here, networks, picture, psnr, record


@pytest.mark.parametrize("mode", ["strict", "fast"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['name']}-{case['dtype']}")
def test_each_stage_of_a_case(case: dict, mode: Mode) -> None:
    found = record(networks(mode, case["dtype"]), case)
    compare(found, case, exact=mode == "strict" and is_exact_here())


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_whole_entry_point_at_480p() -> None:  # minutes: so in the one mode that has bytes to be held against
    entry = MANIFEST["entry_case"]
    first = picture(entry["refs"][0])
    assert bucket(first.shape[1], first.shape[0], entry["resolution"]) == (entry["width"], entry["height"])
    torch.set_num_threads(MANIFEST["environment"]["threads"])  # at this size it decides how convolutions are split
    try:
        frames = np.concatenate(record(networks("strict", "bfloat16"), entry).frames)
    finally:
        torch.set_num_threads(1)
    assert list(frames.shape) == entry["frames_shape"]
    if is_exact_here():
        assert hashlib.sha256(frames.tobytes()).hexdigest() == entry["frames_sha256"]
    golden = load_file(GOLDEN / entry["file"])
    middle = frames[[0, 12, 24], 848 // 2 - 48 : 848 // 2 + 48, 480 // 2 - 48 : 480 // 2 + 48]
    assert psnr(middle, golden["crop_center_96"].numpy()) > 45
    assert psnr(frames[[0, 12, 24], :64, :64], golden["crop_topleft_64"].numpy()) > 45
    assert torch.allclose(golden["frame_mean"], torch.from_numpy(frames.mean((1, 2, 3))), atol=0.5)
