"""``fedclip evaluate`` and ``fedclip predict``: use an adapter where torch is."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fedclip_plugin.adapters import Adapter, ZeroShot, scores
from fedclip_plugin.adapters.registry import restore_adapter
from fedclip_plugin.backbone.clip import FrozenClip
from fedclip_plugin.backbone.clip_config import read_clip_config
from fedclip_plugin.backbone.fingerprint import fingerprint
from fedclip_plugin.backbone.locate import locate_backbone
from fedclip_plugin.backbone.onnx_encoder import OnnxEncoder
from fedclip_plugin.data import ImageSet, find_layout, list_domains, open_rgb, remarks, scan_folder
from fedclip_plugin.errors import AdapterFileError
from fedclip_plugin.features import FeatureSet, FeatureSource, TextFeatures
from fedclip_plugin.features.encode import encode_files
from fedclip_plugin.federated.task import Score, Task
from fedclip_plugin.recipe import METHODS
from fedclip_plugin.runs import SavedAdapter, load_adapter
from fedclip_plugin.text import align

Load = Callable[[ImageSet], tuple[FeatureSet, FeatureSet]]
"""Labelled images to their features, and to what the adapter takes in."""

_CACHE = Path(".fedclip/features")
_BATCH, _WORKERS = 64, 2


def evaluate(folder: Path, images: Path, backbone: str | None, encoder: Path | None, as_json: bool) -> int:
    """Print the accuracy of an adapter and of zero-shot CLIP on labelled images; return the exit code.

    Parameters
    ----------
    folder
        The adapter.
    images
        ``<class>/<image>``, or ``<domain>/<class>/<image>``.
    backbone
        Where the backbone is; None takes the adapter's own word.
    encoder
        ``encoder.onnx`` of a bundle, to score on the features that a device sees; None takes the backbone.
    as_json
        Print JSON instead of a table.

    Raises
    ------
    FedClipError
        When adapter, backbone or images cannot be used, or do not belong together.
    """
    saved = load_adapter(folder)
    _warn(saved)
    task, adapter = _task(saved), restore_adapter(saved, backbone).to(_device())
    load = _device_features(saved, encoder) if encoder else _cached(saved, backbone or saved.backbone)
    found: dict[str, tuple[Score, Score]] = {}
    for part in _parts(images, saved.classes):
        for line in remarks(part):
            print(f"note: {line}", file=sys.stderr)
        features, inputs = load(part)
        found[part.name] = task.score(ZeroShot(), features), task.score(adapter, inputs)
    if as_json:
        print(json.dumps({name: _plain(*pair) for name, pair in found.items()}, indent=1))
        return 0
    rows = [[name, str(own.count), _percent(zero), _percent(own)] for name, (zero, own) in found.items()]
    if len(found) > 1:
        total = [
            Score(sum(s.correct for s in side), sum(s.count for s in side))
            for side in zip(*found.values(), strict=True)
        ]
        rows.append(["all images", str(total[1].count), _percent(total[0]), _percent(total[1])])
    print(align([["accuracy in %", "images", "zero-shot CLIP", f"{saved.method}, round {saved.round}"], *rows]))
    return 0


def predict(folder: Path, images: Sequence[Path], backbone: str | None, top: int, as_json: bool) -> int:
    """Print the most probable labels of each image; return the exit code.

    Parameters
    ----------
    folder
        The adapter.
    images
        Image files.
    backbone
        Where the backbone is; None takes the adapter's own word.
    top
        Labels per image.
    as_json
        Print JSON instead of lines.

    Raises
    ------
    FedClipError
        When adapter, backbone or an image cannot be used.
    """
    saved = load_adapter(folder)
    _warn(saved)
    place = locate_backbone(backbone or saved.backbone)
    saved.require_backbone(fingerprint(place), read_clip_config(place).dim, str(place))
    clip, adapter = FrozenClip(place, _device(), saved.precision), restore_adapter(saved, backbone)
    answers = {str(path): _label(clip, adapter.to(_device()), saved, path, top) for path in images}
    if as_json:
        print(json.dumps(answers, indent=1, ensure_ascii=False))
        return 0
    width = max(len(name) for name in answers)
    for name, labels in answers.items():
        print(
            name.ljust(width),
            "  ".join(f"{label} {probability:.3f}" for label, probability in labels.items()),
            sep="  ",
        )
    return 0


def _label(clip: FrozenClip, adapter: Adapter, saved: SavedAdapter, path: Path, top: int) -> dict[str, float]:
    image = open_rgb(path)
    if METHODS[saved.method].inputs == "pixels":
        inputs = torch.from_numpy(clip.crop(image))[None]
    else:
        inputs = clip.encode_pixels(torch.from_numpy(clip.preprocess(image))[None]).to(clip.device)
    with torch.no_grad():
        classes = torch.tensor(saved.head_features).to(clip.device)
        logits = scores(adapter(inputs), classes, saved.logit_scale)[0]
    best = logits.softmax(-1).topk(min(top, len(saved.classes)))
    return {saved.classes[i]: round(float(p), 6) for p, i in zip(best.values, best.indices.tolist(), strict=True)}


def _task(saved: SavedAdapter) -> Task:
    text = TextFeatures(torch.tensor(saved.text_features), saved.logit_scale)
    return Task(
        saved.method,
        saved.backbone,
        saved.fingerprint,
        saved.precision,
        saved.classes,
        saved.prompt_template,
        text,
        saved.recipe_digest,
    )


def _parts(root: Path, classes: tuple[str, ...]) -> list[ImageSet]:
    """Return the domains below ``root``, or ``root`` itself when its folders are classes."""
    if find_layout(root) == "classes":
        return [scan_folder(root, root.name, classes)]
    return [scan_folder(root / name, name, classes) for name in list_domains(root)]


def _cached(saved: SavedAdapter, backbone: str) -> Load:
    """Return what gives features of the backbone in torch, through the cache, and what the method takes in."""
    source = FeatureSource(backbone, _device(), saved.precision, _CACHE, _BATCH, _WORKERS)
    saved.require_backbone(source.fingerprint, source.feature_dim, backbone)

    def _load(part: ImageSet) -> tuple[FeatureSet, FeatureSet]:
        features = source.images(part, skip_bad=False, on_progress=_ignore).data.to(_device())
        if METHODS[saved.method].inputs == "features":
            return features, features
        return features, source.pixels(part, skip_bad=False, on_progress=_ignore).data.to(_device())

    return _load


def _device_features(saved: SavedAdapter, encoder: Path) -> Load:
    """Return what encodes images as a device does, by onnxruntime; nothing is cached."""
    if METHODS[saved.method].inputs == "pixels":
        raise AdapterFileError(
            f"method {saved.method} changes the image encoder itself: {encoder} cannot stand in for it; "
            "leave --encoder out"
        )
    device_encoder = OnnxEncoder(encoder)
    saved.require_backbone(device_encoder.fingerprint, device_encoder.feature_dim, str(encoder))

    def _load(part: ImageSet) -> tuple[FeatureSet, FeatureSet]:
        rows, faults = encode_files(device_encoder, part.paths(), _BATCH, _WORKERS, _ignore)
        if faults:
            raise next(iter(faults.values()))
        features = np.stack([rows[index] for index in range(len(part))])
        data = FeatureSet(torch.from_numpy(features), torch.from_numpy(part.labels)).to(_device())
        return data, data

    return _load


def _warn(saved: SavedAdapter) -> None:
    """Say beside the answers, on stderr, when the adapter says of itself that it did not help."""
    if saved.warning:
        print(f"note: {saved.warning}", file=sys.stderr, flush=True)


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _plain(zero_shot: Score, own: Score) -> dict[str, Any]:
    return {"images": own.count, "zero_shot": zero_shot.accuracy, "adapter": own.accuracy}


def _percent(score: Score) -> str:
    return f"{100 * score.accuracy:.1f}"


def _ignore(count: int) -> None:
    """Take no notice of progress."""
