"""Studies: many federations in one job, and the tables that compare them; nothing here but `job` needs torch."""

from fedclip_plugin.study.answers import Answers
from fedclip_plugin.study.cell_result import Accuracy, CellResult, Costs, Curve, Machine, SourceAccuracy
from fedclip_plugin.study.counts import Counts, Drawn, Kinds, Pictured
from fedclip_plugin.study.findings import Findings
from fedclip_plugin.study.plan import Cell, Plan
from fedclip_plugin.study.results import ResultsFolder

__all__ = [
    "Accuracy",
    "Answers",
    "Cell",
    "CellResult",
    "Costs",
    "Counts",
    "Curve",
    "Drawn",
    "Findings",
    "Kinds",
    "Machine",
    "Pictured",
    "Plan",
    "ResultsFolder",
    "SourceAccuracy",
]
