"""Weights: pulled from a hub that cuts, lies and is full; converted, resumed, refused, recorded and checked.

The hub is a real HTTP server that serves the tiny checkpoint as Hugging Face and as ModelScope do.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np
import pytest

from mutoscope.weights import LICENCE, LicenceError, Progress, WeightsError, check, is_licence_accepted, pull
from mutoscope.weights import manifest as record
from mutoscope.weights.halving import bfloat16_bits, halve, read_header
from mutoscope.weights.sources import Folder, HuggingFace, ModelScope, open_source

TINY = Path(__file__).parent / "golden" / "tiny-r2v"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
SHARD = "transformer/diffusion_pytorch_model-00002-of-00003.safetensors"
ENCODER_SHARD = "text_encoder/model-00001-of-00003.safetensors"
LISTED = "the list of files"


class Hub:
    """A hub on this machine. `files` is what it serves; `cut[path]` bytes of a file go out, then the line is cut."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files
        self.cut: dict[str, list[int]] = {}
        self.lies: dict[str, bytes] = {}
        self.ignores_ranges = False
        self.busy: Counter[str] = Counter()
        self.asked: list[tuple[str, str]] = []  # path, Range
        self.sent: Counter[str] = Counter()  # path → bytes of it
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_HEAD(self) -> None:
                self.do_GET()

            def do_GET(self) -> None:
                url = urlsplit(self.path)
                query = {name: values[0] for name, values in parse_qs(url.query).items()}
                if url.path.startswith("/api/models/"):
                    self.listing(hub.as_hugging_face())
                elif url.path.endswith("/repo/files"):
                    self.listing(hub.as_modelscope())
                elif url.path.endswith("/repo"):
                    self.content(query["FilePath"])
                elif "/resolve/" in url.path:
                    revision, _, path = unquote(url.path).partition("/resolve/")[2].partition("/")
                    assert revision == COMMIT, "a revision that moves would mix two releases"
                    self.content(path)
                else:
                    self.send_error(404)

            def listing(self, body: object) -> None:
                hub.asked.append((LISTED, ""))
                text = json.dumps(body).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def content(self, path: str) -> None:
                data = hub.lies.get(path, hub.files[path])
                asked = self.headers.get("Range", "")
                hub.asked.append((path, asked))
                if hub.busy[path] > 0:
                    hub.busy[path] -= 1
                    self.send_response(503)
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and not hub.ignores_ranges else 0
                self.send_response(206 if start else 200)
                if start:
                    self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
                self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
                self.send_header("X-Repo-Commit", COMMIT)
                self.send_header("Content-Length", str(len(data) - start))
                self.end_headers()
                if self.command == "HEAD":
                    return
                body = data[start:]
                if hub.cut.get(path):
                    body = body[: hub.cut[path].pop(0)]
                    self.close_connection = True
                self.wfile.write(body)
                hub.sent[path] += len(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def as_hugging_face(self) -> object:
        siblings = []
        for path, data in self.files.items():
            blob = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
            entry: dict[str, object] = {"rfilename": path, "size": len(data), "blobId": blob}
            if path.endswith((".safetensors", ".model")):  # what the hub keeps as LFS: the digest is of the content
                entry["lfs"] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134}
            siblings.append(entry)
        return {"id": "Skywork/SkyReels-V3-R2V-14B", "modelId": "x", "sha": COMMIT, "siblings": siblings}

    def as_modelscope(self) -> object:
        files: list[dict[str, object]] = [{"Path": "vae", "Name": "vae", "Type": "tree", "Size": 0, "Sha256": ""}]
        for path, data in self.files.items():
            digest = hashlib.sha256(data).hexdigest()
            files.append({"Path": path, "Name": Path(path).name, "Type": "blob", "Size": len(data), "Sha256": digest})
        return {"Code": 200, "Success": True, "Message": "", "Data": {"Files": files}}

    def downloads(self) -> list[str]:
        return [path for path, _ in self.asked if path != LISTED]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def hub() -> Iterator[Hub]:
    files = {path.relative_to(TINY).as_posix(): path.read_bytes() for path in TINY.rglob("*") if path.is_file()}
    files["README.md"] = b"a page"
    files["assets/demo.mp4"] = b"a film that nobody needs to serve" * 1000
    files["LICENSE"] = b"terms"
    found = Hub(files)
    yield found
    found.close()


