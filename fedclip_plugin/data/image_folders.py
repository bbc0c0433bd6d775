"""Turn a folder ``root/<class>/<image>`` into an `ImageSet`; no image is opened."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fedclip_edge.terminal import printable
from fedclip_plugin.data.image_set import ImageSet
from fedclip_plugin.data.names import require_names, twins
from fedclip_plugin.data.read_image import IMAGE_SUFFIXES, suffix_of
from fedclip_plugin.data.splits import look_like_splits, part_named
from fedclip_plugin.errors import DataError
from fedclip_plugin.recipe.faults import did_you_mean, listed
from fedclip_plugin.recipe.rules.data import LIST_SUFFIXES

_JUNK = frozenset({"thumbs.db", "desktop.ini", "icon\r", "__macosx", "@eadir", "$recycle.bin", "lost+found"})


def list_domains(root: Path) -> tuple[str, ...]:
    """Return the names of the sub-folders of `root`, one a domain, silo or class, sorted by code point.

    Hidden ones and the operating systems' own are left out. A name that cannot be used and a link that leads nowhere
    are DataErrors, besides those of `list_entries`.
    """
    names, loose = list_entries(root)
    require_names(names, root)
    for fault in broken_links(root, loose):
        raise DataError(fault)
    return tuple(names)


def list_entries(folder: Path) -> tuple[list[str], list[str]]:
    """Return the names of the sub-folders and of the files of `folder`, each sorted by code point.

    Links are followed; a link that leads nowhere, or in a circle, counts as a file. Hidden names (a leading dot) and
    what operating systems leave behind (``Thumbs.db``, ``desktop.ini``, ``__MACOSX`` ...) are left out.

    Raises
    ------
    DataError
        `folder` is missing, is not a folder, or cannot be read.
    """
    folders: list[str] = []
    files: list[str] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if not entry.name.startswith(".") and entry.name.lower() not in _JUNK:
                    (folders if _is_folder(entry) else files).append(entry.name)
    except FileNotFoundError as error:
        raise DataError(
            f"folder {printable(str(folder))} does not exist; check the path (in a recipe: fedclip_args.data_root)"
        ) from error
    except NotADirectoryError as error:
        raise DataError(
            f"{printable(str(folder))} is a file; a folder is needed (root/<class>/<image>), or a list of images "
            f"({', '.join(LIST_SUFFIXES)})"
        ) from error
    except OSError as error:
        raise DataError(f"cannot list folder {printable(str(folder))}: {error.strerror}") from error
    return sorted(folders), sorted(files)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link in a circle, or into a folder that cannot be searched: who reads it says so
        return False


def broken_links(root: Path, loose: Sequence[str]) -> list[str]:
    """Say which files in a folder of folders are links that should lead to a folder, and lead nowhere.

    `loose` are the names of the files in it; one with a suffix is taken for a link to a file.
    """
    paths = [root / name for name in loose if not suffix_of(name)]
    return [
        f"{printable(str(path))} is a link to {printable(str(path.readlink()))}, which is not there, so a folder is "
        "missing; bring back what it leads to, or remove the link"
        for path in paths
        if path.is_symlink() and not os.path.exists(path)  # noqa: PTH110 (Path.exists raises for a link in a circle)
    ]


def list_class(folder: Path) -> tuple[list[str], list[str], list[str]]:
    """Return what is in a class folder, sorted by code point: folders, images, other files.

    Folders should not be there. Whatever is named like an image counts as one, be it a folder.
    """
    folders, files = list_entries(folder)
    images = [name for name in (*folders, *files) if is_image_name(name)]
    return (
        [name for name in folders if not is_image_name(name)],
        sorted(images),
        [name for name in files if not is_image_name(name)],
    )


def find_layout(root: Path) -> str:
    """Find out how a folder is laid out: ``domains`` when at least half of its folders hold folders, else ``classes``.

    Where those folders are named as splits are (`look_like_splits`), it is ``splits``, though they could be domains. A
    folder that is missing or holds no folder is a DataError.
    """
    folders, loose = list_entries(root)
    if not folders:
        raise DataError(no_class_folders(root, root.resolve().name, loose))
    deep = sum(bool(list_entries(root / folder)[0]) for folder in folders)
    if 2 * deep < len(folders):
        return "classes"
    return "splits" if look_like_splits(folders) else "domains"


def is_image_name(name: str) -> bool:
    """Return whether a file's suffix, in any case, is one of `IMAGE_SUFFIXES`."""
    return suffix_of(name) in IMAGE_SUFFIXES


