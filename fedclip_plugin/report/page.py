"""A page of text, tables and figures, written as one file that needs nothing else."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from matplotlib.figure import Figure

from fedclip_edge.files import write_folder
from fedclip_plugin.errors import RunFolderError
from fedclip_plugin.report.plots.fonts import missing_letters
from fedclip_plugin.report.plots.style import png, svg

_WIDE = 7
"""Columns from which on a table is set in smaller type."""


@dataclass(frozen=True)
class Picture:
    """A figure with its words.

    Attributes
    ----------
    alt
        What it shows, for those who do not see it.
    """

    name: str
    figure: Figure
    alt: str
    caption: str


@dataclass(frozen=True)
class Table:
    """A table; the first column holds the rows' names.

    Attributes
    ----------
    numbers
        Whether the other columns hold numbers, and not text.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""
    numbers: bool = True

    @property
    def style(self) -> str:
        """Names of what the page does for such a table."""
        return " ".join(["numbers"] * self.numbers + ["dense"] * (len(self.head) > _WIDE))


@dataclass(frozen=True)
class Section:
    """A part of the page, shown in this order: text, notes on what is missing, tables, pictures, verbatim text."""

    title: str
    text: Sequence[str] = ()
    notes: Sequence[str] = ()
    tables: Sequence[Table] = ()
    pictures: Sequence[Picture] = ()
    listing: str = ""

    @property
    def anchor(self) -> str:
        """Name of the section in links."""
        return re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-")


@dataclass(frozen=True)
class Page:
    """A report."""

    title: str
    lead: str
    facts: Sequence[tuple[str, str]]
    sections: Sequence[Section]

    def write(self, folder: Path) -> Path:
        """Write ``index.html``, and each figure as PNG and SVG, as ``folder``; one that was there is replaced."""
        files: dict[str, bytes] = {}
        for picture in self._pictures():
            files |= {f"{picture.name}.svg": svg(picture.figure), f"{picture.name}.png": png(picture.figure)}
        files["index.html"] = self._html(files).encode(errors="backslashreplace")
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            write_folder(folder, files)
        except OSError as error:
            raise RunFolderError(
                f"the report {folder} cannot be written: {error.strerror}; free or unlock it"
            ) from error
        return folder / "index.html"

    def missing_letters(self) -> list[str]:
        """Return the letters of names that no font of this machine has, so that the figures show boxes for them."""
        return sorted({letter for picture in self._pictures() for letter in missing_letters(picture.figure)})

    def _pictures(self) -> list[Picture]:
        return [picture for section in self.sections for picture in section.pictures]

    def _html(self, files: dict[str, bytes]) -> str:
        place = Environment(
            loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
        )
        images = {
            name.removesuffix(".svg"): f"data:image/svg+xml;base64,{base64.b64encode(content).decode()}"
            for name, content in files.items()
            if name.endswith(".svg")
        }
        return place.get_template("page.html").render(page=self, images=images)


def pictured(title: str, picture: Picture | None, otherwise: str) -> Section:
    """Return the section of one figure; where there is none, it says ``otherwise``."""
    return Section(title, pictures=[picture]) if picture else Section(title, notes=[otherwise])


def provenance(file: Path, text: str) -> Section:
    """Return the section of a resolved recipe or study: its header as a table, and the rest as it is.

    Parameters
    ----------
    file
        YAML under a header of ``# name: value`` lines.
    """
    lines = file.read_text(encoding="utf-8").splitlines()
    header = [line.removeprefix("# ").split(": ", 1) for line in lines if line.startswith("# ") and ": " in line]
    listing = "\n".join(line for line in lines if not line.startswith("#")).strip()
    return Section(
        "Recipe and provenance",
        text=[text],
        tables=[Table(["made with", ""], header, numbers=False)],
        listing=listing,
    )
