"""What sits on the frozen features: one file a method, and the table that names them."""

from fedclip_plugin.adapters.attention_gate import AttentionGate
from fedclip_plugin.adapters.objective import contrastive_loss, scores
from fedclip_plugin.adapters.registry import ADAPTERS, create_adapter

__all__ = ["ADAPTERS", "AttentionGate", "contrastive_loss", "create_adapter", "scores"]
