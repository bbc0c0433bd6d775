"""Names for the arrays that go through an export."""

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]
"""Pixels, features or logits."""

Image = npt.NDArray[np.uint8]
"""RGB, ``[H, W, 3]``."""
