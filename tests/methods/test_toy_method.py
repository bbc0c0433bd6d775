"""A method of another package, visible by its entry point alone: recipe, listing, federation, saved adapter, head."""

import os
import subprocess
import sys
import tomllib
from importlib.metadata import EntryPoint

import numpy as np
import onnxruntime
import pytest
import torch

from fedclip_export.graphs.finalize import to_bytes
from fedclip_export.graphs.heads import head_graph
from fedclip_plugin.backbone import locate_backbone
from fedclip_plugin.classifier import Classifier
from fedclip_plugin.cli.main import main
from fedclip_plugin.errors import MethodError
from fedclip_plugin.federated.startup.memory_estimate import update_bytes
from fedclip_plugin.methods.registry import GROUP, METHODS, MethodTable
from fedclip_plugin.recipe import find_recipe, load_recipe
from fedclip_plugin.runs import load_adapter
from tests.support.in_process_federation import WIDTH, Federation
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


@pytest.fixture
def see(monkeypatch):
    """Return a function that puts a folder on this process's path, as if the process had been started with it."""

    def look(site):
        monkeypatch.syspath_prepend(site)
        monkeypatch.setitem(vars(METHODS), "data", MethodTable(METHODS._built_in, METHODS._registered).data)

    yield look
    sys.modules.pop("toy_method", None)


RECIPE = ("miniature/clip_tiny_fedclip", "--set", "fedclip_args.method=toy_scale")


def test_recipes_and_lists_know_it(toy, see, capsys):
    see(toy)
    assert main(["validate", *RECIPE]) == 0
    assert "valid; 3 silos" in capsys.readouterr().out
    assert main(["ls", "--methods"]) == 0
    assert "Toy scale: one factor a dimension, d parameters" in capsys.readouterr().out.splitlines()[-1]


def test_a_process_sees_it_from_its_start_and_only_its_own_recipes_import_it(toy):
    program = (
        "import sys\n"
        "from fedclip_plugin.cli.main import main\n"
        "from fedclip_plugin.recipe import find_recipe, load_recipe\n"
        "load_recipe(find_recipe('miniature/clip_tiny_fedclip'))\n"
        "print([name for name in ('torch', 'toy_method') if name in sys.modules])\n"
        f"raise SystemExit(main(['validate', *{RECIPE}]))\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(toy), str(ROOT)])}
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == "[]" and "valid; 3 silos" in done.stdout


def test_without_the_package_it_is_unknown(capsys):
    assert main(["validate", *RECIPE]) == 2
    assert 'fedclip_args.method = "toy_scale": must be' in capsys.readouterr().err


@pytest.mark.usefixtures("fresh_fedml")
def test_it_is_federated_saved_restored_and_exported(toy, see, tmp_path):
    see(toy)
    Federation(tmp_path / "run", method="toy_scale").run()
    saved = load_adapter(tmp_path / "run" / "adapters" / "final")
    assert (saved.method, saved.round, list(saved.tensors)) == ("toy_scale", 4, ["scales"])
    assert not np.allclose(saved.tensors["scales"], 1)
    features = np.random.default_rng(0).standard_normal((5, WIDTH)).astype(np.float32)
    wanted = Classifier(saved, device="cpu").logits_of(torch.from_numpy(features)).numpy()
    session = onnxruntime.InferenceSession(to_bytes(head_graph(saved, {})), providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(["logits"], {"image_features": features})[0], wanted, atol=1e-5)


def test_memory_and_disk_are_checked_by_its_own_count(toy, see):
    see(toy)
    recipe = load_recipe(find_recipe(RECIPE[0]), ["fedclip_args.method=toy_scale"])
    assert update_bytes(recipe, locate_backbone("clip-tiny")) == 4 * 128


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("nowhere:METHOD", "package faulty registers method 'toy_scale' as nowhere:METHOD, which cannot be imported"),
        ("json:loads", "which is function, no fedclip_plugin.methods.Method"),
        ("fedclip_plugin.methods.registry:LORA", "cannot be imported"),
        ("toy_method:METHOD", "whose name is 'toy_scale'; give entry point and method one name"),
    ],
)
def test_a_faulty_entry_point_is_one_error_that_names_the_package(see, tmp_path, capsys, value, message):
    name = "toy_scale" if value != "toy_method:METHOD" else "other"
    site = tmp_path / "faulty"
    install(site, "faulty", **{name: value})
    (site / "toy_method.py").write_bytes((TOY / "toy_method.py").read_bytes())
    see(site)
    assert main(["validate", RECIPE[0], "--set", f"fedclip_args.method={name}"]) == 2
    told = capsys.readouterr().err
    assert message in told and "package faulty" in told and "Traceback" not in told


def test_a_name_that_is_registered_twice_is_one_error_that_names_both_packages(toy, see, capsys):
    install(toy, "rival", toy_scale="toy_method:METHOD", fedclip="toy_method:METHOD")
    see(toy)
    assert main(["validate", *RECIPE]) == 2
    told = capsys.readouterr().err
    assert "method 'toy_scale' is registered by package " in told and "rival" in told and "toy-method" in told
    assert main(["validate", RECIPE[0]]) == 2
    assert "method 'fedclip' is registered by fedclip-plugin and package rival" in capsys.readouterr().err


def test_the_table_imports_nothing_that_is_not_asked_for():
    with pytest.raises(KeyError):
        MethodTable([])["fedclip"]
    assert dict(MethodTable([METHODS["lora"]])) == {"lora": METHODS["lora"]}
    with pytest.raises(MethodError, match="registered by fedclip-plugin and package"):
        MethodTable([METHODS["lora"]], lambda: [EntryPoint("lora", "nowhere:METHOD", GROUP)])["lora"]
