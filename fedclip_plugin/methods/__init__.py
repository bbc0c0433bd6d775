"""What sits on the frozen features: one file a method, and the table that names them."""

from fedclip_plugin.methods.attention_gate import AttentionGate
from fedclip_plugin.methods.base import Adapter, AdapterInputs
from fedclip_plugin.methods.clip_adapter import ClipAdapter
from fedclip_plugin.methods.full import Full
from fedclip_plugin.methods.linear_probe import LinearProbe
from fedclip_plugin.methods.lora import Lora
from fedclip_plugin.methods.losses import classification_loss, contrastive_loss, scores
from fedclip_plugin.methods.parameters import load_parameters, parameters_of
from fedclip_plugin.methods.pixel_base import PixelAdapter
from fedclip_plugin.methods.prompt import Prompt
from fedclip_plugin.methods.registry import ADAPTERS, create_adapter
from fedclip_plugin.methods.sigmoid_gate import SigmoidGate
from fedclip_plugin.methods.zero_shot import ZeroShot

__all__ = [
    "ADAPTERS",
    "Adapter",
    "AttentionGate",
    "ClipAdapter",
    "AdapterInputs",
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
