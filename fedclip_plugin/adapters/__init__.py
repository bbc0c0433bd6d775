"""What sits on the frozen features: one file a method, and the table that names them."""

from fedclip_plugin.adapters.attention_gate import AttentionGate
from fedclip_plugin.adapters.clip_adapter import ClipAdapter
from fedclip_plugin.adapters.objective import contrastive_loss, scores
from fedclip_plugin.adapters.registry import ADAPTERS, create_adapter
from fedclip_plugin.adapters.sigmoid_gate import SigmoidGate

__all__ = ["ADAPTERS", "AttentionGate", "ClipAdapter", "SigmoidGate", "contrastive_loss", "create_adapter", "scores"]
