"""A study under the real mpirun: all cells in one job, stopped, taken up again, each as a job of its own would be."""

import os
import signal
import subprocess
import sys
import time

import pytest
import yaml

from fedclip_miniature import ensure_miniature
from fedclip_plugin.runs import RunFolder
from fedclip_plugin.study import Plan, ResultsFolder, StudyResults
from fedclip_plugin.study.definition import load_study
from fedclip_plugin.study.tables.difference_tables import difference_tables
from tests.support.paths import ROOT
from tests.support.workshop import IMAGES_PER_CLASS, results

SETTINGS = {
    "full": {"set": {"fedclip_args.method": "full"}},  # changes the backbone, which the next cell wants as it was
    "fedclip": {"grid": [{"train_args.learning_rate": rate} for rate in (1e-3, 1e-4)]},
    "local": {"set": {"fedclip_args.federation": "local"}},
    "int8": {
        "set": {
            "fedclip_args.codec": "int8",
            "fedclip_args.server_optimizer": "adam",
            "fedclip_args.server_lr": 1e-2,
            "fedclip_args.personal_epochs": 1,
        },
    },
    "prompt": {"set": {"fedclip_args.method": "prompt"}},
}
"""What is done with adapters and backbone in different ways; the last one is not asked for."""

RUN = [name for name in SETTINGS if name != "prompt"]
CELLS = 9
"""Two seeds of each case; of the grid's two points the better one goes on to the second seed."""

STOP_AFTER = 2


@pytest.fixture(scope="module")
def study_file(workshop):
    """A study of one folder that is dealt to two silos, alike for both seeds."""
    plain = {
        "study": "dealt",
        "recipe": "own_images/vit_b32_sigmoid_gate_iid",
        "set": {
            "fedclip_args.backbone": "clip-tiny",
            "fedclip_args.method": "fedclip",
            "fedclip_args.augmented_views": 0,
            "fedclip_args.data_root": str(ensure_miniature(workshop.data, IMAGES_PER_CLASS, 1.0) / "photo"),
            "fedclip_args.feature_cache_dir": str(workshop.features),
            "fedclip_args.precision": "fp32",
            "train_args.client_num_in_total": 2,
            "train_args.client_num_per_round": 2,
            "train_args.comm_round": 2,
        },
        "seeds": [0, 1],
        "cases": {name: {"title": name, **settings} for name, settings in SETTINGS.items()},
    }
    path = workshop.place / "study.yaml"
    path.write_text(yaml.safe_dump(plain, sort_keys=False), encoding="utf-8")
    return path


def start(path, out, *words):
    """Start ``fedclip study`` as a user would."""
    return subprocess.Popen(
        [sys.executable, "-m", "fedclip_plugin", "study", str(path), "--out", str(out), "--no-progress", *words],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def start_chosen(path, out):
    return start(path, out, *(word for name in RUN for word in ("--only", name)))


def end(job):
    """Wait until a study has ended well, and return what it said."""
    said, err = job.communicate(timeout=400)
    assert job.returncode == 0, said + err
    return said


@pytest.fixture(scope="module")
def stopped(workshop, study_file):
    """The study, ended from outside when some cells were done: what it said, and the files of those cells."""
    out = workshop.place / "runs" / "study"
    job = start_chosen(study_file, out)
    deadline = time.monotonic() + 240
    while len(cell_files(out)) < STOP_AFTER and job.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    job.send_signal(signal.SIGTERM)
    _, err = job.communicate(timeout=60)
    return out, job.returncode, err, {path: path.stat().st_mtime_ns for path in cell_files(out)}


def cell_files(out):
    return list(out.glob("cells/**/*.json"))


@pytest.fixture(scope="module")
def finished(study_file, stopped):
    """The same command again, to its end."""
    out, *_ = stopped
    said = end(start_chosen(study_file, out))
    return StudyResults.read(Plan(load_study(study_file), RUN), ResultsFolder(out)), ResultsFolder(out), said


@pytest.fixture(scope="module")
def example(workshop):
    """The study in the examples, of several seeds and with a target."""
    file, out = ROOT / "examples" / "study" / "study.yaml", workshop.place / "two_methods"
    overrides = [
        f"data_args.data_cache_dir={workshop.data}",
        f"fedclip_args.feature_cache_dir={workshop.features}",
        "fedclip_args.precision=fp32",
    ]
    said = end(start(file, out, *(word for one in overrides for word in ("--set", one))))
    return StudyResults.read(Plan(load_study(file, overrides)), ResultsFolder(out)), said


def test_a_study_that_is_stopped_says_what_is_safe(stopped):
    _, code, err, cells = stopped
    assert code != 0
    assert STOP_AFTER <= len(cells) < CELLS
    assert f"{len(cells)} cells are complete and safe" in err
    assert "run the same command again" in err


def test_only_what_is_missing_is_run(stopped, finished):
    findings, _, said = finished
    assert findings.complete() and len(findings.results) == CELLS
    assert f"{len(stopped[3])} of {CELLS} cells are there" in said
    assert all(path.stat().st_mtime_ns == before for path, before in stopped[3].items())


def test_the_tables_name_every_case_that_was_asked_for(finished):
    *_, said = finished
    assert all(f"\n{name} " in said for name in RUN)
    assert "\nprompt " not in said
    assert "Generalization" not in said and "Personalization" in said


@pytest.mark.parametrize("case", ["full", "fedclip"])
def test_a_cell_is_byte_for_byte_what_a_job_of_its_own_gives(workshop, finished, fedml_of_the_session, case):
    findings, results_folder, _ = finished
    cell = findings.plan.grid(case, None)[0]
    recipe = workshop.place / f"cell_{case}.yaml"
    recipe.write_text(cell.recipe.to_yaml(), encoding="utf-8")
    alone, folder = workshop.run_here(recipe), RunFolder(results_folder.run_folder(cell))
    assert results(folder.rounds()) == results(alone.lines)
    kept = findings.chosen(case, None)[0].point == cell.point
    assert (folder.adapters / "final").exists() == kept
    if kept:
        assert (folder.adapters / "final" / "adapter.safetensors").read_bytes() == alone.adapter_bytes("final")


def test_the_counts_of_a_cell_agree_with_its_accuracies(finished, example):
    for result in [*finished[0].results.values(), *example[0].results.values()]:
        for name, source in result.sources.items():
            assert result.counts[name].accuracy() == pytest.approx(source.selected)
        assert ("target" in result.counts) == (result.target is not None)
        if result.target is not None:
            assert result.counts["target"].accuracy() == pytest.approx(result.target_accuracy.selected)
            assert result.counts["target"].zero_shot_accuracy() == pytest.approx(result.target_accuracy.zero_shot)


def test_eight_bits_are_a_quarter_of_the_bytes(finished):
    findings, *_ = finished
    plain, small = (findings.chosen(case, None)[0] for case in ("fedclip", "int8"))
    assert 3.3 < plain.costs.bytes_up / small.costs.bytes_up < 4.1


def test_one_folder_is_dealt_out_alike_for_all_seeds_so_that_cases_can_be_compared(finished):
    findings, results_folder, _ = finished
    (table,) = difference_tables(findings, results_folder, "fedclip", "full")
    assert [row[0] for row in table.rows] == ["silo_1", "silo_2", "mean"]
    assert all("[" in row[-1] for row in table.rows)


def test_the_example_of_a_study_runs(example):
    findings, said = example
    assert findings.complete() and len(findings.results) == 4
    assert "zero-shot CLIP" in said and "Linear probe" in said
