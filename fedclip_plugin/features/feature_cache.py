"""Features on disk: a folder an image set, prompts and precision, each checked by its own hash."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fedclip_edge.files import write_file
from fedclip_plugin.data import ImageSet
from fedclip_plugin.features.cache_parts import Part, Parts, naming_cache
from fedclip_plugin.features.views import AUGMENTATION_VERSION

CACHE_VERSION = 2
"""Raise it when the same image would get other features: a change in decoding, preprocessing or encoding."""

Array = npt.NDArray[Any]
_FEATURES, _SCALE, _PROMPTS = "features", "logit_scale", "prompts"


def short_hash(*parts: str) -> str:
    """Return 16 hexadecimal digits that stand for ``parts``, which may be names that are not UTF-8."""
    return hashlib.sha256(b"\0".join(os.fsencode(part) for part in parts)).hexdigest()[:16]


class FeatureCache:
    """Features of one backbone, in one folder.

    Two ranks may write the same features at once. A corrupt file is reported and computed again.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def images(self, images: ImageSet, precision: str, view: int = 0) -> ImageFeatures:
        """Return the features of ``images``, or of one augmented view of each, that are kept."""
        own = (f"view {view} of augmentation {AUGMENTATION_VERSION}",) if view else ()
        return ImageFeatures(self.folder / precision / image_set_hash(images, *own))

    def read_prompts(self, prompts: Sequence[str]) -> tuple[Array, float] | None:
        """Return text features ``[C, d]`` and the logit scale, None when they are not cached."""
        kept = Parts(self._prompt_folder(prompts))
        if _PROMPTS not in kept.where:
            return None
        return kept.rows([_PROMPTS], _FEATURES)[0], float(kept.rows([_PROMPTS], _SCALE)[0])

    def write_prompts(self, prompts: Sequence[str], features: Array, logit_scale: float) -> None:
        """Write text features ``[C, d]`` and the logit scale; a disk that cannot be written is a DataError."""
        columns = {_FEATURES: features[None], _SCALE: np.array([logit_scale], dtype=np.float64)}
        Parts(self._prompt_folder(prompts)).add(Part([_PROMPTS], columns), {_PROMPTS})

    def read_precision(self, device_type: str) -> str | None:
        """Return the precision that ``auto`` once chose on this kind of device."""
        path = self.folder / f"precision-{device_type}.txt"
        return path.read_text(encoding="utf-8").strip() if path.exists() else None

    def write_precision(self, device_type: str, precision: str) -> None:
        """Remember what ``auto`` chose on this kind of device; errors as :meth:`write_prompts`."""
        with naming_cache(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            write_file(self.folder / f"precision-{device_type}.txt", precision.encode())

    def _prompt_folder(self, prompts: Sequence[str]) -> Path:
        return self.folder / f"prompts-{short_hash(*prompts)}"


class ImageFeatures:
    """Features of an image set, by the digest of each file."""

    def __init__(self, folder: Path) -> None:
        self._parts = Parts(folder)

    def __contains__(self, digest: object) -> bool:
        return digest in self._parts.where

    def stacked(self, digests: Sequence[str]) -> npt.NDArray[np.float32]:
        """Return features ``[N, d]`` in the order of ``digests``, at least one."""
        return self._parts.rows(digests, _FEATURES)

    def add(self, features: Mapping[str, Array], wanted: Collection[str]) -> None:
        """Write features ``[d]`` by digest; others than ``wanted`` may be dropped. Errors as :meth:`Parts.add`."""
        if features:
            self._parts.add(Part(list(features), {_FEATURES: np.stack(list(features.values()))}), wanted)


def image_set_hash(images: ImageSet, *parts: str) -> str:
    """Return what an image set is filed under: where it lies and what it is called."""
    return short_hash(str(images.root.resolve()), images.name, *parts)
