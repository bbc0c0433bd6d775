"""Decoding in processes of their own: what comes back is what a thread gets, and what goes wrong is told."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fedclip_edge.errors import MissingPackageError
from fedclip_plugin.data import UnreadableImageError
from fedclip_plugin.data.decoding.center_crop import CenterCrop
from fedclip_plugin.data.decoding.decode import ImageViews, decode
from fedclip_plugin.data.decoding.process_pool import ProcessPool
from fedclip_plugin.errors import DataError
from fedclip_plugin.features import encoding

SEE = ImageViews(CenterCrop(32, 32, 3), (0, 2))
RANGE = (0.0, 1000.0)


@pytest.fixture(scope="module")
def pool():
    with ProcessPool(SEE, 2, RANGE) as processes:
        yield processes


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for number in range(6):
        levels = rng.integers(0, 256, (40 + number, 50, 3), dtype=np.uint8)
        Image.fromarray(levels).save(folder / f"{number}.{'png' if number % 2 else 'jpg'}")
    Image.fromarray(rng.integers(0, 900, (40, 50), dtype=np.uint16)).save(folder / "wide.png")
    (folder / "empty.png").write_bytes(b"")
    (folder / "half.jpg").write_bytes((folder / "0.jpg").read_bytes()[:400])
    Image.new("RGB", (9, 9)).save(os.fsencode(folder) + b"/na\xffme\n.png", "png")
    return [*sorted(folder.iterdir()), folder / "nowhere.png"]


def batched(paths, count):
    return [paths[start : start + count] for start in range(0, len(paths), count)]


def test_processes_give_what_a_thread_does(pool, paths):
    with ThreadPoolExecutor(4) as threads:
        found = list(chain.from_iterable(threads.map(pool.decode, batched(paths, 4))))
    wanted = [decode(SEE, path, RANGE) for path in paths]
    faults = [(str(result), result.reason) for result in wanted if isinstance(result, UnreadableImageError)]
    assert len(faults) == 3
    assert [(str(one), one.reason) for one in found if isinstance(one, UnreadableImageError)] == faults
    for own, other in zip(found, wanted, strict=True):
        if not isinstance(own, UnreadableImageError):
            assert all(map(np.array_equal, own[0], other[0])) and len(own[0]) == 2 and own[1] == other[1]
            assert all(levels.flags.writeable for levels in own[0])


def test_the_machines_fault_is_told_from_the_files(pool, paths):
    empty, missing = pool.decode([path for path in paths if path.name in ("nowhere.png", "empty.png")])
    assert (empty.__cause__, missing.__cause__.errno) == (None, 2)


def test_a_missing_package_is_no_fault_of_the_file(pool, tmp_path, monkeypatch):
    (tmp_path / "pydicom.py").write_text("raise ImportError('not installed')")
    (tmp_path / "x.dcm").write_bytes(bytes(128) + b"DICM" + bytes(100))
    monkeypatch.syspath_prepend(tmp_path)
    with ProcessPool(SEE, 1) as processes, pytest.raises(MissingPackageError, match=r"x\.dcm.*pydicom"):
        processes.decode([tmp_path / "x.dcm"])


def test_a_process_that_dies_is_told_with_what_it_read(paths):
    with ProcessPool(SEE, 1) as processes:
        processes.decode(paths[:1])
        process = processes._all[0]._popen
        os.kill(process.pid, signal.SIGKILL)
        with pytest.raises(DataError, match=r"ended with code -9 while it read .*0\.jpg.*encode_workers"):
            processes.decode(paths[:1])


def test_processes_end_with_the_block(paths):
    with ProcessPool(SEE, 1) as processes:
        processes.decode(paths[:1])
    assert processes._all[0]._popen.returncode is not None
    assert not Path(f"/proc/{processes._all[0]._popen.pid}").exists()


def test_files_for_a_gpu_are_decoded_in_processes_if_there_are_enough(paths, monkeypatch):
    started = []

    class Counted(ProcessPool):
        def __init__(self, *words):
            started.append(words)
            super().__init__(*words)

    monkeypatch.setattr(encoding, "ProcessPool", Counted)
    gpu, cpu = torch.device("cuda"), torch.device("cpu")
    by_threads = list(encoding.read_files(SEE, paths, 4, 2, RANGE, gpu))
    assert not started
    monkeypatch.setattr(encoding, "_FEW", 2)
    assert len(list(encoding.read_files(SEE, paths, 4, 2, RANGE, cpu))) == 3
    assert len(list(encoding.read_files(lambda image: SEE(image), paths, 4, 2, RANGE, gpu))) == 3
    assert not started, "on a CPU, and for what another process cannot do"
    by_processes = list(encoding.read_files(SEE, paths, 4, 2, RANGE, gpu))
    assert started == [(SEE, 2, RANGE)]
    for own, other in zip(by_processes, by_threads, strict=True):
        assert own.digests == other.digests and own.faults.keys() == other.faults.keys()
        assert all(all(map(np.array_equal, own.arrays[index], other.arrays[index])) for index in other.arrays)
        assert own.arrays.keys() == other.arrays.keys()


def test_what_is_printed_is_no_answer(paths, tmp_path, monkeypatch, capfd):
    (tmp_path / "sitecustomize.py").write_text("print('hello', flush=True)")
    monkeypatch.syspath_prepend(tmp_path)
    with ProcessPool(SEE, 1) as processes:
        assert not isinstance(processes.decode(paths[:1])[0], UnreadableImageError)
    assert capfd.readouterr() == ("", "hello\n")