def find_images(folder: Path) -> list[Path]:
    """Return what is named like an image in a folder and the folders below it, sorted.

    Links to folders are not followed; hidden files and what operating systems leave behind are left out. Errors as
    `list_entries`, for any folder below.
    """
    folders, images, _ = list_class(folder)
    below = [folder / name for name in folders]
    deeper = [path for place in below if not place.is_symlink() for path in find_images(place)]
    return sorted([*(folder / name for name in images), *deeper])


def scan_folder(root: Path, name: str, classes: Sequence[str] | None = None) -> ImageSet:
    """List the images of ``root/<class>/<image>``.

    There are two classes or more, each a folder; lists of labels are for `fedclip_plugin.data.lists`. Class folders are
    flat: a folder inside one is an error, since its images would be left out unseen.

    Parameters
    ----------
    name
        The silo or domain, for messages and for the result.
    classes
        Class names in label order: every folder must be one of them, and some may be absent. None: the
        classes are the folders, sorted, and none of them may be empty.

    Raises
    ------
    DataError
        `root` is missing, not a folder, or without class folders; a folder's name cannot be used or is not in
        `classes`; there are fewer than two classes; a class folder holds a folder; a class folder is empty (without
        `classes`); there is no image at all.
    """
    found, loose = list_entries(root)
    for fault in broken_links(root, loose):
        raise DataError(f"{name}: {fault}")
    if not found:
        raise DataError(no_class_folders(root, name, loose))
    require_names(found, root)
    names = tuple(found if classes is None else classes)
    _check_known(found, names, root, name)
    files: list[str] = []
    labels: list[int] = []
    ignored = list(loose)
    for class_name in found:
        images, others = _scan_class(root, class_name, name)
        if not images and classes is None:
            raise DataError(_empty_class(root / class_name, name, others))
        files += [f"{class_name}/{image}" for image in images]
        labels += [names.index(class_name)] * len(images)
        ignored += [f"{class_name}/{other}" for other in others]
    if classes is None and len(names) < 2:
        raise DataError(f"{name}: {one_class(names, root)}")
    if not files:
        raise DataError(f"{name}: no image under {root}; images end in {', '.join(IMAGE_SUFFIXES)}")
    return ImageSet(name, root, names, tuple(files), np.asarray(labels, dtype=np.int64), tuple(ignored))


def _scan_class(root: Path, class_name: str, name: str) -> tuple[list[str], list[str]]:
    folders, images, others = list_class(root / class_name)
    if folders:
        layout = "splits" if part_named(class_name) else "domains"
        raise DataError(
            f"{name}: class folder {root / class_name} holds folder {folders[0]!r} ({len(folders)} in all), "
            "and images lie directly in their class folder. Move them up",
            in_recipe=f", or, if {class_name!r} is one of several {layout}, set fedclip_args.data_layout: {layout}",
        )
    return images, others


def _check_known(found: Sequence[str], classes: Sequence[str], root: Path, name: str) -> None:
    extra = [folder for folder in found if folder not in set(classes)]
    if not extra:
        return
    hint = did_you_mean(extra[0], classes)
    if twins([extra[0], *classes]):
        hint = f" (one reads the same, and Unicode spells it differently: the folder's name is {extra[0]!a})"
    raise DataError(
        f"{name}: folder {extra[0]!r} in {root} is not one of the classes{hint}. "
        f"Not in the list: {listed(extra, 10)}. In the list: {listed(classes, 10)}. "
        "Rename or remove the folder",
        in_recipe=", or add it to fedclip_args.classes",
    )


def no_class_folders(root: Path, name: str, loose: Sequence[str]) -> str:
    """Say what a folder without class folders lacks; `loose` are the names of the files in it."""
    images = [file for file in loose if is_image_name(file)]
    if images:
        return (
            f"{name}: {len(images)} images (such as {images[0]}) lie directly in {root}, without class "
            "folders; put each image into a folder named after its class (root/<class>/<image>)"
        )
    return f"{name}: folder {root} has no class folders; images are expected as root/<class>/<image>"


def one_class(classes: Sequence[str], root: Path) -> str:
    """Say what a folder with fewer than two classes lacks."""
    return (
        f"{printable(str(root))} has one class folder only, {', '.join(map(repr, classes))}, and a classifier tells "
        "two classes or more apart. Put each image into a folder named after its class (root/<class>/<image>), or "
        "write a list of files and labels (.csv) and name it: fedclip check LIST.csv, fedclip_args.data_layout: list"
    )


def _empty_class(folder: Path, name: str, others: Sequence[str]) -> str:
    beside = f" (but {len(others)} other files, such as {others[0]})" if others else ""
    return (
        f"{name}: class folder {folder} holds no image{beside}. Add images ({', '.join(IMAGE_SUFFIXES)}), "
        "remove the folder, or list all classes in fedclip_args.classes: then a silo may lack some"
    )
