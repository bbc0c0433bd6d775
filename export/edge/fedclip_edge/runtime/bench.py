"""How long a bundle takes to open, to answer, and to be given a new head."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import numpy as np

from fedclip_edge.runtime.edge_classifier import EdgeClassifier
from fedclip_edge.runtime.sessions import Serving, SessionMaker

BATCH: int = 8
HEIGHT, WIDTH = 480, 640
_REPEATS, _SECONDS = 20, 1.5


@dataclass(frozen=True)
class Stage:
    """One stage's latency: medians in milliseconds, of one image and of a batch of `BATCH`."""

    one: float
    batch: float

    @property
    def gain(self) -> float:
        """How much cheaper an image is in a batch: `BATCH` times one, over the batch."""
        return BATCH * self.one / self.batch


@dataclass(frozen=True)
class Bench:
    """What was measured.

    `open_ms` is verification, three sessions and self-test; `swap_ms` the median of what an update does before its
    swap: the new head's session, and its golden features. `stages` are ``preprocess`` (of a 640 x 480 image),
    ``encoder``, ``head``, and ``all`` of them one after the other.
    """

    open_ms: float
    swap_ms: float
    provider: str
    threads: int
    stages: dict[str, Stage]

    def images_per_second(self, batch: bool) -> float:
        """Return the rate of one caller who sends single images, or batches."""
        return BATCH * 1e3 / self.stages["all"].batch if batch else 1e3 / self.stages["all"].one


def bench(opened: Callable[[], EdgeClassifier]) -> Bench:
    """Open a bundle or a device folder, and time its stages on a made image."""
    began = time.perf_counter()
    classifier = opened()
    open_ms = 1e3 * (time.perf_counter() - began)
    serving, maker = classifier.serving, classifier.maker
    swap_ms = _median_ms(lambda: _new_head(serving, maker))
    return Bench(open_ms, swap_ms, classifier.provider, maker.threads, _stages(serving))


def _stages(serving: Serving) -> dict[str, Stage]:
    image = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    one = serving.pixel_values(image)
    many = np.repeat(one, BATCH, axis=0)
    features = serving.encode(many)
    return {
        "preprocess": _stage(lambda n: [serving.pixel_values(image) for _ in range(n)]),
        "encoder": _stage(lambda n: serving.encode(many[:n])),
        "head": _stage(lambda n: serving.score(features[:n])),
        "all": _stage(lambda n: serving.score(serving.features([image] * n))),
    }


def _new_head(serving: Serving, maker: SessionMaker) -> None:
    head = maker.head(serving.bundle.head)
    head.run(["logits"], {"image_features": serving.bundle.manifest.golden.features})


def _stage(act: Callable[[int], object]) -> Stage:
    return Stage(_median_ms(lambda: act(1)), _median_ms(lambda: act(BATCH)))


def _median_ms(act: Callable[[], object]) -> float:
    """Return the median time of an act in ms: once to warm up, then up to 20 times or 1.5 seconds."""
    act()
    took: list[float] = []
    while len(took) < _REPEATS and sum(took) < _SECONDS:
        began = time.perf_counter()
        act()
        took.append(time.perf_counter() - began)
    return 1e3 * median(took)
