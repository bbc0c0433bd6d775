"""The built-in miniature: a procedurally drawn data set in PACS's image.

Nothing here imports torch; the pretraining of clip-tiny is the package `miniature.pretraining`.
"""

from fedclip_miniature.dataset import DEFAULT_DIFFICULTY, DOMAINS, ensure_miniature, render_image
from fedclip_miniature.objects.catalogue import CLASSES, OBJECTS

__all__ = [
    "CLASSES",
    "DEFAULT_DIFFICULTY",
    "DOMAINS",
    "OBJECTS",
    "ensure_miniature",
    "render_image",
]
