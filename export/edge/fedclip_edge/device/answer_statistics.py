"""How many images a device answered, with what, and how sure it was: counters, and nothing of any image."""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from fedclip_edge.bundle import canonical
from fedclip_edge.device.state import exclusive
from fedclip_edge.errors import BundleError, ExportError
from fedclip_edge.files import remove, write_file
from fedclip_edge.safe_files import read_capped

STATISTICS = "statistics.json"
BINS = 20
"""Bins of the confidence, each a twentieth wide."""

WRITE_EVERY = 60.0
"""Seconds after which what was counted goes to the disk; a power cut loses that much at most."""

_MOST = 1 << 20


@dataclass
class Statistics:
    """Counters since a moment.

    Attributes
    ----------
    since
        When counting began, in UTC seconds.
    labels
        How many images were answered with each label.
    unknown
        How many were answered ``unknown``, by their best guess.
    confidence
        How many had a confidence in each of :data:`BINS` bins, ``(0, 0.05]`` first.
    total
        Sum of the confidences.
    """

    since: int
    labels: Counter[str] = field(default_factory=Counter)
    unknown: Counter[str] = field(default_factory=Counter)
    confidence: list[int] = field(default_factory=lambda: [0] * BINS)
    total: float = 0.0

    @property
    def images(self) -> int:
        """How many images were answered."""
        return sum(self.confidence)

    def add(self, guess: str, known: bool, confidence: float) -> None:
        """Count an answer."""
        (self.labels if known else self.unknown)[guess] += 1
        self.confidence[min(BINS, max(1, math.ceil(confidence * BINS))) - 1] += 1
        self.total += confidence

    def join(self, other: Statistics) -> None:
        """Add what was counted elsewhere."""
        self.since = min(self.since, other.since)
        self.labels.update(other.labels)
        self.unknown.update(other.unknown)
        self.confidence = [one + two for one, two in zip(self.confidence, other.confidence, strict=True)]
        self.total += other.total

    def to_json(self) -> dict[str, Any]:
        """Return them as a JSON object."""
        return {
            "since": self.since,
            "images": self.images,
            "labels": dict(sorted(self.labels.items())),
            "unknown": dict(sorted(self.unknown.items())),
            "confidence": self.confidence,
            "confidence_sum": round(self.total, 6),
        }

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> Self:
        """Return them from JSON; a ValueError when it is not what :meth:`to_json` gives."""
        names = ("since", "images", "labels", "unknown", "confidence", "confidence_sum")
        if set(value) != set(names):
            raise ValueError("other keys")
        since, images, labels, unknown, confidence, total = (value[name] for name in names)
        tables = all(isinstance(one, dict) and all(map(_is_count, one.values())) for one in (labels, unknown))
        bins = isinstance(confidence, list) and len(confidence) == BINS and all(map(_is_count, confidence))
        sums = _is_count(since) and isinstance(total, int | float) and not isinstance(total, bool)
        if not (tables and bins and sums) or images != sum(confidence):
            raise ValueError("counters that cannot be")
        return cls(since, Counter(labels), Counter(unknown), list(confidence), float(total))

    def prometheus(self) -> str:
        """Return them in Prometheus' text format."""
        return "".join(f"{line}\n" for line in self._lines())

    def _lines(self) -> Iterator[str]:
        yield "# HELP fedclip_answers_total Images answered with a label."
        yield "# TYPE fedclip_answers_total counter"
        for label, count in sorted(self.labels.items()):
            yield f'fedclip_answers_total{{label="{_escaped(label)}"}} {count}'
        yield "# HELP fedclip_unknown_total Images answered unknown, by the best guess."
        yield "# TYPE fedclip_unknown_total counter"
        for label, count in sorted(self.unknown.items()):
            yield f'fedclip_unknown_total{{guess="{_escaped(label)}"}} {count}'
        yield "# HELP fedclip_confidence Probability of the best label, of all images."
        yield "# TYPE fedclip_confidence histogram"
        below = 0
        for number, count in enumerate(self.confidence, 1):
            below += count
            yield f'fedclip_confidence_bucket{{le="{number / BINS:g}"}} {below}'
        yield f'fedclip_confidence_bucket{{le="+Inf"}} {below}'
        yield f"fedclip_confidence_sum {self.total:.6g}"
        yield f"fedclip_confidence_count {below}"
        yield "# HELP fedclip_counting_since_seconds When counting began, in seconds since 1970."
        yield "# TYPE fedclip_counting_since_seconds gauge"
        yield f"fedclip_counting_since_seconds {self.since}"


def read_statistics(folder: Path) -> Statistics:
    """Return what a device folder has counted; nothing where nothing was; ExportError when the file is damaged."""
    path = folder / STATISTICS
    if not path.exists():
        return Statistics(int(time.time()))
    try:
        return Statistics.of(canonical.parse(read_capped(path, _MOST)))
    except (BundleError, ValueError) as error:
        raise ExportError(f"{path} cannot be read ({error}); 'fedclip-edge stats --reset' begins anew") from error


def forget_statistics(folder: Path) -> None:
    """Remove what a device folder has counted."""
    with exclusive(folder):
        remove(folder / STATISTICS)


class AnswerCounter:
    """Counts answers in memory, and adds them to a device folder now and then; safe in several threads."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._pending, self._written = Statistics(int(time.time())), time.monotonic()
        self.fault = ""

    def add(self, guess: str, known: bool, confidence: float) -> None:
        """Count an answer, and write what waits when it is time."""
        with self._lock:
            self._pending.add(guess, known, confidence)
            if time.monotonic() - self._written >= WRITE_EVERY:
                self._write()

    def close(self) -> None:
        """Write what waits."""
        with self._lock:
            if self._pending.images:
                self._write()

    def _write(self) -> None:
        """Add what waits to the file; when that fails it goes on waiting, and :attr:`fault` says why."""
        self._written = time.monotonic()
        try:
            with exclusive(self._folder):
                known = read_statistics(self._folder)
                known.join(self._pending)
                write_file(self._folder / STATISTICS, canonical.dump(known.to_json()))
        except (OSError, ExportError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            self.fault = f"answers are not counted on disk: {reason}"
            return
        self.fault, self._pending = "", Statistics(int(time.time()))


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53


def _escaped(label: str) -> str:
    """Return a label as Prometheus takes it between quotation marks."""
    return label.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
