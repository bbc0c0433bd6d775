"""What the tests of the device side share: one pair of keys, and one signed bundle."""

import forge
import pytest

from fedclip_export.bundle import keys


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
