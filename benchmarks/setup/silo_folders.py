"""Silos of image files on disk, for jobs that begin as a user's does."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from benchmarks.setup.random_images import write_jpegs


def write_silos(root: Path, silos: Sequence[str], count: int) -> Path:
    """Write ``root/<silo>/<class>/<image>``, afresh, and return ``root``.

    Parameters
    ----------
    root
        Where; the images themselves are kept beside it, for the next time.
    silos
        Names.
    count
        Images of each silo, JPEG files as PACS has them, its classes in turn.
    """
    shutil.rmtree(root, ignore_errors=True)
    images = write_jpegs(root.with_name("jpegs"), count * len(silos))
    for index, (file, label) in enumerate(zip(images.paths(), images.labels, strict=True)):
        folder = root / silos[index // count] / images.classes[label]
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, folder)
    return root
