"""README and pages: their length, their links, and what they say of keys and messages."""

import re
from pathlib import Path

import pytest
import yaml

import fedclip_plugin
from fedclip_plugin.cli.command_table import COMMANDS
from fedclip_plugin.cli.main import main
from fedclip_plugin.recipe.schema.sections import SECTIONS
from tests.docs.blocks import PAGES
from tests.support.paths import ROOT

DOCS = ROOT / "docs"
MOST_CHARACTERS = 9_000
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
_SKIPPED = {".venv", ".venv-track", ".git", "site", "build"}
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


def anchors(page):
    """Return the anchors of a page's headings, as mkdocs and GitHub make them, and those that it names itself."""
    text = page.read_text(encoding="utf-8")
    made = {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in _HEADING.findall(text)}
    return made | set(re.findall(r'<a id="([^"]+)"', text))


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8")) <= MOST_CHARACTERS


@pytest.mark.parametrize(
    "page", [*PAGES, ROOT / "export" / "README.md", ROOT / "examples" / "README.md"], ids=lambda page: page.name
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
    listed = [page if isinstance(page, str) else next(iter(page.values())) for page in listed]
    assert sorted(listed) == sorted(path.name for path in DOCS.glob("*.md"))


def test_the_page_of_recipes_is_what_the_command_prints(capsys):
    assert main(["keys", "--markdown"]) == 0
    kept = (DOCS / "recipes.md").read_text(encoding="utf-8")
    assert capsys.readouterr().out == kept, "make it anew: fedclip keys --markdown > docs/recipes.md"


def test_the_page_of_commands_has_every_command():
    text = (DOCS / "commands.md").read_text(encoding="utf-8")
    told = set(re.findall(r"`(?:fedclip )?([a-z-]+)", text.partition("## Exit codes")[0]))
    assert set(COMMANDS) - told == set()


def test_the_page_of_recipes_has_every_key():
    text = (DOCS / "recipes.md").read_text(encoding="utf-8")
    sections = dict(re.findall(r"^## `?(\w+)`?[^\n]*\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL))
    for name, model in SECTIONS.items():
        assert [key for key in model.model_fields if f"`{key}`" not in sections[name]] == []


def test_the_page_of_the_api_has_every_public_name():
    text = (DOCS / "api.md").read_text(encoding="utf-8")
    described = {line.rpartition(".")[2] for line in text.splitlines() if line.startswith("::: ")}
    inside = {"FedClipError", "__version__"}  # on the page of errors; a string
    assert set(fedclip_plugin.__all__) - described - inside == set()


def test_files_that_pages_name_exist():
    tops = [top for top in ROOT.iterdir() if top.name not in _SKIPPED]
    files = {path.relative_to(ROOT).as_posix() for top in tops for path in ([top] if top.is_file() else top.rglob("*"))}
    absent = [
        (page.name, name)
        for page in PAGES
        for name in re.findall(r"`((?:[\w.-]+/)+[\w.-]*\.(?:py|mjs|sh|md|ipynb))`", page.read_text(encoding="utf-8"))
        if not any(f"/{file}".endswith(f"/{name}") for file in files)
    ]
    assert absent == []


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
