"""FedML's optional sections for defences and simulated attacks: the parts of them that work.

Each section is given whole or left out. What FedML offers here and gets wrong stands in `recipe/fedml_refusals.py`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from fedclip_plugin.recipe.schema.types import Count, Flag, Positive, Section, Whole


class DefenseArgs(Section):
    """``defense_args``: FedML's own robust aggregation; ``fedclip_args.robust_aggregation`` has more, and is not that.

    Attributes
    ----------
    enable_defense
        Whether the server defends; false keeps the section without using it.
    defense_type
        How updates are averaged robustly: ``krum``, ``multikrum``, or ``norm_diff_clipping`` (updates are cut to
        ``norm_bound``).
    byzantine_client_num
        How many bad silos ``krum`` and ``multikrum`` tolerate.
    krum_param_m
        How many updates ``multikrum`` averages.
    norm_bound
        Largest Euclidean norm of an update, for ``norm_diff_clipping``.
    """

    enable_defense: Flag
    defense_type: Literal["krum", "multikrum", "norm_diff_clipping"]
    byzantine_client_num: Count | None = None
    krum_param_m: Annotated[Whole, Field(ge=2)] | None = None
    norm_bound: Positive | None = None


class AttackArgs(Section):
    """``attack_args``: an attack that the server simulates, for experiments with defences.

    Attributes
    ----------
    enable_attack
        Whether the server simulates an attack; false keeps the section without using it.
    attack_type
        ``byzantine``: some silos send something else; ``model_replacement``: one silo scales its update.
    attack_mode
        What ``byzantine`` silos send.
    byzantine_client_num
        How many silos are ``byzantine``.
    malicious_client_id
        Whose update ``model_replacement`` scales, counted from 0; without it, another one each round.
    """

    enable_attack: Flag
    attack_type: Literal["byzantine", "model_replacement"]
    attack_mode: Literal["zero", "random", "flip"] | None = None
    byzantine_client_num: Count | None = None
    malicious_client_id: Annotated[Whole, Field(ge=0)] | None = None
