"""The cartoon style: flat bright colours, cel shading, patterned grounds, ink to suit the figure's size."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from fedclip_miniature.canvas import CANVAS, Mask, Plane, coloured, edges, labels, reduced, relief, thickened
from fedclip_miniature.drawing import Drawing
from fedclip_miniature.palette import RGB, Palette

GROUNDS: tuple[RGB, ...] = (
    (255, 224, 112),
    (140, 214, 240),
    (255, 174, 192),
    (172, 224, 146),
    (248, 244, 230),
    (204, 178, 242),
    (255, 190, 126),
)
"""Paper colours of the grounds."""

INK = np.array((34.0, 28.0, 44.0), dtype=np.float32)

Pen = ImageDraw.ImageDraw


def _rays(pen: Pen, tone: RGB, rng: np.random.Generator) -> None:
    x, y = rng.uniform(0.2, 0.8, 2) * CANVAS
    for angle in np.arange(12) * np.pi / 6 + rng.uniform(0, 1):
        ends = [(x + 200 * np.cos(a), y + 200 * np.sin(a)) for a in (angle, angle + np.pi / 12)]
        pen.polygon([(x, y), *ends], fill=tone)


def _dots(pen: Pen, tone: RGB, rng: np.random.Generator) -> None:
    gap = int(rng.integers(13, 21))
    for row, y in enumerate(range(0, CANVAS + gap, gap)):
        for x in range(-(row % 2) * gap // 2, CANVAS + gap, gap):
            pen.ellipse((x - 4, y - 4, x + 4, y + 4), fill=tone)


def _hill(pen: Pen, tone: RGB, rng: np.random.Generator) -> None:
    top, x = CANVAS * rng.uniform(0.6, 0.78), rng.uniform(14, CANVAS - 14)
    pen.ellipse((x - 13, 8, x + 13, 34), fill=(255, 246, 206))
    pen.ellipse((-60, top, CANVAS + 60, top + 150), fill=tone)


def _stripes(pen: Pen, tone: RGB, rng: np.random.Generator) -> None:
    lean, gap = int(rng.integers(-64, 65)), int(rng.integers(20, 32))
    for x in range(-2 * CANVAS, 2 * CANVAS, gap):
        pen.polygon([(x, 0), (x + gap // 2, 0), (x + gap // 2 + lean, CANVAS), (x + lean, CANVAS)], fill=tone)


_PATTERNS: tuple[Callable[[Pen, RGB, np.random.Generator], None], ...] = (_rays, _dots, _hill, _stripes)


def _ground(rng: np.random.Generator) -> Plane:
    first, other = (np.asarray(GROUNDS[int(k)]) for k in rng.choice(len(GROUNDS), 2, replace=False))
    red, green, blue = (int(c) for c in first * 0.6 + other * 0.4)
    image = Image.new("RGB", (CANVAS, CANVAS), (int(first[0]), int(first[1]), int(first[2])))
    _PATTERNS[int(rng.integers(len(_PATTERNS)))](ImageDraw.Draw(image), (red, green, blue), rng)
    return np.asarray(image, dtype=np.float32)


def _vivid(palette: Palette, amount: float) -> Palette:
    return {
        role: np.clip(colour.mean() + (colour - colour.mean()) * (1 + amount) + 14, 0, 255)
        for role, colour in palette.items()
    }


def _outlines(drawing: Drawing, weight: float) -> Mask:
    """Thick around the silhouette, thin between the parts; parts under 60 square pixels get none."""
    left, top, right, bottom = drawing.box
    size = max(right - left, bottom - top) / CANVAS
    contour = thickened(edges(drawing.label > 0), max(2, round((0.9 + 2.2 * size) * weight)))
    inner = edges(labels(drawing.parts, smallest=60.0))
    return contour | (thickened(inner, 2) if size > 0.7 else inner)


def cartoon(drawing: Drawing, rng: np.random.Generator, difficulty: float) -> npt.NDArray[np.uint8]:
    """Render a drawing as a cartoon; difficulty thickens the ink, deepens the shade and adds screen dots."""
    palette = _vivid(drawing.palette, 0.3 + 0.3 * difficulty)
    light = relief(drawing.mask, rng, 7)
    tone = np.where(light < -0.24, 0.84 - 0.16 * difficulty, np.where(light > 0.5, 1.14, 1.0)).astype(np.float32)
    if rng.random() < 0.4 * difficulty:
        rows, columns = np.mgrid[0:CANVAS, 0:CANVAS]
        screen = np.hypot((rows + columns) % 8 - 3.5, (rows - columns) % 8 - 3.5) < 2.6
        tone = tone * np.where(screen, 0.72, 1.04).astype(np.float32)
    figure = coloured(drawing.label, drawing.parts, palette) * tone[..., None]
    down, across = (round(rng.normal(0, 2.0 * difficulty)) for _ in range(2))  # colour plates printed out of register
    printed = np.roll(np.where(drawing.label[..., None] > 0, figure, np.nan), (down, across), (0, 1))
    image = np.where(np.isnan(printed), _ground(rng), printed)
    ink = _outlines(drawing, float(rng.uniform(0.75, 1.0 + 0.4 * difficulty)))
    return reduced(np.where(ink[..., None], INK, image))
