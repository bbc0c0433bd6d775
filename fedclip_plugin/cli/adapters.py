"""``fedclip evaluate`` and ``fedclip predict``: use an adapter where torch is."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image

from fedclip_edge.terminal import align, message, printable
from fedclip_plugin.backbone.clip import FrozenClip
from fedclip_plugin.backbone.clip_config import read_clip_config
from fedclip_plugin.backbone.fingerprint import fingerprint
from fedclip_plugin.backbone.locate import locate_backbone
from fedclip_plugin.backbone.onnx_encoder import OnnxEncoder
from fedclip_plugin.data import (
    ImageSet,
    UnreadableImageError,
    UnreadableImagesError,
    find_layout,
    list_domains,
    open_rgb,
    remarks,
    scan_folder,
)
from fedclip_plugin.errors import AdapterFileError, DataError
from fedclip_plugin.features import FeatureSet, FeatureSource, TextFeatures
from fedclip_plugin.features.encoding import encode_files
from fedclip_plugin.federated.roles.task import Score, Task
from fedclip_plugin.methods import Adapter, ZeroShot, scores
from fedclip_plugin.methods.registry import restore_adapter
from fedclip_plugin.recipe import METHODS
from fedclip_plugin.runs import SavedAdapter, load_adapter


class Loaded(NamedTuple):
    """Features of labelled images, what the adapter takes in of them, and how many images could not be read."""

    features: FeatureSet
    inputs: FeatureSet
    skipped: int


Load = Callable[[ImageSet], Loaded]

_CACHE = Path(".fedclip/features")
_PROBE = 1 << 16  # bytes; a full disk takes an empty file
_BATCH, _WORKERS = 64, 2


def evaluate(
    folder: Path, images: Path, backbone: str | None, encoder: Path | None, skip_bad: bool, as_json: bool
) -> int:
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
    skip_bad
        Leave out images that cannot be read, and say which, instead of refusing them.
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
    found: dict[str, tuple[Score, Score]] = {}
    skipped: dict[str, int] = {}
    with _cache_folder() as cache:
        load = (
            _device_features(saved, encoder, skip_bad)
            if encoder
            else _cached(saved, backbone or saved.backbone, cache, skip_bad)
        )
        for part in _parts(images, saved.classes):
            for line in remarks(part):
                print(message(f"note: {line}"), file=sys.stderr, flush=True)
            try:
                features, inputs, skipped[part.name] = load(part)
            except UnreadableImagesError as error:
                raise DataError(f"{error.text}, or give --on-bad-image skip") from error
            found[part.name] = task.score(ZeroShot(), features), task.score(adapter, inputs)
    if as_json:
        print(json.dumps({name: _plain(*pair, skipped[name]) for name, pair in found.items()}, indent=1))
        return 0
    rows = [[name, str(own.count), _percent(zero), _percent(own)] for name, (zero, own) in found.items()]
    if len(found) > 1:
        total = [
            Score(sum(s.correct for s in side), sum(s.count for s in side))
            for side in zip(*found.values(), strict=True)
        ]
        rows.append(["all images", str(total[1].count), _percent(total[0]), _percent(total[1])])
    print(align([["accuracy in %", "images", "zero-shot CLIP", f"{saved.method}, round {saved.round}"], *rows]))
    if count := sum(skipped.values()):
        print(f"left out: {count} image{'s' if count > 1 else ''} that cannot be read")
    return 0


def predict(folder: Path, images: Sequence[Path], backbone: str | None, top: int, as_json: bool) -> int:
    """Print the most probable labels of each image; return 0, or 2 when an image could not be read.

    Parameters
    ----------
    folder
        The adapter.
    images
        Image files; those that can be read are answered, whatever the others are.
    backbone
        Where the backbone is; None takes the adapter's own word.
    top
        Labels per image.
    as_json
        Print JSON instead of lines.

    Raises
    ------
    FedClipError
        When adapter or backbone cannot be used.
    """
    saved = load_adapter(folder)
    _warn(saved)
    place = locate_backbone(backbone or saved.backbone)
    saved.require_backbone(fingerprint(place), read_clip_config(place).dim, str(place))
    clip, adapter = FrozenClip(place, _device(), saved.precision), restore_adapter(saved, backbone)
    adapter.to(_device())
    answers: dict[str, dict[str, Any]] = {}
    bad = 0
    width = max(len(printable(str(path))) for path in images)
    for path in images:
        try:
            labels = _label(clip, adapter, saved, _open(path, folder), top)
        except UnreadableImageError as error:
            bad += 1
            answers[str(path)] = {"error": str(error)}
            print(message(f"fedclip: {error}"), file=sys.stderr, flush=True)
            continue
        answers[str(path)] = labels
        if not as_json:
            told = "  ".join(f"{label} {probability:.3f}" for label, probability in labels.items())
            print(printable(f"{printable(str(path)):{width}}  {told}"), flush=True)
    if as_json:
        print(json.dumps(answers, indent=1))  # in ASCII, which every console and pipe can carry
    return 2 if bad else 0


def _open(path: Path, adapter: Path) -> Image.Image:
    if path.is_dir():
        raise UnreadableImageError(
            path, "it is a folder", f"Give its files, or score it with: fedclip evaluate {adapter} {path}"
        )
    return open_rgb(path)


def _label(clip: FrozenClip, adapter: Adapter, saved: SavedAdapter, image: Image.Image, top: int) -> dict[str, float]:
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


@contextmanager
def _cache_folder() -> Iterator[Path]:
    """Give the folder of the feature cache; where it cannot be written, one that is removed afterwards."""
    try:
        _CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=_CACHE, buffering=0) as probe:
            probe.write(bytes(_PROBE))
    except OSError as error:
        told = f"the feature cache {_CACHE.resolve()} cannot be written ({error.strerror}): nothing is kept in it"
        print(message(f"note: {told}"), file=sys.stderr, flush=True)
    else:
        yield _CACHE
        return
    with tempfile.TemporaryDirectory() as place:
        yield Path(place)


def _cached(saved: SavedAdapter, backbone: str, cache: Path, skip_bad: bool) -> Load:
    """Return what gives features of the backbone in torch, through the cache, and what the method takes in."""
    source = FeatureSource(backbone, _device(), saved.precision, cache, _BATCH, _WORKERS)
    saved.require_backbone(source.fingerprint, source.feature_dim, backbone)

    def _load(part: ImageSet) -> Loaded:
        found = source.images(part, skip_bad=skip_bad, on_progress=_ignore)
        features = found.data.to(_device())
        if METHODS[saved.method].inputs == "features":
            return Loaded(features, features, len(found.faults))
        pixels = source.pixels(part, skip_bad=skip_bad, on_progress=_ignore)
        return Loaded(features, pixels.data.to(_device()), len(found.faults))

    return _load


def _device_features(saved: SavedAdapter, encoder: Path, skip_bad: bool) -> Load:
    """Return what encodes images as a device does, by onnxruntime; nothing is cached."""
    if METHODS[saved.method].inputs == "pixels":
        raise AdapterFileError(
            f"method {saved.method} changes the image encoder itself: {encoder} cannot stand in for it; "
            "leave --encoder out"
        )
    device_encoder = OnnxEncoder(encoder)
    saved.require_backbone(device_encoder.fingerprint, device_encoder.feature_dim, str(encoder))

    def _load(part: ImageSet) -> Loaded:
        rows, faults = encode_files(device_encoder, part.paths(), _BATCH, _WORKERS, _ignore)
        if faults and not skip_bad:
            raise UnreadableImagesError(part.name, len(part), list(faults.values()))
        if not rows:
            raise DataError(f"{part.name}: none of the {len(part)} images in {part.root} can be read")
        for fault in faults.values():
            print(message(f"skipped: {fault}"), file=sys.stderr)
        kept = sorted(rows)
        features = torch.from_numpy(np.stack([rows[index] for index in kept]))
        data = FeatureSet(features, torch.from_numpy(part.labels[kept])).to(_device())
        return Loaded(data, data, len(faults))

    return _load


def _warn(saved: SavedAdapter) -> None:
    """Say beside the answers, on stderr, when the adapter says of itself that it did not help."""
    if saved.warning:
        print(message(f"note: {saved.warning}"), file=sys.stderr, flush=True)


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _plain(zero_shot: Score, own: Score, skipped: int) -> dict[str, Any]:
    return {"images": own.count, "skipped": skipped, "zero_shot": zero_shot.accuracy, "adapter": own.accuracy}


def _percent(score: Score) -> str:
    return f"{100 * score.accuracy:.1f}"


def _ignore(count: int) -> None:
    """Take no notice of progress."""
