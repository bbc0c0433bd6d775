"""Studies: many federations in one job, and the tables that compare them; nothing here but `job` needs torch."""

from fedclip_plugin.study.running.answer_counts import Counts, Drawn, Kinds, Pictured
from fedclip_plugin.study.running.cell_result import Accuracy, CellResult, Costs, Curve, Machine, SourceAccuracy
from fedclip_plugin.study.running.own_answers import Answers
from fedclip_plugin.study.running.plan import Cell, Plan
from fedclip_plugin.study.running.results_folder import ResultsFolder
from fedclip_plugin.study.tables.study_results import StudyResults

__all__ = [
    "Accuracy",
    "Answers",
    "Cell",
    "CellResult",
    "Costs",
    "Counts",
    "Curve",
    "Drawn",
    "StudyResults",
    "Kinds",
    "Machine",
    "Pictured",
    "Plan",
    "ResultsFolder",
    "SourceAccuracy",
]
