"""What sits on the frozen features: one file a method, and the table that names them."""

from fedclip_plugin.adapters.adapter import Adapter, Frozen
from fedclip_plugin.adapters.attention_gate import AttentionGate
from fedclip_plugin.adapters.clip_adapter import ClipAdapter
from fedclip_plugin.adapters.full import Full
from fedclip_plugin.adapters.linear_probe import LinearProbe
from fedclip_plugin.adapters.lora import Lora
from fedclip_plugin.adapters.objective import classification_loss, contrastive_loss, scores
from fedclip_plugin.adapters.parameters import load_parameters, parameters_of
from fedclip_plugin.adapters.pixel_adapter import PixelAdapter
from fedclip_plugin.adapters.prompt import Prompt
from fedclip_plugin.adapters.registry import ADAPTERS, create_adapter
from fedclip_plugin.adapters.sigmoid_gate import SigmoidGate
from fedclip_plugin.adapters.zero_shot import ZeroShot

__all__ = [
    "ADAPTERS",
    "Adapter",
    "AttentionGate",
    "ClipAdapter",
    "Frozen",
    "Full",
    "LinearProbe",
    "Lora",
    "PixelAdapter",
    "Prompt",
    "SigmoidGate",
    "ZeroShot",
    "classification_loss",
    "contrastive_loss",
    "create_adapter",
    "load_parameters",
    "parameters_of",
    "scores",
]
