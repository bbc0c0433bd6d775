"""Read every image of a folder or list once and report what is in it; the work behind ``fedclip check``."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from fedclip_plugin.data.folder_report import WHOLE, FolderReport
from fedclip_plugin.data.image_folders import broken_links, find_layout, list_class, list_entries, one_class
from fedclip_plugin.data.lists import Columns, ImageList
from fedclip_plugin.data.lists.image_list import SHARED
from fedclip_plugin.data.lists.list_file import in_silo
from fedclip_plugin.data.names import name_fault, twin_fault, twins
from fedclip_plugin.data.read_image import Stored, UnreadableImageError, read_image
from fedclip_plugin.data.remarks import CONVERT, low_bits_line, unused_line, unused_pictures
from fedclip_plugin.data.split_folders import scan_splits
from fedclip_plugin.data.splits import PARTS, look_like_splits, split_images
from fedclip_plugin.errors import DataError
from fedclip_plugin.recipe.prompts import same_prompts, same_prompts_rule

FEWEST_IMAGES = 10
"""Images that a silo needs unless the recipe says otherwise."""


def check_folder(root: Path, workers: int = 2, progress: bool = False) -> FolderReport:
    """Decode every image under `root` and count, hash and compare.

    The layout is found out, as :func:`~fedclip_plugin.data.image_folders.find_layout` does.

    Parameters
    ----------
    root
        ``root/<domain>/<class>/<image>``, ``root/<class>/<image>`` or ``root/<split>/<class>/<image>``; a domain may
        hold a split of its own, ``<domain>/<split>/<class>/<image>``.
    workers
        Threads that read and decode.
    progress
        Whether to draw a progress bar on stderr.

    Raises
    ------
    DataError
        `root` is missing, is no folder, or holds no folders.
    """
    survey = _survey(root)
    return _report(root, survey, {"data_root": str(root)}, workers, progress)


def check_list(
    path: Path,
    columns: Columns | None = None,
    root: Path | None = None,
    workers: int = 2,
    progress: bool = False,
) -> FolderReport:
    """Decode every image that a list names and count, hash and compare.

    Parameters
    ----------
    columns, root
        As for :meth:`~fedclip_plugin.data.lists.ImageList.read`.
    workers, progress
        As for `check_folder`.

    Raises
    ------
    DataError
        The list cannot be read, or has faults in its lines.
    """
    images = ImageList.read(path, columns, root)
    named, usual = images.columns.named(), Columns()
    keys: dict[str, str | None] = {
        f"{what}_column": name for what, name in named.items() if name != getattr(usual, what)
    }
    if images.columns.silo:
        keys.setdefault("group_column", None)  # the recipe that is proposed has one
    if root is not None or not images.columns.silo:  # the recipes that share out have a data root
        keys = {"data_root": None if root is None else str(root)} | keys
    place = {"data_list": str(path)} | keys
    return _report(path, _survey_list(images), place, workers, progress)


def _report(path: Path, survey: _Survey, place: Mapping[str, Any], workers: int, progress: bool) -> FolderReport:
    tally = _Tally()
    with (
        ThreadPoolExecutor(max_workers=max(1, workers)) as pool,
        tqdm(total=survey.total, unit="image", desc="checking", disable=not progress) as bar,
    ):
        for files in survey.files_by_class():
            for file, found in zip(files, pool.map(_inspect, [survey.root / file for file in files]), strict=True):
                tally.add(file, found)
                bar.update()
    duplicates = tuple(tuple(group) for group in tally.by_hash.values() if len(group) > 1)
    owners = survey.owners()
    return FolderReport(
        path=path,
        layout=survey.layout,
        place=place,
        counts={domain: {name: len(files) for name, files in row.items()} for domain, row in survey.files.items()},
        formats=dict(tally.formats),
        modes=dict(tally.modes),
        smallest=min(tally.sizes, key=_pixels, default=None),
        largest=max(tally.sizes, key=_pixels, default=None),
        unreadable=tuple(tally.unreadable),
        duplicates=duplicates,
        leaks=tuple(group for group in duplicates if len({owners[file] for file in group}) > 1),
        ignored=tuple(survey.ignored),
        problems=(*survey.problems, *_class_problems(survey), *_low_bits_problems(survey, tally.low_bits)),
        facts=tuple(survey.facts),
        most_silos=min(survey.total // FEWEST_IMAGES, survey.total if survey.most_silos is None else survey.most_silos),
    )


@dataclass
class _Survey:
    root: Path
    layout: str
    files: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    parts: dict[str, str] = field(default_factory=dict)  # of files, in a user's own split
    ignored: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    facts: list[str] = field(default_factory=list)
    most_silos: int | None = None  # that groups or splits allow

    @property
    def total(self) -> int:
        """Number of image files."""
        return sum(len(files) for files in self.files_by_class())

    def files_by_class(self) -> Iterator[list[str]]:
        """Yield the files of each class of each domain."""
        for row in self.files.values():
            yield from row.values()

    def owners(self) -> dict[str, tuple[str, str]]:
        """Return the domain and the part of each file."""
        rows = self.files.items()
        return {
            file: (domain, self.parts.get(file, "")) for domain, row in rows for own in row.values() for file in own
        }


@dataclass
class _Tally:
    formats: Counter[str] = field(default_factory=Counter)
    modes: Counter[str] = field(default_factory=Counter)
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
        self.sizes.add(found.size)
        self.by_hash[found.digest].append(file)
        if found.low_bits is not None:
            self.low_bits[file] = found.low_bits


def _survey(root: Path) -> _Survey:
    survey = _Survey(root, find_layout(root))
    folders, loose = list_entries(root)
    if survey.layout == "classes":
        survey.files[WHOLE] = {}
        _survey_classes(survey, root, "", WHOLE)
        return survey
    survey.ignored += loose
    survey.problems += [*_name_problems(folders, ""), *broken_links(root, loose)]
    for domain in folders:
        survey.files[domain] = {}
        _survey_domain(survey, root, domain)
    if survey.layout == "splits":
        try:
            sizes = Counter(scan_splits(root, WHOLE).splits)
            survey.most_silos = min(sizes.values())
        except DataError as error:
            survey.most_silos = 0
            survey.facts.append(f"As splits they cannot be used as they are. {error}")
    return survey


def _survey_domain(survey: _Survey, root: Path, domain: str) -> None:
    """Take down the class folders of a domain, or of the splits in it."""
    inside = list_entries(root / domain)[0]
    if survey.layout == "splits" or not (look_like_splits(inside) and find_layout(root / domain) == "splits"):
        _survey_classes(survey, root, f"{domain}/", domain)
        return
    for name in inside:
        before = {file for own in survey.files[domain].values() for file in own}
        _survey_classes(survey, root, f"{domain}/{name}/", domain)
        found = {file for own in survey.files[domain].values() for file in own} - before
        survey.parts |= dict.fromkeys(found, name)
    try:
        scan_splits(root / domain, domain)
    except DataError as error:
        survey.problems.append(str(error))


def _survey_list(images: ImageList) -> _Survey:
    survey, columns = _Survey(images.root, "list"), images.columns
    for row in images.rows:
        place = in_silo(images.root, row.silo)
        file = row.file if place == images.root else str((place / row.file).absolute())
        survey.files.setdefault(row.silo or WHOLE, {}).setdefault(row.label, []).append(file)
        survey.parts[file] = row.split
    survey.files = {silo: dict(sorted(survey.files[silo].items())) for silo in sorted(survey.files)}
    for silo in survey.files:
        own = silo if columns.silo else None
        if fault := images.missing_files(silo, own):
            survey.problems.append(fault)
        try:
            split_images(images.image_set(silo, images.labels(), own), seed=0)
        except DataError as error:
            survey.problems.append(str(error))
    if len(images.labels()) < 2:
        survey.problems.append(images.one_label())
    if columns.group:
        sizes = Counter(row.group for row in images.rows)
        survey.facts.append(f"Groups (column {columns.group}): {len(sizes)}, of up to {max(sizes.values())} images")
        survey.problems += [
            f"group {group} is in silos {' and '.join(silos)}; {SHARED}" for group, silos in images.divided("silo")
        ]
        survey.most_silos = len(sizes) // len(PARTS)
    if columns.split:
        sizes = Counter(row.split for row in images.rows)
        survey.facts.append(f"Splits (column {columns.split}): {', '.join(f'{part} {sizes[part]}' for part in PARTS)}")
        survey.most_silos = min(sizes[part] for part in PARTS)
    return survey


def _survey_classes(survey: _Survey, root: Path, prefix: str, domain: str) -> None:
    folders, loose = list_entries(root / prefix)
    ignored = [prefix + file for file in loose]
    if not folders:
        survey.problems.append(f"{domain}: no class folders; images lie in {domain}/<class>/<image>")
    survey.problems += [*_name_problems(folders, prefix), *broken_links(root / prefix, loose)]
    for name in folders:
        nested, images, others = list_class(root / prefix / name)
        if nested:
            survey.problems.append(
                f"{prefix}{name}: holds {len(nested)} folders, such as {nested[0]}; "
                "move their images up, directly into the class folder"
            )
        ignored += [f"{prefix}{name}/{file}" for file in others]
        survey.files[domain].setdefault(name, []).extend(f"{prefix}{name}/{file}" for file in images)
        if not images and not nested:
            survey.problems.append(f"{prefix}{name}: holds no image; add some or remove the folder")
    if pictures := unused_pictures([file.removeprefix(prefix) for file in ignored]):
        survey.problems.append(f"{unused_line(domain, pictures)}; {CONVERT}")
    survey.ignored += ignored


def _name_problems(names: Sequence[str], prefix: str) -> list[str]:
    bad = [(name, fault) for name in names if (fault := name_fault(name))]
    where = f"{prefix.rstrip('/')}: " if prefix else ""
    return [
        *(f"the name of folder {prefix}{name} {fault}" for name, fault in bad),
        *(where + twin_fault(group) for group in twins(names)),
    ]


def _class_problems(survey: _Survey) -> Iterator[str]:
    everything = {name for row in survey.files.values() for name in row}
    if len(everything) == 1 and survey.layout != "list":
        yield one_class(sorted(everything), survey.root)
    if same := same_prompts(sorted(everything)):
        yield same_prompts_rule(same)
    spelt = {name for row in survey.files.values() for group in twins(list(row)) for name in group}
    yield from (twin_fault(group) for group in twins(sorted(everything)) if not spelt.issuperset(group))
    of, mend = ("silos", "correct labels") if survey.layout == "list" else ("domains", "rename or add folders")
    for domain, row in survey.files.items() if survey.layout != "splits" else ():
        if missing := sorted(everything - set(row)):
            yield (
                f"{domain}: lacks the classes {', '.join(missing)} of other {of}; {mend}, or list "
                "all classes in fedclip_args.classes"
            )


def _low_bits_problems(survey: _Survey, low_bits: Mapping[str, int]) -> Iterator[str]:
    for domain, row in survey.files.items():
        if found := {file: low_bits[file] for files in row.values() for file in files if file in low_bits}:
            yield low_bits_line(domain, found)


def _inspect(path: Path) -> Stored | UnreadableImageError:
    try:
        return read_image(path)[1]
    except UnreadableImageError as error:
        return error


def _pixels(size: tuple[int, int]) -> tuple[int, int, int]:
    return size[0] * size[1], *size
