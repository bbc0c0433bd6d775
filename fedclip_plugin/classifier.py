"""Use an adapter that was trained: from images to labels."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self, TypeAlias, TypeGuard, overload

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fedclip_edge.arguments import as_count, as_path
from fedclip_edge.images import ImageLike, is_one_image, read_rgb
from fedclip_edge.sample_range import SampleRange
from fedclip_plugin.backbone.clip import FrozenClip
from fedclip_plugin.backbone.onnx_encoder import OnnxEncoder
from fedclip_plugin.backbone.preprocessing import Preprocessing
from fedclip_plugin.data import Columns, ImageSet, UnreadableImageError, is_list, open_rgb
from fedclip_plugin.data.datasets import Labelled
from fedclip_plugin.data.labelled_images import labelled_sets
from fedclip_plugin.errors import AdapterFileError, BackboneError, DataError
from fedclip_plugin.features import EncodedImages, FeatureSet, FeatureSource, InputSet
from fedclip_plugin.features.device_encoding import encode_by_device
from fedclip_plugin.federated.roles.task import answer
from fedclip_plugin.hub import find_adapter
from fedclip_plugin.machine import torch_device
from fedclip_plugin.methods import METHODS, Adapter, ZeroShot, restore_adapter, scores
from fedclip_plugin.methods.create import backbone_of, frozen_of, on_classes
from fedclip_plugin.predictions import Evaluation, Prediction
from fedclip_plugin.recipe.faults import closest
from fedclip_plugin.runs import SavedAdapter, load_adapter

_AT_ONCE = 64
"""Images in one forward pass."""

Images: TypeAlias = "ImageLike | Iterable[ImageLike]"
"""One image, or many: a path, an encoded file's bytes, a PIL image, or an array uint8 RGB ``[H, W, 3]``."""


