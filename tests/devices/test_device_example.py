"""The example for Node runs as its first line says."""

import subprocess

from tests.support.paths import ROOT

EXAMPLE = ROOT / "examples" / "device_node" / "device.mjs"
BUNDLE = ROOT / "tests" / "regression" / "bundle_1"


def test_the_example_installs_predicts_and_updates(node, pictures, tmp_path):
    words = [BUNDLE / "bundle", BUNDLE / "signer.pub", BUNDLE / "update", pictures[0]]
    done = subprocess.run(["node", EXAMPLE, *words], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert [line.split(":")[0] for line in done.stdout.splitlines()] == ["round 1", "round 2"]
