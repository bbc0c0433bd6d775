"""Studies: many federations in one job, and the tables that compare them; nothing here but `job` needs torch."""

from fedclip_plugin.study.running.answer_counts import Counts, Drawn, Kinds, Pictured
from fedclip_plugin.study.running.cell_result import Accuracy, CellResult, Costs, Machine, RoundCurve, SourceAccuracy
from fedclip_plugin.study.running.own_answers import KeptAnswers
from fedclip_plugin.study.running.plan import Cell, Plan
from fedclip_plugin.study.running.results_folder import ResultsFolder
from fedclip_plugin.study.tables.study_results import StudyResults

__all__ = [
    "Accuracy",
    "KeptAnswers",
    "Cell",
    "CellResult",
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
