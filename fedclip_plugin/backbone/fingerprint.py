"""Which backbone is it: a hash of weights, configuration, tokenizer and preprocessing; no torch."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from fedclip_edge.files import write_file
from fedclip_plugin.backbone.checkpoint import PROCESSORS, SENTENCES, weight_files
from fedclip_plugin.backbone.configs.clip_config import read_clip_config
from fedclip_plugin.backbone.configs.open_clip_config import OPEN_CLIP_CONFIG

_TOKENIZER = ("tokenizer.json", "vocab.json", "merges.txt", SENTENCES)


def fingerprint(folder: Path, memory: Path | None = None) -> str:
    """Return the hexadecimal SHA-256 of what a backbone computes with.

    Parameters
    ----------
    folder
        A backbone folder; one without weights is refused.
    memory
        JSON file that remembers the hash of unchanged files (by path, size and time), so that 600 MB of weights are
        read once and not at every start; None remembers nothing.
    """
    own = (OPEN_CLIP_CONFIG, *_TOKENIZER, "vocab.txt", "tokenizer_config.json")
    names = own if read_clip_config(folder).family == "open_clip" else ("config.json", *PROCESSORS, *_TOKENIZER)
    settings = [folder / name for name in names if (folder / name).is_file()]
    known = _read_memory(memory)
    digest = hashlib.sha256()
    fresh: dict[str, str] = {}
    for file in (*settings, *weight_files(folder)):
        status = file.stat()
        key = f"{file.resolve()}|{status.st_size}|{status.st_mtime_ns}"
        fresh[key] = known.get(key) or _hash_file(file)
        digest.update(f"{file.name}:{fresh[key]}\n".encode())
    if memory is not None and not fresh.keys() <= known.keys():
        memory.parent.mkdir(parents=True, exist_ok=True)
        write_file(memory, json.dumps(known | fresh, indent=1).encode())
    return digest.hexdigest()


def _hash_file(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _read_memory(memory: Path | None) -> dict[str, str]:
    if memory is None or not memory.exists():
        return {}
    try:
        known = json.loads(memory.read_text(encoding="utf-8"))
    except ValueError:
        return {}
    return {str(key): str(value) for key, value in known.items()} if isinstance(known, dict) else {}
