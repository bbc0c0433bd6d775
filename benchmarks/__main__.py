"""``python -m benchmarks [NAME...]``: measure, print a table per topic, keep all figures as JSON."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.setup.ratios import Figure, as_json, table
from benchmarks.setup.workload import FULL, QUICK, Scale
from fedclip_edge.files import write_file
from fedclip_edge.machine import cores
from fedclip_plugin.machine import processor

TOPICS = (
    *("rounds", "startup", "encode", "memory", "costs", "scaling", "clients"),
    *("egress", "attacks", "privacy", "secure_sums", "late_silo", "kills"),
)
"""Modules with a ``TITLE`` and a ``measure(scale, work)``, and where figures make a matrix a ``table`` of their own."""

_PACKAGES = ("fedml", "torch", "transformers", "mpi4py", "numpy")

HOME = Path(".fedclip/benchmarks")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the topics that the command line names, or all of them."""
    parser = argparse.ArgumentParser(prog="benchmarks", description="Ratios are taken within one run.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(TOPICS)}; all without any")
    parser.add_argument(
        "--out", type=Path, default=Path(".fedclip/benchmarks.json"), help="where the figures go as JSON"
    )
    parser.add_argument("--work", type=Path, default=HOME, help="folder for what is made on the way")
    parser.add_argument("--quick", action="store_true", help="toy sizes: only to see that all parts run")
    options = parser.parse_args(argv)
    warnings.simplefilter("ignore")  # fedml's old imports: nobody here can mend them
    unknown = [name for name in options.names if name not in TOPICS]
    if unknown:
        print(f"benchmarks: no topic {', '.join(unknown)}; there are {', '.join(TOPICS)}", file=sys.stderr)
        return 2
    return run(options.names or TOPICS, QUICK if options.quick else FULL, options.work, options.out)


def run(names: Sequence[str], scale: Scale, work: Path, out: Path) -> int:
    """Measure topics, print their tables, and return 0; ``out`` is written after each, so that a failure loses none."""
    topics: dict[str, Any] = {}
    document = {"machine": describe(), "quick": scale == QUICK, "topics": topics}
    print(", ".join(f"{key} {value}" for key, value in describe().items() if key != "versions"), flush=True)
    for name in names:
        module = import_module(f"benchmarks.{name}")
        measure: Callable[[Scale, Path], list[Figure]] = module.measure
        began = time.perf_counter()
        figures = measure(scale, work)
        topics[name] = {"seconds": round(time.perf_counter() - began, 1), "figures": as_json(figures)}
        out.parent.mkdir(parents=True, exist_ok=True)
        write_file(out, (json.dumps(document, indent=1) + "\n").encode())
        shown: Callable[[str, Sequence[Figure]], str] = getattr(module, "table", table)
        print(f"\n{shown(module.TITLE, figures)}\n({topics[name]['seconds']} s)", flush=True)
    print(f"\nkept in {out}")
    return 0


def describe() -> dict[str, Any]:
    """Return processor, cores, load and versions, as kept in ``benchmarks.json``."""
    return {
        "processor": processor(),
        "cores": cores(),
        "load_1_min": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in _PACKAGES},
    }


if __name__ == "__main__":
    sys.exit(main())
