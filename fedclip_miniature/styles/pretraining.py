"""The styles of the pretraining corpus: photo, icon, watercolour, line drawing, silhouette, toy.

None of art_painting, cartoon and sketch is here: those domains stay unseen until a federation meets them.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fedclip_miniature.canvas import (
    CANVAS,
    blurred_colour,
    cast_shadow,
    coloured,
    edges,
    noise,
    reduced,
    relief,
    thickened,
)
from fedclip_miniature.drawing import Drawing, Style
from fedclip_miniature.scenery import SETTINGS, scenery
from fedclip_miniature.styles.photo import photo

RGB8 = npt.NDArray[np.uint8]

_WHITE, _BLACK, _CHALKBOARD, _CHALK = (
    np.array(rgb, dtype=np.float32) for rgb in ((255, 255, 255), (20, 20, 20), (40, 60, 50), (235, 235, 225))
)


def _icon(drawing: Drawing, rng: np.random.Generator) -> RGB8:
    image = np.empty((CANVAS, CANVAS, 3), dtype=np.float32)
    image[:] = 249 if rng.random() < 0.5 else rng.uniform(150, 250, 3)
    if drawing.setting != "plain":
        horizon = int(CANVAS * rng.uniform(0.55, 0.8))
        image[:horizon], image[horizon:] = SETTINGS[drawing.setting]
    return reduced(
        np.where(drawing.label[..., None] > 0, coloured(drawing.label, drawing.parts, drawing.palette), image)
    )


def _watercolour(drawing: Drawing, rng: np.random.Generator) -> RGB8:
    wash = scenery(drawing.setting, drawing.box[3], rng, 0.4) * 0.45 + 0.55 * 250
    figure = coloured(drawing.label, drawing.parts, drawing.palette) * 0.75 + 60
    pooled = figure * (1 + 0.13 * noise(rng, 9))[..., None]
    image = np.where(drawing.label[..., None] > 0, pooled, wash * (1 + 0.06 * noise(rng, 7))[..., None])
    return reduced(blurred_colour(image, rng.uniform(0.8, 2.4)) * (1 + 0.03 * noise(rng))[..., None])


def _line(drawing: Drawing, rng: np.random.Generator) -> RGB8:
    paper, ink = (_CHALKBOARD, _CHALK) if rng.random() < 0.25 else (_WHITE, _BLACK)
    dark = [number for number, item in enumerate(drawing.parts, start=1) if item.role == "dark"]
    drawn = thickened(edges(drawing.label), int(rng.integers(2, 4))) | np.isin(drawing.label, dark)
    return reduced(np.where(drawn[..., None], ink, paper))


def _silhouette(drawing: Drawing, rng: np.random.Generator) -> RGB8:
    ground = scenery(drawing.setting, drawing.box[3], rng, 0.3) * 0.5 + 0.5 * 255
    return reduced(np.where(drawing.label[..., None] > 0, drawing.palette["main"] * 0.5, ground))


def _toy(drawing: Drawing, rng: np.random.Generator) -> RGB8:
    mask = drawing.mask
    light = 1 + 0.7 * relief(mask, rng, 7)[..., None]
    ground = scenery("plain", drawing.box[3], rng) * (1 - 0.4 * cast_shadow(mask, drawing.box[3], rng))[..., None]
    figure = coloured(drawing.label, drawing.parts, drawing.palette) * light + 60 * np.clip(light - 1.25, 0, 1)
    return reduced(np.where(mask[..., None] > 0, figure, ground))


PRETRAINING_STYLES: dict[str, tuple[float, Style]] = {
    "photo": (0.57, photo),
    "icon": (0.12, _icon),
    "watercolour": (0.10, _watercolour),
    "toy": (0.08, _toy),
    "line": (0.08, _line),
    "silhouette": (0.05, _silhouette),
}
"""Share of the corpus and renderer of each style."""