def no_pause(seconds: float) -> None:
    pass


def hugging_face(hub: Hub) -> HuggingFace:
    return HuggingFace(hub.url, pause=no_pause)


def modelscope(hub: Hub) -> ModelScope:
    return ModelScope(hub.url, pause=no_pause)


def bring(source: HuggingFace | ModelScope | Folder, folder: Path) -> list[Progress]:
    return list(pull(source, folder, licence_accepted=True))


def digests(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != record.NAME
    }


@pytest.mark.parametrize("source", [hugging_face, modelscope], ids=["hf", "modelscope"])
def test_what_is_pulled_is_what_is_published_and_only_what_serves(
    hub: Hub, tmp_path: Path, source: Callable[[Hub], HuggingFace | ModelScope]
) -> None:
    steps = bring(source(hub), tmp_path / "w")
    here = digests(tmp_path / "w")
    assert set(here) == set(hub.files) - {"README.md", "assets/demo.mp4"}
    for path, digest in here.items():
        if not path.startswith("text_encoder/"):
            assert digest == hashlib.sha256(hub.files[path]).hexdigest(), path
    assert [step.progress for step in steps] == sorted(step.progress for step in steps)
    assert steps[-1] == Progress("ready", 1.0)
    assert all(count == 1 for count in Counter(hub.downloads()).values())
    assert not (tmp_path / "w" / ".pull").exists()


