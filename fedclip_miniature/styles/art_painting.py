"""The art_painting style: brush strokes along the forms, in the colours of a school of painting."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from fedclip_miniature.canvas import CANVAS, Plane, blurred, blurred_colour, coloured, edges, noise, reduced, relief
from fedclip_miniature.drawing import Drawing
from fedclip_miniature.palette import RGB
from fedclip_miniature.scenery import scenery

SCHOOLS: tuple[tuple[RGB, RGB, RGB], ...] = (
    ((54, 40, 78), (206, 126, 70), (255, 236, 176)),
    ((30, 62, 110), (92, 160, 178), (250, 240, 206)),
    ((92, 44, 58), (214, 118, 112), (255, 226, 204)),
    ((38, 78, 66), (142, 168, 88), (252, 240, 190)),
    ((64, 58, 124), (176, 138, 192), (252, 232, 228)),
    ((70, 52, 40), (186, 146, 92), (248, 232, 198)),
)
"""Colour ramps from shadow over middle to light, towards which a painting's colours are drawn."""


def _in_school(image: Plane, pull: float, rng: np.random.Generator) -> Plane:
    shadow, middle, light = np.asarray(SCHOOLS[int(rng.integers(len(SCHOOLS)))], dtype=np.float32)
    value = np.clip(image.mean(axis=2, keepdims=True) / 255, 0, 1)
    ramp = np.where(value < 0.5, shadow + (middle - shadow) * value * 2, middle + (light - middle) * (value * 2 - 1))
    painted = image * (1 - pull) + ramp * pull
    return np.clip(128 + (painted - 128) * 1.22 + 4, 0, 255).astype(np.float32)


def _directions(mask: Plane, rng: np.random.Generator) -> Plane:
    down, across = np.gradient(blurred(mask, 3))
    flow = noise(rng, 4) * 0.9 + rng.uniform(0, np.pi)
    return np.where(np.hypot(across, down) > 0.015, np.arctan2(across, -down), flow).astype(np.float32)


def _stroke(
    pen: ImageDraw.ImageDraw,
    source: Plane,
    spots: npt.NDArray[np.int64],
    angle: Plane,
    reach: float,
    width: int,
    rng: np.random.Generator,
) -> None:
    rows, columns = spots
    heading = angle[rows, columns] + rng.normal(0, 0.25, len(rows))
    dx, dy = np.cos(heading) * reach, np.sin(heading) * reach
    tone = source[rows, columns] + rng.normal(0, 9, (len(rows), 1)) + rng.normal(0, 8, (len(rows), 3))
    tones = np.clip(tone, 0, 255).astype(int).tolist()
    ends = np.stack([columns - dx, rows - dy, columns + dx, rows + dy], axis=1).tolist()
    for end, colour in zip(ends, tones, strict=True):
        pen.line(end, fill=tuple(colour), width=width)


def art_painting(drawing: Drawing, rng: np.random.Generator, difficulty: float) -> npt.NDArray[np.uint8]:
    """Render a drawing as a painting; difficulty widens the brush and pulls the colours together."""
    mask = drawing.mask
    lit = 1 + 0.4 * relief(mask, rng, 6) - 0.25 * blurred(edges(drawing.label), 1.0)
    figure = coloured(drawing.label, drawing.parts, drawing.palette) * lit[..., None]
    scene = np.where(mask[..., None] > 0, figure, scenery(drawing.setting, drawing.box[3], rng, 0.6))
    source = _in_school(scene, float(np.clip(rng.uniform(0.1, 0.3) + 0.42 * difficulty, 0, 0.85)), rng)
    canvas = Image.fromarray(blurred_colour(source, 4).astype(np.uint8))
    pen, angle, brush = ImageDraw.Draw(canvas), _directions(mask, rng), 0.75 + 0.6 * difficulty
    for count, reach, width in ((230, 13.0, 8), (330, 8.0, 5)):
        spots = rng.integers(0, CANVAS, (2, count))
        _stroke(pen, source, spots, angle, reach * brush, round(width * brush), rng)
    inside = np.stack(np.nonzero(mask))
    chosen = inside[:, rng.integers(0, inside.shape[1], 620)]
    _stroke(pen, source, chosen, angle, 3.6 * brush, max(2, round(2.2 * brush)), rng)
    weave = 1 + 0.012 * np.sign(np.sin(np.arange(CANVAS) * np.pi / 2 + 0.5))[None, :] + 0.025 * noise(rng)
    return reduced(np.asarray(canvas, dtype=np.float32) * weave[..., None])
