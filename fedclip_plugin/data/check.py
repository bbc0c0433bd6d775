"""Read every image of a folder once and report what is in it; the work behind ``fedclip check``."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from fedclip_plugin.data.folder_report import FolderReport
from fedclip_plugin.data.folders import find_layout, is_image_name, list_entries
from fedclip_plugin.data.images import open_image
from fedclip_plugin.data.unreadable import UnreadableImageError
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

    Returns
    -------
    FolderReport
        What was found, faults included.

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
            for facts in pool.map(lambda file: _inspect(root, file), files):
                tally.add(facts)
                bar.update()
    return FolderReport(
        root=root,
        layout=survey.layout,
        counts={domain: {name: len(files) for name, files in row.items()} for domain, row in survey.files.items()},
        formats=dict(tally.formats),
        modes=dict(tally.modes),
        smallest=min(tally.sizes, key=_pixels, default=None),
        largest=max(tally.sizes, key=_pixels, default=None),
        unreadable=tuple(tally.unreadable),
        duplicates=tuple(tuple(group) for group in tally.by_hash.values() if len(group) > 1),
        ignored=tuple(survey.ignored),
        problems=(*survey.problems, *_class_problems(survey)),
    )


@dataclass
class _Survey:
    layout: str
    files: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    ignored: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def total(self) -> int:
        """Number of image files."""
        return sum(len(files) for files in self.files_by_class())

    def files_by_class(self) -> Iterator[list[str]]:
        """Yield the files of each class of each domain."""
        for row in self.files.values():
            yield from row.values()


@dataclass(frozen=True)
class _Facts:
    file: str
    reason: str = ""
    sha256: str = ""
    format: str = ""
    mode: str = ""
    size: tuple[int, int] = (0, 0)


@dataclass
class _Tally:
    formats: Counter[str] = field(default_factory=Counter)
    modes: Counter[str] = field(default_factory=Counter)
    sizes: set[tuple[int, int]] = field(default_factory=set)
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    by_hash: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def add(self, facts: _Facts) -> None:
        """Count one image file."""
        if facts.reason:
            self.unreadable.append((facts.file, facts.reason))
            return
        self.formats[facts.format] += 1
        self.modes[facts.mode] += 1
        self.sizes.add(facts.size)
        self.by_hash[facts.sha256].append(facts.file)


def _survey(root: Path) -> _Survey:
    survey = _Survey(find_layout(root))
    folders, loose = list_entries(root)
    if survey.layout == "classes":
        survey.files[WHOLE] = {}
        _survey_classes(survey, root, "", WHOLE)
        return survey
    survey.ignored += loose
    for domain in folders:
        survey.files[domain] = {}
        _survey_classes(survey, root, f"{domain}/", domain)
    return survey


def _survey_classes(survey: _Survey, root: Path, prefix: str, domain: str) -> None:
    folders, loose = list_entries(root / prefix)
    survey.ignored += [prefix + file for file in loose]
    if not folders:
        survey.problems.append(f"{domain}: no class folders; images lie in {domain}/<class>/<image>")
    for name in folders:
        nested, files = list_entries(root / prefix / name)
        if nested:
            survey.problems.append(
                f"{prefix}{name}: holds {len(nested)} folders, such as {nested[0]}; "
                "move their images up, directly into the class folder"
            )
        images = [f"{prefix}{name}/{file}" for file in files if is_image_name(file)]
        survey.ignored += [f"{prefix}{name}/{file}" for file in files if not is_image_name(file)]
        survey.files[domain][name] = images
        if not images and not nested:
            survey.problems.append(f"{prefix}{name}: holds no image; add some or remove the folder")


def _class_problems(survey: _Survey) -> list[str]:
    everything = {name for row in survey.files.values() for name in row}
    missing = {domain: sorted(everything - set(row)) for domain, row in survey.files.items()}
    same = same_prompts(sorted(everything))
    return [same_prompts_rule(same)] * bool(same) + [
        f"{domain}: lacks the classes {', '.join(names)} of other domains; rename or add folders, or list "
        "all classes in fedclip_args.classes"
        for domain, names in missing.items()
        if names
    ]


def _inspect(root: Path, file: str) -> _Facts:
    path = root / file
    try:
        image, stored_format, stored_mode = open_image(path)
    except UnreadableImageError as error:
        return _Facts(file, reason=error.reason)
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return _Facts(file, "", digest, stored_format, stored_mode, image.size)


def _pixels(size: tuple[int, int]) -> tuple[int, int, int]:
    return size[0] * size[1], *size
