"""Which recipes fit a folder or list of images, and the keys that they need for it."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from fedclip_edge.terminal import printable

_RECIPES = "own_images/vit_b32_sigmoid_gate_"
"""How the names of the recipes for own images begin, one for each way in which silos have them."""

_SILOS = 3
"""Silos of the recipes that share one folder out."""


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
    layout: str,
    place: Mapping[str, Any],
    counts: Mapping[str, Mapping[str, int]],
    classes: Sequence[str],
    most_silos: int,
    target: str | None = None,
) -> list[Proposal]:
    """Return what fits a folder or list of images, at least one; arguments as the attributes of `FolderReport`.

    Where a domain or silo can be held out, it is the `target`, or the last one where none is given.
    """
    lacking = any(set(row) != set(classes) for row in counts.values())
    listed = {"classes": list(classes)} if lacking else {}
    if layout == "list":
        by_silo = place.get("silo_column") is not None
        return _by_column(place, list(counts), listed, target) if by_silo else _shared_out(layout, place, most_silos)
    if layout == "classes":
        return _shared_out(layout, place, most_silos)
    if layout == "splits":
        ours = {"data_layout": "domains", **place, "domains": list(counts), **listed}
        as_domains = Proposal(
            "data_layout domains: they are domains, and every folder is a silo's",
            f"{_RECIPES}domains",
            _silo_count(len(counts)) | {"fedclip_args": ours | {"target_domain": None}},
        )
        return [*(_shared_out(layout, place, most_silos) if most_silos else []), as_domains]
    folders = list(counts)
    found = [
        Proposal(
            "data_layout silos: every folder is a silo's, none is held out",
            f"{_RECIPES}silo_folders",
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
                f"{_RECIPES}domains",
                _silo_count(len(folders) - 1) | {"fedclip_args": ours},
            )
        )
    return found


def _by_column(
    place: Mapping[str, Any], silos: Sequence[str], listed: Mapping[str, Any], target: str | None
) -> list[Proposal]:
    """Propose what fits a list with a column of silos."""
    recipe, ours = f"{_RECIPES}list", {"data_layout": "list", **place}
    found = [
        Proposal(
            f"data_layout list: every value of column {printable(place['silo_column'])} is a silo, none is held out",
            recipe,
            _silo_count(len(silos)) | {"fedclip_args": {**ours, "silos": list(silos), **listed}},
        )
    ]
    if len(silos) > 1:
        held_out, other = (silos[-1], " (any can be it)") if target is None else (target, "")
        others = [silo for silo in silos if silo != held_out]
        found.append(
            Proposal(
                f"data_layout list: every value is a silo but one, here {printable(held_out)}, which the server tests "
                f"on{other}",
                recipe,
                _silo_count(len(others))
                | {"fedclip_args": {**ours, "silos": others, "target_domain": held_out, **listed}},
            )
        )
    return found


def _shared_out(layout: str, place: Mapping[str, Any], most_silos: int) -> list[Proposal]:
    silos = min(_SILOS, max(1, most_silos))
    keys = _silo_count(silos) | {"fedclip_args": {"data_layout": layout, **place}}
    ways = {"evenly": "iid", "unevenly, class by class": "dirichlet"}
    what = {"classes": "the folder is", "splits": "they are splits, kept as they are, and", "list": "the list is"}[
        layout
    ]
    return [
        Proposal(
            f"data_layout {layout}: {what} shared out {way} among {silos} silos",
            f"{_RECIPES}{suffix}",
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
