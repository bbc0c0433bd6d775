"""What several tests share: recipes, federations in one process, and federations under the real mpirun."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import time
from contextlib import redirect_stdout
from dataclasses import dataclass, fields
from pathlib import Path
from types import SimpleNamespace

import torch
import yaml

from fedclip_plugin.backbone import BUILT_IN, locate_backbone
from fedclip_plugin.cli.mpirun.command import Launch
from fedclip_plugin.features import TextFeatures, prompts_of
from fedclip_plugin.federated.roles.settings import TrainingSettings
from fedclip_plugin.machine import torch_threads
from fedclip_plugin.methods import METHODS, AdapterInputs
from fedclip_plugin.ranks import threads_per_rank
from fedclip_plugin.recipe import load_recipe
from fedclip_plugin.runs import RunFolder
from tests.support.paths import FEDERATIONS, ROOT

MISBEHAVING = FEDERATIONS / "misbehaving_rank.py"
PLAIN_MAIN = ROOT / "examples" / "fedml_main" / "main.py"
FEDCLIP = ("-m", "fedclip_plugin", "run")
LAUNCH = ("-m", "fedclip_plugin", "launch")
IMAGES_PER_CLASS = 12
SILOS = ("silo_a", "silo_b", "silo_c")
CLIP_TINY_WIDTH = 128


OWN_SILOS = {
    "data_args__dataset": "own",
    "fedclip_args__data_layout": "silos",
    "fedclip_args__silos": list(SILOS),
    "fedclip_args__domains": None,
    "fedclip_args__target_domain": None,
    "fedclip_args__images_per_class": None,
}
"""What turns the small recipe into one for a folder of three silos; ``fedclip_args__data_root`` comes on top."""

TWO_SILOS = {
    "train_args__client_num_in_total": 2,
    "train_args__client_num_per_round": 2,
    "fedclip_args__domains": ["art_painting", "cartoon", "sketch"],
}
"""What leaves out one silo where two will do: most of a small job's time goes into the start of its ranks."""


def of_method(method):
    """Return what makes the small recipe, of three rounds, one for a method."""
    return {"fedclip_args__method": method, "train_args__comm_round": METHODS[method].rounds or 3}


def fedml_args(**given):
    """Return the arguments that FedML reads, as a plain namespace."""
    return SimpleNamespace(**{"federated_optimizer": "FedAvg", "round_idx": 0, "comm_round": 3} | given)


def training_settings(**given):
    """Return what trainer and aggregator take from a recipe; names of other keys are left out."""
    usual = {
        "learning_rate": 1e-2,
        "weight_decay": 0.2,
        "batch_size": 32,
        "epochs": 1,
        "random_seed": 0,
        "comm_round": 3,
        "silos_per_round": 3,
        "min_silos": 3,
        "frequency_of_the_test": 1,
        "client_drop_rate": 0.0,
        "keep_rounds": 3,
        "class_split": "all",
        "calibrate": True,
        "false_reject_rate": 0.05,
        "round_timeout": 60.0,
        "round_grace": None,
        "start": "zero_shot",
        "weighting": "uniform",
        "averaged": True,
        "proximal_mu": 0.0,
        "zero_shot_distillation": 0.0,
        "text_pull": 0.0,
        "wise": (),
        "personal_epochs": 0,
        "personal_statistics": False,
        "augmented_views": 0,
        "min_class_count": 1,
        "forgettable": False,
        "robust_aggregation": "none",
        "byzantine_silos": 0,
        "norm_bound_factor": 5.0,
        "codec": "none",
        "server_optimizer": "none",
        "server_lr": 1.0,
        "server_momentum": 0.0,
    }
    names = {field.name for field in fields(TrainingSettings)}
    return TrainingSettings(**usual | {name: value for name, value in given.items() if name in names})


def clip_tiny():
    """Return the built-in backbone, loaded afresh: methods on pixels take it over."""
    from fedclip_plugin.backbone.clip import FrozenClip

    return FrozenClip(locate_backbone(BUILT_IN), torch.device("cpu"))


def frozen(width, classes=3):
    """Return what an adapter is built on: random unit-length text features; a backbone only for clip-tiny's width."""
    text = torch.nn.functional.normalize(
        torch.randn(classes, width, generator=torch.Generator().manual_seed(0)), dim=-1
    )

    def no_backbone():
        raise AssertionError("this test has no backbone")

    prompts = tuple(f"a picture of a class_{number}" for number in range(classes))
    return AdapterInputs(TextFeatures(text, 20.0), prompts, clip_tiny if width == CLIP_TINY_WIDTH else no_backbone)


def frozen_clip_tiny(classes, template="a picture of a {}"):
    """Return what an adapter of the built-in backbone is built on, with the classes' own text features."""
    clip, prompts = clip_tiny(), prompts_of(classes, template)
    return AdapterInputs(TextFeatures(clip.encode_prompts(prompts), clip.logit_scale), prompts, clip_tiny)


def results(lines):
    """Return rounds without what no two runs share: times, and bytes that depend on them."""
    return [line.model_dump(exclude={"seconds", "bytes_up", "bytes_down"}) for line in lines]


