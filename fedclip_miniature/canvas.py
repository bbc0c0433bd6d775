"""Raster tools that all styles share: filling, edges, blur, noise, light, and reduction to 64 pixels."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

from fedclip_miniature.palette import Palette
from fedclip_miniature.shapes import Part, Points

Plane = npt.NDArray[np.float32]
"""A canvas of floats: [CANVAS, CANVAS], or [CANVAS, CANVAS, 3] for colour, 0 to 255."""

Labels = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]

CANVAS = 128
"""Side in pixels of the square on which everything is drawn."""

SIZE = 64
"""Side in pixels of the finished image."""


def area(outline: Points) -> float:
    """Return the area inside an outline (shoelace formula), in square units of its coordinates."""
    x, y = outline[:, 0], outline[:, 1]
    return float(abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2)


def labels(parts: list[Part], smallest: float = 0.0) -> Labels:
    """Rasterise parts as their number counted from 1 (0 is the ground).

    ``smallest`` leaves out outlines of less area, in square pixels, so that eyes and strings get no outline
    of their own.
    """
    image = Image.new("L", (CANVAS, CANVAS), 0)
    pen = ImageDraw.Draw(image)
    for number, item in enumerate(parts, start=1):
        for outline in item.outlines:
            if area(outline) >= smallest:
                pen.polygon([(float(x), float(y)) for x, y in outline], fill=number)
    return np.asarray(image)


def coloured(label: Labels, parts: list[Part], palette: Palette) -> Plane:
    """Look up each pixel's colour; the ground is black. Returns [CANVAS, CANVAS, 3]."""
    table = np.zeros((len(parts) + 1, 3), dtype=np.float32)
    table[1:] = [palette[item.role] for item in parts]
    return table[label]


def edges(label: Labels | Mask) -> Mask:
    """Mark the pixels whose right or lower neighbour has another label."""
    found = np.zeros(label.shape, dtype=bool)
    found[:, :-1] |= label[:, 1:] != label[:, :-1]
    found[:-1] |= label[1:] != label[:-1]
    return found


def thickened(mask: Mask, width: int) -> Mask:
    """Widen marked lines to ``width`` pixels."""
    if width <= 1:
        return mask
    wide = mask.copy()
    wide[1:] |= mask[:-1]
    wide[:, 1:] |= wide[:, :-1].copy()
    if width == 2:
        return wide
    image = Image.fromarray(mask.astype(np.uint8) * 255).filter(ImageFilter.MaxFilter(width // 2 * 2 + 1))
    thick = np.asarray(image) > 0
    return thick | wide if width % 2 == 0 else thick


def blurred(plane: npt.ArrayLike, radius: float) -> Plane:
    """Blur a plane of values 0 to 1 (8 bits deep)."""
    image = Image.fromarray((np.clip(np.asarray(plane), 0, 1) * 255).astype(np.uint8))
    return np.asarray(image.filter(ImageFilter.GaussianBlur(radius)), dtype=np.float32) / 255


def blurred_colour(image: Plane, radius: float) -> Plane:
    """Blur a colour canvas of values 0 to 255."""
    return blurred(image / 255, radius) * 255


def noise(rng: np.random.Generator, cells: int = CANVAS) -> Plane:
    """Return smooth noise of unit deviation with ``cells`` bumps across the canvas."""
    grain = rng.normal(0, 1, (cells, cells)).astype(np.float32)
    if cells == CANVAS:
        return grain
    return np.asarray(Image.fromarray(grain).resize((CANVAS, CANVAS), Image.Resampling.BICUBIC))


def relief(mask: Plane, rng: np.random.Generator, roundness: float) -> Plane:
    """Light a silhouette as if it were rounded, from a random direction above; about -1 (shadow) to 1."""
    height = blurred(mask, roundness) * 0.9 + blurred(mask, roundness / 2) * 0.5
    down, across = np.gradient(height)
    source = rng.uniform(-0.9 * np.pi, -0.1 * np.pi)
    lit = -(across * np.cos(source) + down * np.sin(source)) * 9
    clipped: Plane = np.clip(lit, -1.2, 1.2).astype(np.float32)
    return clipped


def cast_shadow(parts_mask: Plane, bottom: float, rng: np.random.Generator) -> Plane:
    """Return how dark the ground is, 0 to 1, under an object standing at ``bottom`` pixels from the top."""
    columns = np.nonzero(parts_mask.any(axis=0))[0]
    left, right = (float(columns[0]), float(columns[-1])) if len(columns) else (0.0, 0.0)
    shift, height = rng.uniform(-8, 8), rng.uniform(4, 8)
    pool = Image.new("L", (CANVAS, CANVAS), 0)
    ImageDraw.Draw(pool).ellipse((left + shift, bottom - height, right + shift, bottom + height * 0.8), fill=255)
    return blurred(np.asarray(pool) / 255, 3.5)


def reduced(image: Plane) -> npt.NDArray[np.uint8]:
    """Average a colour canvas down to the finished [64, 64, 3] image."""
    full = Image.fromarray(np.clip(image, 0, 255).astype(np.uint8))
    return np.asarray(full.resize((SIZE, SIZE), Image.Resampling.BOX))
