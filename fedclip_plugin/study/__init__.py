"""Studies: many federations in one job, and the tables that compare them; nothing here but `job` needs torch.

Names are handed on lazily: who only checks a study's file waits for no results.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fedclip_plugin.study.running.answer_counts import Counts, Drawn, Kinds, Pictured
    from fedclip_plugin.study.running.cell_result import (
        Accuracy,
        CellResult,
        ClientAccuracy,
        Costs,
        Machine,
        RoundCurve,
        SourceAccuracy,
    )
    from fedclip_plugin.study.running.own_answers import KeptAnswers
    from fedclip_plugin.study.running.plan import Cell, Plan
    from fedclip_plugin.study.running.results_folder import ResultsFolder
    from fedclip_plugin.study.tables.study_results import StudyResults

_HOMES = {
    **dict.fromkeys(("Counts", "Drawn", "Kinds", "Pictured"), "running.answer_counts"),
    **dict.fromkeys(
        ("Accuracy", "CellResult", "ClientAccuracy", "Costs", "Machine", "RoundCurve", "SourceAccuracy"),
        "running.cell_result",
    ),
    "KeptAnswers": "running.own_answers",
    **dict.fromkeys(("Cell", "Plan"), "running.plan"),
    "ResultsFolder": "running.results_folder",
    "StudyResults": "tables.study_results",
}

__all__ = [
    "Accuracy",
    "KeptAnswers",
    "Cell",
    "CellResult",
    "ClientAccuracy",
    "Costs",
    "Counts",
    "RoundCurve",
    "Drawn",
    "StudyResults",
    "Kinds",
    "Machine",
    "Pictured",
    "Plan",
    "ResultsFolder",
    "SourceAccuracy",
]


def __getattr__(name: str) -> Any:
    """Import a public name from its module on first use (PEP 562)."""
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
