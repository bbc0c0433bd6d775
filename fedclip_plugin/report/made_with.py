"""The part of a page that says what its figures were made with."""

from __future__ import annotations

from pathlib import Path

from fedclip_plugin.report.page import Section, Table


def provenance(file: Path, text: str) -> Section:
    """Return the section of a resolved recipe or study: its header as a table, and the rest as it is.

    Parameters
    ----------
    file
        YAML under a header of ``# name: value`` lines.
    text
        What it is.
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
