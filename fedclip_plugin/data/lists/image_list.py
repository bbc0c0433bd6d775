"""From the rows of a list to image sets: of a silo, of the target, or of all."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedclip_edge.terminal import printable
from fedclip_plugin.data.image_set import ImageSet
from fedclip_plugin.data.lists.list_file import Columns, Row, in_silo, read_rows
from fedclip_plugin.data.splits import PARTS, divided_groups
from fedclip_plugin.errors import DataError
from fedclip_plugin.recipe.faults import did_you_mean, listed, show

SHARED = "what one trains on, another is tested on: keep it in one, or give groups that differ names that differ"
"""What is to be said of groups that are in more than one silo."""


@dataclass(frozen=True)
class ImageList:
    """A list of images that has been read; no image is opened.

    Attributes
    ----------
    root
        Folder that the files are relative to; it may hold ``{silo}``.
    rows
        At least one, in the order of the list.
    """

    path: Path
    root: Path
    columns: Columns
    rows: tuple[Row, ...]

    @classmethod
    def read(cls, path: Path, columns: Columns | None = None, root: Path | None = None) -> ImageList:
        """Read a list, as :func:`~fedclip_plugin.data.lists.list_file.read_rows` does.

        Parameters
        ----------
        columns
            None: ``file`` and ``label``.
        root
            Folder that file names are relative to, perhaps with ``{silo}``; None: the list's own.
        """
        columns, root = columns or Columns(), path.parent if root is None else root
        return cls(path, root, columns, read_rows(path, columns, root))

    def silos(self) -> tuple[str, ...]:
        """Return the values of the silo column, sorted."""
        return tuple(sorted({row.silo for row in self.rows}))

    def labels(self) -> tuple[str, ...]:
        """Return the labels, sorted."""
        return tuple(sorted({row.label for row in self.rows}))

    def image_set(
        self, name: str, classes: Sequence[str] | None = None, silo: str | None = None, files_needed: bool = False
    ) -> ImageSet:
        """Return images in the order of the list.

        Parameters
        ----------
        name
            The silo, or the target, for messages and for the result.
        classes
            Class names in label order, some of which may be absent; None: the labels of these images, sorted.
        silo
            Whose images; None: all.
        files_needed
            Whether a file that is not there is an error now; else who reads it tells.

        Raises
        ------
        DataError
            The silo has no row, a label is not in `classes`, there are fewer than two labels in the whole list (without
            `classes`), or files are missing.
        """
        rows = self._rows_of(silo)
        if classes is None and len(self.labels()) < 2:
            raise DataError(f"{name}: {self.one_label()}")
        root = in_silo(self.root, silo or name)
        names = tuple(sorted({row.label for row in rows}) if classes is None else classes)
        self._require_known(rows, names, name)
        if files_needed and (fault := self.missing_files(name, silo)):
            raise DataError(fault, in_recipe=" (fedclip_args.data_root), or set fedclip_args.on_bad_image to skip")
        index = {label: number for number, label in enumerate(names)}
        return ImageSet(
            name,
            root,
            names,
            tuple(row.file for row in rows),
            np.array([index[row.label] for row in rows], dtype=np.int64),
            groups=_values(rows, "group") if self.columns.group else None,
            splits=_values(rows, "split") if self.columns.split else None,
            notes=tuple(self._shared_groups(name, silo)),
        )

    def parts(self, classes: Sequence[str]) -> list[ImageSet]:
        """Return one image set for each silo and split, where there are such columns; else one, named as the list is.

        Errors as for `image_set`.
        """
        if not (self.columns.silo or self.columns.split):
            return [self.image_set(self.path.stem, classes)]
        names = dict.fromkeys((row.silo, row.split) for row in self.rows)
        order = sorted(names, key=lambda name: (name[0], [*PARTS, ""].index(name[1])))
        return [
            replace(self, rows=tuple(row for row in self.rows if (row.silo, row.split) == name)).image_set(
                ", ".join(filter(None, name)), classes, name[0] or None
            )
            for name in order
        ]

    def missing_files(self, name: str, silo: str | None = None) -> str:
        """Say how many files of a silo, or of all, are not there; empty when none. `name` as for `image_set`."""
        rows, root = self._rows_of(silo), in_silo(self.root, silo or name)
        missing = [row for row in rows if not os.path.lexists(root / row.file)]
        if not missing:
            return ""
        first = missing[0]
        written = "; in this list names hold \\: write them with /" if "\\" in first.file else ""
        return (
            f"{name}: {len(missing)} of {len(rows)} files of list {printable(str(self.path))} do not exist, the first "
            f"in line {first.line}: {printable(str(root / first.file))}{written}. Correct the list, or the folder that "
            "its files are relative to"
        )

    def divided(self, by: str) -> list[tuple[str, tuple[str, ...]]]:
        """Return the groups that are in more than one ``silo`` or ``split``, and in which; none without the columns."""
        if not (self.columns.group and getattr(self.columns, by)):
            return []
        return list(divided_groups([row.group for row in self.rows], [getattr(row, by) for row in self.rows]))

    def one_label(self) -> str:
        """Say what a list with fewer than two labels lacks."""
        return (
            f"list {printable(str(self.path))} has one label only, {', '.join(map(show, self.labels()))} (column "
            f"{self.columns.label}), and a classifier tells two or more apart"
        )

    def _rows_of(self, silo: str | None) -> Sequence[Row]:
        rows = self.rows if silo is None else [row for row in self.rows if row.silo == silo]
        if not rows:
            hint = did_you_mean(silo, self.silos())
            raise DataError(
                f"no line of list {printable(str(self.path))} has {show(silo)} in column {self.columns.silo}{hint}; it "
                f"has: {listed(self.silos())}"
            )
        return rows

    def _require_known(self, rows: Sequence[Row], classes: Sequence[str], name: str) -> None:
        known = set(classes)
        extra = {row.label: row.line for row in reversed(rows) if row.label not in known}
        if not extra:
            return
        first = min(extra, key=lambda label: extra[label])
        hint = did_you_mean(first, classes)
        raise DataError(
            f"{name}: list {printable(str(self.path))}, line {extra[first]}: label {show(first)} is not one of the "
            f"classes{hint}. Not among them: {listed(sorted(extra), 10)}. The classes: {listed(classes, 10)}. Correct "
            "or remove the lines",
            in_recipe=", or add it to fedclip_args.classes",
        )

    def _shared_groups(self, name: str, silo: str | None) -> Iterator[str]:
        """Say which groups of a silo other silos have too."""
        if silo is None or self.columns.group is None:
            return
        own, shared = {row.group for row in self.rows if row.silo == silo}, dict[str, str]()
        for row in self.rows:
            if row.silo != silo and row.group in own:
                shared.setdefault(row.group, row.silo)
        if shared:
            group, other = next(iter(shared.items()))
            count = f"{len(shared)} groups" if len(shared) > 1 else "1 group"
            yield (
                f"{printable(name)}: {count} (column {self.columns.group}) also in other silos or the target, such as "
                f"{printable(group)} in {printable(other)}; {SHARED}"
            )


def _values(rows: Sequence[Row], what: str) -> NDArray[np.str_]:
    return np.array([getattr(row, what) for row in rows], dtype=np.str_)
