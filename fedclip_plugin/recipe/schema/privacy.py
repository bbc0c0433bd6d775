"""FedML's optional sections for privacy noise, defences and simulated attacks: the parts of them that work.

Each section is given whole or left out. What FedML offers here and gets wrong stands in `recipe/fedml_refusals.py`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from fedclip_plugin.recipe.schema.types import Count, Flag, Positive, Real, Section, Whole


class DpArgs(Section):
    """``dp_args``: noise on the adapter's weights. FedML does not clip, so this is no guarantee by itself.

    Attributes
    ----------
    enable_dp
        Off keeps the section without using it.
    dp_solution_type
        ``ldp``: each silo adds noise; ``cdp``: the server adds it to the average.
    mechanism_type
        Of the noise.
    epsilon, delta, sensitivity
        The mechanism's parameters; gaussian needs epsilon <= 1 and delta > 0.
    """

    enable_dp: Flag
    dp_solution_type: Literal["ldp", "cdp"]
    mechanism_type: Literal["gaussian", "laplace"]
    epsilon: Positive
    delta: Annotated[Real, Field(ge=0, lt=1)] = 0.0
    sensitivity: Positive


class DefenseArgs(Section):
    """``defense_args``: robust aggregation at the server.

    Attributes
    ----------
    enable_defense
        Off keeps the section without using it.
    defense_type
        ``krum``, ``multikrum``, ``wise_median`` (by coordinate) or ``norm_diff_clipping``.
    byzantine_client_num
        How many bad silos (multi-)krum tolerates.
    krum_param_m
        How many updates multikrum averages.
    norm_bound
        Largest Euclidean norm of an update, for ``norm_diff_clipping``.
    """

    enable_defense: Flag
    defense_type: Literal["krum", "multikrum", "wise_median", "norm_diff_clipping"]
    byzantine_client_num: Count | None = None
    krum_param_m: Annotated[Whole, Field(ge=2)] | None = None
    norm_bound: Positive | None = None


class AttackArgs(Section):
    """``attack_args``: an attack that the server simulates, for experiments with defences.

    Attributes
    ----------
    enable_attack
        Off keeps the section without using it.
    attack_type
        ``byzantine`` or ``model_replacement``.
    attack_mode
        What byzantine silos send.
    byzantine_client_num
        How many of them.
    malicious_client_id
        Whose update ``model_replacement`` scales, counted from 0; None draws one each round.
    """

    enable_attack: Flag
    attack_type: Literal["byzantine", "model_replacement"]
    attack_mode: Literal["zero", "random", "flip"] | None = None
    byzantine_client_num: Count | None = None
    malicious_client_id: Annotated[Whole, Field(ge=0)] | None = None
