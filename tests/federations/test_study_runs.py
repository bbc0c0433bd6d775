"""A study under the real mpirun: all cells in one job, stopped, taken up again, each as a job of its own would be."""

import os
import signal
import subprocess
import sys
import time

import pytest
import yaml

from fedclip_miniature import ensure_miniature
from fedclip_plugin.methods import METHODS
from fedclip_plugin.runs import RunFolder
from fedclip_plugin.study import Plan, ResultsFolder, StudyResults
from fedclip_plugin.study.definition import load_study
from fedclip_plugin.study.tables.difference_tables import difference_tables
from tests.support.paths import ROOT
from tests.support.workshop import IMAGES_PER_CLASS, results

METHOD_SETTINGS = {name: {"fedclip_args.method": name} for name in METHODS}
OTHER_SETTINGS = {
    "int8": {"fedclip_args.codec": "int8"},
    "local": {"fedclip_args.federation": "local"},
    "personal": {
        "fedclip_args.personal_epochs": 1,
        "fedclip_args.server_optimizer": "adam",
        "fedclip_args.server_lr": 1e-2,
    },
}
STOP_AFTER = 2


@pytest.fixture(scope="module")
def study_file(workshop):
    """A study of every method, and of what can be laid over one."""
    cases = {
        name: {"title": name, "set": settings, **({"grid": _GRID} if name == "fedclip" else {})}
        for name, settings in (METHOD_SETTINGS | OTHER_SETTINGS).items()
    }
    plain = {
        "study": "all",
        "recipe": str(workshop.recipe("study_base")),
        "targets": ["sketch"],
        "seeds": [0],
        "cases": cases,
    }
    path = workshop.place / "study.yaml"
    path.write_text(yaml.safe_dump(plain, sort_keys=False), encoding="utf-8")
    return path


_GRID = [{"train_args.learning_rate": rate} for rate in (1e-3, 1e-4)]


def command(path, out):
    return [sys.executable, "-m", "fedclip_plugin", "study", str(path), "--out", str(out), "--no-progress"]


@pytest.fixture(scope="module")
def stopped(workshop, study_file):
    """The study, ended from outside when some cells were done: what it said, and the files of those cells."""
    out = workshop.place / "runs" / "study"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    job = subprocess.Popen(
        command(study_file, out),
        cwd=workshop.place,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 240
    while len(list(out.glob("cells/*/*/*.json"))) < STOP_AFTER and job.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    job.send_signal(signal.SIGTERM)
    _, err = job.communicate(timeout=60)
    return out, job.returncode, err, {path: path.stat().st_mtime_ns for path in out.glob("cells/*/*/*.json")}


@pytest.fixture(scope="module")
def finished(workshop, study_file, stopped):
    """The same command again, to its end."""
    out, *_ = stopped
    done = subprocess.run(
        command(study_file, out),
        cwd=workshop.place,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=400,
    )
    assert done.returncode == 0, done.stderr
    folder = ResultsFolder(out)
    return StudyResults.read(Plan(load_study(study_file)), folder), folder, done.stdout


def test_a_study_that_is_stopped_says_what_is_safe(stopped):
    _, code, err, cells = stopped
    assert code != 0
    assert STOP_AFTER <= len(cells) < len(METHOD_SETTINGS) + len(OTHER_SETTINGS)
    assert f"{len(cells)} cells are complete and safe" in err
    assert "run the same command again" in err


def test_only_what_is_missing_is_run(stopped, finished):
    findings, _, said = finished
    assert findings.complete()
    assert f"{len(stopped[3])} of {findings.plan.total()} cells are there" in said
    assert all(path.stat().st_mtime_ns == before for path, before in stopped[3].items())


def test_the_tables_name_every_case(finished):
    *_, said = finished
    assert all(f"\n{name} " in said for name in METHOD_SETTINGS | OTHER_SETTINGS)


@pytest.mark.parametrize("method", METHODS)
def test_a_cell_is_byte_for_byte_what_a_job_of_its_own_gives(workshop, own_job, finished, method):
    findings, results_folder, _ = finished
    outcome = own_job(method)
    folder = results_folder.run_folder(findings.plan.grid(method, "sketch")[0])
    assert results(RunFolder(folder).rounds()) == results(outcome.lines)
    kept = (folder / "adapters" / "final" / "adapter.safetensors").read_bytes()
    assert kept == outcome.adapter_bytes("final")


def test_the_counts_of_a_cell_agree_with_its_accuracies(finished):
    findings, *_ = finished
    for result in findings.results.values():
        assert result.counts["target"].accuracy() == pytest.approx(result.target_accuracy.selected)
        assert result.counts["target"].zero_shot_accuracy() == pytest.approx(result.target_accuracy.zero_shot)
        for name, source in result.sources.items():
            assert result.counts[name].accuracy() == pytest.approx(source.selected)


def test_eight_bits_are_a_quarter_of_the_bytes(finished):
    findings, *_ = finished
    (plain,), (small,) = (findings.chosen(case, "sketch") for case in ("fedclip", "int8"))
    assert 3.3 < plain.costs.bytes_up / small.costs.bytes_up < 4.1


def test_one_folder_is_dealt_out_alike_for_all_seeds_and_the_named_cases_are_compared(workshop):
    root = ensure_miniature(workshop.data, IMAGES_PER_CLASS, 1.0) / "photo"
    cases = {
        name: {"title": name, "set": {"fedclip_args.method": name}} for name in ("fedclip", "clip_adapter", "full")
    }
    plain = {
        "study": "dealt",
        "recipe": "own_images/vit_b32_fedclip_iid",
        "set": {
            "fedclip_args.backbone": "clip-tiny",
            "fedclip_args.data_root": str(root),
            "fedclip_args.feature_cache_dir": str(workshop.features),
            "train_args.comm_round": 1,
        },
        "seeds": [0, 1],
        "cases": cases,
    }
    path, out = workshop.place / "dealt.yaml", workshop.place / "runs" / "dealt"
    path.write_text(yaml.safe_dump(plain), encoding="utf-8")
    words = [*command(path, out), "--only", "fedclip", "--only", "clip_adapter"]
    done = subprocess.run(
        words,
        cwd=workshop.place,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stderr
    assert "Generalization" not in done.stdout and "Personalization" in done.stdout
    findings = StudyResults.read(Plan(load_study(path), ["fedclip", "clip_adapter"]), ResultsFolder(out))
    assert findings.complete() and len(findings.results) == 4
    (table,) = difference_tables(findings, ResultsFolder(out), "fedclip", "clip_adapter")
    assert [row[0] for row in table.rows] == ["silo_1", "silo_2", "silo_3", "mean"]
    assert all("[" in row[-1] for row in table.rows)


def test_the_example_of_a_study_runs(workshop):
    file = ROOT / "examples" / "study" / "study.yaml"
    place = workshop.place / "two_methods"
    here = {"data_args.data_cache_dir": workshop.data, "fedclip_args.feature_cache_dir": workshop.features}
    overrides = [word for key, value in here.items() for word in ("--set", f"{key}={value}")]
    words = [sys.executable, "-m", "fedclip_plugin", "study", str(file), "--out", str(place), *overrides]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "zero-shot CLIP" in done.stdout and "Linear probe" in done.stdout
