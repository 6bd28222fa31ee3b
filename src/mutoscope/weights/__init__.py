"""`mutoscope pull`: the model's weights, from where they are published to a folder that is ready to serve.

Nothing is served that was not verified: each file is compared with the digest that its source states, converted where
we serve another precision than is published, and recorded in a manifest that `check` compares the folder with later.
Knows the checkpoint's layout and its licence, but loads no network and needs no torch.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mutoscope.engines.skyreels_v3.spec import CLASSES, TRANSFORMER_CLASSES
from mutoscope.weights import manifest as record
from mutoscope.weights.errors import LicenceError, WeightsError
from mutoscope.weights.halving import halve, has_float32, num_data_bytes
from mutoscope.weights.manifest import Kept, Licence, Manifest
from mutoscope.weights.sources import Folder, Published, Source, open_source

__all__ = ["LICENCE", "LicenceError", "Progress", "WeightsError", "check", "is_licence_accepted", "open_source", "pull"]

LICENCE = Licence(
    "Skywork Community License",
    "https://github.com/SkyworkAI/Skywork/blob/main/Skywork%20Community%20License.pdf",
)
LICENCE_NOTICE = (
    f"The weights of SkyReels-V3 are Skywork's, and are given under the {LICENCE.name}, not under Mutoscope's licence. "
    "It allows commercial use, on its terms; read it before you accept it:"
)

_ENCODER = "text_encoder"
_WANTED = re.compile(
    rf"model_index\.json|LICENSE[\w.-]*|(?:{'|'.join(sorted(CLASSES))})/[\w-][\w.-]*\.(?:json|safetensors|model)"
)
_REQUIRED = ("model_index.json", "transformer/config.json", "vae/config.json", "text_encoder/config.json")
_STAGING = ".pull"
_HASH_BYTES = 8 * 2**20


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a pull or a check stands: a stage in words, and 0 to 1 of all bytes."""

    stage: str
    progress: float


def is_licence_accepted(folder: Path) -> bool:
    """Whether the licence was accepted for this folder before, so that nobody need be asked again."""
    found = record.read(folder)
    return found is not None and found.licence == LICENCE


