"""A table with its title and what must be said under it."""

from __future__ import annotations

from dataclasses import dataclass

from fedclip_edge.terminal import align, printable
from fedclip_plugin.text import markdown, plain_markdown


@dataclass(frozen=True)
class StudyTable:
    """Text in rows and columns."""

    title: str
    head: list[str]
    rows: list[list[str]]
    notes: tuple[str, ...] = ()

    def to_text(self) -> str:
        """Return the table aligned for a console."""
        return "\n".join([printable(self.title), align([self.head, *self.rows]), *map(printable, self.notes)])

    def to_markdown(self) -> str:
        """Return the table as Markdown."""
        title, notes = plain_markdown(self.title), map(plain_markdown, self.notes)
        return "\n\n".join([f"**{title}**", markdown([self.head, *self.rows]), *notes])
