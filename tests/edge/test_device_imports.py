"""The device side imports one way, and its runtime needs nothing of training."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import fedclip_export

PACKAGE = Path(fedclip_export.__file__).parent
ORDER = ["errors", "terminal", "bundle", "runtime", "edge"]
"""A part of the runtime may import those before it; ``convert`` may import all but ``edge``, and nobody imports it."""

HEAVY = ("torch", "transformers", "fedml", "onnx", "fedclip_plugin", "onnxruntime", "PIL", "cryptography")
MODULES = sorted(path for part in ORDER[1:] for path in (PACKAGE / part).rglob("*.py"))


def imported(path, everywhere=True):
    """Yield the names that a file imports; ``everywhere`` includes those inside functions."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree) if everywhere else tree.body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield str(node.module)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_parts_import_those_before_them_only(path):
    own = ORDER.index(path.relative_to(PACKAGE).parts[0])
    names = [name.split(".") for name in imported(path)]
    parts = [name[1] for name in names if name[0] == "fedclip_export" and len(name) > 1]
    assert [part for part in parts if part not in ORDER[: own + 1]] == []


@pytest.mark.parametrize("path", sorted((PACKAGE / "convert").glob("*.py")), ids=lambda path: path.name)
def test_the_converter_does_not_reach_for_the_command_line(path):
    assert [name for name in imported(path) if name.startswith(("fedclip_export.edge", "fedclip_export.cli"))] == []


@pytest.mark.parametrize("module", ["bundle", "runtime", "edge", "cli"])
def test_nothing_heavy_is_loaded_until_it_is_used(module):
    code = f"import sys, fedclip_export.{module}; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
