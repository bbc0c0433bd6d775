"""FedML's own runner and FedML's own spelling give what ``fedclip run`` gives; nothing leaves the machine."""

import subprocess
import sys

import pytest

from tests.support.workshop import PLAIN_MAIN, results

LONELY = """
import fcntl, os, socket, struct, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as lo:
    fcntl.ioctl(lo, 0x8914, struct.pack("16sh", b"lo", 0x1 | 0x40))  # SIOCSIFFLAGS: IFF_UP | IFF_RUNNING
try:
    socket.create_connection(("192.0.2.1", 443), timeout=5)
except OSError as error:
    assert error.errno == 101, error  # ENETUNREACH
os.execvp(sys.argv[1], sys.argv[1:])
"""
ROOT_IS_FINE = {f"{name}_ALLOW_RUN_AS_ROOT{end}": "1" for name in ("OMPI", "PRTE") for end in ("", "_CONFIRM")}


def test_plain_fedml_runner_ends_with_the_same_adapter(workshop, happy):
    folder = workshop.place / "runs" / "plain"
    # fedml.device.get_device wants the key, whatever its documentation says.
    recipe = workshop.recipe(
        "plain",
        device_args__using_gpu=True,
        fedclip_args__run_dir=str(folder),
        fedclip_args__feature_cache_dir=str(workshop.place / "happy_features"),
    )
    # As the recipes that come along have it; to FedML's YAML reader that is text.
    recipe.write_text(recipe.read_text().replace("learning_rate: 0.001", "learning_rate: 1e-3"))
    outcome = workshop.run(recipe, program=(str(PLAIN_MAIN), "--cf"))
    assert outcome.code == 0, outcome.err
    assert outcome.adapter_bytes("final") == happy.adapter_bytes("final")
    assert not (outcome.folder.adapters / "best").exists()


def test_no_connection_leaves_the_machine(workshop, happy_recipe, happy):
    """The job runs in a network namespace whose only interface is ``lo``; started in FedML's own spelling."""
    wrap = ("unshare", "--map-root-user", "--net", sys.executable, "-c", LONELY)
    probe = subprocess.run([*wrap, "true"], capture_output=True, text=True, check=False)
    if probe.returncode:
        pytest.skip(f"no network namespaces on this machine: {probe.stderr.strip()}")
    run = workshop.place / "runs" / "lonely"
    outcome = workshop.run(happy_recipe, run=run, program=("-m", "fedclip_plugin", "--cf"), wrap=wrap, env=ROOT_IS_FINE)
    assert outcome.code == 0, outcome.err
    assert outcome.adapter_bytes("final") == happy.adapter_bytes("final")
    assert results(outcome.lines) == results(happy.lines)
