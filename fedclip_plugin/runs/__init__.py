"""The run folder: recipe, metrics and adapters on disk; numpy and safetensors only."""

from fedclip_plugin.runs.adapter_file import SavedAdapter, below_zero_shot, load_adapter, save_adapter
from fedclip_plugin.runs.round_record import ClientScores, RoundRecord, SiloRecord, SolvedRecord
from fedclip_plugin.runs.run_folder import RunFolder

__all__ = [
    "ClientScores",
    "RoundRecord",
    "RunFolder",
    "SavedAdapter",
    "SiloRecord",
    "SolvedRecord",
    "below_zero_shot",
    "load_adapter",
    "save_adapter",
]
