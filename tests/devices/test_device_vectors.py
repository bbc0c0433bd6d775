"""Node gives the specification's test vectors the answers that they name."""

import base64
import json

from fedclip_edge.bundle.keys import PublicKey
from tests.devices.support import hosts
from tests.support.paths import EDGE

VECTORS = json.loads((EDGE / "fedclip_edge" / "spec" / "vectors.json").read_text())
PYTHON_ALONE = {"duplicate JSON key"}
"""JavaScript's own parser cannot tell."""

NO_DATA_FILE = {"weights beside the encoder"}
"""Node takes an encoder with its weights inside."""


def test_node_answers_as_the_vectors_say(node, tmp_path):
    device = VECTORS["device"]
    (tmp_path / "key.pub").write_bytes(PublicKey(base64.b64decode(device["key"])).pem)
    cases = [case for case in VECTORS["cases"] if case["name"] not in PYTHON_ALONE | NO_DATA_FILE]
    for index, case in enumerate(cases):
        folder = tmp_path / str(index)
        folder.mkdir()
        for name, digest in case["files"].items():
            (folder / name).write_bytes(base64.b64decode(VECTORS["contents"][digest]))
    job = {
        "base": str(tmp_path / "0"),
        "folders": [str(tmp_path / str(index)) for index in range(len(cases))],
        "keys": [str(tmp_path / "key.pub")],
        "product": device["product"],
        "sequence": device["sequence"],
        "runtime": device["onnxruntime"],
        "now": device["now"],
    }
    found = hosts.ask("vectors_host.mjs", job)
    names = [case["name"] for case in cases]
    assert dict(zip(names, (one["reason"] for one in found), strict=True)) == {
        case["name"]: case["reason"] for case in cases
    }
    known = {case["name"]: case["answers"] for case in cases if "answers" in case}
    assert known and {name: one["answers"] for name, one in zip(names, found, strict=True) if name in known} == known
