"""Backgrounds: simple places with a horizon that suits where the object stands."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw

from fedclip_miniature.canvas import CANVAS, Plane, noise
from fedclip_miniature.palette import RGB

SETTINGS: dict[str, tuple[RGB, RGB]] = {
    "grass": ((150, 198, 236), (110, 162, 74)),
    "sand": ((172, 210, 238), (226, 198, 142)),
    "snow": ((186, 204, 226), (238, 242, 248)),
    "sea": ((174, 214, 238), (62, 128, 172)),
    "night": ((34, 40, 84), (58, 66, 86)),
    "room": ((214, 200, 174), (152, 110, 76)),
    "forest": ((150, 184, 150), (88, 118, 62)),
    "plain": ((225, 222, 214), (225, 222, 214)),
}
"""Each place's colours above and below the horizon."""

Pen = ImageDraw.ImageDraw


def _hills(pen: Pen, horizon: int, tone: RGB, rng: np.random.Generator) -> None:
    for shade in (1.06, 0.94):
        x, width, height = rng.uniform(0, CANVAS), rng.uniform(40, 80), rng.uniform(8, 26)
        colour = tuple(int(min(255, c * shade)) for c in tone)
        pen.ellipse((x - width, horizon - height, x + width, horizon + height), fill=colour)


def _clouds(pen: Pen, horizon: int, rng: np.random.Generator) -> None:
    for _ in range(int(rng.integers(0, 3))):
        x, y = rng.uniform(0, CANVAS), rng.uniform(6, max(8, horizon * 0.5))
        for dx, size in ((-9, 5), (0, 8), (10, 6)):
            pen.ellipse(
                (x + dx - size * 1.4, y - size * 0.6, x + dx + size * 1.4, y + size * 0.6),
                fill=(244, 247, 250),
            )


def _meadow(pen: Pen, horizon: int, rng: np.random.Generator) -> None:
    _clouds(pen, horizon, rng)
    _hills(pen, horizon, (132, 172, 120), rng)


def _dunes(pen: Pen, horizon: int, rng: np.random.Generator) -> None:
    _hills(pen, horizon, (226, 196, 146), rng)


def _winter(pen: Pen, horizon: int, rng: np.random.Generator) -> None:
    _hills(pen, horizon, (212, 222, 236), rng)
    for _ in range(3):
        x, height = rng.uniform(0, CANVAS), rng.uniform(14, 30)
        pen.polygon([(x - height / 3, horizon), (x, horizon - height), (x + height / 3, horizon)], fill=(92, 122, 112))


def _stars(pen: Pen, horizon: int, rng: np.random.Generator) -> None:
    for _ in range(14):
        x, y = rng.uniform(0, CANVAS), rng.uniform(0, horizon)
        pen.rectangle((x, y, x + 1, y + 1), fill=(238, 236, 214))
    x = rng.uniform(10, CANVAS - 26)
    pen.ellipse((x, 8, x + 15, 23), fill=(244, 240, 206))


def _furnish(pen: Pen, horizon: int, rng: np.random.Generator) -> None:
    pen.rectangle((0, horizon - 4, CANVAS, horizon), fill=(240, 234, 222))
    if rng.random() < 0.6:
        x, width = rng.uniform(4, 80), rng.uniform(20, 36)
        pen.rectangle((x, 8, x + width, 8 + width), fill=(190, 216, 232), outline=(246, 242, 232), width=3)


def _trees(pen: Pen, horizon: int, rng: np.random.Generator) -> None:
    for _ in range(int(rng.integers(4, 8))):
        x, width = rng.uniform(0, CANVAS), rng.uniform(2, 5)
        bark = int(rng.uniform(52, 96))
        pen.rectangle((x - width, -1, x + width, horizon + rng.uniform(0, 6)), fill=(bark + 18, bark, bark - 18))
    for _ in range(12):
        x, y, size = rng.uniform(0, CANVAS), rng.uniform(-6, horizon * 0.4), rng.uniform(8, 16)
        shade = rng.uniform(0.7, 1.1)
        pen.ellipse(
            (x - size, y - size * 0.7, x + size, y + size * 0.7),
            fill=(int(84 * shade), int(130 * shade), int(76 * shade)),
        )


_FURNITURE: dict[str, Callable[[Pen, int, np.random.Generator], None]] = {
    "grass": _meadow, "sand": _dunes, "snow": _winter, "night": _stars, "room": _furnish, "forest": _trees,
}  # fmt: skip


def scenery(setting: str, floor: float, rng: np.random.Generator, detail: float = 1.0) -> Plane:
    """Draw the background of a name in `SETTINGS`, [CANVAS, CANVAS, 3].

    The object stands ``floor`` pixels from the top, and the horizon lies somewhat above it; ``detail`` is the strength
    of the texture, 0 for none.
    """
    if setting == "plain":
        tone = rng.uniform(128, 245, 3).astype(np.float32)
        slope = np.linspace(-1, 1, CANVAS, dtype=np.float32)[:, None, None] * np.float32(rng.normal() * 0.08)
        return np.broadcast_to(tone * (1 + slope), (CANVAS, CANVAS, 3)).copy()
    horizon = int(np.clip(floor - rng.uniform(10, 42), CANVAS * 0.36, CANVAS * 0.8))
    sky, ground = (np.asarray(c) + rng.normal(0, 9, 3) for c in SETTINGS[setting])
    y = np.arange(CANVAS)[:, None, None] / CANVAS
    haze = 0.16 if setting != "night" else -0.2
    flat = np.where(y * CANVAS < horizon, sky * (0.96 + haze * y), ground * (0.8 + 0.3 * y))
    image = Image.fromarray(np.clip(np.broadcast_to(flat, (CANVAS, CANVAS, 3)), 0, 255).astype(np.uint8))
    if setting in _FURNITURE:
        _FURNITURE[setting](ImageDraw.Draw(image), horizon, rng)
    scene = np.asarray(image, dtype=np.float32).copy()
    texture = noise(rng, 20) * 0.5 + noise(rng, 52) * 0.5
    scene[horizon:] = scene[horizon:] * (1 + 0.08 * detail * texture[horizon:, :, None])
    if setting == "sea":
        rows, columns = np.mgrid[horizon:CANVAS, 0:CANVAS]
        scene[horizon:] *= (1 + 0.1 * np.sin(columns * 0.35 + rows * 1.3 + rng.uniform(0, 6)))[:, :, None]
    return scene
