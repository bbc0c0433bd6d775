"""What a process sees of its machine, on Linux and on systems that tell less, such as macOS."""

import os
import subprocess
import sys

import pytest

from fedclip_edge.machine import cores
from fedclip_plugin import machine
from fedclip_plugin.federated.startup.memory_check import RankMemory


@pytest.fixture
def elsewhere(monkeypatch, tmp_path):
    """Take away what only Linux has."""
    import psutil

    real = psutil.Process().memory_info()
    monkeypatch.delattr("os.sched_getaffinity", raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: 6)
    monkeypatch.setattr("fedclip_plugin.machine._OWN", tmp_path / "proc")
    monkeypatch.setattr(
        "fedclip_plugin.federated.startup.memory_check._BOOT", tmp_path / "proc" / "boot_id", raising=False
    )
    monkeypatch.setattr("psutil.Process.memory_info", lambda process: type("pmem", (), {"rss": real.rss})())
    return real


def test_cores_are_those_of_this_process(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {1, 5, 7}, raising=False)
    assert cores() == 3


def test_a_system_that_tells_less_is_enough(elsewhere):
    assert cores() == 6
    assert machine.resident_bytes() == elsewhere.rss
    assert machine.resident_bytes(peak=True) > 0
    assert RankMemory.here("photo").held == elsewhere.rss
    with pytest.raises(OSError):
        machine.forget_peak()


def test_threads_are_shared_out_before_anything_reads_their_number():
    probe = "import sys, fedclip_plugin.cli.mpirun.command; print(sorted({'numpy', 'torch'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, env=os.environ)
    assert done.stdout.strip() == "[]", done.stderr
