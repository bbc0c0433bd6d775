"""What the distributions declare is what they hold and import, and there is one version."""

import ast
import json
import re
import sys
import tomllib

import pytest

import fedclip_edge
import fedclip_export
import fedclip_plugin
import fedclip_track
from tests.support.paths import EDGE, EXPORT, ROOT

PLUGIN = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
DEVICE = tomllib.loads((EDGE / "pyproject.toml").read_text(encoding="utf-8"))
FOLDERS = (ROOT / "fedclip_plugin", ROOT / "fedclip_miniature", EXPORT / "fedclip_export")
INSTALLED_AS = {
    "PIL": "pillow",
    "yaml": "pyyaml",
    "pydantic_core": "pydantic",
    "onnxruntime": "onnxruntime-gpu",
    "mlflow": "mlflow-skinny",
}
"""Modules whose distribution has another name."""

INDIRECT = {"onnxruntime", "onnxscript", "setuptools"}
"""Declared and not imported by us: on other machines, by torch's ONNX exporter, by fedml."""

OPTIONAL = {"open_clip", "pandas", "tensorboard"}
"""What one method or key alone needs, imported there: FedML brings pandas, extras bring the others."""


def imported(folder):
    """Return the names of all libraries that the files of a folder import, ours and Python's left out."""
    names = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names.add(node.module.split(".")[0])
    return {INSTALLED_AS.get(name, name) for name in names if name not in sys.stdlib_module_names}


def distributions(requirements):
    return {re.match(r"[\w.-]+", requirement)[0] for requirement in requirements}


def test_the_plugin_declares_what_it_imports():
    used = set().union(*(imported(folder) for folder in FOLDERS))
    ours = {name for name in used if name.startswith("fedclip_")}
    declared = distributions(PLUGIN["project"]["dependencies"])
    assert used - ours - OPTIONAL == declared - INDIRECT - {"fedclip-edge"}


def test_the_device_side_declares_what_it_imports():
    extras = DEVICE["project"]["optional-dependencies"]
    brought = [extras[name] for name in ("gpu", "image", "dicom", "verify")]
    declared = distributions([*DEVICE["project"]["dependencies"], *(one for extra in brought for one in extra)])
    assert imported(EDGE / "fedclip_edge") - {"fedclip_edge"} == declared


def test_what_logs_runs_declares_what_it_imports_and_needs_nothing_of_ours():
    project = tomllib.loads((ROOT / "track" / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    declared = distributions([*project["dependencies"], *extras["mlflow"], *extras["trackio"]])
    assert imported(ROOT / "track" / "fedclip_track") - {"fedclip_track"} == declared


def test_there_is_one_version():
    version = fedclip_edge.__version__
    assert version == fedclip_plugin.__version__ == fedclip_export.__version__ == fedclip_track.__version__
    assert f"fedclip-edge[image,verify]=={version}" in PLUGIN["project"]["dependencies"]
    packages = [path for path in EXPORT.rglob("package.json") if "node_modules" not in path.parts]
    assert packages and {json.loads(path.read_text())["version"] for path in packages} == {version}


@pytest.mark.parametrize(
    ("package", "file"),
    [
        ("fedclip_plugin", "py.typed"),
        ("fedclip_plugin.backbone", "clip_tiny/config.json"),
        ("fedclip_plugin.report", "page.html"),
        ("fedclip_plugin.runs", "round_record.schema.json"),
        ("fedclip_recipes", "miniature/clip_tiny_fedclip.yaml"),
    ],
)
def test_what_is_no_code_is_packaged_too(package, file):
    patterns = PLUGIN["tool"]["setuptools"]["package-data"][package]
    home = ROOT / package.replace(".", "/").replace("fedclip_recipes", "recipes")
    assert home / file in {path for pattern in patterns for path in home.glob(pattern)}
