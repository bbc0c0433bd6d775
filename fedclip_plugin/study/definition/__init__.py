"""What a study is: its file, its cases, its rules."""

from fedclip_plugin.study.definition.load_study import load_study
from fedclip_plugin.study.definition.study import Case, Study
from fedclip_plugin.study.definition.study_changes import study_changes

__all__ = ["Case", "Study", "load_study", "study_changes"]
