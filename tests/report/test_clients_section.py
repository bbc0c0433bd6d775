"""How a simulation's clients fare, on the pages of a run and of a study."""

from dataclasses import replace

import numpy as np
import pytest

from fedclip_plugin.report.plots.distributions import ClientBox, client_boxes
from fedclip_plugin.report.run.clients_section import clients_section
from fedclip_plugin.report.run.round_arrays import RoundArrays
from fedclip_plugin.report.study.study_page import _clients
from fedclip_plugin.study import ClientAccuracy
from fedclip_plugin.study.tables.clients_table import clients_table
from fedclip_plugin.study.tables.csv_text import to_csv
from tests.support.round_records import client_scores, round_record
from tests.support.study_samples import sample_results

ACCURACIES = {"zero_shot": [0.5, 0.7, 0.9], "best": [0.6, 0.8, 1.0], "last": [0.0, 0.8, 0.9]}


@pytest.fixture
def history():
    records = [
        round_record(0, clients=client_scores(0.7), zero_shot_clients=client_scores(0.7)),
        round_record(1, 1, clients=client_scores(0.8)),
        round_record(2, 1, clients=client_scores(0.55)),
    ]
    return RoundArrays(tuple(records))


@pytest.fixture
def files(tmp_path):
    rows = [ACCURACIES["zero_shot"], ACCURACIES["best"], ACCURACIES["last"]]
    np.save(tmp_path / "test_accuracy.npy", np.array(rows, np.float32))
    np.save(tmp_path / "zero_shot.npy", np.array(rows[0], np.float32))
    return tmp_path


def test_the_section_has_the_table_and_a_box_for_zero_shot_the_best_round_and_the_last(history, files):
    section = clients_section(history, files, "FedCLIP")
    (table,), (picture,) = section.tables, section.pictures
    assert [row[0] for row in table.rows] == ["zero-shot CLIP", "FedCLIP, best round 1", "FedCLIP, last round 2"]
    assert table.caption == "3 clients with 30 test images."
    labels = [text.get_text() for text in picture.figure.axes[0].get_yticklabels()]
    assert labels == ["zero-shot CLIP", "best round 1", "last round 2"]
    assert "has 50.0 % with zero-shot CLIP and 0.0 % after the last round" in picture.caption


def test_what_is_missing_is_said_in_the_pictures_place(history, files):
    (files / "zero_shot.npy").unlink()
    section = clients_section(history, files, "FedCLIP")
    assert section.tables and not section.pictures
    assert "cannot be used" in section.notes[0]
    np.save(files / "zero_shot.npy", np.full(3, np.nan, np.float32))
    assert "no accuracy of every client with zero-shot CLIP" in clients_section(history, files, "FedCLIP").notes[0]


def test_a_run_of_silos_has_no_such_section(tmp_path):
    assert clients_section(RoundArrays((round_record(0),)), tmp_path, "FedCLIP") is None


def test_boxes_show_the_quartiles_of_all_clients_and_points_unless_there_are_too_many():
    clients = np.linspace(0.2, 1, 5)
    box = ClientBox.of("few", clients)
    assert (box.worst, box.lower_quartile, box.median, box.upper_quartile, box.best) == pytest.approx(tuple(clients))
    assert len(ClientBox.of("many", np.zeros(3000)).points) == 0
    axes = client_boxes([box]).axes[0]
    points = next(line for line in axes.get_lines() if line.get_marker() == ".")
    assert sorted(points.get_xdata()) == pytest.approx(100 * clients)


@pytest.fixture(scope="module")
def of_clients(tmp_path_factory):
    """A study's results as if they were of simulations; the last case has other clients."""
    findings = sample_results(tmp_path_factory.mktemp("clients") / "results")

    def told(result):
        zero_shot = 0.5 if result.case == "clip_adapter" else 0.6
        levels = (client_scores(level) for level in (zero_shot, 0.7 + 0.01 * result.seed, 0.65))
        known = dict(zip(("zero_shot", "selected", "last"), levels, strict=True))
        return result.model_copy(update={"clients": ClientAccuracy(**known)})

    return replace(findings, results={name: told(result) for name, result in findings.results.items()})


def test_a_study_s_table_has_the_mean_over_clients_and_its_spread_over_seeds(of_clients):
    table = clients_table(of_clients)
    assert [row[0] for row in table.rows] == [
        *("zero-shot CLIP", "FedCLIP (paper's settings)", "FedCLIP"),
        *("zero-shot CLIP", "CLIP-Adapter, no federation"),
    ]
    cells = dict(zip(table.head, table.rows[1], strict=True))
    assert (cells["mean"], cells["worst"], cells["last round, mean"]) == ("71.0 +- 1.0", "51.0 +- 1.0", "65.0 +- 0.0")
    assert cells["seeds"] == "3"


def test_a_study_s_page_and_csv_have_the_clients(of_clients):
    (section,) = _clients(of_clients)
    (picture,) = section.pictures
    labels = [text.get_text() for text in picture.figure.axes[0].get_yticklabels()]
    assert labels == [row[0] for row in clients_table(of_clients).rows]
    assert "fedclip,clients,selected_mean,,0.71" in to_csv(of_clients)


def test_a_study_of_silos_has_no_clients(tmp_path):
    findings = sample_results(tmp_path / "results", seeds=[0])
    assert clients_table(findings) is None
    assert _clients(findings) == []
