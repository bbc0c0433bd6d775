"""Each example runs on the built-in miniature; those under mpirun and Node are run beside the tests of those."""

import runpy
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import yaml
from nbclient import NotebookClient

from fedclip_plugin.cli.main import main
from fedclip_plugin.cli.mpirun.command import require_options
from fedclip_plugin.federated.job_here import run_job_here
from fedclip_plugin.recipe import find_recipe, load_recipe
from fedclip_plugin.runs import RunFolder
from fedclip_plugin.study.definition import load_study
from tests.support.paths import ROOT
from tests.support.random_adapters import write_adapter

EXAMPLES = ROOT / "examples"
BUNDLE = ROOT / "tests" / "regression" / "bundle_1"
ELSEWHERE = {
    "fedml_main": "tests/federations/test_fedml_ways.py",
    "own_method": "tests/methods/test_toy_method.py",
    "device_node": "tests/devices/test_device_example.py",
}
"""Examples that other tests run; the rest is run here."""


@pytest.fixture(scope="module")
def sites(own_images):
    """Return a folder of three sites with class folders."""
    return own_images("examples")


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch, workshop, sites):
    """Work in a folder whose images are drawn already."""
    monkeypatch.chdir(tmp_path)
    Path(".fedclip").mkdir()
    Path(".fedclip/data").symlink_to(workshop.data)
    Path("sites").symlink_to(sites)
    return tmp_path


def run(monkeypatch, script, *words):
    """Run a script as a user would, in this process."""
    monkeypatch.setattr(sys, "argv", [str(script), *map(str, words)])
    runpy.run_path(str(EXAMPLES / script), run_name="__main__")


def test_every_example_is_listed_and_tested():
    listed = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    here = Path(__file__).read_text(encoding="utf-8")
    for path in EXAMPLES.iterdir():
        name = f"{path.name}/" if path.is_dir() else path.name
        if path.name != "README.md":
            assert f"`{name}`" in listed, name
            assert path.name in here.partition("def test_every_example")[2] or path.name in ELSEWHERE, name
    for test in ELSEWHERE.values():
        assert (ROOT / test).is_file()


def test_predict(monkeypatch, capsys, place):
    write_adapter(place / "adapter")
    images = sorted(Path("sites").glob("*/dog/*.png"))[:2]
    run(monkeypatch, "predict.py", "adapter", *images)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [str(path) for path in images]
    with pytest.raises(SystemExit, match="missing"):
        run(monkeypatch, "predict.py", "missing", *images)


def test_own_data(monkeypatch, capsys):
    run(monkeypatch, "own_data/train.py", "sites")
    told = capsys.readouterr().out
    assert "Sigmoid gate on clip-tiny, 2 silos, 5 rounds" in told and "target silo_a" in told
    assert len(RunFolder(Path("runs/own_data")).rounds()) == 6


def test_csv_of_images(monkeypatch, capsys):
    run(monkeypatch, "csv_of_images/make_list.py")
    recipe = EXAMPLES / "csv_of_images" / "recipe.yaml"
    assert main(["validate", str(recipe)]) == 0
    assert "3 silos" in capsys.readouterr().out
    run_job_here(load_recipe(recipe), RunFolder(Path("run")), False, False, _Quiet())
    last = RunFolder(Path("run")).rounds()[-1]
    assert (last.round, sorted(last.silos)) == (5, ["north", "south", "west"])
    assert last.target is not None


def test_study():
    study = load_study(EXAMPLES / "study" / "study.yaml")
    assert main(["study", str(EXAMPLES / "study" / "study.yaml"), "--dry-run"]) == 0
    assert list(study.cases) == ["fedclip", "linear_probe"]


def test_device_python(monkeypatch, capsys):
    image = next(Path("sites").rglob("*.png"))
    run(monkeypatch, "device_python/device.py", BUNDLE / "bundle", BUNDLE / "signer.pub", BUNDLE / "update", image)
    assert [line.split(":")[0] for line in capsys.readouterr().out.splitlines()] == ["round 1", "round 2"]


def test_notebook(place):
    notebook = nbformat.read(EXAMPLES / "notebook.ipynb", as_version=4)
    NotebookClient(notebook, timeout=180, kernel_name="python3", resources={"metadata": {"path": str(place)}}).execute()
    shown = [cell.outputs[-1].data for cell in notebook.cells if cell.cell_type == "code"]
    assert "<table>" in shown[0]["text/html"] and "zero-shot CLIP" in shown[0]["text/html"]
    assert "validation" in shown[1]["text/html"]
    assert "metrics.jsonl" in shown[3]["text/plain"]


@pytest.mark.parametrize("script", ["slurm/fedclip.sh"])
def test_slurm_scripts_are_bash(script):
    assert subprocess.run(["bash", "-n", EXAMPLES / script], check=False).returncode == 0


def test_the_pods_of_the_kubernetes_job_are_its_ranks():
    job = yaml.safe_load((EXAMPLES / "kubernetes" / "mpijob.yaml").read_text(encoding="utf-8"))["spec"]
    launcher, worker = (job["mpiReplicaSpecs"][kind]["template"]["spec"] for kind in ("Launcher", "Worker"))
    words = [*launcher["containers"][0]["command"][1:], *launcher["containers"][0]["args"]]
    assert words[0] == "launch" and "--hostfile" in words[: words.index("--")]
    assert require_options(words[words.index("--") + 1 :])
    ranks = load_recipe(find_recipe("own_images/vit_b32_sigmoid_gate_silo_folders")).rank_count(workers=1)
    assert job["mpiReplicaSpecs"]["Worker"]["replicas"] * job["slotsPerWorker"] == ranks == 4
    for pod in (launcher, worker):
        mounted = {mount["name"] for mount in pod["containers"][0]["volumeMounts"]}
        assert mounted == {volume["name"] for volume in pod["volumes"]}
    assert launcher["containers"][0]["image"] == worker["containers"][0]["image"]


def test_the_container_copies_what_its_steps_need():
    text = (EXAMPLES / "container" / "Containerfile").read_text(encoding="utf-8")
    assert "make setup TORCH=cpu" in text and ".venv" in (ROOT / ".dockerignore").read_text().splitlines()


class _Quiet:
    """Hears how a federation goes, and says nothing."""

    def say(self, text):
        pass

    begin = train = round = lambda self, *told: None
