"""What the tests of the device side share: keys, a signed bundle, devices that have it, updates, and the command."""

import numpy as np
import pytest
from PIL import Image

from fedclip_edge.bundle import keys
from fedclip_edge.cli import main
from fedclip_edge.device import Device
from fedclip_edge.runtime import EdgeClassifier, install
from tests.support import forge
from tests.support.device_steps import opened


@pytest.fixture(scope="session")
def signer(tmp_path_factory):
    """Return the path of a private key; the public one lies beside it as ``.pub``."""
    path = tmp_path_factory.mktemp("keys") / "signer"
    keys.generate(path)
    return path


@pytest.fixture
def public(signer):
    """Return the public half of ``signer``, as a path."""
    return signer.with_name(signer.name + ".pub")


@pytest.fixture
def delivered(tmp_path, signer):
    """Return a signed full bundle, round 1, sequence 100."""
    return forge.bundle(tmp_path / "delivered", key=signer)


@pytest.fixture
def held(public):
    return keys.load_public_keys([public])


@pytest.fixture
def device(tmp_path, delivered, held):
    """Return a device with round 1, sequence 100, that holds the public key."""
    made = Device(tmp_path / "device")
    made.create(opened(made, delivered, held), held)
    return made


@pytest.fixture
def device_folder(tmp_path, delivered, public):
    """Return a device folder with round 1, sequence 100, which holds the signer's key."""
    install(tmp_path / "device", delivered, keys=[public], provider="cpu")
    return tmp_path / "device"


@pytest.fixture
def classifier(device_folder):
    with EdgeClassifier(device_folder, provider="cpu") as serving:
        yield serving


@pytest.fixture
def updates(tmp_path, signer):
    """Return a function that makes a signed update of a round and a sequence."""
    return lambda round, sequence: forge.update(tmp_path / f"{round}-{sequence}", round, sequence, key=signer)


@pytest.fixture
def edge(capsys):
    """Return a function that runs one command and gives its exit code, stdout and stderr."""

    def run(*words):
        code = main([str(word) for word in words])
        told = capsys.readouterr()
        return code, told.out, told.err

    return run


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    paths = [folder / "a.png", folder / "longer name.png"]
    for seed, path in enumerate(paths):
        Image.fromarray(np.random.default_rng(seed).integers(0, 256, (16, 8, 3), dtype=np.uint8)).save(path)
    return paths
