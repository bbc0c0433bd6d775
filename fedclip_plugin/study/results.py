"""The results folder of a study.

::

    study.yaml                                            resolved, with versions and code revision
    cells/<case>/<target>/seed_<s>_point_<p>.json         one small file a cell
    cells/...started, cells/...failed                     see attempts.py
    .lock, .launch.lock                                   held by the one job that may work here, and by its launcher
    runs/<case>/<target>/seed_<s>_point_<p>/              the cell's run folder
"""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from fedclip_plugin.errors import RunFolderError
from fedclip_plugin.recipe import Study, load_study, study_changes
from fedclip_plugin.recipe.yaml_reader import read_yaml
from fedclip_plugin.runs.atomic import sweep, write_file
from fedclip_plugin.runs.job_folder import JobFolder
from fedclip_plugin.runs.provenance import code_revision, versions
from fedclip_plugin.runs.writing import writing
from fedclip_plugin.study.attempts import Attempts
from fedclip_plugin.study.cell_result import CellResult
from fedclip_plugin.study.plan import Cell


class ResultsFolder(JobFolder):
    """Reads and writes the results of a study's cells.

    Parameters
    ----------
    path
        Such as ``runs/studies/miniature``.

    Attributes
    ----------
    attempts
        Notes of cells that were begun.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, "results folder", "--out")
        self.study_file = path / "study.yaml"
        self.attempts = Attempts(path / "cells")

    def cell_file(self, cell: Cell) -> Path:
        """Return where the result of a cell is kept."""
        return self.path / "cells" / f"{cell.name}.json"

    def run_folder(self, cell: Cell) -> Path:
        """Return the run folder of a cell."""
        return self.path / "runs" / cell.name

    def begin(self, study: Study) -> None:
        """Write ``study.yaml``, and remove what a killed job left half-written.

        Raises
        ------
        RunFolderError
            When the folder cannot be written, or holds another study, or this one with other settings.
        """
        if self.study_file.exists():
            self._refuse_another(study)
        told = ", ".join(f"{name} {version}" for name, version in versions().items())
        header = f"# The resolved study; it loads again as it is.\n# code: {code_revision()}\n# versions: {told}\n\n"
        with writing(self._what):
            self.path.mkdir(parents=True, exist_ok=True)
            for folder in (self.path, *(place for place in self.path.glob("cells/**/") if place.is_dir())):
                sweep(folder)
            write_file(self.study_file, (header + study.to_yaml()).encode())

    def study(self) -> Study:
        """Read the study that the results belong to.

        Raises
        ------
        RunFolderError
            When there is none.
        RecipeError
            When ``study.yaml`` was altered and is no valid study.
        """
        if not self.study_file.is_file():
            raise RunFolderError(f"{self.path} holds no study.yaml: it is no results folder of 'fedclip study'")
        return load_study(self.study_file)

    def save(self, cell: Cell, result: CellResult) -> None:
        """Write a cell's result so that a reader sees all of it or nothing.

        Raises
        ------
        RunFolderError
            When the disk is full or the folder cannot be written.
        """
        file = self.cell_file(cell)
        with writing(file):
            file.parent.mkdir(parents=True, exist_ok=True)
            write_file(file, (result.model_dump_json(exclude_none=False) + "\n").encode())

    def load(self, cell: Cell) -> CellResult | None:
        """Read a cell's result, None when there is none.

        Raises
        ------
        RunFolderError
            When the file is damaged or unreadable, or was made by another recipe; the cell is to be run anew.
        """
        file = self.cell_file(cell)
        if not file.is_file():
            return None
        try:
            result = CellResult.model_validate_json(file.read_bytes())
        except OSError as error:
            raise RunFolderError(
                f"{file} cannot be read ({error.strerror}): the cell is run anew unless you make it readable"
            ) from error
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"])) or "the file"
            raise RunFolderError(f"{file} is damaged ({place}: {first['msg']}): the cell is run anew") from error
        if result.digest != cell.digest:
            raise RunFolderError(f"{file} was made by another recipe: the cell is run anew")
        return result

    def _refuse_another(self, study: Study) -> None:
        there, _ = read_yaml(self.study_file)
        if there.get("study") != study.study:
            named = there.get("study")
            raise RunFolderError(f"{self.path} holds the study {named}, not {study.study}: name another with --out")
        if changes := study_changes(there, study):
            told = "".join(f"\n  {change}" for change in changes)
            raise RunFolderError(
                f"{self.path} holds results of this study with other settings, which would be replaced; "
                f"name another folder with --out, or undo the change:{told}"
            )
