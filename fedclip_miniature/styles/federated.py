"""The four domains of the federated data, named as in PACS: which style, pose and colours each has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fedclip_miniature.drawing import Drawing, draw
from fedclip_miniature.palette import Palette, coat_palette, random_palette
from fedclip_miniature.place import Pose
from fedclip_miniature.scenery import SETTINGS
from fedclip_miniature.styles.art_painting import art_painting
from fedclip_miniature.styles.cartoon import cartoon
from fedclip_miniature.styles.photo import PhotoLook, photo
from fedclip_miniature.styles.sketch import sketch


@dataclass(frozen=True)
class Domain:
    """How one domain draws.

    Attributes
    ----------
    style
        Drawing, generator and difficulty in, [64, 64, 3] image out.
    natural
        Share of the images in natural colours; the others take any colour.
    variety
        How far proportions vary at difficulty 1.
    turn, smallest, warp
        Pose at difficulty 1 (see `place.Pose`).
    """

    style: Callable[[Drawing, np.random.Generator, float], npt.NDArray[np.uint8]]
    natural: float
    variety: float
    turn: float
    smallest: float
    warp: float


def _photo(drawing: Drawing, rng: np.random.Generator, difficulty: float) -> npt.NDArray[np.uint8]:
    look = PhotoLook(
        light=0.34 + 0.3 * difficulty,
        texture=1.0 + 0.5 * difficulty,
        cast=0.05 + 0.04 * difficulty,
        exposure=0.16 + 0.2 * difficulty,
        defocus=0.5 + 2.0 * difficulty,
        haze=0.5 * difficulty,
        grain=4.0 + 2.0 * difficulty,
    )
    return photo(drawing, rng, look)


FEDERATED_STYLES: dict[str, Domain] = {
    "art_painting": Domain(art_painting, natural=0.6, variety=1.2, turn=0.26, smallest=0.6, warp=1.1),
    "cartoon": Domain(cartoon, natural=0.4, variety=1.7, turn=0.3, smallest=0.62, warp=1.15),
    "photo": Domain(_photo, natural=0.9, variety=1.0, turn=0.2, smallest=0.56, warp=0.7),
    "sketch": Domain(sketch, natural=1.0, variety=1.2, turn=0.24, smallest=0.62, warp=1.0),
}
"""The domains by name, in PACS's order."""


def _palette(domain: Domain, class_name: str, rng: np.random.Generator) -> Palette:
    return coat_palette(class_name, rng) if rng.random() < domain.natural else random_palette(rng)


def render_federated(
    domain_name: str, class_name: str, difficulty: float, rng: np.random.Generator
) -> npt.NDArray[np.uint8]:
    """Render one image of a domain; at difficulty 0 the poses are nearly those of the pretraining corpus."""
    domain = FEDERATED_STYLES[domain_name]
    palette = _palette(domain, class_name, rng)
    setting = list(SETTINGS)[int(rng.integers(len(SETTINGS)))]
    pose = Pose(
        turn=0.1 + (domain.turn - 0.1) * difficulty,
        smallest=max(0.3, 0.8 - (0.8 - domain.smallest) * difficulty),
        largest=0.96,
        warp=domain.warp * difficulty,
    )
    variety = 0.7 + (domain.variety - 0.7) * difficulty
    return domain.style(draw(class_name, palette, setting, pose, variety, rng), rng, difficulty)
