"""The images that an export is calibrated and checked with: your own, or drawings of the built-in miniature."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import PIL.Image

from fedclip_edge.errors import ConversionError
from fedclip_edge.images import Pixels
from fedclip_edge.sample_range import SampleRange
from fedclip_miniature import CLASSES, DOMAINS, render_image
from fedclip_plugin.data import open_rgb
from fedclip_plugin.data.image_folders import find_images

CALIBRATED = ("int8", "auto")
"""Precisions that are calibrated."""

CALIBRATION, CHECK = 64, 136
"""Images that int8 is calibrated with, and others that every export is checked with."""

FEWEST = 100
"""Fewer images cannot tell whether 99 % of the first labels agree."""

GOLDEN, GOLDEN_SIDE = 4, 72
"""Images that travel in the manifest for the device's self-test, and their longer side in pixels at most."""

_SIZES = (48, 64, 96, 131, 200, 227, 320, 480)


@dataclass(frozen=True)
class Samples:
    """Image files for one export, and what they are, for the parity table.

    `calibration` and `check` are disjoint; `check` also holds shapes that trip preprocessing up. `sample_range` is the
    adapter's.
    """

    name: str
    calibration: tuple[Path, ...]
    check: tuple[Path, ...]
    sample_range: SampleRange | None = None

    def golden(self) -> list[Pixels]:
        """Return small versions of a few images, uint8 ``[H, W, 3]``, spread over `check`."""
        step = len(self.check) // GOLDEN
        images = [open_rgb(path, sample_range=self.sample_range) for path in self.check[::step][:GOLDEN]]
        for image in images:
            image.thumbnail((GOLDEN_SIDE, GOLDEN_SIDE))
        return [np.array(image) for image in images]


def gather(folder: Path | None, precision: str, workplace: Path, sample_range: SampleRange | None = None) -> Samples:
    """Return the images to work with: your own, below a folder, or drawings.

    Images that are made here go to `workplace`. Raises ConversionError when the folder is missing or holds too few
    images, UnreadableImageError when one cannot be read, DataError when a folder below it cannot be listed.
    """
    kept = CALIBRATION if precision in CALIBRATED else 0
    files = _drawn(kept + CHECK, workplace) if folder is None else _found(folder)
    fewest = GOLDEN if precision == "fp32" else FEWEST
    if len(files) < kept + fewest:
        raise ConversionError(
            f"{folder} holds {len(files)} images; {precision} takes {kept} to calibrate and {fewest} to check: give a "
            "folder with more, or leave --calibrate out"
        )
    name = "drawings of the built-in miniature" if folder is None else f"images of {folder.name}"
    calibration, check = files[:kept], files[kept : kept + CHECK]
    return Samples(name, tuple(calibration), (*check, *_awkward(check, workplace, sample_range)), sample_range)


def _found(folder: Path) -> Sequence[Path]:
    if not folder.is_dir():
        raise ConversionError(f"there is no folder {folder}; --calibrate takes a folder of images, at any depth")
    found = find_images(folder)
    order = np.random.default_rng(0).permutation(len(found))
    return [found[index] for index in order]


def _drawn(count: int, workplace: Path) -> Sequence[Path]:
    """Draw images of all domains and classes, in many sizes."""
    paths: list[Path] = []
    index, cells = 0, list(product(DOMAINS, CLASSES))
    rng = np.random.default_rng(0)
    while len(paths) < count:
        for domain, label in (cells[k] for k in rng.permutation(len(cells))):
            path = workplace / f"drawn_{len(paths):04d}.png"
            size = (int(rng.choice(_SIZES)), int(rng.choice(_SIZES)))
            PIL.Image.fromarray(render_image(domain, label, index)).resize(size, PIL.Image.Resampling.BICUBIC).save(
                path
            )
            paths.append(path)
        index += 1
    return paths[:count]


def _awkward(check: Sequence[Path], workplace: Path, sample_range: SampleRange | None) -> Iterator[Path]:
    """Write shapes and colour modes on which preprocessing often goes wrong."""
    image = open_rgb(check[0], sample_range=sample_range)
    shapes = {"odd_crop": (227, 224), "odd_crop_upright": (224, 227), "thin": (4000, 1), "tiny": (3, 4)}
    for name, size in shapes.items():
        path = workplace / f"{name}.png"
        image.resize(size, PIL.Image.Resampling.BICUBIC).save(path)
        yield path
    grey = workplace / "grey.png"
    image.convert("L").save(grey)
    yield grey
    large = workplace / "large.jpg"
    image.resize((4000, 3000), PIL.Image.Resampling.BICUBIC).save(large)
    yield large
