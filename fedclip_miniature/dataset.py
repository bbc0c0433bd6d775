"""The federated data set: four domains named as in PACS, rendered at first use as PNG files by domain and class."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from tqdm import tqdm

from fedclip_edge.files import remove_abandoned, writing_to
from fedclip_miniature.drawing import Drawing, Pose, draw
from fedclip_miniature.objects.catalogue import CLASSES
from fedclip_miniature.palette import coat_palette, random_palette
from fedclip_miniature.scenery import SETTINGS
from fedclip_miniature.styles.art_painting import art_painting
from fedclip_miniature.styles.cartoon import cartoon
from fedclip_miniature.styles.photo import photo
from fedclip_miniature.styles.sketch import sketch
from fedclip_plugin.errors import DataError


@dataclass(frozen=True)
class Domain:
    """How one domain draws: its style (difficulty comes last), and at difficulty 1 its variety and pose.

    ``natural`` is the share of the images in natural colours; the others take any colour.
    """

    style: Callable[[Drawing, np.random.Generator, float], npt.NDArray[np.uint8]]
    natural: float
    variety: float
    turn: float
    smallest: float
    warp: float


def _photo(drawing: Drawing, rng: np.random.Generator, difficulty: float) -> npt.NDArray[np.uint8]:
    return photo(
        drawing,
        rng,
        light=0.34 + 0.3 * difficulty,
        texture=1.0 + 0.5 * difficulty,
        cast=0.05 + 0.04 * difficulty,
        exposure=0.16 + 0.2 * difficulty,
        defocus=0.5 + 2.0 * difficulty,
        haze=0.5 * difficulty,
        grain=4.0 + 2.0 * difficulty,
    )


FEDERATED_STYLES: dict[str, Domain] = {
    "art_painting": Domain(art_painting, natural=0.6, variety=1.2, turn=0.26, smallest=0.6, warp=1.1),
    "cartoon": Domain(cartoon, natural=0.4, variety=1.7, turn=0.3, smallest=0.62, warp=1.15),
    "photo": Domain(_photo, natural=0.9, variety=1.0, turn=0.2, smallest=0.56, warp=0.7),
    "sketch": Domain(sketch, natural=1.0, variety=1.2, turn=0.24, smallest=0.62, warp=1.0),
}
"""The domains by name, in PACS's order."""

DOMAINS: tuple[str, ...] = tuple(FEDERATED_STYLES)
"""The domains: art_painting, cartoon, photo, sketch."""

DEFAULT_DIFFICULTY = 1.0
"""Where zero-shot clip-tiny gets between 65 and 85 % on average over the domains."""

MAX_DIFFICULTY = 3.0

VERSION = 1
"""Part of the folder's name; goes up when the drawings change, so that no old cache passes for a new one."""


def _checked(name: str, known: Sequence[str], what: str) -> str:
    if name not in known:
        raise DataError(f"the miniature has no {what} {name!r}; its {what} names are {', '.join(known)}")
    return name


def render_image(
    domain: str, class_name: str, index: int, difficulty: float = DEFAULT_DIFFICULTY, seed: int = 7
) -> npt.NDArray[np.uint8]:
    """Render one image; the same arguments always give the same pixels.

    Parameters
    ----------
    domain, class_name
        One of `DOMAINS`, one of `CLASSES`.
    index
        Which image of that cell, from 0.
    difficulty
        How far the style departs from the pretraining corpus: 0 little, 1 the default, up to 3.
    seed
        Another seed gives another data set of the same kind.

    Returns
    -------
    array uint8 [64, 64, 3]
        RGB.
    """
    cell = [
        DOMAINS.index(_checked(domain, DOMAINS, "domain")),
        CLASSES.index(_checked(class_name, CLASSES, "class")),
    ]
    if index < 0:
        raise DataError(f"image index {index} given; images are counted from 0")
    if not 0.0 <= difficulty <= MAX_DIFFICULTY:
        raise DataError(f"difficulty {difficulty} given; it must lie between 0 and {MAX_DIFFICULTY:g}")
    rng, own = np.random.default_rng([seed, *cell, index]), FEDERATED_STYLES[domain]
    palette = coat_palette(class_name, rng) if rng.random() < own.natural else random_palette(rng)
    setting = list(SETTINGS)[int(rng.integers(len(SETTINGS)))]
    pose = Pose(  # at difficulty 0 nearly those of the pretraining corpus
        turn=0.1 + (own.turn - 0.1) * difficulty,
        smallest=max(0.3, 0.8 - (0.8 - own.smallest) * difficulty),
        largest=0.96,
        warp=own.warp * difficulty,
    )
    variety = 0.7 + (own.variety - 0.7) * difficulty
    return own.style(draw(class_name, palette, setting, pose, variety, rng), rng, difficulty)


def _render_domain(root: Path, domain: str, images_per_class: int, difficulty: float, progress: bool) -> None:
    """Render into a hidden folder, then rename it: a domain is there whole or not at all."""
    partial = Path(tempfile.mkdtemp(prefix=f".{domain}.", suffix=".tmp", dir=root))
    try:
        bar = tqdm(total=len(CLASSES) * images_per_class, desc=f"drawing {domain}", unit="img", disable=not progress)
        with bar:
            for class_name in CLASSES:
                folder = partial / class_name
                folder.mkdir()
                for index in range(images_per_class):
                    image = Image.fromarray(render_image(domain, class_name, index, difficulty))
                    image.save(folder / f"{index:04d}.png", compress_level=1)
                    bar.update()
        partial.chmod(0o755)
        try:
            partial.rename(root / domain)
        except OSError:
            if not (root / domain).is_dir():
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def ensure_miniature(
    cache_dir: Path,
    images_per_class: int,
    difficulty: float = DEFAULT_DIFFICULTY,
    domains: Sequence[str] | None = None,
    progress: bool = False,
) -> Path:
    """Render what is missing of the miniature and return its root folder.

    Several ranks may call this at once, for different domains or the same one: each domain appears by one
    rename, and the first to finish wins. A domain that is there costs one ``stat``.

    Parameters
    ----------
    images_per_class
        Also per domain.
    domains
        Which are needed; None means all.

    Returns
    -------
    Path
        ``cache_dir/miniature-<images_per_class>-<difficulty>-v<VERSION>``, which holds
        ``<domain>/<class>/<index>.png``.

    Raises
    ------
    DataError
        If a domain is unknown, a number is out of range, or the folder cannot be written.
    """
    if images_per_class < 1:
        raise DataError(f"{images_per_class} images per class given; at least 1 is needed")
    wanted = [_checked(domain, DOMAINS, "domain") for domain in (DOMAINS if domains is None else domains)]
    root = cache_dir / f"miniature-{images_per_class}-{difficulty:g}-v{VERSION}"
    for domain in wanted:
        if (root / domain).is_dir():
            continue
        with writing_to(root, DataError):
            root.mkdir(parents=True, exist_ok=True)
            remove_abandoned(root, domain)
            _render_domain(root, domain, images_per_class, difficulty, progress)
    return root