class Classifier:
    """An adapter on its backbone: from images to labels.

    Class features and logit scale are those that the adapter's file holds. The backbone is loaded when it is needed,
    once: methods that train one of its towers take it over.

    Shapes: N images (1 where one image is given), C classes, d width of the features.

    Parameters
    ----------
    saved
        The adapter.
    backbone
        Name or folder of its backbone; None takes the adapter's own word.
    device
        Where it computes; None takes the GPU where there is one.
    clip
        The backbone itself, where it is loaded already.

    Raises
    ------
    AdapterFileError
        When the adapter does not fit its method.
    FedClipError
        When the device is none that this machine computes on, or the backbone is no name and no path.

    Examples
    --------
    >>> from fedclip_plugin import Classifier, fit
    >>> result = fit("miniature", target="sketch", images_per_class=12, rounds=1, progress=False, run_dir="runs/two")
    >>> classifier = Classifier.load("runs/two/adapters/best", device="cpu")
    >>> from fedclip_miniature import render_image
    >>> drawing = render_image("photo", "giraffe", index=3)  # an array uint8 [64, 64, 3]
    >>> classifier.logits([drawing, drawing]).shape
    torch.Size([2, 7])
    >>> list(classifier.predict(drawing, top=2))
    ['giraffe', 'guitar']
    """

    def __init__(
        self,
        saved: SavedAdapter,
        backbone: str | Path | None = None,
        device: str | torch.device | None = None,
        clip: FrozenClip | None = None,
    ) -> None:
        if not isinstance(saved, SavedAdapter):
            raise AdapterFileError(f"saved is a {type(saved).__name__}; Classifier.load(folder) reads an adapter")
        self.saved = saved
        self.device = torch_device(("cuda" if torch.cuda.is_available() else "cpu") if device is None else device)
        if backbone is not None:
            as_path(backbone, "backbone", BackboneError)
        self._backbone = None if backbone is None else os.fspath(backbone)
        self._folder, self._clip = None if clip is None else clip.folder, clip
        if not self.on_pixels:
            self.adapter  # noqa: B018  what is wrong with it is said at once

    @classmethod
    def load(
        cls, adapter: str | Path, backbone: str | Path | None = None, device: str | torch.device | None = None
    ) -> Self:
        """Read an adapter from its folder, such as ``runs/NAME/adapters/best``; the rest is as for the class.

        ``owner/name`` is one that ``fedclip pull`` has fetched from the hub; nothing is downloaded here.

        Raises
        ------
        AdapterFileError
            When it is missing, damaged, of a newer format, or does not fit its method.
        """
        return cls(load_adapter(find_adapter(adapter)), backbone, device)

    def on_classes(self, classes: Sequence[str]) -> Self:
        """Return a classifier of the same adapter for other classes; those that no silo has seen are scored too.

        Errors as of :func:`fedclip_plugin.methods.create.on_classes`. Its ``saved`` is what
        :func:`fedclip_plugin.runs.save_adapter` writes, for the export.
        """
        made = on_classes(self.saved, classes, self._hand_over)
        return type(self)(made, self._backbone, self.device)

    @property
    def on_pixels(self) -> bool:
        """Whether the adapter changes the image encoder itself."""
        return self.saved.method in METHODS and METHODS[self.saved.method].on_pixels

    @property
    def threshold(self) -> float:
        """The probability below which an answer is ``unknown``; 0 where the adapter has none."""
        return 0.0 if self.saved.calibration is None else self.saved.calibration.threshold

    @cached_property
    def adapter(self) -> Adapter:
        """The trained module, on :attr:`device`."""
        frozen = replace(frozen_of(self.saved), clip=self._hand_over)
        return restore_adapter(self.saved, frozen).to(self.device)

    @property
    def clip(self) -> FrozenClip:
        """The frozen backbone, on :attr:`device`; one that is not here, or not the adapter's, is refused."""
        if self._clip is None:
            self._clip = FrozenClip(self._place(), self.device, self.saved.precision)
        return self._clip

    @overload
    def predict(self, images: ImageLike, top: int = ...) -> Prediction: ...  # type: ignore[overload-overlap]

    @overload
    def predict(self, images: Iterable[ImageLike], top: int = ...) -> list[Prediction]: ...

    def predict(self, images: Images, top: int = 3) -> Prediction | list[Prediction]:
        """Return the ``top`` most probable labels and their probabilities, the best first.

        One image gives one dictionary from label to probability; many give a list of them. Its ``label`` is the
        answer: the best label, or ``unknown`` where that is less probable than the adapter's threshold.

        Raises
        ------
        FedClipError
            When the backbone cannot be used, an image cannot be read, or ``top`` is below 1.
        """
        most = min(as_count(top, "top", DataError), len(self.saved.classes))
        best = self.logits(images).softmax(-1).topk(most)
        pairs = zip(best.values.tolist(), best.indices.tolist(), strict=True)
        labels = ({self.saved.classes[i]: p for p, i in zip(*pair, strict=True)} for pair in pairs)
        found = [Prediction.of(own, self.threshold) for own in labels]
        return found[0] if is_one_image(images) else found

    def encode(self, images: Images) -> Tensor:
        """Return adapted image features of unit length, ``[N, d]``; errors as of :meth:`predict`."""
        parts = [self._encoded(part) for part in self._inputs(images)]
        return torch.cat(parts) if parts else torch.empty(0, self.saved.feature_dim)

    def logits(self, images: Images) -> Tensor:
        """Return class logits ``[N, C]``; errors as of :meth:`predict`."""
        parts = [self.logits_of(part) for part in self._inputs(images)]
        return torch.cat(parts) if parts else torch.empty(0, len(self.saved.classes))

    @torch.no_grad()
    def _encoded(self, inputs: Tensor) -> Tensor:
        features: Tensor = self.adapter(inputs.to(self.device))
        return features

    def save_peft(self, folder: str | Path) -> None:
        """Write a LoRA adapter as peft reads it; see :func:`fedclip_plugin.methods.lora.save_peft`."""
        from fedclip_plugin.methods.lora import save_peft

        save_peft(self.saved, as_path(folder, "folder", AdapterFileError))

    @torch.no_grad()
    def logits_of(self, inputs: Tensor) -> Tensor:
        """Return class logits ``[N, C]`` of features ``[N, d]``; for methods on pixels, of uint8 ``[N, 3, S, S]``.

        Like all logits here they are divided by the adapter's temperature, where it has one.
        """
        classes, biases = torch.tensor(self.saved.head_features).to(self.device), self._biases
        own = None if biases is None else biases.to(self.device)
        return scores(self.adapter(inputs.to(self.device)), classes, self.saved.answer_scale, own)

    def image_sets(
        self, images: str | Path | Labelled, columns: Columns | None = None, data_root: str | Path | None = None
    ) -> list[ImageSet]:
        """List labelled images, in parts that are scored apart.

        Arguments and errors are those of :func:`fedclip_plugin.data.labelled_images.labelled_sets`, for the adapter's
        classes.
        """
        return labelled_sets(images, self.saved.classes, columns, data_root, self.saved.sample_range)

    def evaluate(
        self,
        images: str | Path | Sequence[ImageSet] | Labelled,
        *,
        skip_bad: bool = False,
        cache: str | Path | None = None,
        encoder: str | Path | None = None,
        batch_size: int | None = None,
        workers: int = 2,
        data_root: str | Path | None = None,
        **columns: str,
    ) -> dict[str, Evaluation]:
        """Label labelled images with and without the adapter; by the name of the domain, or of the folder.

        Parameters
        ----------
        images
            What :meth:`image_sets` takes, or such sets.
        skip_bad
            Leave out images that cannot be read, and say which, instead of refusing them.
        cache
            Folder of the feature cache; None keeps nothing.
        encoder
            ``encoder.onnx`` of a bundle, to score on the features that a device sees; None takes the backbone.
        batch_size, workers
            Images in a forward pass, None for 256 on a GPU and 64 on a CPU; decoding threads, 0 for torch's number.
        data_root, **columns
            Of a list file: what its files are relative to, and its columns: ``file_column``, ``label_column``,
            ``silo_column``, ``split_column``.

        Raises
        ------
        FedClipError
            When an argument is wrong, two sets have one name, or backbone or images cannot be used or do not belong to
            the adapter.
        """
        if (columns or data_root is not None) and not (isinstance(images, str | Path) and is_list(Path(images))):
            raise DataError("data_root and columns are for list files (.csv ...); leave them out")
        size = 0 if batch_size is None else as_count(batch_size, "batch_size", DataError)
        workers = as_count(workers, "workers", DataError, 0)
        kept = None if cache is None else as_path(cache, "cache", DataError)
        parts = images if _are_sets(images) else self.image_sets(images, _columns(columns), data_root)
        _require_own_names(parts)
        with TemporaryDirectory() if kept is None else nullcontext(kept) as place:
            if encoder is not None:
                graph = as_path(encoder, "encoder", BackboneError)
                found = self._by_device(parts, graph, skip_bad, size, workers)
                taken: list[InputSet] = [part.data for part in found]
            else:
                source = self._source(Path(place), size, workers)
                crops = [source.pixels(part, skip_bad) if self.on_pixels else None for part in parts]
                found = [source.images(part, skip_bad, crops=own) for part, own in zip(parts, crops, strict=True)]
                taken = [(own or encoded).data for own, encoded in zip(crops, found, strict=True)]
            return {
                part.name: self._evaluation(own, inputs) for part, own, inputs in zip(parts, found, taken, strict=True)
            }

    def _evaluation(self, found: EncodedImages[FeatureSet], inputs: InputSet) -> Evaluation:
        saved = self.saved
        text, head = torch.tensor(saved.text_features), torch.tensor(saved.head_features)
        inputs = inputs.to(self.device)
        own = answer(self.adapter, inputs, head, saved.answer_scale, self._biases, saved.logit_scale).cpu()
        return Evaluation(
            answer(ZeroShot(), found.data.to(self.device), text, saved.logit_scale).cpu(),
            own,
            found.kept,
            found.faults,
            saved.classes,
            own.confidence if own.unscaled is None else own.unscaled,
            self.threshold,
        )

    def _source(self, cache: Path, batch_size: int, workers: int) -> FeatureSource:
        """Return what encodes through a cache, by the backbone that is loaded here if it lacks something."""
        name = self.saved.backbone if self._backbone is None else self._backbone
        precision = self.saved.precision
        wide = self.saved.sample_range
        source = FeatureSource(name, self.device, precision, cache, batch_size, workers, lambda folder: self.clip, wide)
        self.saved.require_backbone(source.fingerprint, source.feature_dim, name)
        self._folder = source.folder
        return source

    def _by_device(
        self, parts: Sequence[ImageSet], encoder: Path, skip_bad: bool, batch_size: int, workers: int
    ) -> list[EncodedImages[FeatureSet]]:
        """Encode images as a device does, by onnxruntime; nothing is cached."""
        if self.on_pixels:
            raise AdapterFileError(
                f"method {self.saved.method} changes the image encoder itself: {encoder} cannot stand in for it; "
                "leave --encoder out"
            )
        device_encoder = OnnxEncoder(encoder)
        self.saved.require_backbone(device_encoder.fingerprint, device_encoder.feature_dim, str(encoder))
        wide = self.saved.sample_range
        return [encode_by_device(device_encoder, part, skip_bad, batch_size, workers, wide) for part in parts]

    def _inputs(self, images: Images) -> Iterator[Tensor]:
        """Yield what the adapter takes in of images, ``_AT_ONCE`` of them at a time."""
        if is_one_image(images):
            images = [images]
        elif not isinstance(images, Iterable):
            raise DataError(f"{type(images).__name__} where images are taken: give one image, or a list of them")
        see = self._preprocessing.crop if self.on_pixels else self._preprocessing.preprocess
        waiting = (see(_open(image, self.saved.sample_range)) for image in images)
        while seen := list(islice(waiting, _AT_ONCE)):
            pixels = torch.from_numpy(np.stack(seen))
            yield pixels if self.on_pixels else self.clip.encode_pixels(pixels)

    @property
    def _biases(self) -> Tensor | None:
        return None if self.saved.class_biases is None else torch.tensor(self.saved.class_biases)

    @cached_property
    def _preprocessing(self) -> Preprocessing:
        return Preprocessing(self._place())

    def _place(self) -> Path:
        self._folder = self._folder or backbone_of(self.saved, self._backbone)
        return self._folder

    def _hand_over(self) -> FrozenClip:
        """Give the backbone away, to a method that trains one of its towers."""
        clip, self._clip = self.clip, None
        return clip


