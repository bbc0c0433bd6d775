"""Read every image of a folder once and report what is in it; the work behind ``fedclip check``."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from fedclip_edge.terminal import printable
from fedclip_plugin.data.folder_report import FolderReport
from fedclip_plugin.data.image_folders import broken_links, find_layout, list_class, list_entries, one_class
from fedclip_plugin.data.names import name_fault, require_names, twin_fault, twins
from fedclip_plugin.data.proposals import Proposal, proposals
from fedclip_plugin.data.read_image import Stored, UnreadableImageError, read_image
from fedclip_plugin.data.remarks import CONVERT, low_bits_line, unused_line, unused_pictures
from fedclip_plugin.errors import DataError
from fedclip_plugin.recipe.faults import closest, listed
from fedclip_plugin.recipe.prompts import same_prompts, same_prompts_rule

WHOLE = "images"
"""What the one domain of the layout ``classes`` is called."""


def check_folder(root: Path, workers: int = 2, progress: bool = False) -> FolderReport:
    """Decode every image under `root` and count, hash and compare.

    The layout is found out: ``domains`` when most folders of `root` hold folders, ``classes`` when most hold
    files.

    Parameters
    ----------
    root
        ``root/<domain>/<class>/<image>`` or ``root/<class>/<image>``.
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
    tally = _Tally()
    with (
        ThreadPoolExecutor(max_workers=max(1, workers)) as pool,
        tqdm(total=survey.total, unit="image", desc="checking", disable=not progress) as bar,
    ):
        for files in survey.files_by_class():
            for file, found in zip(files, pool.map(_inspect, [root / file for file in files]), strict=True):
                tally.add(file, found)
                bar.update()
    return FolderReport(
        root=root,
        layout=survey.layout,
        counts=survey.counts(),
        formats=dict(tally.formats),
        modes=dict(tally.modes),
        smallest=min(tally.sizes, key=_pixels, default=None),
        largest=max(tally.sizes, key=_pixels, default=None),
        unreadable=tuple(tally.unreadable),
        duplicates=tuple(tuple(group) for group in tally.by_hash.values() if len(group) > 1),
        ignored=tuple(survey.ignored),
        problems=(
            *survey.problems,
            *_class_problems(survey),
            *_lacking_classes(survey),
            *_low_bits_problems(survey, tally.low_bits),
        ),
    )


@dataclass(frozen=True)
class FolderListing:
    """What lies in a folder, as far as names tell; as the attributes of `FolderReport`."""

    root: Path
    layout: str
    counts: dict[str, dict[str, int]]
    problems: tuple[str, ...]

    @property
    def classes(self) -> list[str]:
        """All class names of all domains, sorted."""
        return sorted({name for row in self.counts.values() for name in row})

    def proposal(self, target: str | None = None) -> Proposal:
        """Return the recipe that fits the folder, the first one of its kind.

        Parameters
        ----------
        target
            The domain to hold out; None: none is.

        Raises
        ------
        DataError
            When names or classes cannot be used, or no such domain can be held out.
        """
        require_names([*(self.counts if self.layout == "domains" else ()), *self.classes], self.root)
        if len(self.classes) < 2:
            raise DataError(one_class(self.classes, self.root))
        if target is not None:
            self._require_target(target)
        found = proposals(self.root, self.layout, self.counts, self.classes, target)
        return next(each for each in found if each.keys["fedclip_args"].get("target_domain") == target)

    def _require_target(self, target: str) -> None:
        place = printable(str(self.root))
        if self.layout == "classes":
            raise DataError(
                f"{place} holds <class>/<image> and no domains, so none can be held out: leave --target out"
            )
        if target not in self.counts:
            meant = closest(target, self.counts)
            hint = f" (did you mean {meant!r}?)" if meant else ""
            raise DataError(f"{place} holds no domain {target!r}{hint}; it holds {listed(self.counts)}")
        if len(self.counts) < 2:
            raise DataError(f"{place} holds {target!r} only, so no silo is left: leave --target out")


def list_folder(root: Path) -> FolderListing:
    """List a folder without opening an image; errors as `check_folder`.

    That a domain lacks classes is no problem here: a recipe can list them.
    """
    survey = _survey(root)
    return FolderListing(root, survey.layout, survey.counts(), (*survey.problems, *_class_problems(survey)))


@dataclass
class _Survey:
    root: Path
    layout: str
    files: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    ignored: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def total(self) -> int:
        """Number of image files."""
        return sum(len(files) for files in self.files_by_class())

    def counts(self) -> dict[str, dict[str, int]]:
        """Return the number of image files by domain and class."""
        return {domain: {name: len(files) for name, files in row.items()} for domain, row in self.files.items()}

    def files_by_class(self) -> Iterator[list[str]]:
        """Yield the files of each class of each domain."""
        for row in self.files.values():
            yield from row.values()


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
        _survey_classes(survey, root, f"{domain}/", domain)
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
        survey.files[domain][name] = [f"{prefix}{name}/{file}" for file in images]
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
    if len(everything) == 1:
        yield one_class(sorted(everything), survey.root)
    if same := same_prompts(sorted(everything)):
        yield same_prompts_rule(same)
    spelt = {name for row in survey.files.values() for group in twins(list(row)) for name in group}
    yield from (twin_fault(group) for group in twins(sorted(everything)) if not spelt.issuperset(group))


def _lacking_classes(survey: _Survey) -> Iterator[str]:
    everything = {name for row in survey.files.values() for name in row}
    for domain, row in survey.files.items():
        if missing := sorted(everything - set(row)):
            yield (
                f"{domain}: lacks the classes {', '.join(missing)} of other domains; rename or add folders, or list "
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
