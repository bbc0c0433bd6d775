"""The files that a public project has say what is true of this one."""

import os

import yaml

import fedclip_plugin
from tests.support.paths import ROOT


def read(name):
    return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


def test_the_citation_is_of_this_version_and_names_the_paper():
    cited = read("CITATION.cff")
    assert cited["version"] == fedclip_plugin.__version__
    assert cited["references"][0]["identifiers"][0]["value"] == "arXiv:2302.13485"
    assert [author["family-names"] for author in cited["references"][0]["authors"]] == ["Lu", "Hu", "Wang", "Xie"]


def test_hooks_call_tools_of_the_environment_and_download_nothing():
    (repository,) = read(".pre-commit-config.yaml")["repos"]
    assert repository["repo"] == "local"
    for hook in repository["hooks"]:
        assert hook["language"] == "system"
        assert hook["entry"].split()[0] in {".venv/bin/ruff", ".venv/bin/mypy"}


def test_the_workflow_runs_what_ci_runs():
    (job,) = read(".github/workflows/ci.yml")["jobs"].values()
    assert job["steps"][-1]["run"] == ".ci/run"
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    versions = job["strategy"]["matrix"]["python"]
    assert all(f"Programming Language :: Python :: {version}" in _classifiers() for version in versions)


def test_the_site_is_built_strictly_and_not_quietly():
    (line,) = [line for line in (ROOT / "Makefile").read_text(encoding="utf-8").splitlines() if "mkdocs build" in line]
    assert "--strict" in line and "--quiet" not in line


def test_issue_forms_ask_for_something():
    for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"):
        form = yaml.safe_load(path.read_text(encoding="utf-8"))
        assert path.name == "config.yml" or all(part["attributes"]["label"] for part in form["body"])


def test_the_changelog_keeps_its_form():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert text.startswith("# Changelog\n") and "\n## Unreleased" in text
    sections = [line.removeprefix("### ") for line in text.splitlines() if line.startswith("### ")]
    assert sections and set(sections) <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def _classifiers():
    return (ROOT / "pyproject.toml").read_text(encoding="utf-8")
