"""A method of another package, visible by its entry point alone: recipe, listing, federation, saved adapter, head."""

import os
import subprocess
import sys
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from fedclip_plugin.errors import MethodError
from fedclip_plugin.methods.registry import GROUP, METHODS, MethodTable
from tests.support.paths import ROOT

TOY = ROOT / "examples" / "own_method"


def install(site, package="toy-method", **entries):
    """Make a package of entry points visible to whoever has ``site`` on its path."""
    info = site / f"{package.replace('-', '_')}-0.0.1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 0.0.1\n")
    (info / "entry_points.txt").write_text(
        f"[{GROUP}]\n" + "".join(f"{name} = {value}\n" for name, value in entries.items())
    )


@pytest.fixture
def toy(tmp_path):
    """A folder in which the toy package is installed."""
    project = tomllib.loads((TOY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    install(tmp_path / "site", project["name"], **project["entry-points"][GROUP])
    (tmp_path / "site" / "toy_method.py").write_bytes((TOY / "toy_method.py").read_bytes())
    return tmp_path / "site"


def run(site, *words):
    """Run Python with the packages of ``site``."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), str(ROOT)])}
    done = subprocess.run([sys.executable, *words], cwd=ROOT, env=environment, capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


def fedclip(site, *words):
    return run(site, "-m", "fedclip_plugin", *words)


RECIPE = ("miniature/clip_tiny_fedclip", "--set", "fedclip_args.method=toy_scale")


def test_recipes_and_lists_know_it(toy):
    code, told, _ = fedclip(toy, "validate", *RECIPE)
    assert (code, "valid; 3 silos" in told) == (0, True)
    code, told, _ = fedclip(toy, "ls", "--methods")
    assert code == 0
    assert "Toy scale: one factor a dimension, d parameters" in told.splitlines()[-1]


def test_without_the_package_it_is_unknown_and_with_it_only_its_own_recipes_import_it(toy, tmp_path):
    code, _, told = fedclip(tmp_path / "empty", "validate", *RECIPE)
    assert code == 2 and 'fedclip_args.method = "toy_scale": must be' in told
    program = (
        "import sys; from fedclip_plugin.recipe import find_recipe, load_recipe; "
        "load_recipe(find_recipe('miniature/clip_tiny_fedclip')); print([name for name in ('torch', 'toy_method') "
        "if name in sys.modules])"
    )
    assert run(toy, "-c", program)[1].strip() == "[]"


def test_it_is_federated_saved_restored_and_exported(toy):
    code, told, err = run(
        toy, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(Path(__file__).with_name("toy_federation.py"))
    )
    assert code == 0, told + err
    assert "2 passed" in told


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("nowhere:METHOD", "package faulty registers method 'toy_scale' as nowhere:METHOD, which cannot be imported"),
        ("json:loads", "which is function, no fedclip_plugin.methods.Method"),
        ("fedclip_plugin.methods.registry:LORA", "cannot be imported"),
        ("toy_method:METHOD", "whose name is 'toy_scale'; give entry point and method one name"),
    ],
)
def test_a_faulty_entry_point_is_one_error_that_names_the_package(toy, tmp_path, value, message):
    name = "toy_scale" if value != "toy_method:METHOD" else "other"
    site = tmp_path / "faulty"
    install(site, "faulty", **{name: value})
    (site / "toy_method.py").write_bytes((TOY / "toy_method.py").read_bytes())
    code, _, told = fedclip(site, "validate", RECIPE[0], "--set", f"fedclip_args.method={name}")
    assert code == 2
    assert message in told and "package faulty" in told and "Traceback" not in told


def test_a_name_that_is_registered_twice_is_one_error_that_names_both_packages(toy):
    install(toy, "rival", toy_scale="toy_method:METHOD", fedclip="toy_method:METHOD")
    code, _, told = fedclip(toy, "validate", *RECIPE)
    assert code == 2
    assert "method 'toy_scale' is registered by package " in told and "rival" in told and "toy-method" in told
    code, _, told = fedclip(toy, "validate", RECIPE[0])
    assert code == 2
    assert "method 'fedclip' is registered by fedclip-plugin and package rival" in told


def test_the_table_imports_nothing_that_is_not_asked_for():
    with pytest.raises(KeyError):
        MethodTable([])["fedclip"]
    assert dict(MethodTable([METHODS["lora"]])) == {"lora": METHODS["lora"]}
    with pytest.raises(MethodError, match="registered by fedclip-plugin and package"):
        MethodTable([METHODS["lora"]], lambda: [EntryPoint("lora", "nowhere:METHOD", GROUP)])["lora"]
