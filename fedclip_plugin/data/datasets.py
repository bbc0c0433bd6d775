"""Labelled images from Python: lists of files, and datasets that yield an image and a label."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from PIL import Image

from fedclip_edge.files import write_file
from fedclip_edge.images import read_rgb
from fedclip_edge.sample_range import SampleRange
from fedclip_plugin.data.image_set import ImageSet
from fedclip_plugin.data.read_image import IMAGE_SUFFIXES
from fedclip_plugin.errors import DataError

Labelled: TypeAlias = "Sequence[tuple[str | Path, str]] | Iterable[Any]"
"""A list of (path, label), or a dataset that yields (image, label) or a dictionary with both."""

logger = logging.getLogger(__name__)

_ABSENT: Any = object()
_IMAGE_KEYS, _LABEL_KEYS = ("image", "img"), ("label", "labels", "fine_label")

File = tuple[Path, str]
"""An image file, its path absolute, and its label."""


def labelled_files(
    source: Labelled,
    name: str,
    cache: Path,
    classes: Sequence[str] | None = None,
    sample_range: SampleRange | None = None,
) -> tuple[list[File], tuple[str, ...] | None]:
    """Return the image files of a list or dataset with their labels, and the dataset's own order of classes.

    Images in memory are written once as PNG files, named after their pixels, so that they are encoded once, and a
    recipe can name them.

    Parameters
    ----------
    source
        A list of ``(path, label)``; or a map-style or iterable dataset of ``(image, label)`` or of dictionaries with
        ``image`` and ``label`` (Hugging Face ``datasets``, torchvision, torch). An image is a path, a PIL image, an
        encoded file's bytes or an array uint8 [H, W, 3]; a label is text, or a number with names beside it: the
        dataset's ``classes``, its ``features["label"].names``, or ``classes``.
    name
        The silo, for messages.
    cache
        Where images in memory are written.
    classes
        Names of numbered labels where the dataset has none.
    sample_range
        What is black and white in samples of more than 8 bits of images in memory.

    Returns
    -------
    rows, classes
        None for the classes where labels are text.

    Raises
    ------
    DataError
        An item is no image with a label, or a label has no name; names the item.
    """
    names = _class_names(source)
    labels: dict[Path, str] = {}
    numbered, count = False, 0
    for index, item in enumerate(_items(source, name)):
        where = f"{name}, item {index}"
        image, label = _pair(item, where)
        if not isinstance(label, str):
            numbered = True
            label = _named(label, names or classes, where)
        elif label != label.strip() or not label or not label.isprintable():
            raise DataError(f"{where} has the label {label!r}; a label has no line break, and no space around it")
        file = _file(image, cache, where, sample_range)
        if labels.setdefault(file, label) != label:
            raise DataError(f"{where} has the label {label!r}; the same image has {labels[file]!r} before: keep one")
        count += 1
    if not labels:
        raise DataError(f"{name}: the list or dataset holds no image")
    if again := count - len(labels):
        logger.warning("%s: %d images are there before, equal to the last pixel, and left out", name, again)
    return list(labels.items()), tuple(names) if numbered and names else None


def dataset_images(
    source: Labelled, name: str, classes: Sequence[str], cache: Path, sample_range: SampleRange | None = None
) -> ImageSet:
    """Return a list or dataset as a set of image files whose labels are indices into ``classes``; errors as above."""
    rows, _ = labelled_files(source, name, cache, classes, sample_range)
    order = {label: index for index, label in enumerate(classes)}
    if unknown := sorted({label for _, label in rows} - order.keys()):
        raise DataError(f"{name}: label {unknown[0]!r} is not one of the classes: {', '.join(classes)}")
    labels = np.asarray([order[label] for _, label in rows], dtype=np.int64)
    return ImageSet(name, Path("/"), tuple(classes), tuple(str(path) for path, _ in rows), labels)


def _items(source: Any, name: str) -> Iterator[Any]:
    if isinstance(source, Mapping) or hasattr(source, "iloc"):
        raise DataError(f"{name} is a {type(source).__name__}; give one split of it, or a list of (path, label)")
    if hasattr(source, "__len__") and hasattr(source, "__getitem__"):
        return (source[index] for index in range(len(source)))  # torch's map-style datasets may have no iterator
    if not isinstance(source, Iterable):
        raise DataError(f"{name} is a {type(source).__name__}; give a folder, a list of (path, label), or a dataset")
    return iter(source)


def _class_names(source: Any) -> list[str] | None:
    """Return the names of numbered labels that a dataset has: torchvision's, Hugging Face's, or a subset's parent's."""
    features = getattr(source, "features", None)
    if isinstance(features, Mapping):
        found = next((features[key] for key in _LABEL_KEYS if key in features), None)
        names = getattr(found, "names", None)
    else:
        names = getattr(source, "classes", None)
    if names is not None and not isinstance(names, str | Mapping) and len(names):
        return [str(name) for name in names]
    inner = getattr(source, "dataset", None)
    return None if inner is None or inner is source else _class_names(inner)


def _pair(item: Any, where: str) -> tuple[Any, Any]:
    if isinstance(item, Mapping):
        image = next((item[key] for key in _IMAGE_KEYS if key in item), _ABSENT)
        label = next((item[key] for key in _LABEL_KEYS if key in item), _ABSENT)
        if image is _ABSENT or label is _ABSENT:
            raise DataError(
                f"{where} has the columns {', '.join(map(str, item))}; one of {', '.join(_IMAGE_KEYS)} and one of "
                f"{', '.join(_LABEL_KEYS)} are needed: rename its columns"
            )
        return image, label
    if isinstance(item, Sequence) and not isinstance(item, str | bytes) and len(item) == 2:
        return item[0], item[1]
    raise DataError(f"{where} is a {type(item).__name__}; a pair (image, label) is needed")


def _named(label: Any, names: Sequence[str] | None, where: str) -> str:
    try:
        plain = label.item() if hasattr(label, "item") else label
        number = int(plain)
        if isinstance(plain, bool) or number != plain:
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        raise DataError(f"{where} has the label {label!r}; a label is text, or a whole number with a name") from None
    if names is None:
        raise DataError(f"{where} has the label {number}, which has no name; give classes=[...], one name a number")
    if not 0 <= number < len(names):
        raise DataError(f"{where} has the label {number}, and there are {len(names)} classes, counted from 0")
    return names[number]


def _file(image: Any, cache: Path, where: str, sample_range: SampleRange | None) -> Path:
    """Return the file of an image; one in memory is written as PNG under a name made of its pixels."""
    if isinstance(image, Mapping) and (image.get("bytes") or image.get("path")):  # Hugging Face, decode=False
        image = image.get("bytes") or image["path"]
    if isinstance(image, str | Path):
        if Path(image).suffix.lower() not in IMAGE_SUFFIXES:
            raise DataError(f"{where}: {image} is no image file; images end in {', '.join(IMAGE_SUFFIXES)}")
        if "\0" in str(image):
            raise DataError(f"{where} names a file with a NUL character in it, {str(image)!r}; no file has one")
        return Path(image).absolute()
    if type(image).__module__.partition(".")[0] == "torch":
        raise DataError(
            f"{where} is a tensor {list(image.shape)}; give the dataset without transforms, so that it gives PIL images"
        )
    pixels = read_rgb(image, sample_range=sample_range)
    digest = hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest()
    path = (cache / digest[:2] / f"{digest[2:34]}.png").absolute()
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, _png(pixels))
    return path


def _png(pixels: Any) -> bytes:
    stream = BytesIO()
    Image.fromarray(pixels).save(stream, format="PNG", compress_level=1)
    return stream.getvalue()
