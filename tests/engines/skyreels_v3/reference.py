"""Makes the golden cases anew on this machine, from the libraries that the model was published with.

    python -m venv pinned && pinned/bin/pip install torch==2.13.0 diffusers==0.34.0 transformers==4.53.2 \
        tokenizers==0.21.4 numpy==1.26.4 pillow safetensors accelerate ftfy \
        sentencepiece protobuf
    pinned/bin/python tests/engines/skyreels_v3/reference.py /tmp/golden
    MUTOSCOPE_GOLDEN=/tmp/golden pytest tests/engines/skyreels_v3      # strict mode must agree bit for bit

Rounding differs between kinds of CPU, so tests/golden is exact only on the kind that made it. A plain composition of
the pinned classes, which imports nothing of ours: their own scheduler, transformer, RoPE and attention, a whole-clip
decode. In float32 it agrees with tests/golden to 1e-6, and to the bit where the CPU is the same.
"""

from __future__ import annotations

import hashlib
import html
import json
import re
import shutil
import sys
from pathlib import Path

import ftfy
import numpy as np
import torch
from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanTransformer3DModel
from diffusers.video_processor import VideoProcessor
from PIL import Image, ImageOps
from safetensors.torch import load_file, save_file
from transformers import T5TokenizerFast, UMT5EncoderModel

GOLDEN = Path(__file__).parents[2] / "golden"


class Parts:
    def __init__(self, dtype: torch.dtype) -> None:
        folder = GOLDEN / "tiny-r2v"
        self.tokenizer = T5TokenizerFast.from_pretrained(folder / "tokenizer")
        self.encoder = UMT5EncoderModel.from_pretrained(folder / "text_encoder", torch_dtype=dtype).eval()
        self.transformer = WanTransformer3DModel.from_pretrained(folder / "transformer", torch_dtype=dtype).eval()
        self.vae = AutoencoderKLWan.from_pretrained(folder / "vae", torch_dtype=torch.float32).eval()
        self.dtype = dtype


def embed(parts: Parts, prompt: str) -> tuple[torch.Tensor, list[int]]:
    cleaned = html.unescape(html.unescape(ftfy.fix_text(prompt))).strip()
    cleaned = re.sub(r"\s+", " ", cleaned).strip()
    read = parts.tokenizer(
        [cleaned],
        padding="max_length",
        max_length=512,
        truncation=True,
        return_attention_mask=True,
        return_tensors="pt",
    )
    count = int(read.attention_mask.sum())
    found = parts.encoder(read.input_ids, read.attention_mask).last_hidden_state[:, :count]
    return torch.cat([found, found.new_zeros(1, 512 - count, found.shape[2])], 1), read.input_ids[0, :count].tolist()


