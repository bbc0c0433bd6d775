"""The built-in miniature: a procedurally drawn data set in PACS's image.

Nothing here imports torch; the pretraining of clip-tiny is the package `miniature.pretraining`.
"""

from fedclip_plugin.miniature.dataset import DEFAULT_DIFFICULTY, DOMAINS, ensure_miniature, render_image
from fedclip_plugin.miniature.objects import CLASSES, OBJECTS
from fedclip_plugin.miniature.sheet import draw_sheet

__all__ = [
    "CLASSES",
    "DEFAULT_DIFFICULTY",
    "DOMAINS",
    "OBJECTS",
    "draw_sheet",
    "ensure_miniature",
    "render_image",
]
