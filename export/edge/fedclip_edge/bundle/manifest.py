"""The manifest: what a bundle holds, for whom, and since when."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fedclip_edge.bundle import canonical, manifest_schema
from fedclip_edge.bundle.golden import Golden, decode, parse_golden
from fedclip_edge.bundle.keys import KEY_SIZE, PublicKey
from fedclip_edge.calibration import Calibration
from fedclip_edge.errors import BundleError
from fedclip_edge.sample_range import SampleRange

OPTIONAL: Mapping[str, Any] = {"next_keys": [], "sample_range": None, "calibration": None, "privacy": None}
"""Keys that may be left out, and what that means."""
MAX_MANIFEST = 1 << 20
MANIFEST, SIGNATURE = "manifest.json", "manifest.sig"
_NEEDED = {"head", "encoder", "preprocess"}
_FILE_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


@dataclass(frozen=True)
class FileEntry:
    """One file of a bundle, and its bytes and hash.

    `role` is ``head``, ``encoder``, ``encoder-data`` or ``preprocess``; `installed` is true when the file is not
    carried: the device has it already (an update).
    """

    role: str
    size: int
    sha256: str
    installed: bool


@dataclass(frozen=True, eq=False)
class Manifest:
    """What ``manifest.json`` says; the fields are its keys (schema 1).

    Attributes
    ----------
    product, sequence
        Whom the bundle is for, and its place in the order of that product's bundles (UTC seconds by default).
    not_before, expires
        UTC seconds between which it may be installed; None for no limit.
    labels
        C labels in the order of the logits.
    feature_dim, image_size
        d, and S of the encoder's input [batch, 3, S, S].
    precision
        Of the encoder: ``fp32``, ``fp16``, ``int8`` or ``int8-weights``.
    files
        File name to entry: one head, encoder and preprocess, at most one encoder-data.
    onnxruntime
        ``lowest`` version that may run it, and those it was ``tested`` with.
    versions, parity
        What it was made with, and how closely it agreed; informative.
    next_keys
        Keys that a device which accepts this manifest holds from then on; left out of the JSON when there are none.
    sample_range
        What is black and white in samples of more than 8 bits; None, and left out, where the files' own word is taken.
    calibration
        What the head's logits were divided by, and the confidence below which an answer is ``unknown``; None, and left
        out, where that is not known.
    privacy
        ``epsilon`` and ``delta`` of the differential privacy of each training image of a silo; None, and left out,
        where training had none, or that is not known.
    """

    product: str
    sequence: int
    not_before: int | None
    expires: int | None
    labels: tuple[str, ...]
    prompt_template: str
    method: str
    round: int
    adapter: Mapping[str, str]
    backbone: Mapping[str, str]
    feature_dim: int
    image_size: int
    precision: str
    files: Mapping[str, FileEntry]
    onnxruntime: Mapping[str, Any]
    versions: Mapping[str, str]
    golden: Golden
    parity: Mapping[str, Any]
    next_keys: tuple[PublicKey, ...] = ()
    sample_range: SampleRange | None = None
    calibration: Calibration | None = None
    privacy: Mapping[str, float] | None = None
    schema: int = 1

    @property
    def is_update(self) -> bool:
        """Whether only the head is carried, for a device that has the encoder."""
        return self.file("encoder")[1].installed

    def file(self, role: str) -> tuple[str, FileEntry]:
        """Return the name and the entry of the file with this role; KeyError when none has it."""
        for name, entry in self.files.items():
            if entry.role == role:
                return name, entry
        raise KeyError(role)

    def carried(self) -> dict[str, FileEntry]:
        """Return the files that lie in the folder itself."""
        return {name: entry for name, entry in self.files.items() if not entry.installed}

    def encoder_files(self) -> dict[str, FileEntry]:
        """Return the files of the encoder: the graph, and its external data when there is some."""
        return {name: entry for name, entry in self.files.items() if entry.role in ("encoder", "encoder-data")}

    def encoder_digest(self) -> str:
        """Return one hash for the encoder's files: SHA-256 of sorted ``<name> <sha256>`` lines with newlines."""
        lines = sorted(f"{name} {entry.sha256}\n" for name, entry in self.encoder_files().items())
        return hashlib.sha256("".join(lines).encode("ascii")).hexdigest()

    def to_bytes(self) -> bytes:
        """Return the bytes that are signed."""
        value = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        value["golden"] = self.golden.to_json()
        value["files"] = {name: dataclasses.asdict(entry) for name, entry in self.files.items()}
        value["next_keys"] = [base64.b64encode(key.raw).decode("ascii") for key in self.next_keys]
        value["calibration"] = None if self.calibration is None else self.calibration.to_json()
        for name in OPTIONAL:
            if not value[name]:
                del value[name]
        return canonical.dump({key: dict(item) if isinstance(item, Mapping) else item for key, item in value.items()})

    @classmethod
    def from_bytes(cls, raw: bytes) -> Manifest:
        """Read and check a manifest.

        Refuses with ``too-large``, ``not-json``, ``duplicate-key``, ``schema``, ``malformed``, ``file-name``,
        ``labels`` or ``not-finite``.
        """
        if len(raw) > MAX_MANIFEST:
            raise BundleError("too-large", f"the manifest has {len(raw)} bytes; the limit is {MAX_MANIFEST}")
        value = {**OPTIONAL, **canonical.parse(raw)}
        if type(value.get("schema")) is not int or value["schema"] != 1:
            raise BundleError("schema", "the manifest is not of schema 1, the only one known here; update this package")
        manifest_schema.require_object(value, manifest_schema.MANIFEST, "the manifest")
        files = _parse_files(value["files"])
        full = not any(entry.installed for entry in files.values())
        golden = parse_golden(value["golden"], value["feature_dim"], len(value["labels"]), full)
        keys = tuple(_parse_key(text) for text in value["next_keys"])
        labels = tuple(value["labels"])
        wide = value["sample_range"] and tuple(value["sample_range"])
        calibration = value["calibration"] and Calibration.of(value["calibration"])
        parsed = {"labels": labels, "files": files, "golden": golden, "next_keys": keys, "sample_range": wide}
        return cls(**{**value, **parsed, "calibration": calibration})


