"""Images of noise, in which a wrong pixel shows."""

import numpy as np
from PIL import Image


def noise(width, height, seed=0):
    """Return an RGB image of drawn levels."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))
