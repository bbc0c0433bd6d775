"""Make the specification's test vectors; ``pytest tests/support/bundle_vectors.py`` writes them anew."""

import base64
import json

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fedclip_edge.bundle import Trust, keys, open_bundle
from tests.support import forge
from tests.support.forged_bundles import ATTACKS, attacked
from tests.support.paths import EDGE

FILE = EDGE / "fedclip_edge" / "spec" / "vectors.json"
_LARGE = ("huge manifest", "deep JSON")
"""Cases that would make the file large."""


def cases():
    """Name the attacks that can be told in files alone."""
    return [name for name, attack in ATTACKS.items() if not attack.filesystem and name not in _LARGE]


def signer(place):
    """Write the vectors' key, which is no secret, and return its path."""
    private = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    path = place / "signer"
    pem = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    path.write_bytes(private.private_bytes(serialization.Encoding.PEM, *pem))
    path.with_name("signer.pub").write_bytes(keys.PublicKey(private.public_key().public_bytes_raw()).pem)
    return path


def vectors(place):
    """Return the whole file as an object; ``place`` is an empty folder to work in."""
    key = signer(place)
    public = keys.load_public_keys([key.with_name("signer.pub")])
    first = open_bundle(forge.bundle(place / "first", key=key), Trust(public, forge.PRODUCT), now=forge.NOW).installed()
    contents, told = {}, []

    def add(name, folder, reason, **more):
        files = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
        digests = {file: forge.sha256(content) for file, content in files.items()}
        contents.update({digests[file]: base64.b64encode(content).decode() for file, content in files.items()})
        told.append({"name": name, "files": digests, "reason": reason, **more})

    for kind, make in (("bundle", forge.bundle), ("update", forge.update)):
        add(f"a good {kind}", make(place / f"good-{kind}", round=2, sequence=200, key=key), None)
    add("weights beside the encoder", forge.bundle(place / "outside", 2, 200, key, external=True), None)
    calibrated = forge.bundle(place / "calibrated", 2, 200, key, calibration=forge.calibration(2))
    add("a bundle with a threshold", calibrated, None, answers=forge.answers(2))
    private = forge.bundle(place / "private", 2, 200, key, privacy=forge.PRIVACY)
    add("a bundle that tells of differential privacy", private, None)
    for name in cases():
        add(name, attacked(place / name.replace("/", "_"), name, key), ATTACKS[name].reason)
    device = {
        "product": forge.PRODUCT,
        "key": base64.b64encode(public[0].raw).decode(),
        "sequence": first.sequence,
        "encoder": first.encoder,
        "preprocess": first.preprocess,
        "feature_dim": first.feature_dim,
        "onnxruntime": forge.RUNTIME,
        "now": forge.NOW,
    }
    return {"device": device, "cases": told, "contents": contents}


def test_write_the_vectors_anew(tmp_path):
    """Write the file; pytest comes here only when this module is named."""
    FILE.write_text(json.dumps(vectors(tmp_path), indent=1) + "\n", encoding="utf-8")
    assert json.loads(FILE.read_text())["cases"]
