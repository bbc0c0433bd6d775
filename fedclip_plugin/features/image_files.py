"""Which files of an image set are known already, which are to be read, and which cannot be."""

from __future__ import annotations

import hashlib
import logging
import os
import stat
from collections.abc import Container, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from fedclip_edge.safe_files import open_plain
from fedclip_edge.sample_range import SampleRange
from fedclip_edge.terminal import printable
from fedclip_plugin.data import ImageSet, UnreadableImageError, UnreadableImagesError
from fedclip_plugin.errors import DataError
from fedclip_plugin.features.cache_parts import Part, Parts
from fedclip_plugin.features.encoding import Batch

logger = logging.getLogger(__name__)

Stamp = tuple[int, int, int, int]
"""Size in bytes, time of the last change of content (ns), inode, time of the last change of any kind (ns)."""

_INT64 = (1 << 63) - 1


class ImageFiles:
    """The files of an image set, each known by its content.

    What stands for an image is the SHA-256 of its file, so that no other file is ever taken for it. So that a file need
    not be read to know its content, size, times and inode are remembered: where all four are as they were, so is the
    content. Files of equal names, sizes and times that were exchanged differ in inode or change time. A copy on another
    machine, a changed permission or a new link differs in them too, though the content is the same: such files are
    read and hashed, which takes a fraction of the time of encoding them, and remembered as they are now.
    """

    def __init__(self, images: ImageSet, memory: Parts, workers: int) -> None:
        self.images = images
        self._memory = memory
        self._paths = dict(zip(images.files, images.paths(), strict=True))
        self._stamps = {name: stamp for name, path in self._paths.items() if (stamp := stamp_of(path)) is not None}
        self._digests: dict[str, str] = {}
        self._unreadable: dict[str, str] = {}
        self._fresh: dict[str, str] = {}
        doubtful = self._recall()
        with ThreadPoolExecutor(workers) as pool:
            for name, digest in zip(doubtful, pool.map(_hash, [self._paths[name] for name in doubtful]), strict=True):
                if digest is not None:
                    self._found(name, digest)
        if self._fresh:
            self._renew()

    def digest(self, name: str) -> str | None:
        """Return what stands for a file's content; None while it is not known."""
        return self._digests.get(name)

    def digests(self) -> set[str]:
        """Return what stands for the contents that are known."""
        return set(self._digests.values())

    def missing(self, known: Container[str]) -> list[str]:
        """Return the files whose content is not among ``known`` digests and that may be readable, in order."""
        return [
            name
            for name in self.images.files
            if name not in self._unreadable and self._digests.get(name, "") not in known
        ]

    def paths(self, names: Sequence[str]) -> list[Path]:
        """Return the full path of each of ``names``."""
        return [self._paths[name] for name in names]

    def note(self, names: Sequence[str], batch: Batch) -> None:
        """Take down what came of files that were read; the batch's indices are those of ``names``."""
        for index, digest in batch.digests.items():
            self._found(names[index], digest)
        for index, error in batch.faults.items():
            self._unreadable[names[index]] = error.reason
            # A disk or a permission may be mended, and nothing about the file would show it: not remembered.
            if not _is_machines(error):
                self._fresh[names[index]] = error.reason

    def remember(self) -> None:
        """Write down what was found or failed since the last time; errors as :meth:`Parts.add`."""
        names = [name for name in self._fresh if name in self._stamps]
        if names:
            stamps = np.array([self._stamps[name] for name in names], dtype=np.int64)
            digests = [np.frombuffer(bytes.fromhex(self._digests.get(name, "").zfill(64)), np.uint8) for name in names]
            reasons = {name: reason for name in names if (reason := self._fresh[name])}
            self._memory.add(Part(names, {"stamps": stamps, "digests": np.stack(digests)}, reasons), self._paths.keys())
        self._fresh = {}

    def judge(self, known: Container[str], skip_bad: bool) -> tuple[list[int], list[UnreadableImageError]]:
        """Return the indices of readable images, those with ``known`` digests, and one error for each of the others.

        Where no image is readable that is a DataError, and without ``skip_bad`` an UnreadableImagesError if any is not.
        """
        kept = [index for index, name in enumerate(self.images.files) if self._digests.get(name, "") in known]
        bad = [name for name in self.images.files if name in self._unreadable]
        faults = [UnreadableImageError(self._paths[name], self._unreadable[name]) for name in bad]
        if faults and not skip_bad:
            raise UnreadableImagesError(self.images.name, len(self.images), faults)
        name = printable(self.images.name)
        if not kept:
            first = f"{printable(str(faults[0].path))} ({faults[0].reason})" if faults else ""
            root = printable(str(self.images.root))
            raise DataError(f"{name}: none of the {len(self.images)} images in {root} can be read; the first: {first}")
        for fault in faults:
            logger.warning("%s: skipped: %s", name, fault)
        return kept, faults

    def _found(self, name: str, digest: str) -> None:
        self._digests[name] = digest
        self._fresh[name] = ""

    def _recall(self) -> list[str]:
        """Take over what is remembered of files that are as they were; return those that may have changed."""
        names = [name for name in self._stamps if name in self._memory.where]
        if not names:
            return []
        doubtful = []
        stamps, digests = (self._memory.rows(names, column) for column in ("stamps", "digests"))
        for name, remembered, digest in zip(names, stamps.tolist(), digests, strict=True):
            stamp, reason = self._stamps[name], self._memory.note(name)
            if tuple(remembered) == stamp and reason:
                self._unreadable[name] = reason
            elif tuple(remembered) == stamp:
                self._digests[name] = digest.tobytes().hex()
            elif remembered[0] == stamp[0] and not reason:
                doubtful.append(name)
        return doubtful

    def _renew(self) -> None:
        try:
            self.remember()
        except DataError as error:  # such as a cache that others keep: what is in it is of use nevertheless
            logger.warning("files that were hashed are not remembered, and hashed again next time: %s", error)
            self._fresh = {}


def short_hash(*parts: str) -> str:
    """Return 16 hexadecimal digits that stand for ``parts``, which may be names that are not UTF-8."""
    return hashlib.sha256(b"\0".join(os.fsencode(part) for part in parts)).hexdigest()[:16]


def image_set_hash(images: ImageSet, *parts: str) -> str:
    """Return what an image set is filed under: where it lies and what it is called."""
    return short_hash(str(images.root.resolve()), images.name, *parts)


def range_key(sample_range: SampleRange | None) -> tuple[str, ...]:
    """Return what a cache's key holds of how samples of more than 8 bits are scaled; nothing by the files' own word."""
    return () if sample_range is None else (f"sample range {sample_range[0]!r} {sample_range[1]!r}",)


def stamp_of(path: Path) -> Stamp | None:
    """Return what tells whether a file may have changed; None of what is no plain file, or not there."""
    try:
        found = path.stat()
    except OSError:  # who reads it says why
        return None
    if not stat.S_ISREG(found.st_mode):
        return None
    return found.st_size, found.st_mtime_ns, found.st_ino & _INT64, found.st_ctime_ns


def _hash(path: Path) -> str | None:
    try:
        with open_plain(path) as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except (OSError, ValueError):  # who reads it says why
        return None


def _is_machines(error: UnreadableImageError) -> bool:
    """Return whether the operating system failed to read the file, rather than the file being no image."""
    return getattr(error.__cause__, "errno", None) is not None
