"""The page of a study: the numbers of its figures, and what is missing of it."""

import shutil
from statistics import fmean

import numpy as np
import pytest

from fedclip_plugin.cli.main import main
from fedclip_plugin.errors import RunFolderError
from fedclip_plugin.report.study.study_answers import answers_section
from fedclip_plugin.report.study.study_page import study_page
from fedclip_plugin.report.study.study_pictures import bars, costs, differences, mean_curve
from fedclip_plugin.runs import SavedAdapter, save_adapter
from fedclip_plugin.study import Plan, ResultsFolder, StudyResults
from fedclip_plugin.study.tables.accuracy_rows import accuracy_rows
from tests.support.page_reader import Reader
from tests.support.study_samples import IMAGES, count, sample_results

TARGETS = ["photo", "sketch"]
SMALL = {"targets": TARGETS, "seeds": [0, 1]}
TITLES = ["FedCLIP (paper's settings)", "FedCLIP", "CLIP-Adapter, no federation"]


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    place = tmp_path_factory.mktemp("study") / "results"
    return sample_results(place, **SMALL), ResultsFolder(place)


@pytest.fixture
def copy(sample, tmp_path):
    """A results folder of the sample's that a test may damage."""
    shutil.copytree(sample[1].path, tmp_path / "results")
    return ResultsFolder(tmp_path / "results")


def read(folder):
    return StudyResults.read(Plan(folder.study()), folder)


def section(page, title):
    return next(part for part in page.sections if part.title == title)


def test_the_page_of_a_study_is_whole_and_needs_nothing_else(copy, capsys):
    assert main(["report", "--study", str(copy.path)]) == 0
    place = copy.path / "report"
    assert str(place / "index.html") in capsys.readouterr().out
    text = (place / "index.html").read_text(encoding="utf-8")
    found = Reader(text)
    names = {file.stem for file in place.glob("*.svg")}
    assert names == {file.stem for file in place.glob("*.png")}
    assert names >= {"generalization_bars", "personalization_differences", "accuracy_by_cost", "reliability_sketch"}
    assert len(found.images) == len(names)
    assert all(source.startswith("data:") and alt for source, alt in found.images)
    assert found.links == [f"#{name}" for name in found.ids]
    assert "incomplete" not in text
    assert "+-" not in text
    for title in TITLES:
        assert title.replace("'", "&#39;") in text


@pytest.mark.usefixtures("unsettled")
def test_bars_show_means_and_deviations_of_every_case_beside_zero_shot(sample):
    findings, _ = sample
    rows = accuracy_rows(findings, "generalization")
    *targets, mean = bars(findings, rows, "generalization").figure.axes
    assert [axes.get_title(loc="left") for axes in (*targets, mean)] == [*TARGETS, "mean"]
    for name, axes in zip(TARGETS, targets, strict=True):
        widths = [bar.get_width() for bar in axes.patches]
        assert widths == pytest.approx([100 * row.selected.domains[name].mean for row in rows])
        whiskers = [lines.get_segments()[0][:, 0] for lines in axes.collections]
        spreads = [100 * row.selected.domains[name].deviation for row in rows]
        assert [np.ptp(ends) / 2 for ends in whiskers] == pytest.approx(spreads)
        assert axes.get_lines()[-1].get_xdata()[0] == pytest.approx(100 * rows[0].zero_shot.domains[name].mean)
    assert [bar.get_width() for bar in mean.patches] == pytest.approx([100 * row.selected.mean.mean for row in rows])


@pytest.mark.parametrize("kind", ["generalization", "personalization"])
@pytest.mark.usefixtures("unsettled")
def test_differences_are_those_of_the_tables(sample, kind):
    findings, _ = sample
    rows = accuracy_rows(findings, kind)
    panels = [one for one in differences(findings, rows, kind).figure.axes if one.axison]
    axes = panels[-1]
    ends = [line.get_xdata() for line in axes.get_lines()[1::2]]
    marks = [line.get_xdata()[0] for line in axes.get_lines()[2::2]]
    assert [tuple(one) for one in ends] == [
        pytest.approx((100 * row.difference.low, 100 * row.difference.high)) for row in rows
    ]
    assert marks == pytest.approx([100 * row.difference.mean for row in rows])
    hollow = [line.get_markerfacecolor() == "white" for line in axes.get_lines()[2::2]]
    assert hollow == [row.difference.verdict == "no difference" for row in rows]


@pytest.mark.usefixtures("unsettled")
def test_a_curve_is_the_mean_over_targets_with_the_deviation_over_seeds(sample):
    findings, _ = sample
    curve = mean_curve(findings, "fedclip")
    by_seed = {
        seed: np.mean([one.curve.target for one in findings.of_case("fedclip") if one.seed == seed], axis=0)
        for seed in (0, 1)
    }
    np.testing.assert_allclose(curve.accuracy, (by_seed[0] + by_seed[1]) / 2)
    np.testing.assert_allclose(curve.spread, np.abs(by_seed[0] - by_seed[1]) / np.sqrt(2))
    assert curve.zero_shot == pytest.approx(fmean(one.target_accuracy.zero_shot for one in findings.of_case("fedclip")))


