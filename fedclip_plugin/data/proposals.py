"""Which recipes fit a folder of images, and the keys that they need for it."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from fedclip_edge.terminal import printable

_SILOS = 3
"""Silos of the recipes that share one folder out."""

_FEWEST = 10
"""Images that a silo needs unless the recipe says otherwise."""


@dataclass(frozen=True)
class Proposal:
    """One way to train on a folder of images."""

    what: str  # who holds which images
    recipe: str  # the recipe to start from, as ``fedclip ls`` names it
    keys: Mapping[str, Mapping[str, Any]]  # section to the keys that differ from the recipe's

    def to_text(self) -> str:
        """Return the proposal as lines: what it is, its keys as YAML, and the command that sets them."""
        keys = yaml.safe_dump(
            {section: dict(values) for section, values in self.keys.items()},
            sort_keys=False,
            default_flow_style=None,
            allow_unicode=True,
            width=100,
        )
        return f"{self.what}; start from {self.recipe}, with\n{keys}or at once: {shlex.join(self.command())}"

    def command(self) -> list[str]:
        """Return the words of the command that launches it."""
        words = ["fedclip", "launch", self.recipe]
        for section, values in self.keys.items():
            for key, value in values.items():
                words += ["--set", f"{section}.{key}={_on_one_line(value)}"]
        return words


def proposals(
    root: Path,
    layout: str,
    counts: Mapping[str, Mapping[str, int]],
    classes: Sequence[str],
    target: str | None = None,
) -> list[Proposal]:
    """Return what fits a folder of images, at least one proposal; arguments as the attributes of `FolderReport`.

    Where a domain can be held out, it is the `target`, or the last one where none is given.
    """
    if layout == "classes":
        return _shared_out(root, sum(sum(row.values()) for row in counts.values()))
    lacking = any(set(row) != set(classes) for row in counts.values())
    listed = {"classes": list(classes)} if lacking else {}
    folders, place = list(counts), {"data_root": str(root)}
    found = [
        Proposal(
            "data_layout silos: every folder is a silo's, none is held out",
            "own_images/vit_b32_fedclip_silo_folders",
            _silo_count(len(folders)) | {"fedclip_args": {"data_layout": "silos", **place, "silos": folders, **listed}},
        )
    ]
    if len(folders) > 1:
        held_out, other = (folders[-1], " (any can be it)") if target is None else (target, "")
        ours = {"data_layout": "domains", **place, "domains": folders, "target_domain": held_out, **listed}
        found.append(
            Proposal(
                f"data_layout domains: every folder is a silo's but one, here {printable(held_out)}, which the server "
                f"tests on{other}",
                "pacs/vit_b32_fedclip",
                {"data_args": {"dataset": "own_domains"}} | _silo_count(len(folders) - 1) | {"fedclip_args": ours},
            )
        )
    return found


def _shared_out(root: Path, total: int) -> list[Proposal]:
    silos = min(_SILOS, max(1, total // _FEWEST))
    keys = _silo_count(silos) | {"fedclip_args": {"data_layout": "classes", "data_root": str(root)}}
    ways = {"evenly": "iid", "unevenly, class by class": "dirichlet"}
    return [
        Proposal(
            f"data_layout classes: the folder is shared out {way} among {silos} silos",
            f"own_images/vit_b32_fedclip_{suffix}",
            keys,
        )
        for way, suffix in ways.items()
    ]


def _silo_count(count: int) -> dict[str, dict[str, Any]]:
    return {"train_args": {"client_num_in_total": count, "client_num_per_round": count}}


def _on_one_line(value: Any) -> str:
    """Return a value as YAML on one line, quoted where it has to be."""
    flow = yaml.safe_dump([value], default_flow_style=True, allow_unicode=True, width=math.inf)
    return flow.strip()[1:-1]
