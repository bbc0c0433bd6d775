"""Decoding in processes of their own: each has an interpreter lock to itself."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType
from typing import Self

import numpy as np

from fedclip_edge.errors import MissingPackageError
from fedclip_edge.sample_range import SampleRange
from fedclip_edge.terminal import printable
from fedclip_plugin.data.decoding.decode import CroppedView, Decoded
from fedclip_plugin.data.decoding.decode_process import FAULT, HEADER, IMAGE
from fedclip_plugin.data.read_image import UnreadableImageError
from fedclip_plugin.errors import DataError

_PROGRAM = "fedclip_plugin.data.decoding.decode_process"


class ProcessPool:
    """``count`` processes that decode, each one image at a time; they end with the block, or with this process.

    They are programs of their own, not copies of this one: MPI and CUDA do not bear copies, and a ``main`` without a
    guard would run again.
    """

    def __init__(self, see: CroppedView, count: int, sample_range: SampleRange | None = None) -> None:
        job = json.dumps({"crop": asdict(see.crop), "view": see.view, "sample_range": sample_range})
        self._all: list[_Process] = []
        self._idle: SimpleQueue[_Process] = SimpleQueue()
        for _ in range(count):
            process = _Process(job)
            self._all.append(process)
            self._idle.put(process)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for process in self._all:
            process.end()

    def decode(self, path: Path) -> Decoded:
        """Return what was made of one file, as `decode.decode`; from up to ``count`` threads at once.

        Raises
        ------
        DataError
            When a process died, as one does that the machine has no memory for.
        MissingPackageError
            When a package that reads the file is not installed.
        """
        process = self._idle.get()
        try:
            return process.decode(path)
        finally:
            self._idle.put(process)


class _Process:
    def __init__(self, job: str) -> None:
        # -P: a file of the working folder must not take the place of a package.
        out, into = os.pipe()
        words = [sys.executable, "-P", "-m", _PROGRAM, str(into)]
        own = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        self._out = os.fdopen(out, "rb")
        try:
            self._popen = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=2, env=own, pass_fds=[into])
        finally:
            os.close(into)
        assert self._popen.stdin is not None, "a pipe"
        self._in = self._popen.stdin
        self._job: str | None = job

    def decode(self, path: Path) -> Decoded:
        try:
            if self._job is not None:
                self._in.write(self._job.encode() + b"\n")
                self._job = None
            self._in.write(json.dumps(str(path)).encode() + b"\n")
            self._in.flush()
            kind, *shape, digest = HEADER.unpack(self._read(HEADER.size).tobytes())
            content = self._read(math.prod(shape) if kind == IMAGE else shape[-1])
        except (OSError, EOFError) as error:
            raise DataError(
                f"a process that decodes images ended with code {self._popen.wait()} while it read "
                f"{printable(str(path))}, which may be more than the machine has memory for; free memory, or set "
                "fedclip_args.encode_workers to fewer"
            ) from error
        if kind == IMAGE:
            return content.reshape(shape), digest.hex()
        if kind == FAULT:
            return _fault(path, *json.loads(content.tobytes()))
        raise MissingPackageError(content.tobytes().decode(errors="surrogateescape"))

    def end(self) -> None:
        """Let it end."""
        self._popen.kill()  # it has written nothing but answers, and nobody waits for one any more
        for stream in (self._in, self._out):
            try:
                stream.close()
            except BrokenPipeError:  # a question that was not read
                continue
        self._popen.wait()

    def _read(self, size: int) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
        content = np.empty(size, dtype=np.uint8)
        if self._out.readinto(content.data) != size:
            raise EOFError
        return content


def _fault(path: Path, reason: str, remedy: str, errno: int | None) -> UnreadableImageError:
    fault = UnreadableImageError(path, reason, remedy)
    fault.__cause__ = OSError(errno, reason) if errno is not None else None
    return fault