def pull(
    source: Source,
    folder: Path,
    *,
    licence_accepted: bool = False,
    free_bytes: Callable[[Path], int] = lambda folder: shutil.disk_usage(folder).free,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Iterator[Progress]:
    """Bring the model's weights into `folder`, yielding how far it is; what is there already is kept.

    Ends without a download when all is there. `free_bytes` tells how much the disk of an existing folder can take.
    Raises LicenceError unless the licence was accepted now or before, and WeightsError with one sentence for anything
    else; what had arrived stays, and the next pull goes on from it.
    """
    known = record.read(folder)
    if not licence_accepted and not is_licence_accepted(folder):
        raise LicenceError(f"The {LICENCE.name} was not accepted, so nothing was downloaded. It is at {LICENCE.url}")
    if isinstance(source, Folder) and folder.exists() and source.folder.samefile(folder):
        raise WeightsError(f"{folder} can't be copied onto itself; `--check` verifies what is in it.")
    yield Progress("asking what is published", 0.0)
    release = source.release()
    offered = sorted((file for file in release.files if _WANTED.fullmatch(file.path)), key=_order)
    _require(offered, source)

    now = clock().isoformat(timespec="seconds")
    kept = {path: entry for path, entry in (known.files if known else {}).items() if _is_there(folder / path, entry)}
    accepted_at = known.accepted_at if known and known.licence == LICENCE else now
    noted = Manifest(source.name, release.revision, LICENCE, accepted_at, now, False, kept)
    missing = [file for file in offered if not _is_same(file, kept.get(file.path), source)]
    if not missing and known and known.complete and known.files.keys() == {file.path for file in offered}:
        yield Progress("all of it is here already", 1.0)
        return

    staging = folder / _STAGING
    parts = {file.path: staging / f"{file.path.replace('/', '__')}.{file.digest[:16]}.part" for file in missing}
    needed = sum(file.num_bytes - _size(parts[file.path]) for file in missing)
    # A shard lies here twice for a moment, whole and halved.
    needed += max((file.num_bytes // 2 for file in missing if _is_encoder_shard(file.path)), default=0)
    free = free_bytes(_nearest(folder))
    if needed > free:
        raise WeightsError(
            f"{folder} needs {_gigabytes(needed)} and its disk has {_gigabytes(free)} free: "
            f"make room for {_gigabytes(needed - free)} more, or choose another place with --to."
        )
    total = max(1, sum(file.num_bytes for file in offered))
    done = total - sum(file.num_bytes for file in missing)
    staging.mkdir(parents=True, exist_ok=True)
    with _alone(staging):
        record.write(folder, noted)
        checked = False
        for file in missing:
            if not checked and _order(file)[0] > 0:
                _check_model(folder, source)  # before the gigabytes
                checked = True
            part = parts[file.path]
            for there in source.fetch(file, release.revision, part):
                yield Progress(f"downloading {file.path}", (done + min(there, file.num_bytes)) / total)
            yield Progress(f"verifying {file.path}", (done + file.num_bytes) / total)
            arrived = _verify(file, part)
            target = folder / file.path
            target.parent.mkdir(parents=True, exist_ok=True)
            converted = ""
            if file.path.startswith(f"{_ENCODER}/"):
                ready = part.with_suffix(".ready")
                for _ in _convert(file.path, folder, part, ready):
                    yield Progress(f"converting {file.path}", (done + file.num_bytes) / total)
                if ready.exists():
                    converted = "float32 to bfloat16"
                    ready.replace(target)
                    part.unlink()
            if not converted:
                part.replace(target)
            digest = file.sha256 or file.git_sha1 or arrived
            here = _sha256(target) if converted else arrived
            noted = noted.with_file(file.path, Kept(digest, file.num_bytes, here, target.stat().st_size, converted))
            record.write(folder, noted)
            done += file.num_bytes
        _check_model(folder, source)
        for stale in noted.files.keys() - {file.path for file in offered}:
            (folder / stale).unlink(missing_ok=True)
        files = {file.path: noted.files[file.path] for file in offered}
        record.write(folder, replace(noted, complete=True, files=files))
    shutil.rmtree(staging, ignore_errors=True)
    yield Progress("ready", 1.0)


def check(folder: Path) -> Iterator[Progress]:
    """Compare every file of a pulled folder with its manifest, yielding how far it is. Raises WeightsError."""
    noted = record.read(folder)
    if noted is None:
        raise WeightsError(f"{folder} has no manifest ({record.NAME}): it was not made by `mutoscope pull`.")
    if not noted.complete:
        raise WeightsError(f"The download into {folder} is not finished; run `mutoscope pull` again.")
    total = max(1, sum(entry.num_bytes for entry in noted.files.values()))
    done = 0
    wrong = []
    for path, entry in sorted(noted.files.items()):
        yield Progress(f"verifying {path}", done / total)
        here = folder / path
        if not here.is_file():
            wrong.append(f"{path} is missing")
        elif here.stat().st_size != entry.num_bytes:
            wrong.append(f"{path} has {here.stat().st_size:,} bytes instead of {entry.num_bytes:,}")
        elif _sha256(here) != entry.sha256:
            wrong.append(f"{path} has changed")
        done += entry.num_bytes
    if wrong:
        listed = "; ".join(wrong[:3]) + (f"; and {len(wrong) - 3} more" if len(wrong) > 3 else "")
        raise WeightsError(f"{folder} is not what was pulled: {listed}. Remove what is wrong and pull again.")
    yield Progress("all of it is as it was pulled", 1.0)


def _is_encoder_shard(path: str) -> bool:
    return path.startswith(f"{_ENCODER}/") and path.endswith(".safetensors")


def _order(file: Published) -> tuple[int, str]:
    # Settings first, to refuse another model early; what depends on the converted shards last.
    if file.path.endswith(".safetensors"):
        return 1, file.path
    is_last = file.path.startswith(f"{_ENCODER}/") and file.path.endswith(("config.json", ".index.json"))
    return (2 if is_last else 0), file.path


def _require(offered: list[Published], source: Source) -> None:
    paths = {file.path for file in offered}
    lacking = [path for path in _REQUIRED if path not in paths]
    lacking += [
        f"{part}/*.safetensors"
        for part in ("transformer", "vae", _ENCODER)
        if not any(path.startswith(f"{part}/") and path.endswith(".safetensors") for path in paths)
    ]
    if lacking:
        raise WeightsError(f"{source.name} holds no SkyReels-V3 R2V checkpoint: it lacks {', '.join(lacking)}.")


def _check_model(folder: Path, source: Source) -> None:
    index = _json(folder / "model_index.json")
    for part, expected in CLASSES.items():
        entry = index.get(part)
        if not isinstance(entry, list) or entry[-1:] != [expected]:
            raise WeightsError(f"{source.name} is another model: its {part} is {entry}, where ours is {expected}.")
    name = _json(folder / "transformer" / "config.json").get("_class_name")
    if name not in TRANSFORMER_CLASSES:
        raise WeightsError(
            f"{source.name} is another model: its transformer is a {name}, ours {TRANSFORMER_CLASSES[0]}."
        )


def _convert(path: str, folder: Path, part: Path, ready: Path) -> Iterator[None]:
    """Write what is served in place of a file of the text encoder to `ready`, or nothing if it is served as it is."""
    ready.unlink(missing_ok=True)
    if path.endswith(".safetensors"):
        if has_float32(part):
            for _ in halve(part, ready):
                yield
        return
    settings = _json(part)
    shards = sorted((folder / _ENCODER).glob("*.safetensors"))
    if path.endswith(".index.json"):
        metadata = settings.get("metadata")
        stored = sum(num_data_bytes(shard) for shard in shards)
        if not isinstance(metadata, dict) or metadata.get("total_size") in (None, stored):
            return
        metadata["total_size"] = stored
    elif path.endswith("/config.json"):
        names = [name for name in ("dtype", "torch_dtype") if settings.get(name) == "float32"]
        if not names or any(has_float32(shard) for shard in shards):
            return
        settings.update(dict.fromkeys(names, "bfloat16"))
    else:
        return
    ready.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    yield


def _verify(file: Published, part: Path) -> str:
    """The sha256 of what arrived. Raises WeightsError, and removes it, when it is not what the source states."""
    found = _size(part)
    arrived = _sha256(part)
    expected = file.sha256 or file.git_sha1
    stated = arrived if file.sha256 or not file.git_sha1 else _git_sha1(part)
    if found != file.num_bytes or (expected and stated != expected):
        part.unlink(missing_ok=True)
        raise WeightsError(
            f"{file.path} arrived damaged: its digest is {stated[:16]}… where the source states "
            f"{(expected or str(file.num_bytes) + ' bytes')[:16]}…. It was removed; pull again."
        )
    return arrived


def _is_there(path: Path, entry: Kept) -> bool:
    return path.is_file() and path.stat().st_size == entry.num_bytes


def _is_same(file: Published, entry: Kept | None, source: Source) -> bool:
    if entry is None or entry.source_bytes != file.num_bytes:
        return False
    if file.sha256 or file.git_sha1:
        return entry.digest in (file.sha256, file.git_sha1)
    # A folder states no digests, so its file is read; anything else that states none is taken by its size.
    return not isinstance(source, Folder) or _sha256(source.folder / file.path) == entry.digest


@contextmanager
def _alone(staging: Path) -> Iterator[None]:
    """Only one pull at a time writes into a folder. Raises WeightsError for the second."""
    try:
        import fcntl
    except ModuleNotFoundError:  # Windows: digests still catch two that write into one file
        yield
        return
    with (staging / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise WeightsError(f"Another pull is writing into {staging.parent}.") from error
        yield


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _git_sha1(path: Path) -> str:
    digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(_HASH_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise WeightsError(f"{path.name} is not JSON.") from error
    if not isinstance(found, Mapping):
        raise WeightsError(f"{path.name} is not a JSON object.")
    return dict(found)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _nearest(folder: Path) -> Path:
    folder = folder.absolute()
    return next(parent for parent in (folder, *folder.parents) if parent.exists())


def _gigabytes(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:,.1f} GB" if num_bytes >= 50_000_000 else f"{num_bytes / 1e6:,.1f} MB"
