"""What lies in a folder or list of images, as far as names tell: no image is opened."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fedclip_plugin.data.checking.folder_report import WHOLE
from fedclip_plugin.data.checking.remarks import CONVERT, unused_line, unused_pictures
from fedclip_plugin.data.image_folders import broken_links, find_layout, list_class, list_entries, one_class
from fedclip_plugin.data.lists import Columns, ImageList, is_list
from fedclip_plugin.data.lists.image_list import SHARED
from fedclip_plugin.data.lists.list_file import in_silo
from fedclip_plugin.data.names import name_fault, twin_fault, twins
from fedclip_plugin.data.split_folders import holds_splits, scan_splits
from fedclip_plugin.data.splits import PARTS, split_images
from fedclip_plugin.errors import DataError
from fedclip_plugin.recipe.prompts import same_prompts, same_prompts_rule

FEWEST_IMAGES = 10
"""Images that a silo needs unless the recipe says otherwise."""


@dataclass
class Survey:
    """The files of a folder or list by domain (or silo) and class, and what is wrong with their names."""

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

    @property
    def silos_at_most(self) -> int:
        """Among how many silos the images can be shared out."""
        return min(self.total // FEWEST_IMAGES, self.total if self.most_silos is None else self.most_silos)

    def counts(self) -> dict[str, dict[str, int]]:
        """Return the number of image files by domain and class."""
        return {domain: {name: len(files) for name, files in row.items()} for domain, row in self.files.items()}

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


def survey_images(path: Path, columns: Columns | None, root: Path | None) -> tuple[Survey, dict[str, Any]]:
    """Look through a folder or list, and return the keys of ``fedclip_args`` that say where its images are too.

    A folder that is missing or holds no folder, and a list that cannot be read, are DataErrors.
    """
    if not is_list(path):
        return _survey_folder(path), {"data_root": str(path)}
    images = ImageList.read(path, columns, root)
    return _survey_list(images), _place_of_list(path, images, root)


def _place_of_list(path: Path, images: ImageList, root: Path | None) -> dict[str, str | None]:
    named, usual = images.columns.named(), Columns()
    keys: dict[str, str | None] = {
        f"{what}_column": name for what, name in named.items() if name != getattr(usual, what)
    }
    if images.columns.silo:
        keys.setdefault("group_column", None)  # the recipe that is proposed has one
    if root is not None or not images.columns.silo:  # the recipes that share out have a data root
        keys = {"data_root": None if root is None else str(root)} | keys
    return {"data_list": str(path)} | keys


def _survey_folder(root: Path) -> Survey:
    survey = Survey(root, find_layout(root))
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


def _survey_domain(survey: Survey, root: Path, domain: str) -> None:
    """Take down the class folders of a domain, or of the splits in it."""
    if survey.layout == "splits" or not holds_splits(root / domain):
        _survey_classes(survey, root, f"{domain}/", domain)
        return
    for name in list_entries(root / domain)[0]:
        before = {file for own in survey.files[domain].values() for file in own}
        _survey_classes(survey, root, f"{domain}/{name}/", domain)
        found = {file for own in survey.files[domain].values() for file in own} - before
        survey.parts |= dict.fromkeys(found, name)
    try:
        scan_splits(root / domain, domain)
    except DataError as error:
        survey.problems.append(str(error))


def _survey_list(images: ImageList) -> Survey:
    survey, columns = Survey(images.root, "list"), images.columns
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


def _survey_classes(survey: Survey, root: Path, prefix: str, domain: str) -> None:
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


def class_problems(survey: Survey) -> Iterator[str]:
    """Say what keeps the classes of all domains together from being told apart."""
    everything = {name for row in survey.files.values() for name in row}
    if len(everything) == 1 and survey.layout != "list":
        yield one_class(sorted(everything), survey.root)
    if same := same_prompts(sorted(everything)):
        yield same_prompts_rule(same)
    spelt = {name for row in survey.files.values() for group in twins(list(row)) for name in group}
    yield from (twin_fault(group) for group in twins(sorted(everything)) if not spelt.issuperset(group))


def lacking_classes(survey: Survey) -> Iterator[str]:
    """Say which domains or silos lack classes that others have."""
    everything = {name for row in survey.files.values() for name in row}
    of, mend = ("silos", "correct labels") if survey.layout == "list" else ("domains", "rename or add folders")
    for domain, row in survey.files.items() if survey.layout != "splits" else ():
        if missing := sorted(everything - set(row)):
            yield (
                f"{domain}: lacks the classes {', '.join(missing)} of other {of}; {mend}, or list "
                "all classes in fedclip_args.classes"
            )
