"""Labelled images to be scored: folders of classes or of domains, a list, or a dataset; and the classes they have."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fedclip_edge.arguments import as_path
from fedclip_edge.sample_range import SampleRange
from fedclip_plugin.data.datasets import Labelled, dataset_images
from fedclip_plugin.data.image_folders import find_layout, list_domains, list_entries, scan_folder
from fedclip_plugin.data.image_set import ImageSet
from fedclip_plugin.data.lists import Columns, ImageList, is_list
from fedclip_plugin.data.split_folders import scan_images
from fedclip_plugin.errors import DataError

_KEPT = Path(".fedclip/data/images")
"""Where images in memory are written."""

_PLACE = "the place of images"


def class_names(images: str | Path, columns: Columns | None = None) -> tuple[str, ...]:
    """Return the classes of labelled images, sorted.

    Parameters
    ----------
    images, columns
        As :func:`labelled_sets` takes them: folders or a list.

    Raises
    ------
    DataError
        When there are none.
    """
    place = as_path(images, _PLACE, DataError)
    if is_list(place):
        return ImageList.read(place, columns).labels()
    if find_layout(place) == "classes":
        return scan_folder(place, place.name).classes
    return tuple(sorted({name for part in list_domains(place) for name in list_entries(place / part)[0]}))


def labelled_sets(
    images: str | Path | Labelled,
    classes: Sequence[str],
    columns: Columns | None = None,
    data_root: str | Path | None = None,
    sample_range: SampleRange | None = None,
) -> list[ImageSet]:
    """List labelled images of known classes, in parts that are scored apart.

    Parameters
    ----------
    images
        ``<class>/<image>``, which is one part, ``<domain or split>/<class>/<image>``, or a list (``.csv`` ...), whose
        parts are its silos and splits, where there are such columns. Or ``(path, label)`` pairs or a dataset of images
        with labels: one part, called ``images``.
    classes
        The labels in order.
    columns, data_root
        Of a list: its columns (None: ``file`` and ``label``), and what its files are relative to (None: its folder).
    sample_range
        What is black and white in samples of more than 8 bits, of a dataset.

    Raises
    ------
    DataError
        When it has no class folders, or a class that is not among `classes`, or the list cannot be used.
    """
    if not isinstance(images, str | Path):
        return [dataset_images(images, "images", classes, _KEPT, sample_range)]
    place = as_path(images, _PLACE, DataError)
    if is_list(place):
        root = None if data_root is None else as_path(data_root, "data_root", DataError)
        return ImageList.read(place, columns, root).parts(classes)
    if find_layout(place) == "classes":
        return [scan_folder(place, place.name, classes)]
    return [scan_images(place / name, name, classes) for name in list_domains(place)]