@dataclass(frozen=True)
class Outcome:
    """How a job ended.

    Attributes
    ----------
    code
        Exit code of mpirun.
    out, err
        Its stdout and stderr.
    seconds
        Wall time.
    folder
        The run folder.
    lines
        The rounds of ``metrics.jsonl`` when the job had ended.
    """

    code: int
    out: str
    err: str
    seconds: float
    folder: RunFolder
    lines: list

    @property
    def rounds(self):
        """The lines on stdout that tell of a round."""
        return re.findall(r"^round .*", self.out, re.MULTILINE)

    def adapter_bytes(self, name):
        """Bytes of an adapter's tensors."""
        return (self.folder.adapters / name / "adapter.safetensors").read_bytes()

    def log(self, rank):
        """Text of a rank's log."""
        return (self.folder.path / "logs" / f"rank_{rank}.log").read_text(encoding="utf-8")


class Workshop:
    """Writes small recipes and runs them; images and features are made once for all of them.

    Parameters
    ----------
    place
        Folder for recipes and run folders.
    shared
        Folder for the caches of images and features.
    """

    def __init__(self, place: Path, shared: Path) -> None:
        self.place = place
        self.data, self.features = shared / "data", shared / "features"
        self.data.mkdir(parents=True, exist_ok=True)

    def recipe(self, name, **changes):
        """Write the miniature's recipe, small, with ``section__key=value`` changes (None removes a key)."""
        sections = {
            "common_args": {"training_type": "cross_silo", "random_seed": 0},
            "data_args": {"dataset": "miniature", "data_cache_dir": str(self.data)},
            "train_args": {
                "federated_optimizer": "FedAvg",
                "client_num_in_total": 3,
                "client_num_per_round": 3,
                "comm_round": 3,
                "epochs": 1,
                "batch_size": 32,
                "learning_rate": 1e-3,
                "weight_decay": 0.0,
            },
            "validation_args": {"frequency_of_the_test": 1},
            "comm_args": {"backend": "MPI"},
            "fedclip_args": {
                "domains": ["art_painting", "cartoon", "photo", "sketch"],
                "target_domain": "sketch",
                "images_per_class": IMAGES_PER_CLASS,
                "feature_cache_dir": str(self.features),
                "start_timeout": 240.0,
                "round_timeout": 60.0,
                "precision": "fp32",
            },
        }
        for change, value in changes.items():
            section, key = change.split("__")
            sections.setdefault(section, {})[key] = value
        kept = {
            section: {key: value for key, value in keys.items() if value is not None}
            for section, keys in sections.items()
        }
        path = self.place / f"{name}.yaml"
        path.write_text(yaml.safe_dump(kept, sort_keys=False), encoding="utf-8")
        return path

    def run(self, recipe, *words, run=None, ranks=None, program=FEDCLIP, env=None, wrap=(), limit=180):
        """Start ``mpirun`` as ``fedclip launch`` does, with the ranks that a recipe takes, and return how it ended."""
        folder = RunFolder(run or self.place / "runs" / Path(recipe).stem)
        own = [] if program[0].endswith("main.py") else ["--run", str(folder.path)]
        command = [sys.executable, *program, str(recipe), *own, *map(str, words)]
        if program != LAUNCH:
            needed = yaml.safe_load(Path(recipe).read_text(encoding="utf-8"))["train_args"]["client_num_in_total"] + 1
            command = Launch(ranks or needed).command(command)
        began = time.monotonic()
        done = subprocess.run(
            [*wrap, *command],
            cwd=self.place,
            env=os.environ | {"PYTHONUNBUFFERED": "1", "PYTHONPATH": str(ROOT)} | (env or {}),
            capture_output=True,
            text=True,
            check=False,
            timeout=limit,
        )
        seconds = time.monotonic() - began
        return Outcome(done.returncode, done.stdout, done.stderr, seconds, folder, folder.rounds())

    def run_here(self, recipe, run=None, resume=False, without=(), **changes):
        """Run the same federation in this process, in a tenth of the time, and return how it ended.

        ``changes`` are of keys, as of :meth:`recipe`.
        """
        from fedclip_plugin.federated.job_here import run_job_here
        from fedclip_plugin.federated.members import Members
        from fedclip_plugin.report.console import Console

        folder = RunFolder(run or self.place / "runs" / Path(recipe).stem)
        told, began = io.StringIO(), time.monotonic()
        loaded = load_recipe(recipe, [f"{key.replace('__', '.')}={value}" for key, value in changes.items()])
        console = Console(loaded, folder, on_training=lambda: None)
        with redirect_stdout(told), torch_threads(threads_per_rank(1)):
            members = Members.of(loaded, without)
            run_job_here(loaded, folder, resume=resume, progress=False, observer=console, members=members)
            console.finish()
        return Outcome(0, told.getvalue(), "", time.monotonic() - began, folder, folder.rounds())

    def sabotage(self, recipe, deed, *words, **options):
        """Run with one rank misbehaving; see ``tests/federations/misbehaving_rank.py`` for the deeds."""
        return self.run(recipe, *words, program=(str(MISBEHAVING), deed, "run"), **options)
