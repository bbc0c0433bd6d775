"""Decoding in processes of their own: each has an interpreter lock to itself."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Self

from fedclip_edge.errors import MissingPackageError
from fedclip_edge.sample_range import SampleRange
from fedclip_edge.terminal import printable
from fedclip_plugin.data.decoding import decode_process
from fedclip_plugin.data.decoding.decode import Decoded, ImageViews
from fedclip_plugin.data.read_image import UnreadableImageError
from fedclip_plugin.errors import DataError


class ProcessPool:
    """``count`` processes that decode, each a few images at a time; they end with the block, or with this process.

    They are programs of their own, not copies of this one: MPI and CUDA do not bear copies, and a ``main`` without a
    guard would run again.
    """

    def __init__(self, see: ImageViews, count: int, sample_range: SampleRange | None = None) -> None:
        job = json.dumps({**asdict(see), "sample_range": sample_range})
        self._all: list[_Process] = []
        self._idle: SimpleQueue[_Process] = SimpleQueue()
        for _ in range(count):
            self._all.append(_Process(job, see))
            self._idle.put(self._all[-1])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for process in self._all:
            process.end()

    def decode(self, paths: Sequence[Path]) -> list[Decoded]:
        """Return what was made of files, `decode_process.files_at_once` at most; from up to ``count`` threads at once.

        Raises
        ------
        DataError
            When a process died, as one does that the machine has no memory for.
        MissingPackageError
            When a package that reads a file is not installed.
        """
        process = self._idle.get()
        try:
            return process.decode(paths)
        finally:
            self._idle.put(process)


class _Process:
    def __init__(self, job: str, see: ImageViews) -> None:
        size = max(see.whole, 3 * see.crop.side**2) * len(see.views)
        out, into = os.pipe()
        memory = os.memfd_create("fedclip-decode")
        self._out = os.fdopen(out, encoding="ascii")
        try:
            os.truncate(memory, decode_process.files_at_once(see) * size)
            self._rows = decode_process.shared_rows(memory, see)
            # -P: a file of the working folder must not take the place of a package.
            words = [sys.executable, "-P", "-m", decode_process.__name__, str(memory), str(into)]
            own = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
            self._popen = subprocess.Popen(
                words, stdin=subprocess.PIPE, stdout=2, env=own, pass_fds=[memory, into], encoding="ascii"
            )
        finally:
            os.close(into)
            os.close(memory)
        assert self._popen.stdin is not None, "a pipe"
        self._in, self._job = self._popen.stdin, f"{job}\n"

    def decode(self, paths: Sequence[Path]) -> list[Decoded]:
        """Ask for files and wait; see :meth:`ProcessPool.decode`."""
        try:
            self._in.write(f"{self._job}{json.dumps([str(path) for path in paths])}\n")
            self._in.flush()
            self._job = ""
            answers = self._out.readline()
        except BrokenPipeError:
            answers = ""
        if not answers:
            raise DataError(
                f"a process that decodes images ended with code {self._popen.wait()} while it read "
                f"{printable(str(paths[0]))} or one of {len(paths) - 1} after it: the machine may have no memory for "
                "it; free memory, or set fedclip_args.encode_workers to fewer"
            )
        return [self._decoded(at, paths[at], answer) for at, answer in enumerate(json.loads(answers))]

    def _decoded(self, at: int, path: Path, answer: dict[str, Any]) -> Decoded:
        if "missing" in answer:
            raise MissingPackageError(answer["missing"])
        if "reason" in answer:
            fault = UnreadableImageError(path, answer["reason"], answer["remedy"])
            fault.__cause__ = None if answer["errno"] is None else OSError(answer["errno"], answer["reason"])
            return fault
        shapes: list[list[int]] = answer["shapes"]
        pairs = zip(self._rows[at], shapes, strict=True)
        return [row[: math.prod(shape)].reshape(shape).copy() for row, shape in pairs], answer["digest"]

    def end(self) -> None:
        """Kill it: it writes nothing but answers, and nobody waits for one any more."""
        self._popen.kill()
        self._popen.wait()
        self._out.close()
        try:
            self._in.close()
        except BrokenPipeError:  # of a question that was not read
            return
