"""Studies of simulations under the real mpirun: all cells in one job of a few workers, or in one process."""

import os
import subprocess
import sys

import pytest
import yaml

from fedclip_plugin.runs import RunFolder
from fedclip_plugin.study import Plan, ResultsFolder, StudyResults
from fedclip_plugin.study.definition import load_study
from fedclip_plugin.study.tables.accuracy_rows import accuracy_row
from fedclip_plugin.study.tables.clients_table import client_rows, clients_table
from fedclip_plugin.study.tables.difference_tables import difference_tables
from fedclip_plugin.study.tables.headline_cases import best_case
from tests.support.paths import ROOT
from tests.support.workshop import results

SIMULATED = {
    "common_args__training_type": "simulation",
    "train_args__client_num_in_total": 12,
    "train_args__client_num_per_round": 6,
    "train_args__comm_round": 2,
    "data_args__partition_method": "hetero",
    "data_args__partition_alpha": 0.5,
    "fedclip_args__silos_per_domain": 4,
    "fedclip_args__min_images_per_silo": 5,
}
CASES = {
    "skewed": {"title": "skewed", "grid": [{"train_args.learning_rate": rate} for rate in (1e-3, 1e-2)]},
    "probe": {"title": "probe", "set": {"fedclip_args.method": "linear_probe"}},
    "even": {
        "title": "even, all clients",
        "set": {"data_args.partition_alpha": 100, "train_args.client_num_per_round": 12},
    },
}


def write(workshop, name, cases, **changes):
    plain = {
        "study": name,
        "recipe": str(workshop.recipe(f"{name}_base", **SIMULATED | changes)),
        "targets": ["sketch"],
        "seeds": [0, 1],
        "cases": cases,
    }
    path = workshop.place / f"{name}.yaml"
    path.write_text(yaml.safe_dump(plain, sort_keys=False), encoding="utf-8")
    return path


def run(workshop, path, out, *words):
    command = [sys.executable, "-m", "fedclip_plugin", "study", str(path), "--out", str(out), "--no-progress", *words]
    return subprocess.run(
        command,
        cwd=workshop.place,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=400,
    )


@pytest.fixture(scope="module")
def simulated(workshop):
    """A study of which one case was run alone first, and the others by the next command."""
    path = write(workshop, "clients", CASES, device_args__worker_num=2)
    out = workshop.place / "runs" / "clients"
    jobs = [run(workshop, path, out, "--only", "probe"), run(workshop, path, out)]
    return StudyResults.read(Plan(load_study(path)), ResultsFolder(out)), ResultsFolder(out), jobs


def test_all_cells_run_in_one_job_and_the_next_command_goes_on(simulated):
    findings, _, jobs = simulated
    assert [job.returncode for job in jobs] == [0, 0], jobs[-1].stderr
    assert "-np 3 " in jobs[0].stdout
    assert "2 of 7 cells are there" in jobs[1].stdout
    assert "Clients: accuracy of 12 clients" in jobs[1].stdout
    assert findings.complete()


def test_a_cell_tells_of_its_clients_what_its_run_folder_has(simulated):
    findings, folder, _ = simulated
    for result in findings.results.values():
        rounds = RunFolder(folder.run_folder(result)).rounds()
        assert result.clients.selected == rounds[result.selected_round].clients
        assert result.clients.zero_shot == rounds[0].zero_shot_clients
        assert set(result.counts) == {"target", "art_painting", "cartoon", "photo"}
        for name, source in result.sources.items():
            assert result.counts[name].accuracy() == pytest.approx(source.selected)
            assert result.counts[name].zero_shot_accuracy() == pytest.approx(source.zero_shot)
        assert set(result.costs.peak_bytes) == {"server", "worker 1", "worker 2"}
        assert result.costs.bytes_up == 4 * result.costs.parameters_sent


def test_tables_have_the_clients_and_zero_shot_clip_for_each_partition(simulated):
    findings, *_ = simulated
    rows = {row.case: row for row in client_rows(findings)}
    assert rows["skewed"].zero_shot == rows["probe"].zero_shot != rows["even"].zero_shot
    assert [cells[0] for cells in clients_table(findings).rows] == [
        *("zero-shot CLIP", "skewed", "probe", "zero-shot CLIP", "even, all clients")
    ]
    assert best_case(findings) is None, "the cases have different clients"
    assert rows["skewed"].selected["worst"].mean <= rows["skewed"].selected["lower_quartile"].mean


def test_methods_on_the_same_clients_are_compared_by_test_images(simulated):
    findings, folder, _ = simulated
    for kind in ("generalization", "personalization"):
        assert accuracy_row(findings, "probe", kind).difference is not None
    tables = difference_tables(findings, folder, "skewed", "probe")
    assert all("[" in row[-1] for table in tables for row in table.rows)
    _, own = difference_tables(findings, folder, "skewed", "even")
    assert own.rows[0][-1] == "-", "other clients have other test images"


def test_in_one_process_a_cell_has_the_same_rounds(workshop, simulated):
    findings, folder, _ = simulated
    path = write(workshop, "alone", {"probe": CASES["probe"]}, comm_args__backend="sp")
    out = workshop.place / "runs" / "alone"
    job = run(workshop, path, out)
    assert job.returncode == 0, job.stderr
    assert "-np 1 " in job.stdout
    for result in findings.of_case("probe"):
        there = RunFolder(folder.run_folder(result)).rounds()
        assert results(RunFolder(out / "runs" / result.name).rounds()) == results(there)
