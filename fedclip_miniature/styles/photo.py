"""The photo style: rounded light, ground shadow, lens blur, colour cast, grain."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fedclip_miniature.canvas import (
    CANVAS,
    SIZE,
    Plane,
    blurred,
    blurred_colour,
    cast_shadow,
    coloured,
    edges,
    noise,
    reduced,
    relief,
)
from fedclip_miniature.drawing import Drawing
from fedclip_miniature.scenery import scenery


def _ground(drawing: Drawing, rng: np.random.Generator) -> Plane:
    floor = drawing.box[3]
    scene = blurred_colour(scenery(drawing.setting, floor, rng), rng.uniform(0.6, 2.2))
    shaded: Plane = scene * (1 - 0.42 * cast_shadow(drawing.mask, floor, rng))[..., None]
    return shaded


def _subject(drawing: Drawing, light: float, texture: float, rng: np.random.Generator) -> Plane:
    creases = blurred(edges(drawing.label), 1.0)
    tops = np.linspace(1.1, 0.9, CANVAS, dtype=np.float32)[:, None]
    shade = (1 + light * relief(drawing.mask, rng, 6)) * tops * (1 - 0.34 * creases)
    fur = 1 + texture * (0.045 * noise(rng, 40) + 0.035 * noise(rng, 90))
    lit: Plane = coloured(drawing.label, drawing.parts, drawing.palette) * (shade * fur)[..., None]
    return lit


def photo(
    drawing: Drawing,
    rng: np.random.Generator,
    light: float = 0.34,
    texture: float = 1.0,
    cast: float = 0.05,
    exposure: float = 0.18,
    defocus: float = 0.5,
    haze: float = 0.0,
    grain: float = 4.0,
) -> npt.NDArray[np.uint8]:
    """Render a drawing as a photo.

    Parameters
    ----------
    light, texture
        Strength of light and shade on the object, and of its surface.
    cast, grain
        Deviation of the colour cast per channel, and of the sensor noise, of 255.
    exposure
        Half the width of the range of exposures, about 1.
    defocus, haze
        Largest blur of the subject in canvas pixels, and largest share of grey veil over the image.
    """
    cover: Plane = blurred(drawing.mask, 0.7)[..., None]
    image: Plane = _ground(drawing, rng) * (1 - cover) + _subject(drawing, light, texture, rng) * cover
    sharp = blurred_colour(image, rng.uniform(0, defocus))
    tint, gain = 1 + rng.normal(0, cast, 3), 1 + rng.uniform(-exposure, exposure)
    veil = rng.uniform(0, haze)
    small = reduced(sharp * tint * gain * (1 - veil) + rng.uniform(110, 220) * veil).astype(np.float32)
    return np.clip(small + rng.normal(0, grain, (SIZE, SIZE, 1)), 0, 255).astype(np.uint8)
