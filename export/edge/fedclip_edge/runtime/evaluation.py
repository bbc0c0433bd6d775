"""Labelled images for a device: a folder of class folders, or pairs of an image and its label."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from fedclip_edge.arguments import as_path
from fedclip_edge.errors import ExportError
from fedclip_edge.images import IMAGE_SUFFIXES, ImageLike

Labelled = tuple[ImageLike, str]
"""An image and its label."""


def labelled(images: str | Path | Iterable[Labelled], labels: Sequence[str]) -> Iterator[tuple[ImageLike, int]]:
    """Yield images with the index of their label.

    Parameters
    ----------
    images
        A folder ``<label>/<image>``, or pairs.
    labels
        All labels, in the order of the logits.

    Raises
    ------
    ExportError
        The folder is missing or holds no image, an item is no pair, or a label is not one of ``labels``; names it.
    """
    order = {label: index for index, label in enumerate(labels)}
    count = 0
    for image, label in _in_folder(images) if isinstance(images, str | Path) else _pairs(images):
        if label not in order:
            raise ExportError(f"label {label!r} is none of the bundle's: {', '.join(labels)}")
        count += 1
        yield image, order[label]
    if not count:
        given = images if isinstance(images, str | Path) else "what is given"
        raise ExportError(f"there is no labelled image in {given}")


def _pairs(items: Iterable[Labelled]) -> Iterator[Labelled]:
    if not isinstance(items, Iterable):
        raise ExportError(f"{type(items).__name__} where labelled images are taken; give a folder, or pairs")
    for index, item in enumerate(items):
        if not isinstance(item, tuple | list) or len(item) != 2 or not isinstance(item[1], str):
            raise ExportError(f"item {index} is no pair of an image and the text of its label; give (image, label)")
        yield item[0], item[1]


def _in_folder(given: str | Path) -> Iterator[Labelled]:
    folder = as_path(given, "the folder of images", ExportError)
    if not folder.is_dir():
        raise ExportError(f"{folder} is no folder; give one with a folder of images for each label, or pairs")
    for place in sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")):
        for file in sorted(place.iterdir()):
            if file.suffix.lower() in IMAGE_SUFFIXES and not file.name.startswith("."):
                yield file, place.name
