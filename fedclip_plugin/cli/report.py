"""``fedclip report``: a page of figures and tables, of a run or of a study."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fedclip_edge.arguments import path_argument
from fedclip_edge.files import sweep
from fedclip_edge.terminal import printable
from fedclip_plugin.errors import RunFolderError
from fedclip_plugin.recipe import load_recipe
from fedclip_plugin.report.page import Page
from fedclip_plugin.report.run.run_page import run_page
from fedclip_plugin.report.study.study_page import study_page
from fedclip_plugin.runs import RunFolder
from fedclip_plugin.runs.lock import FolderLock
from fedclip_plugin.runs.writing import writing
from fedclip_plugin.study import ResultsFolder

_SHOWN = 12
_INSTALL = "install one that has them, such as Noto Sans CJK, and write the report again"


def add(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    subject = parser.add_mutually_exclusive_group(required=True)
    subject.add_argument("run", nargs="?", type=path_argument, metavar="RUN", help="a run folder, such as runs/NAME")
    subject.add_argument("--study", type=path_argument, metavar="DIR", help="a study's results folder")


def act(options: argparse.Namespace) -> int:
    """Write ``report/index.html`` of a run or a study, with its figures as PNG and SVG; return the exit code.

    Raises
    ------
    FedClipError
        When there is no run, or the study's folder holds no result yet; when recipe or metrics are damaged, or the
        report cannot be written.
    """
    if options.study:
        results = ResultsFolder(options.study)
        results.study()
        with _alone(options.study):
            return _write(study_page(results), options.study)
    folder = RunFolder(options.run)
    if not folder.recipe.is_file():
        raise RunFolderError(f"{options.run} holds no recipe.yaml: give the folder of a run, such as runs/miniature")
    with _alone(options.run):
        return _write(run_page(load_recipe(folder.recipe), folder), options.run)


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Keep other reports out, which may be made while a job works in the folder, and remove what a killed one left."""
    with FolderLock(path / ".report.lock", f"the report of {path}").held():
        with writing(path / "report"):
            sweep(path, "report")
        yield


def _write(page: Page, path: Path) -> int:
    written = page.write(path / "report")
    for note in [f"{section.title}: {note}" for section in page.sections for note in section.notes]:
        print(printable(f"note: {note}"))
    if letters := page.missing_letters():
        told = " ".join(letters[:_SHOWN]) + (" ..." if len(letters) > _SHOWN else "")
        print(f"note: no font of this machine has {told}: the figures show boxes for them; {_INSTALL}")
    print(printable(str(written)))
    return 0
