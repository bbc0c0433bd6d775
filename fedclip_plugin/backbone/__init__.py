"""The frozen CLIP: where it lies, what it is, and how it encodes."""

from fedclip_plugin.backbone.locate import BUILT_IN, locate_backbone

__all__ = ["BUILT_IN", "locate_backbone"]
