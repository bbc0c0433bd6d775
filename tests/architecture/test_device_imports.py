"""The device side needs nothing of training, and loads no heavy library before it is used."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import fedclip_edge
import fedclip_export

EDGE, EXPORT = Path(fedclip_edge.__file__).parent, Path(fedclip_export.__file__).parent
OURS = ("fedclip_plugin", "fedclip_export", "fedclip_miniature")
NEVER = ("torch", "transformers", "fedml", "onnx", *OURS)
HEAVY = (*NEVER, "onnxruntime", "PIL", "pydicom", "cryptography")


def imported(path, everywhere=True):
    """Yield the names that a file imports; ``everywhere`` includes those inside functions."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree) if everywhere else tree.body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield str(node.module)


@pytest.mark.parametrize("path", sorted(EDGE.rglob("*.py")), ids=lambda path: str(path.relative_to(EDGE)))
def test_the_device_side_imports_nothing_of_training(path):
    assert [name for name in imported(path) if name.split(".")[0] in NEVER] == []


@pytest.mark.parametrize("path", sorted(EXPORT.rglob("*.py")), ids=lambda path: str(path.relative_to(EXPORT)))
def test_the_exporter_does_not_reach_for_a_command_line(path):
    commands = ("fedclip_edge.cli", "fedclip_plugin.cli", "fedclip_export.cli")
    assert [name for name in imported(path) if name.startswith(commands)] == []


def test_nothing_heavy_is_loaded_until_it_is_used():
    """In one process, module by module: what none of them loads, no single one loads."""
    modules = [f"fedclip_{name}" for name in ("edge.bundle", "edge.device", "edge.runtime", "edge.cli", "export.cli")]
    code = f"""
import importlib, sys
for module in {modules}:
    importlib.import_module(module)
    print(module, [name for name in {HEAVY} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    own = {"fedclip_export.cli": ["fedclip_export"]}
    assert done.stdout.splitlines() == [f"{module} {own.get(module, [])}" for module in modules]
