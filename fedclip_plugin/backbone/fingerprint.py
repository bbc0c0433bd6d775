"""Which CLIP is it: a hash of weights, configuration, tokenizer and preprocessing; no torch."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from fedclip_plugin.errors import BackboneError
from fedclip_plugin.runs.atomic import write_file

_SETTINGS = ("config.json", "preprocessor_config.json", "processor_config.json")
_TOKENIZER = ("tokenizer.json", "vocab.json", "merges.txt")
_WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
_CHUNK = 1 << 22


def fingerprint(folder: Path, memory: Path | None = None) -> str:
    """Return the hexadecimal SHA-256 of what a backbone computes with.

    Parameters
    ----------
    folder
        A backbone folder.
    memory
        JSON file that remembers the hash of unchanged files (by path, size and time), so that 600 MB of weights are
        read once and not at every start; None remembers nothing.

    Raises
    ------
    BackboneError
        When weights or preprocessing are missing.
    """
    files = _relevant_files(folder)
    known = _read_memory(memory)
    digest = hashlib.sha256()
    fresh: dict[str, str] = {}
    for file in files:
        status = file.stat()
        key = f"{file.resolve()}|{status.st_size}|{status.st_mtime_ns}"
        fresh[key] = known.get(key) or _hash_file(file)
        digest.update(f"{file.name}:{fresh[key]}\n".encode())
    if memory is not None and not fresh.keys() <= known.keys():
        memory.parent.mkdir(parents=True, exist_ok=True)
        write_file(memory, json.dumps(known | fresh, indent=1).encode())
    return digest.hexdigest()


def weight_files(folder: Path) -> list[Path]:
    """Return the files that hold the weights, as transformers would choose them.

    Raises
    ------
    BackboneError
        When there are none.
    """
    for name in _WEIGHTS:
        path = folder / name
        if not path.exists():
            continue
        if name.endswith(".index.json"):
            shards = json.loads(path.read_text(encoding="utf-8"))["weight_map"].values()
            return [path, *(folder / shard for shard in sorted(set(shards)))]
        return [path]
    raise BackboneError(f"{folder} holds no weights ({', '.join(_WEIGHTS)}); fetch the backbone again")


def _relevant_files(folder: Path) -> list[Path]:
    present = [folder / name for name in (*_SETTINGS, *_TOKENIZER) if (folder / name).exists()]
    names = {file.name for file in present}
    if not names & {"preprocessor_config.json", "processor_config.json"}:
        raise BackboneError(
            f"{folder} holds no preprocessor_config.json or processor_config.json, so the image size and normalisation "
            "are unknown; save the processor into the folder with CLIPProcessor.save_pretrained"
        )
    return [*present, *weight_files(folder)]


def _hash_file(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _read_memory(memory: Path | None) -> dict[str, str]:
    if memory is None or not memory.exists():
        return {}
    try:
        known = json.loads(memory.read_text(encoding="utf-8"))
    except ValueError:
        return {}
    return {str(key): str(value) for key, value in known.items()} if isinstance(known, dict) else {}
