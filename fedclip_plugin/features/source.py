"""Where features come from: the cache, and the backbone for what the cache lacks."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedclip_plugin.backbone.fingerprint import fingerprint
from fedclip_plugin.backbone.locate import locate_backbone
from fedclip_plugin.data import ImageSet, UnreadableImageError
from fedclip_plugin.errors import DataError
from fedclip_plugin.features.cache import CACHE_VERSION, FeatureCache, identities
from fedclip_plugin.features.feature_set import FeatureSet

logger = logging.getLogger(__name__)

_CHUNK = 8192
"""Images between two writes of the cache: what a job that is killed may have to encode again."""


@dataclass(frozen=True)
class TextFeatures:
    """What the classes look like to CLIP.

    Attributes
    ----------
    features
        Unit-length rows, ``[C, d]`` float32.
    logit_scale
        CLIP's factor on cosine similarities.
    """

    features: Tensor
    logit_scale: float


@dataclass(frozen=True)
class EncodedImages:
    """Features of an image set.

    Attributes
    ----------
    data
        Features and labels of the readable images.
    kept
        Indices of the readable images in the image set, ``[N]``.
    faults
        One error for each unreadable image.
    encoded
        How many images were encoded just now; the others came from the cache.
    """

    data: FeatureSet
    kept: list[int]
    faults: list[UnreadableImageError]
    encoded: int


class FeatureSource:
    """Features of one backbone in one precision; the backbone is loaded only when the cache lacks something.

    Parameters
    ----------
    backbone
        Name or folder.
    device
        Where the backbone runs.
    precision
        ``auto``, ``fp32``, ``bf16`` or ``fp16``.
    cache_dir
        Folder of the feature cache.
    batch_size, workers
        Images in a forward pass; decoding threads.

    Attributes
    ----------
    fingerprint
        Of the backbone.
    precision
        What is encoded in; None while ``auto`` has not been settled.

    Raises
    ------
    BackboneError
        When the backbone is not on this machine or is not a CLIP.
    """

    def __init__(
        self, backbone: str, device: torch.device, precision: str, cache_dir: Path, batch_size: int, workers: int
    ) -> None:
        self.backbone = backbone
        self._folder = locate_backbone(backbone)
        self._automatic = precision == "auto"
        self.precision: str | None = None if self._automatic else precision
        self.fingerprint = fingerprint(self._folder, memory=cache_dir / "fingerprints.json")
        self._cache = FeatureCache(cache_dir / f"v{CACHE_VERSION}-{self.fingerprint[:16]}")
        self._device = device
        self._batch_size, self._workers = batch_size, workers

    @cached_property
    def _clip(self):  # type: ignore[no-untyped-def]  # noqa: ANN202 - importing the type would import transformers
        from fedclip_plugin.backbone.clip import FrozenClip

        return FrozenClip(self._folder, self._device)

    @property
    def loaded(self) -> bool:
        """Whether the backbone had to be loaded."""
        return "_clip" in self.__dict__

    def text(self, classes: tuple[str, ...], template: str) -> TextFeatures:
        """Return the text features of ``classes`` in the prompt ``template`` (with one ``{}``).

        Raises
        ------
        BackboneError
            When the backbone has to be loaded and cannot be.
        """
        prompts = [template.format(name.replace("_", " ")) for name in classes]
        cached = self._cache.read_prompts(prompts)
        if cached is None:
            computed = self._clip.encode_prompts(prompts).numpy(), self._clip.logit_scale
            self._cache.write_prompts(prompts, *computed)
            cached = computed
        return TextFeatures(torch.from_numpy(cached[0]), cached[1])

    def count_missing(self, images: ImageSet) -> int:
        """Return how many of ``images`` are not in the cache."""
        known, unreadable = self._cache.read_images(self._cache.image_path(images, self.settle(images)))
        return sum(key not in known and key not in unreadable for key in identities(images))

    def settle(self, images: ImageSet) -> str:
        """Return the precision to encode in; ``auto`` compares a few of ``images`` with float32, once a machine."""
        self.precision = self.precision or self._cache.read_precision(self._device.type)
        if self.precision is None:
            self.precision = self._choose_precision(images)
            self._cache.write_precision(self._device.type, self.precision)
        return self.precision

    def agree(self, precision: str) -> None:
        """Encode in what all ranks agreed on; ``auto`` will remember it, so that the next start asks for the same."""
        if self._automatic and precision != self.precision:
            self._cache.write_precision(self._device.type, precision)
        self.precision = precision

    def images(self, images: ImageSet, skip_bad: bool, on_progress: Callable[[int], None]) -> EncodedImages:
        """Return the features of ``images``, encoding only what is not cached.

        Parameters
        ----------
        images
            N labelled files.
        skip_bad
            Leave unreadable images out (and say which) instead of refusing them.
        on_progress
            Called with the number of images encoded since the last call.

        Raises
        ------
        DataError
            When an image is unreadable and ``skip_bad`` is off, or when no image is readable.
        """
        keys = identities(images)
        path = self._cache.image_path(images, self.settle(images))
        known, lasting = self._cache.read_images(path)
        files = dict(zip(keys, images.paths(), strict=True))
        missing = [key for key in keys if key not in known and key not in lasting]
        unreadable = dict(lasting)
        for start in range(0, len(missing), _CHUNK):
            rows, errors = self._encode({key: files[key] for key in missing[start : start + _CHUNK]}, on_progress)
            known |= rows
            unreadable |= {key: error.reason for key, error in errors.items()}
            # A disk or a permission may be mended, and nothing about the file would show it: not kept.
            lasting |= {key: error.reason for key, error in errors.items() if not _is_machines(error)}
            current = {key: known[key] for key in keys if key in known}
            self._cache.write_images(path, current, {key: lasting[key] for key in keys if key in lasting})
        kept = [index for index, key in enumerate(keys) if key in known]
        faults = [UnreadableImageError(files[key], unreadable[key]) for key in keys if key in unreadable]
        self._judge(images, faults, skip_bad, bool(kept))
        features = np.stack([known[keys[index]] for index in kept])
        data = FeatureSet(torch.from_numpy(features), torch.from_numpy(images.labels[kept]))
        return EncodedImages(data, kept, faults, sum(key in known for key in missing))

    def _encode(
        self, chunk: Mapping[str, Path], on_progress: Callable[[int], None]
    ) -> tuple[dict[str, NDArray[np.float32]], dict[str, UnreadableImageError]]:
        """Return features ``[d]``, and errors for files that cannot be read, both by identity."""
        from fedclip_plugin.features.encode import encode_files

        assert self.precision is not None, "settled before anything is encoded"
        self._clip.precision = self.precision
        keys, paths = list(chunk), list(chunk.values())
        rows, errors = encode_files(self._clip, paths, self._batch_size, self._workers, on_progress)
        return {keys[index]: row for index, row in rows.items()}, {
            keys[index]: error for index, error in errors.items()
        }

    def _judge(self, images: ImageSet, faults: Sequence[UnreadableImageError], skip_bad: bool, any_left: bool) -> None:
        if faults and not skip_bad:
            raise DataError(
                f"{images.name}: {len(faults)} of {len(images)} images cannot be read, the first: {faults[0].path} "
                f"({faults[0].reason}); repair or remove them (fedclip check FOLDER lists all), "
                "or set fedclip_args.on_bad_image to skip"
            )
        if not any_left:
            raise DataError(
                f"{images.name}: none of the {len(images)} images in {images.root} can be read; "
                f"the first: {faults[0].path} ({faults[0].reason})"
            )
        for fault in faults:
            logger.warning("%s: skipped: %s", images.name, fault)

    def _choose_precision(self, images: ImageSet) -> str:
        from fedclip_plugin.backbone.precision import CHECKED_IMAGES, choose
        from fedclip_plugin.features.encode import decode, stack_pixels

        step = max(1, len(images) // CHECKED_IMAGES)
        decoded = [decode(self._clip, path) for path in images.paths()[::step][:CHECKED_IMAGES]]
        pixels = [result for result in decoded if not isinstance(result, UnreadableImageError)]
        if not pixels:
            return "fp32"
        return choose(self._clip, self._device, stack_pixels(pixels, self._device))


def _is_machines(error: UnreadableImageError) -> bool:
    """Return whether the operating system failed to read the file, rather than the file being no image."""
    return getattr(error.__cause__, "errno", None) is not None
