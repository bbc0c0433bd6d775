"""Where Node and Chromium are, and how to talk to them: one JSON object in, one out."""

import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests.support.paths import EXPORT, ROOT

HERE = Path(__file__).resolve().parent
PACKAGE = EXPORT / "js"
ARTEFACTS = ROOT / "build" / "devices"
COMMAND, BUILD = PACKAGE / "node" / "fedclip-edge-node.mjs", PACKAGE / "web" / "build.mjs"
TIMEOUT_S = 300
TOLERANCE = 1e-4


def lack(what):
    """Skip, or fail where these tests were asked for by name."""
    if os.environ.get("FEDCLIP_REQUIRE_DEVICES") == "1":
        pytest.fail(f"{what}; make test-devices needs it")
    pytest.skip(f"{what}: run make test-devices")


def require_node():
    node = shutil.which("node")
    if node is None:
        lack("Node is not installed")
    if not (PACKAGE / "node_modules" / "onnxruntime-node").is_dir():
        lack("export/js has no node_modules")
    return node


def require_chromium():
    node = require_node()
    if chromium() is None:
        lack("Chromium is not installed (CHROMIUM may name it)")
    return node


def chromium():
    return os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")


def run(*command, **options):
    return subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, timeout=TIMEOUT_S, check=False, **options
    )


def ask(script, job):
    """Run one of the scripts beside this file; return what it answers."""
    done = run(shutil.which("node"), HERE / script, input=json.dumps(job))
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout)


def build_site(out, bundle, update=None, keys=()):
    """Assemble the page's folder with the project's own command."""
    options = ["--bundle", bundle, "--out", out] + (["--update", update] if update else [])
    for key in keys:
        options += ["--key", key]
    done = run(shutil.which("node"), BUILD, *options)
    assert done.returncode == 0, done.stderr
    return out


def digest(array):
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def address(path):
    """Return where a picture lies in the built page's folder."""
    return f"images/{'-'.join(path.parts[-3:])}"
