"""An adapter on disk: ``adapter.json`` beside ``adapter.safetensors``; the backbone is named, never stored."""

from __future__ import annotations

import errno
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from fedclip_edge.calibration import Calibration
from fedclip_edge.files import write_file, write_folder
from fedclip_edge.sample_range import SampleRange
from fedclip_plugin.errors import AdapterFileError
from fedclip_plugin.methods.registry import ZERO_SHOT
from fedclip_plugin.runs.adapter_header import header_fault, tensors_fault
from fedclip_plugin.text import percent, size

FORMAT_VERSION = 2
TEXT_FEATURES, CLASS_FEATURES, CLASS_BIASES = "text_features", "class_features", "class_biases"
ADAPTER_PREFIX = "adapter."


@dataclass(frozen=True)
class SavedAdapter:
    """Everything needed to use an adapter again, here or on a device.

    Attributes
    ----------
    method
        Name in the table of methods, such as ``fedclip``.
    feature_dim
        Width d of the image features.
    backbone, fingerprint
        The CLIP that it belongs to: name as given, and hash of weights and preprocessing.
    precision
        What the images were encoded in: ``fp32``, ``bf16`` or ``fp16``.
    logit_scale
        CLIP's own factor on cosine similarities (already exponentiated).
    classes, prompt_template
        Labels in order of the logits, and the prompt that made the text features.
    round
        Federated rounds behind it; 0 is the untrained adapter.
    recipe_digest
        Hash of what defined the training.
    metrics
        What was measured of this round so far (fractions between 0 and 1): ``target``, and of the best and the last
        round ``validation`` and ``zero_shot_validation``, the means over the silos' own validation images;
        ``wise``, how much of what was trained is in an adapter that is interpolated; and ``epsilon`` and ``delta``, as
        in `privacy_spent`.
    text_features
        Unit-length text features of the classes, by the frozen CLIP, ``[C, d]`` float32.
    tensors
        The adapter's parameters by name, as the method's module names them.
    class_features
        What image features are compared with, ``[C, d]`` float32, where the method trains it; else None. Of unit length
        but for closed-form methods, and what starts from one.
    class_biases
        What is added to the products with the class features, before the logit scale, ``[C]`` float32; mostly None.
    sample_range
        What was black and white in samples of more than 8 bits; None where the files' own word was taken.
    start
        What its training started from, as in a recipe (``fedclip_args.start``).
    calibration
        What its logits are divided by, and which confidences are too low to answer; None where that is not known.
    """

    method: str
    feature_dim: int
    backbone: str
    fingerprint: str
    precision: str
    logit_scale: float
    classes: tuple[str, ...]
    prompt_template: str
    round: int
    recipe_digest: str
    text_features: npt.NDArray[Any]
    tensors: Mapping[str, npt.NDArray[Any]]
    metrics: Mapping[str, Any] = field(default_factory=dict)
    class_features: npt.NDArray[Any] | None = None
    class_biases: npt.NDArray[Any] | None = None
    sample_range: SampleRange | None = None
    calibration: Calibration | None = None
    start: str = ZERO_SHOT

    @property
    def answer_scale(self) -> float:
        """The factor on cosine similarities when images are labelled: the logit scale, by the temperature."""
        return self.logit_scale / (1.0 if self.calibration is None else self.calibration.temperature)

    @property
    def head_features(self) -> npt.NDArray[Any]:
        """What image features are compared with, ``[C, d]``: the text features unless the method trained its own."""
        return self.text_features if self.class_features is None else self.class_features

    @property
    def warning(self) -> str | None:
        """That it is worse than zero-shot CLIP where it was chosen; None when it is not, or nothing is known of it."""
        own, zero_shot = self.metrics.get("validation"), self.metrics.get("zero_shot_validation")
        shares = all(isinstance(score, float) and 0 <= score <= 1 for score in (own, zero_shot))
        return below_zero_shot(own, zero_shot, "the adapter") if shares else None

    @property
    def privacy_spent(self) -> dict[str, float]:
        """Epsilon, the largest of a silo, and delta of the training images' privacy; empty where none is known."""
        epsilon, delta = (self.metrics.get(name) for name in ("epsilon", "delta"))
        if not isinstance(epsilon, float) or not isinstance(delta, float):
            return {}
        return {"epsilon": epsilon, "delta": delta} if 0 <= epsilon < math.inf and 0 < delta < 1 else {}

    def require_backbone(self, found: str, width: int, where: str) -> None:
        """Refuse a backbone, from ``where``, whose features mean something else to this adapter."""
        if found != self.fingerprint:
            raise AdapterFileError(
                f"the adapter was trained on backbone {self.backbone} with fingerprint {self.fingerprint[:12]}; "
                f"{where} has {found[:12]}: its features mean something else; give the right one"
            )
        if width != self.feature_dim:
            raise AdapterFileError(
                f"the adapter says that features of backbone {self.backbone} are {self.feature_dim} wide; those of "
                f"{where} are {width}: it was altered; take it from where it was made"
            )


def below_zero_shot(validation: float | None, zero_shot: float | None, subject: str) -> str | None:
    """Say that an adapter is worse than zero-shot CLIP on the images that chose it; None when that is not so.

    Scores are means of the source validation (fractions), None where not known; the sentence begins with ``subject``.
    """
    if validation is None or zero_shot is None or round(100 * (zero_shot - validation), 1) <= 0:
        return None
    return (
        f"{subject} is {100 * (zero_shot - validation):.1f} points below zero-shot CLIP on the silos' own validation "
        f"images ({percent(validation)} and {percent(zero_shot)} %): it did not help"
    )


