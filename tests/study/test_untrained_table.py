"""The table of round 0: by hand-made curves, which of the cases it has, and where all begin at zero-shot CLIP."""

import csv
from dataclasses import replace
from statistics import fmean, stdev

import pytest

from fedclip_plugin.study.tables.summary import summary
from fedclip_plugin.study.tables.untrained_table import untrained_rows, untrained_table
from tests.support.study_samples import sample_results

TARGETS = ("photo", "sketch")
OFFSETS = {("photo", 0): -0.02, ("photo", 1): -0.01, ("sketch", 0): -0.03, ("sketch", 1): 0.012}
OWN = {0: -0.015, 1: 0.005}


@pytest.fixture(scope="module")
def findings(tmp_path_factory):
    """Results of which all but those of CLIP-Adapter begin beside zero-shot CLIP by the offsets above."""
    found = sample_results(tmp_path_factory.mktemp("study") / "results", targets=list(TARGETS), seeds=[0, 1])
    return replace(found, results={name: _begin(result) for name, result in found.results.items()})


def _begin(result):
    away = result.case != "clip_adapter"
    test = result.source_mean("zero_shot") + away * OWN[result.seed]
    target = result.target_accuracy.zero_shot + away * OFFSETS[result.target, result.seed]
    curve = result.curve
    moved = {"test": (test, *curve.test[1:]), "target": (target, *curve.target[1:])}
    return result.model_copy(update={"curve": curve.model_copy(update=moved)})


def test_round_0_is_told_over_seeds_by_target_and_on_the_silos_own_images(findings):
    first, second = untrained_rows(findings)
    assert (first.case, second.case, first.seeds) == ("fedclip_paper", "fedclip", (0, 1))
    assert first.targets["photo"].mean == pytest.approx(-0.015)
    assert first.targets["sketch"].deviation == pytest.approx(stdev([-0.03, 0.012]))
    assert (first.mean.mean, first.mean.deviation) == (pytest.approx(-0.012), pytest.approx(stdev([-0.025, 0.001])))
    assert first.own.mean == pytest.approx(fmean(OWN.values()))
    lines = [line for line in csv.DictReader(summary(findings, "csv").splitlines()) if "round_0" in line["measure"]]
    assert {line["case"] for line in lines} == {"fedclip_paper", "fedclip"}
    assert [float(line["value"]) for line in lines[:4]] == pytest.approx([-0.015, -0.009, -0.012, -0.005])


def test_cases_with_equal_figures_share_a_row(findings):
    def equal(result):
        twin = result.case == "fedclip"
        name = result.name.replace("fedclip/", "fedclip_paper/").replace("point_1", "point_0")
        start = findings.results[name] if twin else result
        curve = result.curve.model_copy(
            update={
                side: (getattr(start.curve, side)[0], *getattr(result.curve, side)[1:]) for side in ("test", "target")
            }
        )
        accuracy = {"sources": start.sources, "target_accuracy": start.target_accuracy} if twin else {}
        return result.model_copy(update={"curve": curve, **accuracy})

    found = replace(findings, results={name: equal(result) for name, result in findings.results.items()})
    table = untrained_table(found)
    assert table.rows == [
        ["FedCLIP (paper's settings)", "-1.5 +- 0.7", "-0.9 +- 3.0", "-1.2 +- 1.8", "-0.5 +- 1.4", "2"]
    ]
    assert table.notes[-1] == "FedCLIP (paper's settings): the same figures for FedCLIP."
    assert table.to_text() in summary(found)


def test_where_all_begin_at_zero_shot_clip_there_is_no_table(findings):
    only = {name: result for name, result in findings.results.items() if result.case == "clip_adapter"}
    assert untrained_table(replace(findings, results=only)) is None
    assert untrained_table(replace(findings, results={})) is None


def test_while_a_target_is_missing_there_is_no_mean(findings):
    kept = {name: result for name, result in findings.results.items() if not name.startswith("fedclip_paper/sketch")}
    first, *_ = untrained_rows(replace(findings, results=kept))
    assert (set(first.targets), first.mean, first.own, first.seeds) == ({"photo"}, None, None, ())
