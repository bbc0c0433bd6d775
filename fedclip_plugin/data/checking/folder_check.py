"""Read every image of a folder or list once and report what is in it; the work behind ``fedclip check``."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from fedclip_edge.errors import MissingPackageError
from fedclip_edge.sample_range import SampleRange
from fedclip_edge.sample_scaling import VOI_TABLE, WINDOW
from fedclip_plugin.data.checking.folder_report import FolderReport
from fedclip_plugin.data.checking.remarks import low_bits_line
from fedclip_plugin.data.checking.survey import Survey, class_problems, lacking_classes, survey_images
from fedclip_plugin.data.lists import Columns
from fedclip_plugin.data.read_image import Stored, UnreadableImageError, read_image


def check_images(
    path: Path,
    columns: Columns | None = None,
    root: Path | None = None,
    workers: int = 2,
    progress: bool = False,
    sample_range: SampleRange | None = None,
) -> FolderReport:
    """Decode every image of a folder or list and count, hash and compare.

    A folder's layout is found out, as :func:`~fedclip_plugin.data.image_folders.find_layout` does.

    Parameters
    ----------
    path
        ``path/<domain>/<class>/<image>``, ``path/<class>/<image>`` or ``path/<split>/<class>/<image>``; a domain may
        hold a split of its own, ``<domain>/<split>/<class>/<image>``. Or a list (``.csv`` ...).
    columns, root
        Of a list, as for :meth:`~fedclip_plugin.data.lists.ImageList.read`.
    workers
        Threads that read and decode.
    progress
        Whether to draw a progress bar on stderr.
    sample_range
        What is black and white in samples of more than 8 bits; None takes each file's own word.

    Raises
    ------
    DataError
        The folder is missing, is no folder, or holds no folders; the list cannot be read, or has faults in its lines.
    """
    from tqdm import tqdm  # `fedclip init` opens no image and draws no bar

    survey, place = survey_images(path, columns, root)
    tally = _Tally()
    inspect = partial(_inspect, sample_range=sample_range)
    with (
        ThreadPoolExecutor(max_workers=max(1, workers)) as pool,
        tqdm(total=survey.total, unit="image", desc="checking", disable=not progress) as bar,
    ):
        for files in survey.files_by_class():
            for file, found in zip(files, pool.map(inspect, [survey.root / file for file in files]), strict=True):
                tally.add(file, found)
                bar.update()
    duplicates = tuple(tuple(group) for group in tally.by_hash.values() if len(group) > 1)
    owners = survey.owners()
    return FolderReport(
        path=path,
        layout=survey.layout,
        place={**place, "sample_range": list(sample_range)} if sample_range else place,
        counts=survey.counts(),
        formats=dict(tally.formats),
        modes=dict(tally.modes),
        bits=dict(tally.bits),
        scaled=dict(tally.scaled),
        without_window=tally.without_window,
        more_frames=tally.more_frames,
        smallest=min(tally.sizes, key=_pixels, default=None),
        largest=max(tally.sizes, key=_pixels, default=None),
        unreadable=tuple(tally.unreadable),
        duplicates=duplicates,
        leaks=tuple(group for group in duplicates if len({owners[file] for file in group}) > 1),
        ignored=tuple(survey.ignored),
        problems=(
            *survey.problems,
            *class_problems(survey),
            *lacking_classes(survey),
            *_low_bits_problems(survey, tally.low_bits),
        ),
        facts=tuple(survey.facts),
        most_silos=survey.silos_at_most,
    )


@dataclass
class _Tally:
    formats: Counter[str] = field(default_factory=Counter)
    modes: Counter[str] = field(default_factory=Counter)
    bits: Counter[int] = field(default_factory=Counter)
    scaled: Counter[str] = field(default_factory=Counter)
    without_window: int = 0
    more_frames: int = 0
    sizes: set[tuple[int, int]] = field(default_factory=set)
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    by_hash: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    low_bits: dict[str, int] = field(default_factory=dict)

    def add(self, file: str, found: Stored | UnreadableImageError) -> None:
        """Count one image file."""
        if isinstance(found, UnreadableImageError):
            self.unreadable.append((file, found.reason))
            return
        self.formats[found.format] += 1
        self.modes[found.mode] += 1
        self.bits[found.bits] += 1
        self.scaled.update([found.scaled_by] if found.scaled_by else ())
        self.without_window += found.mode.startswith("MONOCHROME") and found.scaled_by not in (WINDOW, VOI_TABLE)
        self.more_frames += found.more_frames
        self.sizes.add(found.size)
        self.by_hash[found.digest].append(file)
        if found.low_bits is not None:
            self.low_bits[file] = found.low_bits


def _low_bits_problems(survey: Survey, low_bits: Mapping[str, int]) -> Iterator[str]:
    for domain, row in survey.files.items():
        if found := {file: low_bits[file] for files in row.values() for file in files if file in low_bits}:
            yield low_bits_line(domain, found)


def _inspect(path: Path, sample_range: SampleRange | None) -> Stored | UnreadableImageError:
    try:
        return read_image(path, sample_range=sample_range)[1]
    except UnreadableImageError as error:
        return error
    except MissingPackageError as error:
        return UnreadableImageError(path, str(error.__cause__))


def _pixels(size: tuple[int, int]) -> tuple[int, int, int]:
    return size[0] * size[1], *size
