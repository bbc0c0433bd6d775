"""Where features come from: the cache, and the backbone for what the cache lacks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from fedclip_edge.files import write_file
from fedclip_edge.sample_range import SampleRange
from fedclip_plugin.backbone.configs.clip_config import read_clip_config
from fedclip_plugin.backbone.fingerprint import fingerprint
from fedclip_plugin.backbone.locate import locate_backbone
from fedclip_plugin.data import ImageSet, UnreadableImageError
from fedclip_plugin.data.decoding.decode import decode
from fedclip_plugin.data.decoding.views import AUGMENTATION_VERSION
from fedclip_plugin.features.cache_parts import Part, Parts, naming_cache, require_room
from fedclip_plugin.features.crop_cache import PixelCache, cropped, read_crops
from fedclip_plugin.features.encoding import Progress, encode_batches, images_at_once, no_progress, read_files
from fedclip_plugin.features.feature_set import EncodedImages, FeatureSet, PixelSet
from fedclip_plugin.features.image_files import ImageFiles, image_set_hash, range_key, short_hash
from fedclip_plugin.features.mapped_features import MappedFeatures
from fedclip_plugin.features.text_features import TextFeatures
from fedclip_plugin.recipe.prompts import prompts_of

if TYPE_CHECKING:
    from fedclip_plugin.backbone.clip import FrozenClip

CACHE_VERSION = 2
"""Raise it when the same image would get other features: a change in decoding, scaling, preprocessing or encoding."""

_FEATURES, _SCALE, _PROMPTS = "features", "logit_scale", "prompts"
_CHUNK = 8192
"""Images between two writes of the cache: what a job that is killed may have to encode again."""


class FeatureSource:
    """Features of one backbone in one precision; the backbone is loaded only when the cache lacks something.

    Parameters
    ----------
    precision
        ``auto``, ``fp32``, ``bf16`` or ``fp16``.
    batch_size, workers
        Images in a forward pass, 0 for 256 on a GPU and 64 on a CPU; decoding threads, 0 for as many as torch uses.
    load
        From the backbone's folder to the backbone, on ``device``; None loads it afresh.
    sample_range
        What is black and white in samples of more than 8 bits; None takes each file's own word.

    Attributes
    ----------
    folder
        The backbone's.
    fingerprint, feature_dim
        Of the backbone: its hash, and the width of its features.
    precision
        What is encoded in; None while ``auto`` has not been settled.
    """

    def __init__(
        self,
        backbone: str,
        device: torch.device,
        precision: str,
        cache_dir: Path,
        batch_size: int,
        workers: int,
        load: Callable[[Path], FrozenClip] | None = None,
        sample_range: SampleRange | None = None,
    ) -> None:
        self.backbone = backbone
        self.folder = locate_backbone(backbone)
        self._automatic = precision == "auto"
        self.precision: str | None = None if self._automatic else precision
        with naming_cache(cache_dir):
            self.fingerprint = fingerprint(self.folder, memory=cache_dir / "fingerprints.json")
        self.feature_dim = read_clip_config(self.folder).dim
        self._cache = cache_dir / f"v{CACHE_VERSION}-{self.fingerprint[:16]}"
        self._files = cache_dir / f"v{CACHE_VERSION}-files"
        self._pixels = PixelCache(self._cache / "pixels", sample_range)
        self._device = device
        self._chosen = self._cache / f"precision-{device.type}.txt"  # what ``auto`` chose on this kind of device
        self._batch_size, self._workers = batch_size, workers or max(2, torch.get_num_threads())
        self._load, self._sample_range = load, sample_range

    @cached_property
    def _clip(self) -> FrozenClip:
        return _loaded(self.folder, self._device, self._load)

    @property
    def loaded(self) -> bool:
        """Whether the backbone had to be loaded."""
        return "_clip" in self.__dict__

    def clip(self) -> FrozenClip:
        """Return the backbone itself, in the precision that was settled, to be changed at will.

        Nothing of it is kept here: the source loads another one when it needs to encode again.
        """
        clip = self._clip
        del self._clip
        clip.precision = self.precision or "fp32"
        return clip

    def loader(self) -> Callable[[], FrozenClip]:
        """Return what loads the backbone afresh, in the precision that was settled; it does not hold this source."""
        fresh, precision = partial(_loaded, self.folder, self._device, self._load), self.precision or "fp32"

        def _settled() -> FrozenClip:
            clip = fresh()
            clip.precision = precision
            return clip

        return _settled

    def text(self, classes: tuple[str, ...], template: str) -> TextFeatures:
        """Return the text features of ``classes`` in the prompt ``template`` (with one ``{}``)."""
        prompts = prompts_of(classes, template)
        kept = Parts(self._cache / f"prompts-{short_hash(*prompts)}")
        if _PROMPTS not in kept:
            scale = np.array([self._clip.logit_scale], dtype=np.float64)
            columns = {_FEATURES: self._clip.encode_prompts(prompts).numpy()[None], _SCALE: scale}
            kept.add(Part([_PROMPTS], columns), {_PROMPTS})
        features, factor = (kept.rows([_PROMPTS], column)[0] for column in (_FEATURES, _SCALE))
        return TextFeatures(torch.from_numpy(features), float(factor))

    def count_missing(self, images: ImageSet, views: int = 0) -> int:
        """Return how many of ``images``, and of ``views`` augmented views of each, are not in the cache."""
        precision, files = self.settle(images), self._image_files(images)
        return sum(len(files.missing(self._kept(images, precision, view))) for view in range(views + 1))

    def require_room(self, count: int) -> None:
        """See that ``count`` features fit on the cache's disk, before any is encoded; a DataError when they do not."""
        if count:
            require_room(self._cache, 4 * count * self.feature_dim, f"{count:,} features that are to be encoded")

    def settle(self, images: ImageSet) -> str:
        """Return the precision to encode in; ``auto`` compares a few of ``images`` with float32, once a machine."""
        if self.precision is None and self._chosen.exists():
            self.precision = self._chosen.read_text(encoding="utf-8").strip()
        if self.precision is None:
            self.precision = self._choose_precision(images)
            self._remember(self.precision)
        return self.precision

    def agree(self, precision: str) -> None:
        """Encode in what all ranks agreed on; ``auto`` will remember it, so that the next start asks for the same."""
        if self._automatic and precision != self.precision:
            self._remember(precision)
        self.precision = precision

    def images(
        self,
        images: ImageSet,
        skip_bad: bool,
        on_progress: Progress = no_progress,
        views: int = 0,
        crops: EncodedImages[PixelSet] | None = None,
    ) -> EncodedImages[FeatureSet]:
        """Return the features of ``images``, encoding only what is not cached; a file is decoded once for all views.

        Parameters
        ----------
        images
            N labelled files.
        skip_bad
            Leave unreadable images out (and say which) instead of refusing them.
        on_progress
            Called with the number of images, or views, encoded since the last call.
        views
            How many augmented views of each image are encoded too.
        crops
            What :meth:`pixels` gave for ``images``: these files are not decoded again.

        Raises
        ------
        DataError
            When an image is unreadable and ``skip_bad`` is off, when no image is readable, or when the cache cannot be
            written.
        """
        precision, files = self.settle(images), self._image_files(images)
        kept = [self._kept(images, precision, view) for view in range(views + 1)]
        encoded = 0
        for lacking, names in _grouped(images, files, kept).items():
            step = max(1, _CHUNK // len(lacking))
            for start in range(0, len(names), step):
                fresh = self._encode(names[start : start + step], files, on_progress, lacking, crops)
                for place, view in enumerate(lacking if fresh else ()):
                    rows = np.stack([own[place] for own in fresh.values()])
                    kept[view].add(Part(list(fresh), {_FEATURES: rows}), files.digests())
                files.remember()
            encoded += len(lacking) * sum(all(files.digest(name) in kept[view] for view in lacking) for name in names)
        chosen, faults = files.judge(set(kept[0].where).intersection(*(own.where for own in kept)), skip_bad)
        digests = [files.digest(images.files[index]) or "" for index in chosen]
        features, *seen = (torch.from_numpy(own.rows(digests, _FEATURES)) for own in kept)
        data = FeatureSet(features, torch.from_numpy(images.labels[chosen]), torch.stack(seen, dim=1) if seen else None)
        return EncodedImages(data, chosen, faults, encoded)

    def pixels(self, images: ImageSet, skip_bad: bool, on_progress: Progress = no_progress) -> EncodedImages[PixelSet]:
        """Return ``images`` as methods on pixels take them, uint8 mapped from a file; decode only what is not cached.

        Parameters and errors as for :meth:`images`; a disk without room is a DataError too.
        """
        return cropped(
            self._pixels, self.folder, self._image_files(images), skip_bad, self._workers, on_progress, self._device
        )

    @property
    def mapped(self) -> MappedFeatures:
        """Where features are kept in files that several ranks map."""
        assert self.precision is not None, "settled before anything is encoded"
        return MappedFeatures(self._cache / self.precision / "mapped")

    def _kept(self, images: ImageSet, precision: str, view: int) -> Parts:
        """Return the features of ``images``, or of one augmented view of each, that are in the cache, by digest."""
        own = (f"view {view} of augmentation {AUGMENTATION_VERSION}",) if view else ()
        return Parts(self._cache / precision / image_set_hash(images, *own, *range_key(self._sample_range)))

    def _remember(self, precision: str) -> None:
        with naming_cache(self._cache):
            self._cache.mkdir(parents=True, exist_ok=True)
            write_file(self._chosen, precision.encode())

    def _image_files(self, images: ImageSet) -> ImageFiles:
        memory = Parts(self._files / image_set_hash(images, *range_key(self._sample_range)))
        return ImageFiles(images, memory, self._workers)

    def _encode(
        self,
        names: Sequence[str],
        files: ImageFiles,
        on_progress: Progress,
        views: Sequence[int],
        crops: EncodedImages[PixelSet] | None,
    ) -> dict[str, Sequence[NDArray[np.float32]]]:
        """Return, by digest, the features ``[d]`` of each of ``views`` of the images that can be read."""
        assert self.precision is not None, "settled before anything is encoded"
        clip = self._clip
        clip.precision = self.precision
        at_once = max(1, images_at_once(clip, self._batch_size) // len(views))
        features: dict[str, Sequence[NDArray[np.float32]]] = {}
        if crops is not None and not any(views):
            held = set(crops.digests)
            digests = [digest for name in names if (digest := files.digest(name)) in held and digest is not None]
            for batch in encode_batches(clip, read_crops(crops, digests, at_once), on_progress):
                features |= {batch.digests[index]: rows for index, rows in batch.arrays.items()}
            names = [name for name in names if files.digest(name) not in held]
        batches = read_files(
            clip.see(views), files.paths(names), at_once, self._workers, self._sample_range, clip.device
        )
        for batch in encode_batches(clip, batches, on_progress):
            files.note(names, batch)
            features |= {batch.digests[index]: rows for index, rows in batch.arrays.items()}
        return features

    def _choose_precision(self, images: ImageSet) -> str:
        from fedclip_plugin.backbone.precision import CHECKED_IMAGES, choose

        step = max(1, len(images) // CHECKED_IMAGES)
        paths = images.paths()[::step][:CHECKED_IMAGES]
        decoded = [decode(self._clip.see(), path, self._sample_range) for path in paths]
        seen = [result[0][0] for result in decoded if not isinstance(result, UnreadableImageError)]
        if not seen:
            return "fp32"
        return choose(self._clip, self._device, self._clip.pixels(seen))


def _grouped(images: ImageSet, files: ImageFiles, kept: Sequence[Parts]) -> dict[tuple[int, ...], list[str]]:
    """Return the files of which something is to be encoded, in order, by the views: the indices of ``kept``."""
    missing = [set(files.missing(own)) for own in kept]
    groups: dict[tuple[int, ...], list[str]] = {}
    for name in images.files:
        lacking = tuple(view for view, names in enumerate(missing) if name in names)
        if lacking:
            groups.setdefault(lacking, []).append(name)
    return groups


def _loaded(folder: Path, device: torch.device, load: Callable[[Path], FrozenClip] | None) -> FrozenClip:
    from fedclip_plugin.backbone.clip import FrozenClip

    return load(folder) if load else FrozenClip(folder, device)