@pytest.mark.usefixtures("unsettled")
def test_a_point_is_what_a_case_cost_until_its_selected_round(sample):
    findings, _ = sample
    left, right = costs(findings, accuracy_rows(findings, "generalization")).figure.axes
    results = findings.of_case("fedclip")
    spent = fmean(one.curve.bytes[one.selected_round] for one in results)
    assert left.get_lines()[1].get_xdata()[0] == pytest.approx(spent)
    seconds = fmean(one.costs.seconds_to_selected for one in results)
    assert right.get_lines()[1].get_xdata()[0] == pytest.approx(seconds)


@pytest.mark.usefixtures("unsettled")
def test_answers_are_those_of_the_best_case_with_the_names_of_its_classes(copy):
    findings = read(copy)
    pictures = answers_section(findings, copy).pictures
    assert [one.name for one in pictures] == [
        f"{what}_{name}" for name in TARGETS for what in ("confusion", "reliability")
    ]
    assert pictures[0].figure.axes[0].get_yticklabels()[0].get_text() == "class 1"
    zero_shot, best = pictures[0].figure.axes
    assert zero_shot.get_title(loc="left") == "zero-shot CLIP"
    assert best.get_title(loc="left") == "FedCLIP"
    result = next(one for one in findings.of_case("fedclip") if (one.target, one.seed) == ("photo", 0))
    diagonal = sum(int(text.get_text()) for text in best.texts if len(set(text.get_position())) == 1)
    assert diagonal / IMAGES == pytest.approx(result.target_accuracy.selected)

    names = ("dog", "elephant", "giraffe", "guitar", "horse", "house", "person")
    text, cell = np.eye(7, dtype=np.float32), findings.plan.cell("fedclip", "photo", 0, result.point)
    adapter = SavedAdapter("fedclip", 7, "clip-tiny", "f", "fp32", 1.0, names, "{}", 1, "d", text, {})
    place = copy.run_folder(cell) / "adapters"
    place.mkdir(parents=True)
    save_adapter(place / "best", adapter)
    named = answers_section(findings, copy).pictures[0].figure.axes[0]
    assert [label.get_text() for label in named.get_yticklabels()] == list(names)


@pytest.mark.usefixtures("unsettled")
def test_an_incomplete_study_never_looks_complete(copy):
    findings = read(copy)
    for result in findings.results.values():
        if result.case == "clip_adapter" or (result.case == "fedclip" and result.target == "sketch" and result.seed):
            copy.cell_file(findings.plan.cell(result.case, result.target, result.seed, result.point)).unlink()
    count(copy, read(copy))
    page = study_page(copy)
    assert page.title == "Study sample (incomplete)"
    found, total = len(read(copy).results), findings.plan.total()
    summary = section(page, "Summary")
    assert f"{found} of {total} cells" in summary.notes[0]
    progress = {row[0]: row[1:] for row in summary.tables[0].rows}
    assert progress == {TITLES[0]: ["2 of 2"] * 2, TITLES[1]: ["3 of 3", "2 of 3"], TITLES[2]: ["0 of 2"] * 2}
    axes = section(page, "Generalization").pictures[0].figure.axes[0]
    assert "no result yet" in [text.get_text() for text in axes.texts]
    assert "incomplete" in section(page, "Generalization").text[0]
    assert "Not shown yet" in section(page, "Answers on the targets").notes[0]
    assert ("cells with a result", f"{found} of {total}") in page.facts


@pytest.mark.usefixtures("unsettled")
def test_of_a_study_without_a_whole_case_only_what_is_known_is_shown(copy):
    findings = read(copy)
    for result in findings.results.values():
        if result.target == "sketch" or result.case != "fedclip":
            copy.cell_file(findings.plan.cell(result.case, result.target, result.seed, result.point)).unlink()
    count(copy, read(copy))
    page = study_page(copy)
    assert section(page, "Accuracy by round").notes == section(page, "Costs").notes
    assert "no case has run on every target" in section(page, "Costs").notes[0]
    photo, mean = section(page, "Generalization").pictures[0].figure.axes
    assert len(photo.patches) == 1
    assert len(mean.patches) == 0


@pytest.mark.usefixtures("unsettled")
def test_a_damaged_cell_is_told(copy):
    findings = read(copy)
    file = copy.cell_file(findings.plan.cell("fedclip_paper", "photo", 0, 0))
    file.write_text("{}", encoding="utf-8")
    notes = section(study_page(copy), "Summary").notes
    assert "not complete" in notes[0]
    assert str(file) in notes[1]
    assert "damaged" in notes[1]


@pytest.mark.usefixtures("unsettled")
def test_a_study_without_targets_is_about_the_silos_own_images(tmp_path):
    place = tmp_path / "results"
    changes = {"targets": None, "seeds": [0]}
    own = {"fedclip_args.images_per_class": 20, "train_args.comm_round": 12, "train_args.client_num_in_total": 4}
    sample_results(place, **changes, set={**own, "train_args.client_num_per_round": 4})
    page = study_page(ResultsFolder(place))
    assert "Generalization" not in [part.title for part in page.sections]
    assert "holds no domain out" in section(page, "Answers on the targets").notes[0]
    assert section(page, "Accuracy by round").pictures


def test_a_folder_without_a_study_or_a_result_is_refused(copy, tmp_path, capsys):
    assert main(["report", "--study", str(tmp_path)]) == 2
    assert "holds no study.yaml" in capsys.readouterr().err
    shutil.rmtree(copy.path / "cells")
    with pytest.raises(RunFolderError, match=r"holds no result yet of \d+ cells"):
        study_page(copy)
