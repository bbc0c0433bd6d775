"""Imports run one way through the whole house, and what is checked before a job starts needs no heavy library."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import fedclip_edge
import fedclip_export
import fedclip_miniature
import fedclip_plugin
from fedclip_plugin.methods import METHODS, Adapter, adapter_class

PACKAGES = {
    package.__name__: Path(package.__file__).parent
    for package in (fedclip_edge, fedclip_export, fedclip_miniature, fedclip_plugin)
}
DEVICE = [
    *("fedclip_edge.machine", "fedclip_edge.errors", "fedclip_edge.arguments", "fedclip_edge.terminal"),
    *(
        "fedclip_edge.safe_files",
        "fedclip_edge.files",
        "fedclip_edge.sample_range",
        "fedclip_edge.sample_scaling",
        "fedclip_edge.image_file",
    ),
    *("fedclip_edge.wide_samples", "fedclip_edge.dicom_image", "fedclip_edge.images", "fedclip_edge.metrics"),
    *("fedclip_edge.reliability", "fedclip_edge.calibration"),
    *("fedclip_edge.bundle", "fedclip_edge.device", "fedclip_edge.runtime", "fedclip_edge.cli"),
]
ORDER = [
    *DEVICE,
    *("fedclip_plugin.errors", "fedclip_plugin.text", "fedclip_plugin.machine"),
    *("fedclip_plugin.backbone.configs.backbone_config", "fedclip_plugin.backbone.configs.siglip_config"),
    "fedclip_plugin.backbone.configs.open_clip_config",
    *("fedclip_plugin.backbone.configs.clip_config", "fedclip_plugin.methods.registry"),
    "fedclip_miniature",
    *("fedclip_plugin.ranks", "fedclip_plugin.recipe", "fedclip_plugin.trust", "fedclip_plugin.runs"),
    "fedclip_plugin.hub",
    "fedclip_plugin.data",
    *("fedclip_plugin.backbone", "fedclip_plugin.features", "fedclip_plugin.methods", "fedclip_plugin.federated"),
    *(
        "fedclip_plugin.predictions",
        "fedclip_plugin.classifier",
        "fedclip_plugin.fitting",
        "fedclip_plugin",
        "fedclip_export",
        "fedclip_plugin.study",
    ),
    *("fedclip_plugin.what_leaves", "fedclip_plugin.report", "fedclip_plugin.cli", "fedclip_plugin.__main__"),
]
"""A part may import those before it. ``fedclip_plugin`` itself hands on public names."""

LIGHT = [
    *(
        "",
        ".methods.registry",
        ".recipe",
        ".trust.audit",
        ".trust.policy_check",
        ".runs",
        ".data",
        ".runs.provenance",
        ".study",
    ),
    *(".cli.main", ".cli.run", ".cli.study", ".cli.partition"),
]
FILES = [(name, path) for name, folder in PACKAGES.items() for path in sorted(folder.rglob("*.py"))]


def module_of(package, path):
    """Return a file's dotted name."""
    inside = path.relative_to(PACKAGES[package]).with_suffix("").parts
    return ".".join([package, *(name for name in inside if name != "__init__")])


def place(module):
    """Return the part of the house that a dotted name belongs to; None for other libraries."""
    names = module.split(".")
    parts = (".".join(names[:count]) for count in range(len(names), 0, -1))
    return next((part for part in parts if part in ORDER), None)


def imported(package, path):
    """Yield the absolute name of everything that a file imports, in functions too."""
    own = [package, *path.relative_to(PACKAGES[package]).parent.parts]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = own[: len(own) + 1 - node.level] if node.level else []
            name = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{name}.{alias.name}" for alias in node.names) if name in PACKAGES else [name]


@pytest.mark.parametrize(("package", "path"), FILES, ids=[module_of(*file) for file in FILES])
def test_imports_run_one_way(package, path):
    own = place(module_of(package, path))
    allowed = ORDER[: ORDER.index(own) + 1] if own in ORDER else DEVICE
    if package == "fedclip_edge":
        allowed = DEVICE[: DEVICE.index(own) + 1] if own in DEVICE else DEVICE
    allowed = [*allowed, "fedclip_plugin"] if own != "fedclip_edge" else allowed
    ours = [name for module in imported(package, path) if (name := place(module))]
    assert [name for name in ours if name not in allowed] == []


def test_every_part_has_its_place():
    plugin = PACKAGES["fedclip_plugin"]
    parts = {path.stem for path in plugin.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    known = {name.split(".")[1] for name in ORDER if name.startswith("fedclip_plugin.")}
    assert parts - {"__init__"} == known
    edge = PACKAGES["fedclip_edge"]
    parts = {path.stem for path in edge.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert parts - {"__init__"} == {name.partition(".")[2] for name in DEVICE}


def test_the_picture_of_the_layers_has_this_order():
    picture = (PACKAGES["fedclip_plugin"].parent / "docs" / "layers.svg").read_text(encoding="utf-8")
    drawn = re.findall(r'<rect id="(\w+)"', picture)[::-1]
    listed = [name.removeprefix("fedclip_plugin.") for name in ["fedclip_edge", *ORDER[len(DEVICE) :]]]
    assert [name for name in listed if name in drawn] == drawn


def test_light_modules_and_a_launch_that_is_refused_import_nothing_heavy():
    """In one process, module by module: what none of them loads, no single one loads."""
    heavy = ("torch", "fedml", "transformers", "mpi4py", "onnx", "onnxruntime")
    code = f"""
import importlib, sys
def heavy(): return [name for name in {heavy} if name in sys.modules]
for part in {LIGHT}:
    importlib.import_module("fedclip_plugin" + part)
    print(part, heavy())
from fedclip_plugin.cli.main import main
print(main(["launch", "no/such.yaml"]), heavy())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [*(f"{part} []" for part in LIGHT), "2 []"]


def test_commands_import_only_what_they_need(tmp_path):
    for label in ("dog", "house"):
        (tmp_path / "images" / label).mkdir(parents=True)
        for number in range(20):
            (tmp_path / "images" / label / f"{number}.png").touch()
    steps = [
        (["ls"], ["cp", "miniature/clip_tiny_fedclip", "m.yaml"], ["completion", "bash"], "pydantic"),
        (*([name, "--help"] for name in ("ls", "cp", "init", "check", "schema", "doctor")), "pydantic"),
        (["keys", "backend"], ["schema"], ["validate", "m.yaml", "studies/miniature"], "numpy"),
        (["init", "images"], ["check", "images"], "torch"),
    ]
    heavy = ["pydantic", "numpy", "PIL", "matplotlib", "onnxruntime", "mpi4py", "transformers", "torch", "fedml"]
    code = (
        "import contextlib, io, sys\nfrom fedclip_plugin.cli.main import main\n"
        "def code_of(words):\n"
        "    try:\n        return main(words)\n"
        "    except SystemExit as end:\n        return end.code\n"
        f"for *commands, first in {steps}:\n"
        "    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):\n"
        "        codes = [code_of(words) for words in commands]\n"
        f"    print(codes, [name for name in {heavy}[{heavy}.index(first):] if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[0, 0, 0] []", f"{[0] * 6} []", "[0, 0, 0] []", "[0, 1] []"]


def test_who_predicts_or_evaluates_waits_for_no_fedml():
    modules = ("cli.predict", "cli.evaluate", "classifier")
    code = f"import sys, {', '.join(f'fedclip_plugin.{name}' for name in modules)}; print('fedml' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_every_method_of_the_table_has_its_class():
    assert all(issubclass(adapter_class(name), Adapter) for name in METHODS)
