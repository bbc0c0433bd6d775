"""The pretraining corpus: every image is drawn from its own seed, so that workers cannot change it."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

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
    """Captioned images, stacked.

    Attributes
    ----------
    images
        RGB, uint8 [N, 64, 64, 3].
    captions
        N captions.
    objects
        Which of `OBJECT_NAMES` each image shows, int64 [N].
    boxes
        Left, top, right, bottom of the object in pixels, float32 [N, 4].
    """

    images: npt.NDArray[np.uint8]
    captions: list[str]
    objects: npt.NDArray[np.int64]
    boxes: npt.NDArray[np.float32]

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


def _draw(task: tuple[int, int]) -> Example:
    return draw_example(*task)


@contextmanager
def _drawn(tasks: list[tuple[int, int]], workers: int) -> Iterator[Iterable[Example]]:
    if workers <= 1:
        yield map(_draw, tasks)
        return
    # spawn: a fork of a process that has run torch may deadlock in OpenMP
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield pool.map(_draw, tasks, chunksize=100)


def draw_corpus(count: int, seed: int, workers: int = 2, progress: bool = False) -> Corpus:
    """Draw ``count`` captioned images with ``workers`` processes, whose number does not change the result."""
    tasks = [(index, seed) for index in range(count)]
    with _drawn(tasks, workers) as examples:
        done = list(tqdm(examples, total=count, desc="drawing the corpus", unit="img", disable=not progress))
    return Corpus(
        images=np.stack([example.image for example in done]),
        captions=[example.caption for example in done],
        objects=np.array([example.object_index for example in done], dtype=np.int64),
        boxes=np.stack([example.box for example in done]),
    )
