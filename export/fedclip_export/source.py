"""What graphs and manifest say of an adapter: labels, round, hashes; nothing of the machine that exported it."""

from __future__ import annotations

import hashlib
import json
import re
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from fedclip_plugin.backbone.onnx_encoder import FINGERPRINT_KEY
from fedclip_plugin.hub import find_adapter
from fedclip_plugin.runs import SavedAdapter, load_adapter

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")

_NAMED_PACKAGES = (
    "fedclip-edge",
    "fedclip-plugin",
    "onnx",
    "onnxruntime",
    "onnxruntime-gpu",
    "pillow",
    "torch",
    "transformers",
)


@dataclass(frozen=True)
class Source:
    """The adapter that an export is made from, and the hash of its ``adapter.safetensors``.

    `trained_by` is the method, where ``saved`` is what is left of it beside an encoder of its own; else None.
    """

    saved: SavedAdapter
    sha256: str
    trained_by: str | None = None

    @property
    def method(self) -> str:
        """The method that trained the adapter."""
        return self.trained_by or self.saved.method

    @property
    def backbone_name(self) -> str:
        """The backbone's name; of a path, its last part alone."""
        name = self.saved.backbone
        return name if _HUB_NAME.fullmatch(name) else re.split(r"[\\/]", name.rstrip("\\/"))[-1]

    def backbone_metadata(self) -> dict[str, str]:
        """Return what preprocess and encoder say of themselves: the same wherever and for whatever round."""
        return {FINGERPRINT_KEY: self.saved.fingerprint}

    def head_metadata(self) -> dict[str, str]:
        """Return what a head says of itself; a copy for curious eyes, the signed manifest decides."""
        return self.backbone_metadata() | {
            "backbone": self.backbone_name,
            "labels": json.dumps(self.saved.classes),
            "prompt_template": self.saved.prompt_template,
            "method": self.method,
            "round": str(self.saved.round),
            "adapter_sha256": self.sha256,
            "recipe_digest": self.saved.recipe_digest,
            **{name: repr(value) for name, value in self.saved.privacy_spent.items()},
        }

    def notes(self) -> list[str]:
        """Return what whoever exports the adapter should know of it, a line each."""
        found = [f"note: {self.saved.warning}"] if self.saved.warning else []
        if own := self.saved.calibration:
            rate = f"{100 * own.false_reject_rate:g} % of {own.images} validation images"
            found.append(f"temperature {own.temperature:.3g}; unknown below {own.threshold:.3g}, as were {rate}")
        if spent := self.saved.privacy_spent:
            told = f"epsilon {spent['epsilon']:.3g}, delta {spent['delta']:g}"
            found.append(f"differential privacy of each training image: {told}; the manifest says so")
        return found

    def manifest_fields(self) -> dict[str, Any]:
        """Return what the manifest says of the adapter."""
        return {
            "labels": self.saved.classes,
            "prompt_template": self.saved.prompt_template,
            "method": self.method,
            "round": self.saved.round,
            "adapter": {"sha256": self.sha256, "recipe_digest": self.saved.recipe_digest},
            "backbone": {"name": self.backbone_name, "fingerprint": self.saved.fingerprint},
            "sample_range": self.saved.sample_range,
            "calibration": self.saved.calibration,
            "privacy": self.saved.privacy_spent or None,
        }


def read_source(folder: Path) -> Source:
    """Load an adapter for export; AdapterFileError when it is missing, damaged, or of a newer format."""
    folder = find_adapter(folder)
    saved = load_adapter(folder)
    return Source(saved, hashlib.sha256((folder / "adapter.safetensors").read_bytes()).hexdigest())


def package_versions() -> dict[str, str]:
    """Return the versions of the packages that make an export, as far as they are installed."""
    found: dict[str, str] = {}
    for name in _NAMED_PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found
