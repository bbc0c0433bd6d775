"""A device's environment has onnxruntime, Pillow and cryptography, and nothing of training: everything runs there."""

import json
import os
import subprocess
import venv
from importlib.metadata import Distribution, PackageNotFoundError, distribution

import numpy as np
import pytest
from packaging.requirements import Requirement
from PIL import Image

from tests.support import forge
from tests.support.paths import EDGE

ABSENT = ("torch", "transformers", "fedml", "onnx", "fedclip_plugin")
CLEAN = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def installed(name):
    """Return a distribution of this environment; onnxruntime may be the build with CUDA."""
    try:
        return distribution(name)
    except PackageNotFoundError:
        return distribution(f"{name}-gpu")


def required(of: Distribution, extras=("",)):
    """Return the distributions that one declares, and those that they declare, by name."""
    found = {}
    for requirement in map(Requirement, of.requires or ()):
        if requirement.marker is None or any(requirement.marker.evaluate({"extra": extra}) for extra in extras):
            one = installed(requirement.name)
            found |= {one.name: one} | required(one)
    return found


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """Return the Python of an environment that has ``fedclip-edge[cpu,image,verify]`` and what it declares, alone."""
    place = tmp_path_factory.mktemp("device") / "venv"
    venv.create(place, symlinks=True)
    (site,) = place.glob("lib/python*/site-packages")
    (site / "fedclip_edge").symlink_to(EDGE / "fedclip_edge")
    for one in required(distribution("fedclip-edge"), ("cpu", "image", "verify")).values():
        for name in {file.parts[0] for file in one.files or ()} - {"..", "__pycache__"}:
            if not (site / name).exists():
                (site / name).symlink_to(one.locate_file(name))
    return place / "bin" / "python"


@pytest.fixture
def edge(environment, tmp_path):
    """Return a function that runs ``fedclip-edge`` there, and gives exit code, stdout and stderr."""

    def run(*words):
        command = [environment, "-m", "fedclip_edge.cli", *(str(word) for word in words)]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=CLEAN)
        return done.returncode, done.stdout, done.stderr

    return run


def test_nothing_of_training_is_installed(environment):
    program = f"import importlib.util as u; print([n for n in {ABSENT} if u.find_spec(n)])"
    done = subprocess.run([environment, "-I", "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_whole_story_of_a_device(edge, tmp_path, delivered, signer, public):
    pixels = np.random.default_rng(4).integers(0, 256, (16, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "picture.png")
    device, update = tmp_path / "device", forge.update(tmp_path / "update", key=signer)

    def label(round):
        return forge.LABELS[int(np.argmax(forge.features([pixels]) @ forge.head_weights(round).T))]

    def predicted():
        code, out, err = edge("predict", device, "picture.png", "--json")
        assert (code, err) == (0, "")
        told = json.loads(out)
        return told["round"], told["answers"][0]["label"]

    assert edge("verify", delivered, "--key", public)[0] == 0
    assert edge("update", device, delivered, "--key", public)[:2] == (0, "installed round 1\n")
    assert predicted() == (1, label(1))
    assert edge("update", device, update)[:2] == (0, "round 1 -> 2: head replaced\n")
    assert predicted() == (2, label(2))
    assert edge("update", device, update)[0] == 1
    assert edge("rollback", device)[:2] == (0, "round 2 -> 1: head replaced\n")
    assert predicted() == (1, label(1))
    code, out, _ = edge("doctor", device)
    assert code == 0 and out.endswith("fit to serve\n")
    assert ["ok", "CPUExecutionProvider", "can", "be", "used"] in [line.split() for line in out.splitlines()]
    assert edge("bench", device)[0] == 0
