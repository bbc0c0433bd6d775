"""Imports run one way, and what is checked before a job starts needs none of the heavy libraries."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import fedclip_plugin
from fedclip_plugin.adapters import ADAPTERS
from fedclip_plugin.recipe import METHODS

PACKAGE = Path(fedclip_plugin.__file__).parent
ORDER = [
    *(
        "errors",
        "text",
        "streams",
        "machine",
        "ranks",
        "recipe",
        "runs",
        "data",
        "miniature",
        "backbone",
        "features",
        "adapters",
    ),
    *("federated", "study", "crossing", "report", "commands", "cli"),
]
"""A part may import those before it."""

ENDS = {"__main__": "cli", "__init__": "federated"}
"""Modules that stand for the package: what they may import at most."""


def part(module):
    """Return the part of the package that a dotted name belongs to, None for other libraries."""
    names = module.split(".")
    return names[1] if names[0] == "fedclip_plugin" and len(names) > 1 else None


def imported(path):
    """Yield the absolute name of everything that a file imports, in functions too."""
    package = ["fedclip_plugin", *path.relative_to(PACKAGE).parent.parts]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else []
            name = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{name}.{alias.name}" for alias in node.names) if name == "fedclip_plugin" else [name]


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_run_one_way(path):
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    highest = ORDER.index(ENDS.get(own, own))
    known = [name for module in imported(path) if (name := part(module)) in ORDER]
    assert [name for name in known if ORDER.index(name) > highest] == []


def test_every_part_has_its_place():
    parts = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert parts - {*ENDS} == {*ORDER}


def test_nothing_of_the_export_side_is_imported():
    names = {name.split(".")[0] for path in PACKAGE.rglob("*.py") for name in imported(path)}
    assert "fedclip_export" not in names


@pytest.mark.parametrize(
    "module", ["", ".recipe", ".runs", ".data", ".runs.provenance", ".study", ".commands.run", ".commands.study"]
)
def test_light_modules_import_nothing_heavy(module):
    heavy = ["torch", "fedml", "transformers", "mpi4py", "onnx", "onnxruntime"]
    code = f"import sys, fedclip_plugin{module}; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_command_line_and_a_launch_that_is_refused_import_nothing_heavy():
    code = (
        "import sys; from fedclip_plugin.cli import main; code = main(['launch', 'no/such.yaml']); "
        "print(code, [name for name in ('torch', 'fedml', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "2 []"


def test_the_table_of_methods_and_the_table_of_adapters_name_the_same():
    assert set(METHODS) == set(ADAPTERS)