def _parse_key(text: str) -> PublicKey:
    raw = decode(text, "next_keys")
    if len(raw) != KEY_SIZE:
        raise BundleError("malformed", f"next_keys holds a key of {len(raw)} bytes; Ed25519 keys have {KEY_SIZE}")
    return PublicKey(raw)


def _parse_files(value: dict[str, object]) -> dict[str, FileEntry]:
    for name in value:
        if not _FILE_NAME.fullmatch(name) or name in (MANIFEST, SIGNATURE):
            raise BundleError(
                "file-name",
                f"the manifest lists a file {name[:80]!r}; names have 1 to 64 of a-z 0-9 . _ -, start with a letter or "
                f"digit, and are none of {MANIFEST}, {SIGNATURE}",
            )
    entries = {
        name: FileEntry(**manifest_schema.require_object(item, manifest_schema.FILE, f"files[{name!r}]"))
        for name, item in value.items()
    }
    roles = [entry.role for entry in entries.values()]
    if any(manifest_schema.ROLES[entry.role] != name for name, entry in entries.items()) or not set(roles) >= _NEEDED:
        told = ", ".join(f"{role} in {name}" for role, name in manifest_schema.ROLES.items())
        raise BundleError(
            "malformed",
            f"files lists {', '.join(f'{entry.role} in {name}' for name, entry in entries.items())[:300]}; it has to "
            f"list {told}, of which only encoder-data may be left out",
        )
    flags = {entry.installed for entry in entries.values() if entry.role != "head"}
    if len(flags) > 1 or any(entry.installed for entry in entries.values() if entry.role == "head"):
        raise BundleError(
            "malformed",
            "files: the head is always carried (installed false); encoder and preprocess are either "
            "all carried or all installed",
        )
    return entries
