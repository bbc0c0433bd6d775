"""Labelled images for a device: a folder of class folders, or pairs of an image and its label."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

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
        The folder is missing or holds no image, or a label is not one of ``labels``; names it.
    """
    order = {label: index for index, label in enumerate(labels)}
    count = 0
    for image, label in _in_folder(Path(images)) if isinstance(images, str | Path) else images:
        if label not in order:
            raise ExportError(f"label {label!r} is none of the bundle's: {', '.join(labels)}")
        count += 1
        yield image, order[label]
    if not count:
        given = images if isinstance(images, str | Path) else "what is given"
        raise ExportError(f"there is no labelled image in {given}")


def _in_folder(folder: Path) -> Iterator[Labelled]:
    if not folder.is_dir():
        raise ExportError(f"{folder} is no folder; give one with a folder of images for each label, or pairs")
    for place in sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")):
        for file in sorted(place.iterdir()):
            if file.suffix.lower() in IMAGE_SUFFIXES and not file.name.startswith("."):
                yield file, place.name
