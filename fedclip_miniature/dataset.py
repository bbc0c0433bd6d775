"""The federated data set on disk: rendered at first use, one folder per domain and class, PNG files."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from tqdm import tqdm

from fedclip_edge.files import remove_abandoned
from fedclip_miniature.objects.catalogue import CLASSES
from fedclip_miniature.styles.federated import FEDERATED_STYLES, render_federated
from fedclip_plugin.errors import DataError

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

    Raises
    ------
    DataError
        If the domain or class is unknown, or the index or difficulty is out of range.
    """
    cell = [
        DOMAINS.index(_checked(domain, DOMAINS, "domain")),
        CLASSES.index(_checked(class_name, CLASSES, "class")),
    ]
    if index < 0:
        raise DataError(f"image index {index} given; images are counted from 0")
    if not 0.0 <= difficulty <= MAX_DIFFICULTY:
        raise DataError(f"difficulty {difficulty} given; it must lie between 0 and {MAX_DIFFICULTY:g}")
    return render_federated(domain, class_name, difficulty, np.random.default_rng([seed, *cell, index]))


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
    cache_dir
        Where the data set's folder is made.
    images_per_class
        Images per class and domain.
    difficulty
        See `render_image`.
    domains
        Which domains are needed; None means all.
    progress
        Whether to show a bar per domain while drawing.

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
        try:
            root.mkdir(parents=True, exist_ok=True)
            remove_abandoned(root, domain)
            _render_domain(root, domain, images_per_class, difficulty, progress)
        except OSError as error:
            raise DataError(
                f"{root} cannot be written: {error.strerror or error}; free some space there, make it writable, or "
                "name another place"
            ) from error
    return root
