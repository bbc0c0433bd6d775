"""What a silo that is stopped costs the others: eight silos under mpirun, one of which sleeps for some rounds."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import yaml

from benchmarks.setup.mpi_jobs import rank_process
from benchmarks.setup.ratios import Figure, of_samples
from benchmarks.setup.workload import Scale
from fedclip_miniature import ensure_miniature
from fedclip_plugin.cli.mpirun.command import Launch
from fedclip_plugin.runs import RoundRecord, RunFolder

TITLE = "late_silo: eight silos, FedCLIP on the miniature; one is stopped, and goes on later (round_grace)"

SILOS, RANK, GRACE = 8, 4, 1.0
_IMAGES = 40  # of each class
_BEFORE = 10  # rounds until it is stopped
_SLEEP_SECONDS = 2.0
_LIMIT_SECONDS = 300.0


def measure(scale: Scale, work: Path) -> list[Figure]:
    """Return the topic's figures."""
    records, log = _run(work, rounds=max(80, 2 * scale.rounds))
    name = f"silo_{RANK}"
    late = [record.round for record in records if name in record.late]
    (found,) = re.findall(rf"{name} answers round \d+ in round (\d+)", log) or ["0"]
    seconds = {record.round: record.seconds["round"] for record in records}
    whole = [seconds[record.round] for record in records if record.round > 1 and not record.late]
    return [
        of_samples("a round of eight silos", [1000 * one for one in whole], "ms"),
        Figure("the round in which one is stopped, beyond the grace", seconds[late[0]] - GRACE, "s", at_most=1.0),
        of_samples("a round without it", [1000 * seconds[number] for number in late[1:]], "ms"),
        Figure("rounds that it misses when its late answer has come", late[-1] + 1 - int(found), "-", at_most=1),
    ]


def _run(work: Path, rounds: int) -> tuple[Sequence[RoundRecord], str]:
    """Run a job whose silo sleeps, and return its rounds and the server's log."""
    data = ensure_miniature(work / "data", _IMAGES)
    folder, recipe = RunFolder(work / "run"), work / "late_silo.yaml"
    shutil.rmtree(folder.path, ignore_errors=True)
    recipe.write_text(yaml.safe_dump(_recipe(data / "cartoon", work / "features", rounds)), encoding="utf-8")
    words = [sys.executable, "-m", "fedclip_plugin", "run", str(recipe), "--run", str(folder.path)]
    with subprocess.Popen(
        Launch(SILOS + 1).command(words), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as job:
        end = time.monotonic() + _LIMIT_SECONDS
        while len(folder.rounds()) <= _BEFORE and time.monotonic() < end and job.poll() is None:
            time.sleep(0.01)
        process = rank_process(RANK, str(recipe))
        if process is not None:
            os.kill(process, signal.SIGSTOP)
            time.sleep(_SLEEP_SECONDS)
            os.kill(process, signal.SIGCONT)
        told, _ = job.communicate(timeout=_LIMIT_SECONDS)
    if job.returncode:
        raise RuntimeError(f"the job ended with exit code {job.returncode}:\n{told[-3000:]}")
    return folder.rounds(), (folder.path / "logs" / "rank_0.log").read_text(encoding="utf-8")


def _recipe(images: Path, features: Path, rounds: int) -> dict[str, dict[str, object]]:
    return {
        "common_args": {"training_type": "cross_silo", "random_seed": 0},
        "data_args": {"dataset": "own", "partition_method": "homo"},
        "train_args": {
            "federated_optimizer": "FedAvg",
            "client_num_in_total": SILOS,
            "client_num_per_round": SILOS,
            "comm_round": rounds,
            "epochs": 1,
            "batch_size": 16,
            "learning_rate": 1e-3,
            "weight_decay": 0.0,
        },
        "validation_args": {"frequency_of_the_test": 1},
        "device_args": {"using_gpu": False},
        "comm_args": {"backend": "MPI"},
        "fedclip_args": {
            "data_layout": "classes",
            "data_root": str(images),
            "feature_cache_dir": str(features),
            "min_silos": 5,
            "min_images_per_silo": 5,
            "round_grace": GRACE,
            "calibrate": False,
        },
    }
