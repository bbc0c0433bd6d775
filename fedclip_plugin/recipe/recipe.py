"""The checked recipe: what the rest of the package gets instead of YAML."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, Self

import yaml
from pydantic import model_validator

from fedclip_plugin.recipe.check import check, cross_faults
from fedclip_plugin.recipe.faults import Fault, recipe_error
from fedclip_plugin.recipe.fedml_refusals import REFUSED_KEYS, UNSAFE_IF_TRUE
from fedclip_plugin.recipe.rules.data import shares_out, told_silos
from fedclip_plugin.recipe.rules.defences import drop_foreign
from fedclip_plugin.recipe.rules.differential_privacy import implied
from fedclip_plugin.recipe.schema.sections import SECTIONS, SWITCHES, RecipeSections, alike, defining, without_idle


class Recipe(RecipeSections):
    """One run, completely described and checked; sections and key names are FedML's.

    Raises
    ------
    RecipeError
        If a rule between keys is broken, e.g. more silos a round than there are.

    Notes
    -----
    Read a file with `load_recipe`, FedML's arguments with `Recipe.from_flat`: both list all faults at once.
    """

    @model_validator(mode="after")
    def _rules_between_keys(self) -> Self:
        faults = cross_faults(self.values())
        if faults:
            raise recipe_error("Recipe(...)", faults)
        return self

    @classmethod
    def checked(cls, raw: Mapping[Any, Any], source: object, earlier: Sequence[Fault] = ()) -> Self:
        """Build a recipe from plain sections, or raise a RecipeError that lists everything that is wrong with them.

        Parameters
        ----------
        raw
            Section name to a mapping of keys.
        source
            Where they came from, for the error's first line.
        earlier
            Faults found before, e.g. while reading the file; they are told first.
        """
        sections = without_idle(raw)
        values, faults = check(sections)
        if faults := [*earlier, *faults]:
            raise recipe_error(str(source), faults)
        values |= implied(values)
        made = {
            name: model.model_construct(**{key: values[f"{name}.{key}"] for key in model.model_fields})
            for name, model in SECTIONS.items()
            if name in sections or name not in SWITCHES
        }
        return cls.model_construct(None, **made)  # what it is made of has just been checked

    @classmethod
    def from_flat(cls, flat: Mapping[str, Any]) -> Self:
        """Build a recipe from FedML's flattened arguments.

        Parameters
        ----------
        flat
            E.g. ``vars(args)``. Keys that are not in the schema are FedML's own and ignored; so is
            ``client_id_list`` and ``worker_num``, which FedML fills in itself.

        Returns
        -------
        Recipe
            Equal to the recipe whose `flat` this was.
        """
        raw = {
            name: {key: flat[key] for key in model.model_fields if flat.get(key) is not None}
            for name, model in SECTIONS.items()
            if name not in SWITCHES or flat.get(SWITCHES[name]) is not None
        }
        raw["train_args"].pop("client_id_list", None)
        raw["device_args"].pop("worker_num", None)
        unsafe = [Fault(key, REFUSED_KEYS[key], flat[key]) for key in UNSAFE_IF_TRUE if flat.get(key)]
        return cls.checked(drop_foreign(raw), "FedML's arguments", unsafe)

    def flat(self) -> dict[str, Any]:
        """Return FedML's flattened arguments: bare key to plain value; keys without a value are left out."""
        return {key: value for section in self._plain().values() for key, value in section.items()}

    def silo_names(self) -> tuple[str, ...] | None:
        """Name the silos in silo order; None where the folders of `data_root`, or the list, decide.

        They are the domains without the target domain, or `silos`, or ``silo_1`` ... where images are shared out.
        """
        if self.shares_out() and self.fedclip_args.silos is None:
            total = self.train_args.client_num_in_total
            return tuple(f"silo_{number:0{len(str(total))}d}" for number in range(1, total + 1))
        return told_silos(self.values())

    @property
    def simulated(self) -> bool:
        """Whether clients are simulated: many of them on few ranks."""
        return self.common_args.training_type == "simulation"

    @property
    def draws_images(self) -> bool:
        """Whether the images are those of the built-in miniature, which are drawn where they are not there."""
        return self.data_args.dataset == "miniature" and self.fedclip_args.data_root is None

    def rank_count(self, workers: int = 0) -> int:
        """Return how many processes a job takes: the server, and one for each silo or worker; 1 without MPI.

        ``workers`` are those of a simulation whose recipe does not say how many.
        """
        if self.comm_args.backend == "sp":
            return 1
        return 1 + (self.device_args.worker_num or workers if self.simulated else self.train_args.client_num_in_total)

    def shares_out(self) -> bool:
        """Return whether the images of one folder or list are shared out among the silos."""
        return shares_out(self.values())

    def to_yaml(self) -> str:
        """Write the recipe, defaults included, as YAML that loads again to an equal recipe."""
        blocks = [
            yaml.safe_dump({name: section}, sort_keys=False, allow_unicode=True, width=100)
            for name, section in self._plain().items()
        ]
        return "\n".join(blocks)

    def digest(self) -> str:
        """Return the SHA-256 of what defines the result.

        Places (images, caches, run folder), time-outs, devices and the number of rounds do not enter: a run may be
        moved, and continued for longer.
        """
        return _sha256(defining(self._plain()))

    def job_digest(self) -> str:
        """Return the SHA-256 of what all ranks of one job must have alike: what defines the result, and its rounds."""
        return _sha256(alike(self._plain()))

    def values(self) -> dict[str, Any]:
        """Return what rules between keys look at: ``section.key`` to its value, of the sections that there are."""
        sections = {name: getattr(self, name) for name in SECTIONS}
        return {
            f"{name}.{key}": getattr(section, key)
            for name, section in sections.items()
            if section is not None
            for key in SECTIONS[name].model_fields
        }

    def _plain(self) -> dict[str, dict[str, Any]]:
        dumped: dict[str, dict[str, Any]] = self.model_dump(mode="json", exclude_none=True)
        return {name: dumped[name] for name in SECTIONS if name in dumped}


def _sha256(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