def test_the_text_encoder_is_converted_to_the_bits_that_loading_would_give(hub: Hub, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    bring(hugging_face(hub), tmp_path / "w")
    load = transformers.UMT5EncoderModel.from_pretrained
    ours = load(tmp_path / "w" / "text_encoder", dtype="auto", local_files_only=True).state_dict()
    theirs = load(TINY / "text_encoder", dtype=torch.bfloat16, local_files_only=True).state_dict()
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        assert ours[name].dtype == torch.bfloat16
        assert torch.equal(ours[name].view(torch.int16), tensor.view(torch.int16)), name


def test_converted_shards_keep_the_index_true(hub: Hub, tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors")
    bring(hugging_face(hub), tmp_path / "w")
    encoder = tmp_path / "w" / "text_encoder"
    index = json.loads((encoder / "model.safetensors.index.json").read_text())
    published = json.loads((TINY / "text_encoder" / "model.safetensors.index.json").read_text())
    assert index["weight_map"] == published["weight_map"]
    assert index["metadata"]["total_size"] * 2 == published["metadata"]["total_size"]
    stored = 0
    for name in set(index["weight_map"].values()):
        with safetensors.safe_open(encoder / name, "np") as shard:
            assert set(shard.keys()) == {key for key, where in index["weight_map"].items() if where == name}
            assert {shard.get_slice(key).get_dtype() for key in shard.keys()} == {"BF16"}  # noqa: SIM118
        header, start = read_header(encoder / name)
        assert start % 8 == 0
        assert header["__metadata__"] == {"format": "pt"}
        stored += (encoder / name).stat().st_size - start
    assert index["metadata"]["total_size"] == stored
    assert json.loads((encoder / "config.json").read_text())["torch_dtype"] == "bfloat16"


def test_rounding_is_torchs_for_every_kind_of_number() -> None:
    torch = pytest.importorskip("torch")
    generator = np.random.default_rng(0)
    bits = np.concatenate(
        [
            generator.integers(0, 2**32, 2_000_000, np.uint32),
            np.array([0, 0x80000000, 0x7F800000, 0xFF800000, 0x7FFFFFFF, 0xFFFFFFFF, 0x7F7FFFFF, 1], np.uint32),
            np.array([0x3F808000, 0x3F818000, 0x3F807FFF, 0x7F808000, 0xFF80FFFF], np.uint32),  # ties; NaN beside inf
        ]
    )
    expected = torch.from_numpy(bits.view(np.float32)).to(torch.bfloat16).view(torch.int16).numpy().view(np.uint16)
    is_nan = np.isnan(bits.view(np.float32))
    ours = bfloat16_bits(bits)
    assert (ours[~is_nan] == expected[~is_nan]).all()
    assert ((ours[is_nan] & 0x7FFF) > 0x7F80).all()


def test_a_file_of_mixed_types_keeps_all_but_its_float32(tmp_path: Path) -> None:
    numpy_io = pytest.importorskip("safetensors.numpy")
    tensors = {
        "a": np.arange(5, dtype=np.int64),
        "b": np.linspace(-1, 1, 7, dtype=np.float32).reshape(1, 7),
        "c": np.arange(3, dtype=np.float16),
        "d": np.zeros((0, 4), np.float32),
        "e": np.array(2.5, np.float32),
    }
    numpy_io.save_file(tensors, tmp_path / "in.safetensors")
    assert list(halve(tmp_path / "in.safetensors", tmp_path / "out.safetensors"))[-1] == 1.0
    header, start = read_header(tmp_path / "out.safetensors")
    data = (tmp_path / "out.safetensors").read_bytes()[start:]
    found = {name: data[slice(*entry["data_offsets"])] for name, entry in header.items()}
    assert found["a"] == tensors["a"].tobytes()
    assert found["c"] == tensors["c"].tobytes()
    assert found["b"] == bfloat16_bits(tensors["b"].view(np.uint32)).tobytes()
    assert header["e"]["shape"] == []
    assert header["b"]["dtype"] == "BF16"


def test_a_cut_connection_is_gone_on_with_where_it_broke(hub: Hub, tmp_path: Path) -> None:
    size = len(hub.files[SHARD])
    hub.cut[SHARD] = [400_000, 300_000]
    bring(hugging_face(hub), tmp_path / "w")
    assert [asked for path, asked in hub.asked if path == SHARD] == ["", "bytes=400000-", "bytes=700000-"]
    assert hub.sent[SHARD] == size, "not a byte twice"
    assert (tmp_path / "w" / SHARD).read_bytes() == hub.files[SHARD]


def test_another_process_goes_on_where_the_first_broke_off(hub: Hub, tmp_path: Path) -> None:
    hub.cut[SHARD] = [500_000, 0, 0, 0, 0, 0]
    with pytest.raises(WeightsError, match=r"stopped at .* Run the same command again: it goes on from there\."):
        bring(hugging_face(hub), tmp_path / "w")
    assert not (tmp_path / "w" / SHARD).exists(), "half a file has no place among whole ones"
    with pytest.raises(WeightsError, match="not finished"):
        list(check(tmp_path / "w"))
    before = list(hub.asked)
    bring(hugging_face(hub), tmp_path / "w")
    again = hub.asked[len(before) :]
    assert (SHARD, "bytes=500000-") in again
    assert {path for path, _ in before} & {path for path, _ in again} == {LISTED, SHARD}
    assert list(check(tmp_path / "w"))[-1].progress == 1.0


def test_a_server_that_is_busy_is_asked_again_and_one_that_knows_no_ranges_starts_over(
    hub: Hub, tmp_path: Path
) -> None:
    hub.busy["vae/config.json"] = 3
    hub.cut[SHARD] = [100_000]
    hub.ignores_ranges = True
    bring(hugging_face(hub), tmp_path / "w")
    assert (tmp_path / "w" / SHARD).read_bytes() == hub.files[SHARD]
    assert hub.downloads().count("vae/config.json") == 4


@pytest.mark.parametrize("path", [SHARD, ENCODER_SHARD, "transformer/config.json"])
def test_a_damaged_file_is_refused_and_removed(hub: Hub, tmp_path: Path, path: str) -> None:
    damaged = bytearray(hub.files[path])
    damaged[len(damaged) // 2] ^= 1
    hub.lies[path] = bytes(damaged)
    with pytest.raises(WeightsError, match=f"{Path(path).name} arrived damaged"):
        bring(hugging_face(hub), tmp_path / "w")
    assert not (tmp_path / "w" / path).exists()
    del hub.lies[path]
    bring(hugging_face(hub), tmp_path / "w")
    list(check(tmp_path / "w"))


def test_a_disk_that_is_too_small_is_told_before_anything_is_downloaded(hub: Hub, tmp_path: Path) -> None:
    looked: list[Path] = []

    def free(folder: Path) -> int:
        looked.append(folder)
        return 3_000_000

    target = tmp_path / "not" / "there" / "yet"
    with pytest.raises(WeightsError, match=r"needs 5\.\d MB and its disk has 3\.0 MB free: make room for 2\.\d MB"):
        list(pull(hugging_face(hub), target, licence_accepted=True, free_bytes=free))
    assert looked == [tmp_path], "of the disk that the folder would be on"
    assert not hub.downloads()
    assert not target.exists()


def test_what_is_here_needs_no_room_and_no_download(hub: Hub, tmp_path: Path) -> None:
    bring(hugging_face(hub), tmp_path / "w")
    before, downloads = digests(tmp_path / "w"), len(hub.downloads())
    again = list(pull(hugging_face(hub), tmp_path / "w", free_bytes=lambda _: 0))
    assert again[-1] == Progress("all of it is here already", 1.0)
    assert len(hub.downloads()) == downloads
    assert digests(tmp_path / "w") == before

    (tmp_path / "w" / SHARD).unlink()
    bring(hugging_face(hub), tmp_path / "w")
    assert hub.downloads()[downloads:] == [SHARD]
    assert digests(tmp_path / "w") == before


def test_a_new_release_brings_what_changed_and_drops_what_is_gone(hub: Hub, tmp_path: Path) -> None:
    hub.files["tokenizer/old.json"] = b"{}"
    bring(hugging_face(hub), tmp_path / "w")
    downloads = len(hub.downloads())
    del hub.files["tokenizer/old.json"]
    hub.files["scheduler/scheduler_config.json"] += b"\n"
    bring(hugging_face(hub), tmp_path / "w")
    assert hub.downloads()[downloads:] == ["scheduler/scheduler_config.json"]
    assert not (tmp_path / "w" / "tokenizer" / "old.json").exists()
    list(check(tmp_path / "w"))


def test_the_licence_must_be_accepted_once_and_is_recorded(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(LicenceError, match=r"Skywork Community License .* https://"):
        list(pull(hugging_face(hub), tmp_path / "w"))
    assert not hub.asked
    assert not is_licence_accepted(tmp_path / "w")
    bring(hugging_face(hub), tmp_path / "w")
    assert is_licence_accepted(tmp_path / "w")
    noted = record.read(tmp_path / "w")
    assert noted is not None
    assert (noted.licence, noted.revision, noted.complete) == (LICENCE, COMMIT, True)
    assert noted.source == "Hugging Face, Skywork/SkyReels-V3-R2V-14B"
    assert noted.accepted_at.endswith("+00:00")
    shard = noted.files[ENCODER_SHARD]
    assert shard.digest == hashlib.sha256(hub.files[ENCODER_SHARD]).hexdigest()
    assert shard.sha256 == hashlib.sha256((tmp_path / "w" / ENCODER_SHARD).read_bytes()).hexdigest()
    assert shard.converted == "float32 to bfloat16"
    assert noted.files[SHARD].digest == noted.files[SHARD].sha256
    list(pull(hugging_face(hub), tmp_path / "w"))


def test_check_names_what_is_wrong(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="was not made by"):
        list(check(tmp_path))
    folder = tmp_path / "w"
    bring(hugging_face(hub), folder)
    list(check(folder))
    with (folder / SHARD).open("r+b") as file:
        file.seek(1000)
        byte = file.read(1)
        file.seek(1000)
        file.write(bytes([byte[0] ^ 1]))
    (folder / "vae" / "config.json").unlink()
    with (folder / "LICENSE").open("ab") as file:
        file.write(b"!")
    with pytest.raises(WeightsError) as caught:
        list(check(folder))
    for expected in (f"{SHARD} has changed", "vae/config.json is missing", "LICENSE has 6 bytes instead of 5"):
        assert expected in str(caught.value)


def test_another_model_is_refused_before_its_weights(hub: Hub, tmp_path: Path) -> None:
    config = json.loads(hub.files["transformer/config.json"])
    config["_class_name"] = "WanTransformer3DModel"
    hub.files["transformer/config.json"] = json.dumps(config).encode()
    with pytest.raises(WeightsError, match="its transformer is a WanTransformer3DModel"):
        bring(hugging_face(hub), tmp_path / "w")
    assert not any(path.endswith(".safetensors") for path in hub.downloads())


def test_names_that_lead_out_of_the_folder_are_not_asked_for(hub: Hub, tmp_path: Path) -> None:
    for path in ("../escape.json", "vae/../../escape.json", "vae/..", "/etc/escape.json", "vae/.hidden.json"):
        hub.files[path] = b"{}"
    bring(hugging_face(hub), tmp_path / "w")
    assert not any("escape" in path or ".hidden" in path for path in hub.downloads())
    assert not list(tmp_path.rglob("*escape*"))


def test_an_empty_repository_says_what_it_lacks(hub: Hub, tmp_path: Path) -> None:
    hub.files = {"README.md": b"soon"}
    with pytest.raises(WeightsError, match=r"holds no SkyReels-V3 R2V checkpoint: it lacks model_index\.json"):
        bring(modelscope(hub), tmp_path / "w")


def test_a_folder_is_copied_converted_and_not_touched(tmp_path: Path) -> None:
    before = digests(TINY)
    bring(Folder(TINY), tmp_path / "w")
    assert digests(TINY) == before
    list(check(tmp_path / "w"))
    bring(Folder(tmp_path / "w"), tmp_path / "copy")  # of what was pulled before: nothing left to convert
    assert digests(tmp_path / "copy") == digests(tmp_path / "w")
    assert bring(Folder(TINY), tmp_path / "w")[-1].stage == "all of it is here already"
    with pytest.raises(WeightsError, match="onto itself"):
        bring(Folder(tmp_path / "w"), tmp_path / "w")


def test_a_source_is_named_by_a_word_or_a_folder(tmp_path: Path) -> None:
    assert isinstance(open_source("hf"), HuggingFace)
    assert isinstance(open_source("modelscope"), ModelScope)
    assert isinstance(open_source(str(tmp_path)), Folder)
    with pytest.raises(WeightsError, match="'nowhere' is none of them"):
        open_source("nowhere")


def test_a_hub_that_is_not_there_is_one_sentence(hub: Hub, tmp_path: Path) -> None:
    hub.close()
    for source in (hugging_face(hub), modelscope(hub)):
        with pytest.raises(WeightsError, match="can't be reached"):
            bring(source, tmp_path / "w")


def test_one_pull_at_a_time_writes_into_a_folder(hub: Hub, tmp_path: Path) -> None:
    first = pull(hugging_face(hub), tmp_path / "w", licence_accepted=True)
    for step in first:
        if step.stage.startswith("downloading"):
            break
    with pytest.raises(WeightsError, match="Another pull is writing"):
        bring(hugging_face(hub), tmp_path / "w")
    list(first)
    list(check(tmp_path / "w"))


def test_the_environment_names_the_hub_and_no_torch_is_loaded(hub: Hub, tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from mutoscope.weights import open_source, pull\n"
        "list(pull(open_source('hf'), Path(sys.argv[1]), licence_accepted=True)); print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "w")],
        env={**os.environ, "HF_ENDPOINT": hub.url, "HF_TOKEN": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "False"
    assert (tmp_path / "w" / SHARD).read_bytes() == hub.files[SHARD]
    shutil.rmtree(tmp_path / "w")
