"""The part of a study's page that looks at the answers on each target: zero-shot CLIP beside the best case."""

from __future__ import annotations

from fedclip_plugin.errors import AdapterFileError
from fedclip_plugin.report.answer_pictures import confusion_picture, reliability_picture
from fedclip_plugin.report.page import Picture, Section
from fedclip_plugin.runs import RunFolder, load_adapter
from fedclip_plugin.study import CellResult, ResultsFolder, StudyResults
from fedclip_plugin.study.tables.headline_cases import best_case

TITLE = "Answers on the targets"
_NOT_YET = "Not shown yet: the best case is known when every case has run on every target."
_DIFFERENT = "Not shown: no case is called the best where cases have different clients."
_ZERO_SHOT = "zero-shot CLIP"


def answers_section(findings: StudyResults, folder: ResultsFolder) -> Section:
    """Return the section; what is missing is said in its place.

    Parameters
    ----------
    folder
        Where they are; class names are read from an adapter that was kept.
    """
    if not findings.plan.study.targets:
        return Section(TITLE, notes=["This study holds no domain out."])
    case = best_case(findings)
    if case is None:
        return Section(TITLE, notes=[_DIFFERENT if findings.complete() else _NOT_YET])
    first = findings.plan.study.seeds[0]
    chosen = [result for result in findings.of_case(case) if result.seed == first]
    title = findings.plan.study.cases[case].title
    text = f"{title} is the best case by mean source validation. Shown are its answers with seed {first}."
    return Section(TITLE, text=[text], pictures=[one for result in chosen for one in _pictures(title, result, folder)])


def _pictures(title: str, result: CellResult, folder: ResultsFolder) -> list[Picture]:
    assert result.drawn is not None, "this study holds domains out"
    target, sides = str(result.target), {_ZERO_SHOT: result.drawn.zero_shot, title: result.drawn.selected}
    classes = _classes(folder, result, max(side.classes() for side in sides.values()))
    matrices = {name: side.matrix(len(classes)) for name, side in sides.items()}
    return [
        confusion_picture(f"confusion_{target}", target, matrices, classes),
        reliability_picture(f"reliability_{target}", target, {name: own.reliability() for name, own in sides.items()}),
    ]


def _classes(folder: ResultsFolder, result: CellResult, count: int) -> tuple[str, ...]:
    """Return the names of the classes from the adapter that the cell left, or numbers where it is not there."""
    try:
        return load_adapter(RunFolder(folder.run_folder(result)).adapters / "best").classes
    except AdapterFileError:
        return tuple(f"class {number}" for number in range(1, count + 1))
