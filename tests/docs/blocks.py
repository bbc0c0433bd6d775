"""The blocks of code in README and pages: each says whether it is run, or why not."""

import re
from dataclasses import dataclass

from tests.support.paths import ROOT

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
LANGUAGES = ("console", "bash", "sh", "python")
_FENCE = re.compile(r"^(?: {4})?```(\w+)\n(.*?)^(?: {4})?```$", re.MULTILINE | re.DOTALL)
_MARK = re.compile(r"<!-- (run|not run: \S.*|file: \S+) -->\s*\Z")


@dataclass(frozen=True)
class Block:
    """A block of code: where it stands, its language, its text, and its mark (None: it has none)."""

    page: str
    line: int
    language: str
    text: str
    mark: str | None

    @property
    def name(self):
        return f"{self.page}:{self.line}"


def blocks():
    """Return all blocks in a language that can be run, and those of others that have a mark."""
    found = []
    for path in PAGES:
        text = path.read_text(encoding="utf-8")
        for fence in _FENCE.finditer(text):
            mark = _MARK.search(text[: fence.start()])
            if fence[1] not in LANGUAGES and mark is None:
                continue
            line = text.count("\n", 0, fence.start()) + 1
            found.append(Block(path.name, line, fence[1], fence[2], mark and mark[1]))
    return found


def commands(text):
    """Return the commands of a console block, each with the lines of output that stand below it."""
    told = []
    for line in text.splitlines():
        if line.startswith("$ "):
            told.append((line[2:], []))
        elif told and line.strip() and line.strip() != "...":
            told[-1][1].append(line)
    return told
