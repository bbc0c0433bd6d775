"""Image files of PACS's size, made on the fly."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from fedclip_miniature import CLASSES, DOMAINS, render_image
from fedclip_plugin.data import ImageSet

SIDE = 227
"""Width and height of PACS's images in pixels."""

_NOISE, _QUALITY = 10.0, 90
_DISTINCT = 28


def write_jpegs(folder: Path, count: int) -> ImageSet:
    """Write JPEG files as PACS has them: 227 x 227, some 20 kB each.

    The pictures are the miniature's, enlarged, with noise that gives files the weight of photographs. Files that are
    there already are kept.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = tuple(f"{index:04d}.jpg" for index in range(count))
    for index, name in enumerate(files):
        if not (folder / name).exists():
            _draw(index).save(folder / name, quality=_QUALITY)
    labels = np.arange(count, dtype=np.int64) % len(CLASSES)
    return ImageSet("benchmark", folder, CLASSES, files, labels)


def write_silos(root: Path, silos: Sequence[str], count: int) -> Path:
    """Write ``root/<silo>/<class>/<image>`` afresh, ``count`` images a silo, its classes in turn; return ``root``.

    The images themselves are kept beside it, for the next time.
    """
    shutil.rmtree(root, ignore_errors=True)
    images = write_jpegs(root.with_name("jpegs"), count * len(silos))
    for index, (file, label) in enumerate(zip(images.paths(), images.labels, strict=True)):
        folder = root / silos[index // count] / images.classes[label]
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, folder)
    return root


def _draw(index: int) -> Image.Image:
    which = index % _DISTINCT
    small = render_image(DOMAINS[which // len(CLASSES)], CLASSES[which % len(CLASSES)], which)
    large = np.asarray(Image.fromarray(small).resize((SIDE, SIDE), Image.Resampling.BICUBIC), dtype=np.float32)
    noise = np.random.default_rng(index).normal(0, _NOISE, large.shape)
    return Image.fromarray(np.clip(large + noise, 0, 255).astype(np.uint8))
