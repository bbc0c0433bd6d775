"""How ``bundle_1`` was made, with ``tests/export`` on the path; not to be run again."""

import json
from pathlib import Path

import numpy as np

from fedclip_edge.bundle import keys
from fedclip_edge.runtime import EdgeClassifier
from tests.support import forge

HERE = Path(__file__).parent / "bundle_1"

if __name__ == "__main__":
    HERE.mkdir()
    keys.generate(HERE / "signer")
    forge.bundle(HERE / "bundle", key=HERE / "signer")
    forge.update(HERE / "update", key=HERE / "signer")
    (HERE / "signer").unlink()
    picture = np.arange(16 * 24 * 3, dtype=np.uint8).reshape(16, 24, 3)
    with EdgeClassifier(HERE / "bundle", keys=[HERE / "signer.pub"], provider="cpu") as classifier:
        logits = classifier.logits([picture])
    (HERE / "expected.json").write_text(json.dumps({"logits": logits.tolist()}) + "\n", encoding="utf-8")
