"""The results folder of a study.

::

    study.yaml                                            resolved, with versions and code revision
    cells/<case>/<target>/seed_<s>_point_<p>.json         one small file a cell
    cells/...started, cells/...failed                     see failures.py
    .lock, .launch.lock                                   held by the one job that may work here, and by its launcher
    joint/<case>.json                                     kinds of images in several cells together, for intervals
    runs/<case>/<target>/seed_<s>_point_<p>/              the cell's run folder
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from fedclip_edge.files import sweep, write_file
from fedclip_plugin.errors import RunFolderError
from fedclip_plugin.recipe.yaml_reader import read_yaml
from fedclip_plugin.runs.job_folder import JobFolder
from fedclip_plugin.runs.provenance import code_revision, versions
from fedclip_plugin.runs.writing import writing
from fedclip_plugin.study.definition import Study, load_study, study_changes
from fedclip_plugin.study.running.answer_counts import Kinds
from fedclip_plugin.study.running.cell_result import FORMAT, CellResult
from fedclip_plugin.study.running.failures import Failures
from fedclip_plugin.study.running.plan import Cell
from fedclip_plugin.study.running.study_messages import Question

_JOINT: TypeAdapter[list[tuple[Question, Kinds | None]]] = TypeAdapter(list[tuple[Question, Kinds | None]])


class ResultsFolder(JobFolder):
    """Reads and writes the results of a study's cells."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "results folder", "--out")
        self.study_file = path / "study.yaml"
        self.failures = Failures(path / "cells")

    def joint_file(self, case: str) -> Path:
        """Return where it is kept how many images are of each kind in several cells of a case together."""
        return self.path / "joint" / f"{case}.json"

    def cell_file(self, cell: Cell) -> Path:
        """Return where the result of a cell is kept."""
        return self.path / "cells" / f"{cell.name}.json"

    def run_folder(self, cell: Cell | CellResult) -> Path:
        """Return the run folder of a cell, or of a result."""
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
        """Read the study that the results belong to."""
        if not self.study_file.is_file():
            raise RunFolderError(f"{self.path} holds no study.yaml: it is no results folder of 'fedclip study'")
        return load_study(self.study_file)

    def save(self, cell: Cell, result: CellResult) -> None:
        """Write a cell's result so that a reader sees all of it or nothing."""
        self._write(self.cell_file(cell), result.model_dump_json(exclude_none=False) + "\n")

    def save_joint(self, case: str, joint: Mapping[Question, Kinds | None]) -> None:
        """Write the answers to all questions of a case, in place of those before."""
        self._write(self.joint_file(case), _JOINT.dump_json(sorted(joint.items(), key=repr)).decode() + "\n")

    def load_joint(self, case: str) -> dict[Question, Kinds | None]:
        """Read the answers to a case's questions; empty when there are none."""
        file = self.joint_file(case)
        if not file.is_file():
            return {}
        try:
            return dict(_JOINT.validate_json(file.read_bytes()))
        except (OSError, ValidationError) as error:
            raise RunFolderError(f"{file} cannot be used: remove it, and run the study again to count anew") from error

    def _write(self, file: Path, text: str) -> None:
        with writing(file):
            file.parent.mkdir(parents=True, exist_ok=True)
            write_file(file, text.encode())

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
            if first["loc"] == ("format_version",):
                raise RunFolderError(
                    f"{file} has format {str(first['input'])[:20]}, and this version of fedclip reads format {FORMAT}: "
                    "the cell is run anew; name another folder with --out to keep the file"
                ) from error
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
