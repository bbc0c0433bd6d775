"""Per-client results: the summary against plain numpy, and the files through a resumed run."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch

from fedclip_plugin.data import ImageSet, Split
from fedclip_plugin.data.clients import Client, Clients
from fedclip_plugin.features import FeatureSet
from fedclip_plugin.federated.simulation.client_data import ClientData
from fedclip_plugin.federated.simulation.client_results import ClientFiles, accuracies, client_scores
from fedclip_plugin.runs import RoundRecord
from fedclip_plugin.runs.closing_table import client_cells
from tests.support.round_records import round_line

CLASSES = ("cat", "dog", "owl")
TESTS = ([8, 9], [18, 19, 17], [26])
"""Rows of each of three clients' test images, of 10 + 10 + 10."""


@pytest.fixture(scope="module")
def data():
    labels = np.random.default_rng(0).integers(0, 3, 30)
    images = ImageSet("pool", Path(), CLASSES, tuple(map(str, range(30))), labels)
    members, splits = [], []
    for number, test in enumerate(TESTS):
        rows = np.arange(10 * number, 10 * number + 10)
        members.append(Client(f"client_{number}", "pool" if number else "first", 0, rows))
        splits.append(Split(rows[:4], rows[4:6], np.array(test)))
    features = FeatureSet(torch.zeros(30, 2), torch.from_numpy(labels))
    return ClientData(Clients((images,), tuple(members)), splits, [features], [features])


def test_the_scored_images_are_each_client_s_validation_and_test(data):
    scored = data.scored
    assert scored.rows.tolist() == [4, 5, 8, 9, 14, 15, 18, 19, 17, 24, 25, 26]
    assert scored.owners.tolist() == [0] * 4 + [1] * 5 + [2] * 3
    assert scored.tests.sum() == 6
    assert scored.labels.tolist() == data.features[0].labels[scored.rows].tolist()


def test_jobs_cover_every_image_once_whoever_s_adapter_scores(data):
    for own in (False, True):
        jobs = data.jobs(own_adapters=own)
        covered = [index for job in jobs for index in range(job.start, job.stop)]
        assert covered == list(range(len(data.scored.rows)))
    assert [job.client for job in data.jobs(own_adapters=True)] == [0, 1, 2]


def test_the_summary_is_numpy_s(data):
    predicted = data.scored.labels.copy()
    predicted[[2, 6, 7]] = (predicted[[2, 6, 7]] + 1) % 3  # one of two, two of three, none of one
    own = accuracies(data, predicted == data.scored.labels)
    assert own.tolist() == pytest.approx([1 / 2, 1 / 3, 1.0])
    scores = client_scores(data, predicted, 3)
    assert (scores.clients, scores.images) == (3, 6)
    assert scores.mean == pytest.approx(own.mean())
    assert scores.std == pytest.approx(own.std())
    assert (scores.worst, scores.best) == pytest.approx((1 / 3, 1.0))
    assert scores.weighted == pytest.approx(3 / 6)
    quartiles = scores.lower_quartile, scores.median, scores.upper_quartile
    assert quartiles == pytest.approx(tuple(np.quantile(own, (0.25, 0.5, 0.75))))


def test_files_name_the_clients_and_go_on_after_a_resume(data, tmp_path):
    files, right = ClientFiles(tmp_path, data, rounds=2), np.ones(12, bool)
    files.begin(0)
    files.note_zero_shot(~right)
    files.note(0, right)
    files.note(1, ~right)
    with (tmp_path / "clients.csv").open() as stream:
        rows = list(csv.reader(stream))
    assert rows[:2] == [["client", "source", "train", "validation", "test"], ["client_0", "first", "4", "2", "2"]]
    longer = ClientFiles(tmp_path, data, rounds=4)
    longer.begin(0 + 1)
    longer.note(2, right)
    found = np.load(tmp_path / "test_accuracy.npy")
    assert found[:3].tolist() == [[1.0] * 3, [0.0] * 3, [1.0] * 3]
    assert np.isnan(found[3:]).all()
    assert np.load(tmp_path / "zero_shot.npy").tolist() == [0.0] * 3


def test_a_run_without_clients_has_no_table_of_them():
    assert client_cells([RoundRecord.model_validate(round_line(0))], "FedCLIP") == []


@pytest.mark.parametrize("harm", ["cut", "other clients", "gone"])
def test_accuracies_that_cannot_be_continued_are_said_and_begun_again(data, tmp_path, harm, caplog):
    path = tmp_path / "clients" / "test_accuracy.npy"
    ClientFiles(tmp_path / "clients", data, 3).begin(0)
    if harm == "cut":
        path.write_bytes(path.read_bytes()[:-4])
    elif harm == "gone":
        path.unlink()
    else:
        np.save(path, np.zeros((4, 2), np.float32))
    ClientFiles(tmp_path / "clients", data, 3).begin(2)
    assert np.isnan(np.load(path)).all() and np.load(path).shape == (4, 3)
    assert "test_accuracy.npy cannot be continued" in caplog.text
