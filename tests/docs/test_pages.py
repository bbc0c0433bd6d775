"""README and pages: their length, their links, and what they say of keys and messages."""

import re
from pathlib import Path

import pytest
import yaml

from fedclip_plugin.recipe.schema.sections import SECTIONS
from tests.docs.blocks import PAGES
from tests.support.paths import ROOT

DOCS = ROOT / "docs"
MOST_CHARACTERS = 9_000
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


def anchors(page):
    """Return the anchors of a page's headings, as mkdocs and GitHub make them, and those that it names itself."""
    text = page.read_text(encoding="utf-8")
    made = {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in _HEADING.findall(text)}
    return made | set(re.findall(r'<a id="([^"]+)"', text))


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8")) <= MOST_CHARACTERS


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", ROOT / "export" / "README.md", *PAGES], ids=lambda page: page.name
)
def test_links_lead_to_files_and_headings(page: Path):
    for link in _LINK.findall(page.read_text(encoding="utf-8")):
        if link.startswith(("https://", "http://")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_every_page_is_in_the_navigation_once():
    class Loader(yaml.SafeLoader):
        """Takes tags of plugins for what they are: text."""

    config = yaml.load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"), Loader)
    listed = [page for section in config["nav"] for pages in section.values() for page in pages]
    assert sorted(listed) == sorted(path.name for path in DOCS.glob("*.md"))


def test_the_page_of_recipes_has_every_key():
    text = (DOCS / "recipes.md").read_text(encoding="utf-8")
    sections = dict(re.findall(r"^## `?(\w+)`?[^\n]*\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL))
    for name, model in SECTIONS.items():
        assert [key for key in model.model_fields if f"`{key}`" not in sections[name]] == []


def test_troubleshooting_quotes_messages_that_exist():
    parts = [*(ROOT / "fedclip_plugin").rglob("*.py"), *(ROOT / "export").rglob("*.py"), ROOT / "environment.sh"]
    code = "\n".join(path.read_text(encoding="utf-8") for path in [*parts, ROOT / "Makefile"])
    code = re.sub(r'"\s*f?"', "", code)
    table = (DOCS / "troubleshooting.md").read_text(encoding="utf-8")
    absent = [
        part.strip()
        for cell in re.findall(r"^\| ([^|]*) \|", table, re.MULTILINE)
        for quoted in re.findall(r"`([^`]+)`", cell)
        for part in quoted.split("...")
        if part.strip(" ()") and part.strip(" ()") not in code
    ]
    assert absent == []
