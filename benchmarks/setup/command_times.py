"""Processor time of the short commands, beside Python alone and what they cannot do without."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage

from benchmarks.setup.random_images import write_silos
from benchmarks.setup.ratios import Figure, of_samples

GOAL = 0.3
"""Seconds of processor time that a short command may take."""

_LIBRARIES = "python, pydantic and yaml"
_BARE = {"python": "pass", _LIBRARIES: "from pydantic import BaseModel, Field; import yaml"}
_COMMANDS = ("--help", "ls", "validate miniature/clip_tiny_fedclip", "keys", "schema")
_OTHERS = ("init {images} --target sketch",)
_IMAGES = 28


def command_times(repeats: int, work: Path) -> list[Figure]:
    """Return the median processor time of each command; they take turns, after a first turn that warms the caches."""
    images = str(write_silos(work / "command_images", ("photo", "sketch"), _IMAGES))
    lines = {name: ["-c", code] for name, code in _BARE.items()}
    lines |= {f"fedclip {line.split()[0]}": ["-m", "fedclip_plugin", *line.split()] for line in _COMMANDS + _OTHERS}
    turns = [
        {name: _processor([word.format(images=images) for word in line]) for name, line in lines.items()}
        for _ in range(repeats + 1)
    ]
    figures = []
    for name in lines:
        goal = GOAL if name.removeprefix("fedclip ") in {line.split()[0] for line in _COMMANDS} else None
        figures.append(of_samples(name, [turn[name] for turn in turns[1:]], "s", at_most=goal, note="processor time"))
    shares = [turn["fedclip validate"] / turn[_LIBRARIES] for turn in turns[1:]]
    return [*figures, of_samples(f"fedclip validate / {_LIBRARIES}", shares, "x")]


def _processor(words: list[str]) -> float:
    """Return the seconds that a Python process computes; one that fails raises."""
    # Without bytecode on disk every start would compile what it imports.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    before = getrusage(RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *words], check=True, capture_output=True, env=environment)
    after = getrusage(RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
