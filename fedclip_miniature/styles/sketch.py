"""The sketch style: several passes of an unsteady pencil, hatching, paper."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from fedclip_miniature.canvas import CANVAS, Mask, Plane, blurred, edges, labels, noise, reduced, relief, thickened
from fedclip_miniature.drawing import Drawing


def _shaken(lines: Plane, reach: float, rng: np.random.Generator) -> Plane:
    """Shift every line by smooth noise of ``reach`` pixels, as an unsteady hand does."""
    rows, columns = np.mgrid[0:CANVAS, 0:CANVAS]
    dy, dx = (noise(rng, 7) * reach + rng.normal(0, reach * 0.6) for _ in range(2))
    shaken: Plane = lines[
        np.clip(np.rint(rows + dy), 0, CANVAS - 1).astype(int),
        np.clip(np.rint(columns + dx), 0, CANVAS - 1).astype(int),
    ]
    return shaken


def _hatching(rng: np.random.Generator) -> Plane:
    """Parallel strokes over the whole canvas, 0 to 1."""
    lean = rng.uniform(0.5, 1.1) * (1 if rng.random() < 0.7 else -1)
    across, along = np.array((np.cos(lean), np.sin(lean))), np.array((-np.sin(lean), np.cos(lean)))
    image = Image.new("L", (CANVAS, CANVAS), 0)
    pen = ImageDraw.Draw(image)
    gap = rng.uniform(4.2, 6.5)
    for step in np.arange(-95, 95, gap):
        middle = CANVAS / 2 + across * (step + rng.normal(0, 0.6))
        start, end = middle - along * 120 + rng.normal(0, 2, 2), middle + along * 120 + rng.normal(0, 2, 2)
        pen.line([tuple(start), tuple(end)], fill=int(rng.uniform(90, 170)), width=2)
    return np.asarray(image, dtype=np.float32) / 255


def _shaded(drawing: Drawing, rng: np.random.Generator) -> Mask:
    """Where hatching goes: dark parts, the shadow side, now and then the second colour."""
    numbers = [0]
    for number, item in enumerate(drawing.parts, start=1):
        if item.role == "dark" or (item.role in ("second", "wood") and rng.random() < 0.65):
            numbers.append(number)
    chosen = np.isin(drawing.label, numbers[1:])
    return chosen | ((relief(drawing.mask, rng, 8) < -0.32) & (drawing.label > 0))


def _ground_line(drawing: Drawing, rng: np.random.Generator) -> Plane:
    image = Image.new("L", (CANVAS, CANVAS), 0)
    pen = ImageDraw.Draw(image)
    left, _, right, bottom = drawing.box
    for _ in range(4):
        start, y = rng.uniform(left - 14, (left + right) / 2), bottom + rng.normal(1, 1.5)
        pen.line((start, y, start + rng.uniform(20, 50), y + rng.normal(0, 1.5)), fill=110, width=1)
    return np.asarray(image, dtype=np.float32) / 255


def sketch(drawing: Drawing, rng: np.random.Generator, difficulty: float) -> npt.NDArray[np.uint8]:
    """Render a drawing as a pencil sketch; difficulty shakes the hand, breaks lines and dirties the paper."""
    contour, inner = edges(drawing.label > 0), edges(labels(drawing.parts, smallest=30.0))
    lines = np.maximum(0.95 * contour, 0.75 * inner).astype(np.float32)
    graphite: Plane = np.zeros((CANVAS, CANVAS), dtype=np.float32)
    for _ in range(int(rng.integers(2, 4))):
        gaps = np.clip(1.1 - 0.45 * difficulty + 0.45 * noise(rng, 9), 0.0, 1.0)
        stroke = _shaken(lines, 0.4 + 1.0 * difficulty, rng) * gaps * rng.uniform(0.65, 1.0)
        graphite = np.maximum(graphite, stroke)
    graphite = np.maximum(graphite, 0.55 * thickened(graphite > 0.3, 2))
    graphite = np.maximum(graphite, _hatching(rng) * blurred(_shaded(drawing, rng), 0.8) * rng.uniform(0.5, 0.95))
    graphite = np.maximum(graphite, _ground_line(drawing, rng))
    smudge = blurred(graphite, 4) * 0.5 * difficulty * np.clip(noise(rng, 6), 0, 2)
    tone = np.clip(graphite * (0.85 + 0.15 * noise(rng)) + smudge, 0, 1)[..., None]
    sheet = rng.uniform(222, 248) - 12 * difficulty * rng.random() + np.array((3, 0, -9)) * rng.uniform(0, 1.5)
    paper = sheet * (1 + 0.012 * noise(rng) + 0.014 * noise(rng, 12))[..., None]
    return reduced(paper * (1 - tone) + rng.uniform(30, 60) * tone)