def letterbox(path: Path, width: int, height: int) -> Image.Image:
    picture = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
    canvas = Image.new("RGB", (width, height), (255, 255, 255))
    ratio = picture.width / picture.height
    inner = (int(height * ratio), height) if width / height > ratio else (width, int(width / ratio))
    canvas.paste(picture.resize(inner, Image.LANCZOS), ((width - inner[0]) // 2, (height - inner[1]) // 2))
    return canvas


@torch.no_grad()
def render(parts: Parts, case: dict) -> dict[str, torch.Tensor]:
    out: dict[str, torch.Tensor] = {}
    width, height, frames = case["width"], case["height"], case["num_frames"]
    text, ids = embed(parts, case["prompt"])
    negative, _ = embed(parts, case.get("negative_prompt", ""))
    out["prompt_embeds"], out["input_ids"] = text[:, : len(ids)].clone(), torch.tensor(ids, dtype=torch.int32)

    generator = torch.Generator("cpu").manual_seed(case["seed"])
    latent_frames = (frames - 1) // 4 + 1
    latents = torch.randn((1, 16, latent_frames, height // 8, width // 8), generator=generator)
    out["noise"] = latents.clone()

    processor = VideoProcessor(vae_scale_factor=8)
    mean = torch.tensor(parts.vae.config.latents_mean).view(1, 16, 1, 1, 1)
    inverse = 1.0 / torch.tensor(parts.vae.config.latents_std).view(1, 16, 1, 1, 1)
    pictures, means, stds, references = [], [], [], []
    for ref in case["refs"]:
        picture = letterbox(GOLDEN / ref, width, height)
        pictures.append(torch.from_numpy(np.array(picture)))
        posterior = parts.vae.encode(processor.preprocess(picture, height, width).unsqueeze(2)).latent_dist
        means.append(posterior.mean)
        stds.append(posterior.std)
        references.append((posterior.sample(generator) - mean) * inverse)
    out["ref_images_u8"], out["ref_latents"] = torch.stack(pictures), torch.cat(references, 2)
    out["ref_posterior_mean"], out["ref_posterior_std"] = torch.cat(means, 2), torch.cat(stds, 2)

    scheduler = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=5.0)
    scheduler.set_timesteps(case.get("num_inference_steps", 8))
    out["timesteps"], out["sigmas"] = scheduler.timesteps.clone(), scheduler.sigmas.clone()
    seen = torch.cat(references, 2)
    seen = torch.cat([seen, seen.new_zeros(1, 16, 4 - seen.shape[2], *seen.shape[3:])], 2)
    blind = torch.zeros_like(seen)
    text_scale, image_scale = case.get("guidance_scale", 1.0), case.get("guidance_scale_img", 1.0)

    def forward(slots: torch.Tensor, words: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        given = torch.cat([latents, slots], 2).to(parts.dtype)
        found = parts.transformer(given, timestep.expand(1), words, return_dict=False)[0]
        return found[:, :, :latent_frames]

    predictions, walked = [], []
    for step, timestep in enumerate(scheduler.timesteps):
        prediction = forward(seen, text, timestep)
        if text_scale > 1:
            no_text, nothing = forward(seen, negative, timestep), forward(blind, negative, timestep)
            if step == 0:
                out |= {"step0_cond": prediction, "step0_uncond_txt": no_text, "step0_uncond_txt_img": nothing}
            prediction = nothing + image_scale * (no_text - nothing) + text_scale * (prediction - no_text)
        latents = scheduler.step(prediction, timestep, latents, return_dict=False)[0]
        predictions.append(prediction)
        walked.append(latents)
    out["noise_pred"], out["latents"] = torch.stack(predictions), torch.stack(walked)

    video = parts.vae.decode(latents / inverse + mean, return_dict=False)[0]
    shown = np.stack([np.array(frame) for frame in processor.postprocess_video(video, output_type="pil")[0]])
    out["frames_u8"] = torch.from_numpy(shown)
    return out


def main(folder: Path) -> None:
    manifest = json.loads((GOLDEN / "manifest.json").read_text())
    manifest["environment"]["made_by"] = "reference.py"
    shutil.copytree(GOLDEN, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("cases"))
    (folder / "cases").mkdir(exist_ok=True)
    for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        parts = Parts(dtype)
        for case in [case for case in manifest["cases"] if case["dtype"] == name]:
            found = render(parts, case)
            golden = load_file(GOLDEN / case["file"])
            save_file({key: tensor.contiguous() for key, tensor in found.items()}, folder / case["file"])
            apart = (found["latents"][-1] - golden["latents"][-1]).norm() / golden["latents"][-1].norm()
            print(f"{case['name']} {name}: final latents {float(apart):.1e} from tests/golden", flush=True)
        if name == "bfloat16":
            entry = manifest["entry_case"]
            shown = render(parts, entry)["frames_u8"].contiguous().numpy()
            entry["frames_sha256"] = hashlib.sha256(shown.tobytes()).hexdigest()
            shutil.copy(GOLDEN / entry["file"], folder / entry["file"])
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
