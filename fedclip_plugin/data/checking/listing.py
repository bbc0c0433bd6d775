"""What a recipe for a folder or list of images needs to know of it; no image is opened."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedclip_edge.terminal import printable
from fedclip_plugin.data.checking.folder_report import WHOLE
from fedclip_plugin.data.checking.proposals import Proposal, proposals
from fedclip_plugin.data.checking.survey import class_problems, survey_images
from fedclip_plugin.data.image_folders import one_class
from fedclip_plugin.data.lists import Columns
from fedclip_plugin.data.names import require_names
from fedclip_plugin.errors import DataError
from fedclip_plugin.recipe.faults import did_you_mean, listed


@dataclass(frozen=True)
class FolderListing:
    """What lies in a folder or list, as far as names tell; as the attributes of `FolderReport`."""

    path: Path
    layout: str
    place: Mapping[str, Any]
    counts: dict[str, dict[str, int]]
    problems: tuple[str, ...]
    most_silos: int

    @property
    def classes(self) -> list[str]:
        """All class names of all domains, sorted."""
        return sorted({name for row in self.counts.values() for name in row})

    def proposal(self, target: str | None = None) -> Proposal:
        """Return the recipe that fits the folder, the first one of its kind.

        Parameters
        ----------
        target
            The domain to hold out; None: none is.

        Raises
        ------
        DataError
            When names or classes cannot be used, or no such domain can be held out.
        """
        require_names([*(self.counts if self.layout == "domains" else ()), *self.classes], self.path)
        if len(self.classes) < 2:
            raise DataError(one_class(self.classes, self.path))
        if target is not None:
            self._require_target(target)
        found = proposals(self.layout, self.place, self.counts, self.classes, self.most_silos, target)
        return next(each for each in found if each.keys["fedclip_args"].get("target_domain") == target)

    def _require_target(self, target: str) -> None:
        place = printable(str(self.path))
        if self.layout in ("classes", "splits") or list(self.counts) == [WHOLE]:
            raise DataError(f"{place} has no domains or silos, so none can be held out: leave --target out")
        if target not in self.counts:
            hint = did_you_mean(target, self.counts)
            raise DataError(f"{place} has no domain or silo {target!r}{hint}; it has {listed(self.counts)}")
        if len(self.counts) < 2:
            raise DataError(f"{place} holds {target!r} only, so no silo is left: leave --target out")


def list_images(path: Path, columns: Columns | None = None, root: Path | None = None) -> FolderListing:
    """Look through a folder or list without opening an image; arguments and errors as of `check_images`.

    That a domain or silo lacks classes is no problem here: a recipe can list them.
    """
    survey, place = survey_images(path, columns, root)
    problems = (*survey.problems, *class_problems(survey))
    return FolderListing(path, survey.layout, place, survey.counts(), problems, survey.silos_at_most)