def _require_own_names(parts: Sequence[ImageSet]) -> None:
    """Refuse sets of one name, of which an answer by name would lose all but the last."""
    names = [part.name for part in parts]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise DataError(
            f"two sets of images are called {twice!r}, and answers go by name; give one another name, by "
            "dataclasses.replace(part, name=...), or evaluate them one by one"
        )


def _open(image: Any, sample_range: SampleRange | None) -> Image.Image:
    """Return an image as RGB: files, bytes, PIL images and arrays by the same rules as in training and on devices."""
    if isinstance(image, str | Path):
        if os.path.isdir(image) or is_list(Path(image)):  # noqa: PTH112  (Path's raises for what can be no name)
            raise UnreadableImageError(Path(image), "it is no image", "Give its images, or score it with evaluate()")
        return open_rgb(Path(image), sample_range=sample_range)
    return Image.fromarray(read_rgb(image, sample_range=sample_range))


def _columns(given: Mapping[str, str]) -> Columns | None:
    """Return the columns of a list that keywords name; None where none is."""
    for key in given.keys() - Columns.recipe_keys().keys():
        close = closest(key, Columns.recipe_keys())
        raise DataError(f"evaluate() takes no {key}{f' (did you mean {close}?)' if close else ''}")
    return Columns.from_keys(given) if given else None


def _are_sets(images: Any) -> TypeGuard[Sequence[ImageSet]]:
    return isinstance(images, list | tuple) and bool(images) and all(isinstance(part, ImageSet) for part in images)
