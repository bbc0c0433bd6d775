"""Features on disk: one safetensors file an image set, checked by its own hash."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as save_tensors

from fedclip_plugin.data import ImageSet
from fedclip_plugin.features.views import AUGMENTATION_VERSION
from fedclip_plugin.runs.atomic import write_file

logger = logging.getLogger(__name__)

CACHE_VERSION = 1
"""Raise it when the same image would get other features: a change in decoding, preprocessing or encoding."""

Array = npt.NDArray[Any]


def short_hash(*parts: str) -> str:
    """Return 16 hexadecimal digits that stand for ``parts``."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def identities(images: ImageSet) -> list[str]:
    """Return what tells whether an image changed: its path below the root, size in bytes, time of change in ns."""
    found = []
    for name, path in zip(images.files, images.paths(), strict=True):
        status = path.stat()
        found.append(f"{name}|{status.st_size}|{status.st_mtime_ns}")
    return found


class FeatureCache:
    """Features of one backbone, in one folder.

    Two ranks may write the same file at once: each writes a whole file under a name of its own and renames it. A
    corrupt file is reported and computed again.

    Parameters
    ----------
    folder
        ``<feature_cache_dir>/v<version>-<fingerprint>``.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def image_path(self, images: ImageSet, precision: str, view: int = 0) -> Path:
        """Return where the features of ``images``, or of one augmented view of each, are kept."""
        own = (f"view {view} of augmentation {AUGMENTATION_VERSION}",) if view else ()
        return self.folder / precision / f"{short_hash(str(images.root.resolve()), images.name, *own)}.safetensors"

    def read_images(self, path: Path) -> tuple[dict[str, Array], dict[str, str]]:
        """Return identity to feature, ``[d]`` float32, and identity to reason for images that cannot be read.

        Both are empty when there is nothing usable.
        """
        content = self._read(path)
        if content is None:
            return {}, {}
        arrays, note = content
        return dict(zip(json.loads(note["identities"]), arrays["features"], strict=True)), json.loads(
            note["unreadable"]
        )

    def write_images(self, path: Path, features: Mapping[str, Array], unreadable: Mapping[str, str]) -> None:
        """Write what :meth:`read_images` returns; without any feature nothing is written.

        Raises
        ------
        OSError
            When the disk is full or the folder cannot be written.
        """
        if not features:
            return
        note = {"identities": json.dumps(list(features)), "unreadable": json.dumps(dict(unreadable))}
        self._write(path, {"features": np.stack(list(features.values()))}, note)

    def read_prompts(self, prompts: Sequence[str]) -> tuple[Array, float] | None:
        """Return text features ``[C, d]`` and the logit scale, None when they are not cached."""
        content = self._read(self._prompt_path(prompts))
        return None if content is None else (content[0]["text_features"], float(content[1]["logit_scale"]))

    def write_prompts(self, prompts: Sequence[str], features: Array, logit_scale: float) -> None:
        """Write text features ``[C, d]`` and the logit scale; errors as :meth:`write_images`."""
        self._write(self._prompt_path(prompts), {"text_features": features}, {"logit_scale": repr(logit_scale)})

    def read_precision(self, device_type: str) -> str | None:
        """Return the precision that ``auto`` once chose on this kind of device."""
        path = self.folder / f"precision-{device_type}.txt"
        return path.read_text(encoding="utf-8").strip() if path.exists() else None

    def write_precision(self, device_type: str, precision: str) -> None:
        """Remember what ``auto`` chose on this kind of device."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_file(self.folder / f"precision-{device_type}.txt", precision.encode())

    def _prompt_path(self, prompts: Sequence[str]) -> Path:
        return self.folder / f"prompts-{short_hash(*prompts)}.safetensors"

    def _read(self, path: Path) -> tuple[dict[str, Array], dict[str, str]] | None:
        if not path.exists():
            return None
        try:
            with safe_open(path, framework="numpy") as stream:
                arrays = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
                note = stream.metadata() or {}
        except (SafetensorError, OSError) as error:
            logger.warning("feature cache %s is corrupt (%s): computing it again", path, error)
            return None
        if note.get("sha256") != _digest(arrays):
            logger.warning("feature cache %s fails its checksum: computing it again", path)
            return None
        return arrays, note

    def _write(self, path: Path, arrays: Mapping[str, Array], note: Mapping[str, str]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        whole = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        write_file(path, save_tensors(whole, metadata={**note, "sha256": _digest(whole)}))


def _digest(arrays: Mapping[str, Array]) -> str:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(np.ascontiguousarray(arrays[name]).tobytes())
    return digest.hexdigest()
