"""Cases of a study that differ in shots alone: a table and a curve of accuracy by shots."""

import pytest

from fedclip_plugin.report.study.study_page import _shots
from fedclip_plugin.study.tables.accuracy_rows import accuracy_row
from fedclip_plugin.study.tables.accuracy_tables import accuracy_text
from fedclip_plugin.study.tables.shots_table import shots_rows, shots_table
from fedclip_plugin.study.tables.summary import tables
from tests.support.study_samples import sample_results

CASES = {
    "four": {"title": "FedCLIP, 4 shots", "set": {"fedclip_args.shots": 4}},
    "one": {"title": "FedCLIP, 1 shot", "set": {"fedclip_args.shots": 1}},
    "all": {"title": "FedCLIP"},
    "gate_one": {"title": "Gate, 1 shot", "set": {"fedclip_args.method": "sigmoid_gate", "fedclip_args.shots": 1}},
    "gate_all": {"title": "Gate, all images", "set": {"fedclip_args.method": "sigmoid_gate"}},
    "alone": {"title": "Another rate", "set": {"train_args.learning_rate": 0.1, "fedclip_args.shots": 1}},
}


@pytest.fixture(scope="module")
def by_shots(tmp_path_factory):
    return sample_results(tmp_path_factory.mktemp("shots") / "results", cases=CASES, targets=["sketch"], seeds=[0, 1])


def test_cases_are_one_row_where_shots_alone_differ(by_shots):
    rows = {row.title: row.cases for row in shots_rows(by_shots)}
    assert rows == {"FedCLIP": {1: "one", 4: "four", None: "all"}, "Gate": {1: "gate_one", None: "gate_all"}}
    assert [*rows["FedCLIP"]] == [1, 4, None], "rising, all images last"


def test_the_table_has_the_cases_accuracies(by_shots):
    table = shots_table(by_shots)
    assert table.head == ["accuracy in % by shots", "0", "1", "4", "all"]
    assert [row[0] for row in table.rows] == ["zero-shot CLIP", "FedCLIP", "Gate"]
    wanted = [accuracy_text(accuracy_row(by_shots, case, "generalization").selected.mean) for case in ("one", "four")]
    assert table.rows[1][2:4] == wanted
    assert table.rows[2][3] == "-", "the gate has no case of 4 shots"
    assert table.title.endswith("on the target domain")
    assert table in tables(by_shots)


def test_the_page_draws_what_has_two_points(by_shots):
    (section,) = _shots(by_shots)
    (picture,) = section.pictures
    (axes,) = picture.figure.axes
    assert axes.get_title(loc="left") == "FedCLIP"
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "4"]
    assert axes.get_xscale() == "log"


def test_a_study_without_shots_has_none(tmp_path):
    findings = sample_results(tmp_path / "results", seeds=[0])
    assert shots_table(findings) is None
    assert _shots(findings) == []
