"""What was found in a folder or list of images that was checked, and how it reads on a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedclip_edge.terminal import align, printable
from fedclip_plugin.data.checking.proposals import Proposal, proposals
from fedclip_plugin.data.names import name_fault
from fedclip_plugin.recipe.faults import listed

WHOLE = "images"
"""What the one domain of images without domains is called."""

_MOST_LINES = 20
_NOUNS = {"domains": "domain", "splits": "split", "list": "silo"}
_LEAKS = {"domains": "domains", "splits": "splits", "list": "silos or splits"}


@dataclass(frozen=True)
class FolderReport:
    """Contents and faults of a folder or list of images.

    Attributes
    ----------
    path
        The folder, or the list.
    layout
        ``domains`` (root/<domain>/<class>/<image>), ``classes`` (root/<class>/<image>), ``splits``
        (root/<split>/<class> /<image>) or ``list``.
    place
        The keys of ``fedclip_args`` that say where the images are, but for the layout.
    counts
        ``counts[domain][class]``: number of image files, unreadable ones included; the domain is a folder of splits
        for ``splits`` and a silo for ``list``. Where there is one only, without a name, it is called ``images``.
    formats, modes
        Number of readable files per file format (``JPEG`` ...) and per stored colour mode (``RGB``, ``L``
        ...; of DICOM the photometric interpretation).
    bits, scaled
        Number of readable files per bits of a sample (8 where there are fewer), and per rule that scaled them to 8 bits
        (of `fedclip_edge.sample_scaling`).
    without_window, more_frames
        Number of greyscale DICOM files without a window, and of files with more frames or pages than the first, which
        is the image.
    smallest, largest
        Width and height in pixels, of the image with fewest and with most pixels; None when none can be read.
    unreadable
        File, relative to the folder or as the list names it, and reason.
    duplicates
        Groups of files with equal bytes (sha256).
    leaks
        Those of `duplicates` in more than one domain, silo or split: what one trains on, another is tested on.
    ignored
        Files that are not images by their suffix or lie outside the class folders; hidden ones are not
        listed.
    problems
        What a run would refuse or get wrong: empty or nested class folders, class lists that differ between domains,
        names that cannot be used, pictures that are not read, images of more than 8 bits that come out nearly black,
        groups in two silos or splits.
    facts
        What else there is, a line each.
    most_silos
        Among how many silos the images can be shared out, for lack of images, groups or parts of a split.
    """

    path: Path
    layout: str
    place: Mapping[str, Any]
    counts: dict[str, dict[str, int]]
    formats: dict[str, int]
    modes: dict[str, int]
    bits: dict[int, int]
    scaled: dict[str, int]
    without_window: int
    more_frames: int
    smallest: tuple[int, int] | None
    largest: tuple[int, int] | None
    unreadable: tuple[tuple[str, str], ...]
    duplicates: tuple[tuple[str, ...], ...]
    leaks: tuple[tuple[str, ...], ...]
    ignored: tuple[str, ...]
    problems: tuple[str, ...]
    facts: tuple[str, ...]
    most_silos: int

    @property
    def ok(self) -> bool:
        """Whether a run would take the folder as it is: nothing unreadable and no problems."""
        return not self.unreadable and not self.problems

    @property
    def total(self) -> int:
        """Number of image files."""
        return sum(sum(row.values()) for row in self.counts.values())

    @property
    def classes(self) -> tuple[str, ...]:
        """All class names of all domains, sorted."""
        return tuple(sorted({name for row in self.counts.values() for name in row}))

    def proposals(self) -> list[Proposal]:
        """Return the recipes that fit, with their keys; none where names or classes cannot be used."""
        names = (*(() if self.layout == "classes" else self.counts), *self.classes)
        if len(self.classes) < 2 or any(name_fault(name) for name in names):
            return []
        return proposals(self.layout, self.place, self.counts, self.classes, self.most_silos)

    def to_text(self) -> str:
        """Return the report as lines for a terminal, without a final line end."""
        parts = [
            self._headline(),
            _table(self.counts, self.classes),
            self._facts(),
            _section("Unreadable", [f"{file}: {reason}" for file, reason in self.unreadable]),
            _section("Problems", self.problems),
            _section(
                f"Equal files in different {_LEAKS.get(self.layout, '')}", [" = ".join(group) for group in self.leaks]
            ),
            _section("Equal files", [" = ".join(group) for group in self.duplicates if group not in self.leaks]),
            _section("Not used (no image suffix, or outside the class folders)", self.ignored),
            self._advice(),
            "No faults found." if self.ok else "Faults found: mend them before a run.",
        ]
        return "\n\n".join(part for part in parts if part)

    def _headline(self) -> str:
        noun = _NOUNS.get(self.layout) if self.layout != "list" or list(self.counts) != [WHOLE] else None
        domains = f"{_count(len(self.counts), noun)}, " if noun else ""
        classes, images = _count(len(self.classes), "class"), _count(self.total, "image")
        return f"{printable(str(self.path))}: layout {self.layout}, {domains}{classes}, {images}"

    def _facts(self) -> str:
        lines = ["No image can be read."]
        if self.smallest is not None and self.largest is not None:
            lines = [
                f"Formats: {_tally(self.formats)}",
                f"Modes: {_tally(self.modes)}",
                *self._samples(),
                f"Sizes: {self.smallest[0]} x {self.smallest[1]} to {self.largest[0]} x {self.largest[1]} pixels",
            ]
        return "\n".join([*lines, *map(printable, self.facts)])

    def _samples(self) -> list[str]:
        """Say how samples of more than 8 bits become 8, and what of the files is not used."""
        lines = []
        if self.scaled:
            lines.append(f"Bits of a sample: {', '.join(f'{bits}: {n}' for bits, n in sorted(self.bits.items()))}")
            lines.append(f"Scaled to 8 bits by: {_tally(self.scaled)}")
        if self.without_window:
            lines.append(f"Without a window: {_count(self.without_window, 'DICOM file')}")
        if self.more_frames:
            lines.append(f"Several frames or pages: {_count(self.more_frames, 'file')}; only the first is used")
        return lines

    def _advice(self) -> str:
        found = self.proposals()
        if not found:
            return ""
        blocks = [f"{number}. {proposal.to_text()}" for number, proposal in enumerate(found, 1)]
        title = f"What fits this {'list' if self.layout == 'list' else 'folder'}"
        if self.layout == "splits":
            title = f"The folders look like splits of one data set ({listed(self.counts)}). Which are they? What fits"
        return "\n\n".join([f"{title} (suggestions; fedclip init writes one as a recipe of your own):", *blocks])


def _count(number: int, noun: str) -> str:
    plural = {"class": "classes"}.get(noun, noun + "s")
    return f"{number} {noun if number == 1 else plural}"


def _tally(numbers: dict[str, int]) -> str:
    return ", ".join(f"{name} {number}" for name, number in sorted(numbers.items()))


def _section(title: str, lines: Sequence[str]) -> str:
    if not lines:
        return ""
    shown = [f"  {printable(line)}" for line in lines[:_MOST_LINES]]
    more = [f"  ... and {len(lines) - _MOST_LINES} more"] if len(lines) > _MOST_LINES else []
    return "\n".join([f"{title} ({len(lines)}):", *shown, *more])


def _table(counts: dict[str, dict[str, int]], classes: Sequence[str]) -> str:
    domains = list(counts)
    rows: list[list[str]] = [["class", *domains, "total"]]
    for name in classes:
        row = [counts[domain].get(name) for domain in domains]
        rows.append([name, *("-" if cell is None else str(cell) for cell in row), str(sum(cell or 0 for cell in row))])
    totals = [sum(counts[domain].values()) for domain in domains]
    rows.append(["total", *map(str, totals), str(sum(totals))])
    if len(domains) == 1:  # the total would repeat the one column
        rows = [row[:-1] for row in rows]
    return align(rows, rule=False)
