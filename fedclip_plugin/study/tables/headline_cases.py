"""The cases that a reader looks for: zero-shot CLIP, FedCLIP as the paper has it, and our best."""

from __future__ import annotations

from collections.abc import Collection
from statistics import fmean

from fedclip_plugin.methods.registry import METHODS
from fedclip_plugin.recipe import Recipe
from fedclip_plugin.study.statistics.spreads import Kind
from fedclip_plugin.study.tables.accuracy_rows import AccuracyRow, accuracy_rows
from fedclip_plugin.study.tables.study_results import StudyResults
from fedclip_plugin.text import percent

_PAPER = {"method": "fedclip", "learning_rate": 5e-5, "weight_decay": 0.2, "comm_round": 200}
"""Lu et al. 2023, section 4; the published code's settings."""

_BEST = "our best on cached features, by source validation"


def paper_case(findings: StudyResults) -> str | None:
    """Return the case that is FedCLIP with the paper's hyper-parameters, None when the study has none."""
    for case, content in findings.plan.study.cases.items():
        if len(content.grid) == 1 and _is_paper(findings.plan.recipe(case)):
            return case
    return None


def best_case(findings: StudyResults) -> str | None:
    """Return the federated method on features of the highest mean source validation; no test has a say.

    Returns
    -------
    str or None
        None until every such case is known on every target with the first seed, and where their silos, or clients,
        share images out differently: validation images differ then. Only seeds that all of them have on
        all targets count: a seed's validation split is easier or harder for everyone.
    """
    cases = [case for case in findings.plan.study.cases if _is_candidate(findings.plan.recipe(case))]
    if len({_partition(findings.plan.recipe(case)) for case in cases}) > 1:
        return None
    found = [findings.chosen(case, target) for case in cases for target in findings.plan.study.held_out()]
    seeds = set.intersection(*({cell.seed for cell in cells} for cells in found)) if found else set()
    return max(cases, key=lambda case: _validation(findings, case, seeds)) if seeds else None


def closing(findings: StudyResults, kind: Kind) -> str:
    """Return one sentence with zero-shot CLIP, the paper's FedCLIP and our best; empty when nothing is known."""
    named = {"the paper's FedCLIP": paper_case(findings), _BEST: best_case(findings)}
    found = {row.case: row for row in accuracy_rows(findings, kind) if row.selected.mean}
    rows = {label: found[case] for label, case in named.items() if case in found}
    if not rows:
        return ""
    told = [f"zero-shot CLIP {percent(next(iter(rows.values())).zero_shot.average)}"]
    told += [f"{label} ({row.title}) {_told(row)}" for label, row in rows.items()]
    return f"{kind}: {'; '.join(told)}"


def _told(row: AccuracyRow) -> str:
    return percent(row.selected.average) + (f", {row.difference.verdict}" if row.difference else "")


def _is_paper(recipe: Recipe) -> bool:
    flat = recipe.flat()
    plain = {"federation": "federated", "codec": "none", "proximal_mu": 0.0, "server_optimizer": "none"}
    plain |= {"zero_shot_distillation": 0.0}
    as_published = all(flat.get(key, usual) == usual for key, usual in plain.items())
    return as_published and all(flat[key] == value for key, value in _PAPER.items())


def _is_candidate(recipe: Recipe) -> bool:
    flat = recipe.flat()
    on_features = not METHODS[flat["method"]].on_pixels
    return on_features and flat["method"] != "zero_shot" and flat.get("federation", "federated") == "federated"


def _partition(recipe: Recipe) -> str:
    return str(sorted(recipe.data_args.model_dump(mode="json").items()))


def _validation(findings: StudyResults, case: str, seeds: Collection[int]) -> float:
    return fmean(cell.validation.selected for cell in findings.of_case(case) if cell.seed in seeds)
