"""A run whose ranks are killed at random, the server's too, and that is resumed each time, beside one left alone."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.setup.mpi_jobs import rank_process
from benchmarks.setup.ratios import Figure, of_samples
from benchmarks.setup.workload import Scale
from fedclip_plugin.recipe import find_recipe, load_recipe
from fedclip_plugin.runs import RunFolder

TITLE = "kills: FedCLIP on the miniature, three silos and a server; ranks killed at random, and the run resumed"

_RANKS, _SEED = 4, 0
_KEYS = {
    "fedclip_args.images_per_class": "12",
    "fedclip_args.codec": "int8",
    "fedclip_args.server_optimizer": "adam",
    "fedclip_args.server_lr": "0.01",
    "fedclip_args.calibrate": "false",
}
"""Server and silos have something to remember from round to round."""

_EARLY = 0.3
"""Share of kills before the job trains; the others come up to :data:`_WITHIN_SECONDS` after its first new round."""

_STARTING_SECONDS, _WITHIN_SECONDS = 6.0, 1.5
_LIMIT_SECONDS = 600.0


def measure(scale: Scale, work: Path) -> list[Figure]:
    """Return the topic's figures."""
    rng, killed, straight = random.Random(_SEED), work / "kills_killed", work / "kills_straight"
    words = _words(work, 60 * scale.kills)
    for run in (killed, straight):
        shutil.rmtree(run, ignore_errors=True)
    _finish(words, straight)
    seconds, ranks, complete = [], list[int](), list[int]()
    while len(ranks) < scale.kills:
        rank, took = _kill(words, killed, rng)
        seconds.append(took)
        ranks.append(rank)
        complete.append(_rounds(killed))
    _finish(words, killed)
    early = sum(before == after for before, after in zip([0, *complete], complete, strict=False))
    told = f"{ranks.count(0)} of the server, {early} before a new round was complete"
    names = {path.relative_to(run) for run in (straight, killed) for path in run.rglob("*.safetensors")}
    other = sum(_content(straight / name) != _content(killed / name) for name in names)
    return [
        Figure("kills, after each of which the run was resumed", len(ranks), "-", at_least=scale.kills, note=told),
        of_samples("from a kill to the end of the job", seconds, "s"),
        Figure("files of tensors with other bytes in the end", other, "-", at_most=0, note=f"of {len(names)}"),
    ]


def _words(work: Path, rounds: int) -> list[str]:
    own = {"data_args.data_cache_dir": work / "data", "fedclip_args.feature_cache_dir": work / "features"}
    asked = [f"{key}={value}" for key, value in {**_KEYS, **own, "train_args.comm_round": rounds}.items()]
    recipe = work / "kills.yaml"
    work.mkdir(parents=True, exist_ok=True)
    recipe.write_text(load_recipe(find_recipe("miniature/clip_tiny_fedclip"), asked).to_yaml(), encoding="utf-8")
    return [sys.executable, "-m", "fedclip_plugin", "launch", str(recipe), "--resume", "--run"]


def _kill(words: list[str], run: Path, rng: random.Random) -> tuple[int, float]:
    """Start or resume the job, kill a rank at a random moment; return which, and how long the job then took to end."""
    rank, before, early = rng.randrange(_RANKS), _rounds(run), rng.random() < _EARLY
    wait = rng.uniform(0.2, _STARTING_SECONDS if early else _WITHIN_SECONDS)
    with subprocess.Popen([*words, str(run)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as job:
        end = time.monotonic() + _LIMIT_SECONDS
        while (process := rank_process(rank, str(run))) is None or not (early or _rounds(run) > before):
            _require(job.poll() is None and time.monotonic() < end, job)
            time.sleep(0.01)
        time.sleep(wait)
        began = time.monotonic()
        os.kill(process, signal.SIGKILL)
        job.wait(_LIMIT_SECONDS)
        took = time.monotonic() - began
        _require(job.returncode == 128 + signal.SIGKILL, job)
    return rank, took


def _finish(words: list[str], run: Path) -> None:
    """Let the job come to its end."""
    with subprocess.Popen([*words, str(run)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as job:
        told, _ = job.communicate(timeout=_LIMIT_SECONDS)
        if job.returncode:
            raise RuntimeError(f"a run could not be resumed:\n{told[-3000:]}")


def _require(holds: bool, job: subprocess.Popen[str]) -> None:
    if not holds:
        job.kill()
        told = job.stdout.read() if job.stdout else ""
        raise RuntimeError(f"a run could not be resumed, or was over, exit code {job.returncode}:\n{told[-3000:]}")


def _rounds(run: Path) -> int:
    """Return how many rounds are complete; a line that is being written does not count."""
    metrics = RunFolder(run).metrics
    return max(0, metrics.read_bytes().count(b"\n") - 1) if metrics.exists() else 0


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None
