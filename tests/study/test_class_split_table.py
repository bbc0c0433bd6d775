"""A study's table of base and new classes: means over targets, deviations over seeds, and none without a split."""

from dataclasses import replace

import pytest

from fedclip_plugin.report.study.study_page import _classes
from fedclip_plugin.runs.class_split_record import ClassCounts, ClassScores, ClassSplitRecord
from fedclip_plugin.study.tables.class_split_table import class_rows, class_split_table
from fedclip_plugin.study.tables.csv_text import to_csv
from fedclip_plugin.study.tables.summary import tables
from tests.support.study_samples import sample_results


def counts(base, new, every):
    return ClassCounts(base_images=100, new_images=100, base=base, new=new, all=every)


def scores(result, base):
    """Make up one adapter's: better by a point with each seed, and by two on sketch."""
    own = base + result.seed + 2 * (result.target == "sketch")
    sources = {name: counts(base, 60, 90) for name in result.sources}
    return ClassScores(round=3, sources=sources, target=counts(own, 50, 100))


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    findings = sample_results(tmp_path_factory.mktemp("split") / "results")

    def told(result):
        zero_shot = ClassScores(
            round=None, sources={name: counts(60, 60, 90) for name in result.sources}, target=counts(60, 60, 90)
        )
        record = ClassSplitRecord(
            base=("ant", "bee"),
            new=("cow", "dog"),
            zero_shot=zero_shot,
            adapters=(scores(result, 70), scores(result, 40)),
        )
        return result.model_copy(update={"class_split": record})

    return replace(findings, results={name: told(result) for name, result in findings.results.items()})


def test_rows_are_zero_shot_and_the_cases_with_means_over_targets(split):
    table = class_split_table(split)
    titles = [case.title for case in split.plan.study.cases.values()]
    assert [row[0] for row in table.rows] == ["zero-shot CLIP", *titles]
    zero_shot, first = (dict(zip(table.head, row, strict=True)) for row in table.rows[:2])
    assert [zero_shot[f"target, {name}"] for name in ("base", "new", "harmonic", "all")] == ["60.0"] * 3 + ["45.0"]
    assert zero_shot["own tests, base"] == "60.0 +- 0.0"
    assert first["target, base"] == "71.5 +- 1.0", "70 + 2 on one of four targets + the seed, 0 to 2"
    assert first["target, harmonic"] == "58.8 +- 0.3"
    assert (first["own tests, base"], first["own tests, all"], first["seeds"]) == ("70.0 +- 0.0", "45.0 +- 0.0", "3")
    assert "base: ant, bee; new, which nothing was trained on: cow, dog" in table.notes[1]
    assert table in tables(split)


def test_harmonic_is_for_each_seed_of_the_means(split):
    row = class_rows(split)[0]
    by_seed = [2 * (0.705 + 0.01 * seed) * 0.5 / (1.205 + 0.01 * seed) for seed in range(3)]
    assert row.scores["selected"]["target"]["harmonic"].mean == pytest.approx(sum(by_seed) / 3)
    assert row.scores["last"]["target"]["base"].mean == pytest.approx(0.415)


def test_page_and_csv_have_them(split):
    (section,) = _classes(split)
    assert section.title == "Base and new classes"
    assert 'fedclip,"classes, target",selected_base,,0.715,' in to_csv(split)


def test_a_study_without_a_split_has_none(tmp_path):
    findings = sample_results(tmp_path / "results", seeds=[0])
    assert class_split_table(findings) is None
    assert _classes(findings) == []
    assert "classes," not in to_csv(findings)
