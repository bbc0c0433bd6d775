"""FedML's own runner and FedML's own spelling give what ``fedclip run`` gives; nothing leaves the machine."""

import subprocess
import sys

import pytest

from tests.support.workshop import MISBEHAVING, PLAIN_MAIN, TWO_SILOS, results

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


def test_plain_fedml_runner_ends_with_the_same_adapter(workshop, fedml_of_the_session):
    folder = workshop.place / "runs" / "plain"
    # fedml.device.get_device wants the key, whatever its documentation says.
    changes = TWO_SILOS | {"device_args__using_gpu": True, "fedclip_args__run_dir": str(folder)}
    recipe = workshop.recipe("plain", **changes)
    straight = workshop.run_here(workshop.recipe("two_silos", **TWO_SILOS))
    # As the recipes that come along have it; to FedML's YAML reader that is text.
    recipe.write_text(recipe.read_text().replace("learning_rate: 0.001", "learning_rate: 1e-3"))
    outcome = workshop.run(recipe, program=(str(PLAIN_MAIN), "--cf"))
    assert outcome.code == 0, outcome.err
    assert outcome.adapter_bytes("final") == straight.adapter_bytes("final")
    assert not (outcome.folder.adapters / "best").exists()


@pytest.fixture(scope="module")
def lonely(workshop, happy_recipe, happy):
    """The happy run once more, in FedML's own spelling, with its features cached and a silo that always answers last.

    Where the machine can, the job runs in a network namespace whose only interface is ``lo``.
    """
    wrap = ("unshare", "--map-root-user", "--net", sys.executable, "-c", LONELY)
    probe = subprocess.run([*wrap, "true"], capture_output=True, text=True, check=False)
    program = (str(MISBEHAVING), "late,rank=1,round=all", "--cf")
    apart = {} if probe.returncode else {"wrap": wrap, "env": ROOT_IS_FINE}
    return workshop.run(happy_recipe, run=workshop.place / "runs" / "lonely", program=program, **apart), probe


def test_no_connection_leaves_the_machine(lonely):
    outcome, probe = lonely
    if probe.returncode:
        pytest.skip(f"no network namespaces on this machine: {probe.stderr.strip()}")
    assert outcome.code == 0, outcome.err


def test_the_second_run_encodes_nothing_and_does_not_load_the_backbone(happy, lonely):
    again, _ = lonely
    assert again.code == 0, again.err
    assert "encoding 336 images once" in happy.out
    assert "features: all cached" in again.out
    assert again.err.count("imported transformers: False") == 4


def test_the_order_of_answers_the_cache_and_the_spelling_change_nothing(happy, lonely):
    again, _ = lonely
    for name in ("final", "best"):
        assert again.adapter_bytes(name) == happy.adapter_bytes(name)
    assert results(again.lines) == results(happy.lines)
