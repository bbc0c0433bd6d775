"""The pretraining corpus: every image is drawn from its own seed, so that workers cannot change it."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import repeat

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from fedclip_miniature.canvas import CANVAS, SIZE
from fedclip_miniature.drawing import Pose, draw
from fedclip_miniature.objects.catalogue import OBJECTS
from fedclip_miniature.palette import COLOURS, make_palette
from fedclip_miniature.pretraining.captions import caption
from fedclip_miniature.scenery import SETTINGS
from fedclip_miniature.styles.pretraining import PRETRAINING_STYLES

OBJECT_NAMES: tuple[str, ...] = tuple(OBJECTS)

_NEAR, _FAR = Pose(turn=0.14, smallest=0.7, largest=1.0), Pose(turn=0.14, smallest=0.5, largest=0.7)
_VARIETY = 0.7


@dataclass(frozen=True)
class Example:
    """One captioned image, uint8 [64, 64, 3], its index into `OBJECT_NAMES` and its object's box, float32 [4]."""

    image: npt.NDArray[np.uint8]
    caption: str
    object_index: int
    box: npt.NDArray[np.float32]


@dataclass(frozen=True)
class Corpus:
    """N captioned images, stacked."""

    images: npt.NDArray[np.uint8]  # RGB, [N, 64, 64, 3]
    captions: list[str]
    objects: npt.NDArray[np.int64]  # which of `OBJECT_NAMES` each image shows, [N]
    boxes: npt.NDArray[np.float32]  # left, top, right, bottom of the object in pixels, [N, 4]

    def __len__(self) -> int:
        return len(self.captions)


def draw_example(index: int, seed: int) -> Example:
    """Draw image ``index`` of the corpus of ``seed``."""
    rng = np.random.default_rng([seed, 1, index])
    chosen = int(rng.integers(len(OBJECT_NAMES)))
    colours, settings = list(COLOURS), list(SETTINGS)
    colour, other = (colours[int(k)] for k in rng.choice(len(colours), 2, replace=False))
    palette = make_palette(COLOURS[colour], COLOURS[other] if rng.random() < 0.3 else None, rng)
    setting = settings[int(rng.integers(len(settings)))]
    shares = np.array([share for share, _ in PRETRAINING_STYLES.values()])
    style = list(PRETRAINING_STYLES)[int(rng.choice(len(shares), p=shares / shares.sum()))]
    name = OBJECT_NAMES[chosen]
    drawing = draw(name, palette, setting, _FAR if rng.random() < 0.3 else _NEAR, _VARIETY, rng)
    box = np.array(drawing.box, dtype=np.float32) * np.float32(SIZE / CANVAS)
    image = PRETRAINING_STYLES[style][1](drawing, rng)
    return Example(image, caption(name, colour, setting, style, rng), chosen, box)


def _examples(count: int, seed: int, workers: int) -> Iterator[Example]:
    if workers <= 1:
        yield from (draw_example(index, seed) for index in range(count))
        return
    # spawn: a fork of a process that has run torch may deadlock in OpenMP
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(draw_example, range(count), repeat(seed), chunksize=100)


def draw_corpus(count: int, seed: int, workers: int = 2, progress: bool = False) -> Corpus:
    """Draw ``count`` captioned images with ``workers`` processes, whose number does not change the result."""
    examples = _examples(count, seed, workers)
    done = list(tqdm(examples, total=count, desc="drawing the corpus", unit="img", disable=not progress))
    return Corpus(
        images=np.stack([example.image for example in done]),
        captions=[example.caption for example in done],
        objects=np.array([example.object_index for example in done], dtype=np.int64),
        boxes=np.stack([example.box for example in done]),
    )
