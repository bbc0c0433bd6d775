"""The run folder: recipe, metrics and adapters on disk; numpy and safetensors only."""

from fedclip_plugin.runs.adapter_file import SavedAdapter, load_adapter, save_adapter
from fedclip_plugin.runs.run_folder import RunFolder

__all__ = ["RunFolder", "SavedAdapter", "load_adapter", "save_adapter"]