def save_adapter(folder: Path, adapter: SavedAdapter) -> None:
    """Write ``adapter`` as ``folder``, whole or not at all."""
    arrays = {TEXT_FEATURES: adapter.text_features}
    if adapter.class_features is not None:
        arrays[CLASS_FEATURES] = adapter.class_features
    if adapter.class_biases is not None:
        arrays[CLASS_BIASES] = adapter.class_biases
    arrays |= {ADAPTER_PREFIX + name: value for name, value in adapter.tensors.items()}
    weights = save_tensors({name: np.asarray(array, order="C") for name, array in arrays.items()})
    stored = ("tensors", TEXT_FEATURES, CLASS_FEATURES, CLASS_BIASES)
    header = {item.name: getattr(adapter, item.name) for item in fields(adapter) if item.name not in stored}
    header["calibration"] = None if adapter.calibration is None else adapter.calibration.to_json()
    for name, usual in (("sample_range", None), ("calibration", None), ("start", ZERO_SHOT)):
        if header[name] == usual:
            del header[name]  # a version that knows no such key reads the adapter rightly
    header["format_version"] = FORMAT_VERSION
    write_folder(folder, {"adapter.json": _sealed(header, weights), "adapter.safetensors": weights})


def add_metrics(folder: Path, metrics: Mapping[str, float]) -> None:
    """Write into an adapter on disk what has been measured since it was saved; its weights stay as they are."""
    _amend(folder, {"metrics": {**_read_header(folder)["metrics"], **metrics}})


def set_calibration(folder: Path, calibration: Calibration | None) -> None:
    """Write into an adapter on disk how it is calibrated, or that it is not; its weights stay as they are."""
    _amend(folder, {"calibration": None if calibration is None else calibration.to_json()})


def _amend(folder: Path, parts: Mapping[str, Any]) -> None:
    """Replace parts of an adapter's header where they differ; None takes one out."""
    header = _read_header(folder)
    amended = {name: value for name, value in {**header, **parts}.items() if value is not None}
    if amended != header:
        del amended["sha256"]
        write_file(folder / "adapter.json", _sealed(amended, _read(folder / "adapter.safetensors")))


def load_adapter(folder: Path) -> SavedAdapter:
    """Read an adapter and check it against its own checksum.

    Parameters
    ----------
    folder
        Folder that holds ``adapter.json`` and ``adapter.safetensors`` (a link such as ``adapters/best`` will do).

    Raises
    ------
    AdapterFileError
        When a file is missing, truncated, altered, or of a newer format, or says what no adapter can.
    """
    header, weights = _read_header(folder), _read(folder / "adapter.safetensors")
    version = header.get("format_version")
    if version != FORMAT_VERSION:
        raise AdapterFileError(
            f"{folder}: adapter format {version!r}; this version reads format {FORMAT_VERSION}: update fedclip-plugin"
        )
    if header.pop("sha256", None) != _checksum(header, weights):
        raise AdapterFileError(
            f"{folder}: the checksum of adapter.json and adapter.safetensors differs: one was truncated or altered; "
            "copy the adapter folder again, or use an earlier round beside it"
        )
    del header["format_version"]
    fault = header_fault(header)
    if fault:
        raise AdapterFileError(f"{folder} {fault}; take the adapter from where it was made")
    try:
        arrays = load_tensors(weights)
        text, classes = arrays.pop(TEXT_FEATURES), arrays.pop(CLASS_FEATURES, None)
        biases = arrays.pop(CLASS_BIASES, None)
    except (KeyError, ValueError, TypeError, AttributeError, SafetensorError) as error:
        raise AdapterFileError(f"{folder} is not an adapter of this project: {error}; was it edited?") from error
    tensors = {name.removeprefix(ADAPTER_PREFIX): array for name, array in sorted(arrays.items())}
    fault = tensors_fault(header, text, classes, biases, tensors)
    if fault:
        raise AdapterFileError(f"{folder} {fault}; take the adapter from where it was made")
    header["classes"] = tuple(header["classes"])
    if "sample_range" in header:
        header["sample_range"] = tuple(header["sample_range"])
    if "calibration" in header:
        header["calibration"] = Calibration.of(header["calibration"])
    return SavedAdapter(**header, text_features=text, class_features=classes, class_biases=biases, tensors=tensors)


def _sealed(header: Mapping[str, Any], weights: bytes) -> bytes:
    """Return ``adapter.json``: the header with the checksum of itself and the weights."""
    sealed = {**header, "sha256": _checksum(json.loads(json.dumps(header)), weights)}
    return (json.dumps(sealed, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()


def _checksum(header: Mapping[str, Any], weights: bytes) -> str:
    return hashlib.sha256(json.dumps(header, sort_keys=True).encode() + weights).hexdigest()


def _read_header(folder: Path) -> dict[str, Any]:
    path = folder / "adapter.json"
    if not path.is_file():
        raise AdapterFileError(
            f"{folder} holds no adapter.json: give the folder of an adapter, such as runs/NAME/adapters/best"
        )
    try:
        header = json.loads(_read(path))
    except (ValueError, RecursionError) as error:
        raise AdapterFileError(f"{path} cannot be read: {error}; copy the adapter folder again") from error
    if not isinstance(header, dict):
        raise AdapterFileError(f"{path} is not a JSON object; copy the adapter folder again")
    return header


def _read(path: Path) -> bytes:
    try:
        if not path.is_file():
            raise FileNotFoundError(errno.ENOENT, "there is no such file")
        return path.read_bytes()
    except (OSError, MemoryError) as error:
        reason = getattr(error, "strerror", None) or f"it has {size(path.stat().st_size)}, more than memory is free"
        raise AdapterFileError(f"{path} cannot be read: {reason}; copy the adapter folder again") from error
