"""Both ends of a job's life: the launcher attends mpirun, and a rank ends when its mpirun is gone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import IO

from fedclip_plugin.cli.mpirun.host_faults import HostFaults

ATTENDED = "FEDCLIP_ATTENDED"
"""Set for a job whose launcher says in the end what is safe."""

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_LOOK_SECONDS = 0.3
_SECOND_WORD = 0.5
"""Seconds after which another signal means impatience; shells and ``timeout`` send the same one twice at once."""

_READ_BYTES = 65_536

_WATCHER = 'read -r job && { read -r over || kill -TERM "$job"; }'
"""A shell that ends mpirun when the pipe from the launcher closes without a word: the launcher was killed."""

_NAMED = 'echo "$$" >&0; exec "$@" </dev/null'
"""A shell that tells the watcher its number before it becomes mpirun, so that no moment is without a watcher."""


@dataclass(frozen=True)
class Ending:
    """How a job ended.

    Attributes
    ----------
    code
        Exit code of the command: 128 and the number of the signal that the launcher was told to stop by, else mpirun's.
    told
        Whether the launcher was told to stop; otherwise the job ended by itself.
    """

    code: int
    told: bool


def attend(
    command: Sequence[str], environment: Mapping[str, str], faults: tuple[HostFaults, HostFaults] | None = None
) -> Ending:
    """Run mpirun, hand on the signals that end or suspend it, and return how it ended.

    Where ``faults`` is given, what mpirun writes on stdout and on stderr goes through the one and the other.

    mpirun gets a process group of its own, so that Ctrl-C reaches it once, through here; a second one ends it at once.
    When this process is killed, mpirun ends too.
    """
    told: list[int] = []
    since: list[float] = []
    jobs: list[subprocess.Popen[bytes]] = []

    def _hand_on(number: int, frame: FrameType | None) -> None:
        told.append(number)
        since.append(time.monotonic())
        for job in jobs:
            job.send_signal(signal.SIGKILL if since[-1] - since[0] > _SECOND_WORD else number)

    def _suspend(number: int, frame: FrameType | None) -> None:
        for job in jobs:
            job.send_signal(signal.SIGSTOP)
        os.kill(os.getpid(), signal.SIGSTOP)  # until fg or bg
        for job in jobs:
            job.send_signal(signal.SIGCONT)

    for number in _ENDING:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup has it
            signal.signal(number, _hand_on)
    if signal.getsignal(signal.SIGTSTP) is not signal.SIG_IGN:
        signal.signal(signal.SIGTSTP, _suspend)
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)  # mpirun inherits it: it writes to the terminal from the background
    watcher = _watcher()
    named = ["/bin/sh", "-c", _NAMED, "sh", *command]
    environment = {**environment, ATTENDED: "1"}
    pipe = subprocess.PIPE if faults else None
    jobs.append(
        subprocess.Popen(named, env=environment, stdin=watcher.stdin, stdout=pipe, stderr=pipe, process_group=0)
    )
    if told:  # while it started
        jobs[0].send_signal(told[0])
    readers = _pass_on(jobs[0], faults) if faults else []
    code = jobs[0].wait()
    for reader in readers:
        reader.join()
    watcher.communicate(b"over\n")
    if told and code:  # else it was done already
        return Ending(128 + told[0], told=True)
    return Ending(code if code >= 0 else 128 - code, told=False)


def _pass_on(job: subprocess.Popen[bytes], faults: tuple[HostFaults, HostFaults]) -> list[threading.Thread]:
    """Write what a job says, as it comes, on the stream of the same number; each thread ends when the job closes it."""
    ways = ((job.stdout, sys.stdout), (job.stderr, sys.stderr))
    threads = [
        threading.Thread(target=_pump, args=(pipe, fault, stream.fileno()))
        for (pipe, stream), fault in zip(ways, faults, strict=True)
    ]
    for thread in threads:
        thread.start()
    return threads


def _pump(pipe: IO[bytes] | None, faults: HostFaults, stream: int) -> None:
    assert pipe is not None, "a pipe was asked for"
    with pipe:
        while text := os.read(pipe.fileno(), _READ_BYTES):
            _write(stream, faults.pass_on(text))
    _write(stream, faults.rest())


def _write(stream: int, text: bytes) -> None:
    while text:
        try:
            text = text[os.write(stream, text) :]
        except BrokenPipeError:  # the reader has left; the job goes on, and ends by its own rules
            return


def _watcher() -> subprocess.Popen[bytes]:
    """Start the process that ends mpirun when this one is killed."""
    nowhere = subprocess.DEVNULL
    return subprocess.Popen(
        ["/bin/sh", "-c", _WATCHER], stdin=subprocess.PIPE, stdout=nowhere, stderr=nowhere, process_group=0
    )


def end_with_parent() -> None:
    """Let this rank end within a second when the mpirun that started it is gone; without it nobody would end it."""
    parent = os.getppid()

    def _watch() -> None:
        while os.getppid() == parent:
            time.sleep(_LOOK_SECONDS)
        os._exit(1)

    threading.Thread(target=_watch, name="parent", daemon=True).start()
