"""Both ends of a job's life: the launcher attends mpirun, and a rank ends when its mpirun is gone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from types import FrameType
from typing import IO

from fedclip_plugin.cli.mpirun.advice import Advice
from fedclip_plugin.cli.mpirun.host_faults import HostFault
from fedclip_plugin.cli.mpirun.rank_ends import RankEnd

ATTENDED = "FEDCLIP_ATTENDED"
"""Set for a job whose launcher says in the end what is safe."""

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_LOOK_SECONDS = 0.3
_SECOND_WORD = 0.5
"""Seconds after which another signal means impatience; shells and ``timeout`` send the same one twice at once."""

_END_SECONDS = 20.0
"""How long mpirun may take to end a job of which it has said that a rank has ended it: it waits for hosts, and one that
is cut off does not answer."""

_REST_SECONDS = 5.0
"""How long the rest of what a job says is waited for: who reached hosts for mpirun may hold its streams open."""

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
    host, rank
        What mpirun said of a host, and of the rank that ended first, where it was listened to.
    silent
        Ranks whose silence ended the job, by the server's note, where it was asked for one.
    nodes
        The host of each rank, as Open MPI calls it, where it was asked.
    """

    code: int
    told: bool
    host: HostFault | None = None
    rank: RankEnd | None = None
    silent: tuple[int, ...] = ()
    nodes: Mapping[int, str] = field(default_factory=dict)


class JobSignals:
    """From now on, hands the signals that end or suspend this process on to the job that it attends.

    Attributes
    ----------
    told
        The signals that came and end a job.
    """

    def __init__(self) -> None:
        self.told: list[int] = []
        self._since = 0.0
        self._job: subprocess.Popen[bytes] | None = None
        for number in _ENDING:
            if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup has it
                signal.signal(number, self._hand_on)
        if signal.getsignal(signal.SIGTSTP) is not signal.SIG_IGN:
            signal.signal(signal.SIGTSTP, self._suspend)
        signal.signal(signal.SIGTTOU, signal.SIG_IGN)  # mpirun inherits it: it writes to the terminal from behind

    def attend(self, job: subprocess.Popen[bytes]) -> None:
        """Take a job for the one that signals go to; it gets the one that came while it started."""
        self._job = job
        if self.told:
            job.send_signal(self.told[0])

    def _hand_on(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        self._since = self._since or now
        self.told.append(number)
        if self._job is not None and now - self._since > _SECOND_WORD:
            _kill(self._job)
        elif self._job is not None:
            self._job.send_signal(number)

    def _suspend(self, number: int, frame: FrameType | None) -> None:
        if self._job is not None:
            self._job.send_signal(signal.SIGSTOP)
        os.kill(os.getpid(), signal.SIGSTOP)  # until fg or bg
        if self._job is not None:
            self._job.send_signal(signal.SIGCONT)


def attend(
    command: Sequence[str],
    environment: Mapping[str, str],
    advice: tuple[Advice, Advice] | None = None,
    signals: JobSignals | None = None,
) -> Ending:
    """Run mpirun, hand on the signals that end or suspend it, and return how it ended.

    Where ``advice`` is given, what mpirun writes on stdout and on stderr goes through the one and the other. With
    ``signals``, which several jobs may share, one that came before this job keeps it from being started.

    mpirun gets a process group of its own, so that Ctrl-C reaches it once, through here; a second one ends it at once.
    When this process is killed, mpirun ends too.
    """
    signals = signals or JobSignals()
    if signals.told:
        return Ending(128 + signals.told[0], told=True)
    watcher = _watcher()
    named = ["/bin/sh", "-c", _NAMED, "sh", *command]
    environment = {**environment, ATTENDED: "1"}
    pipe = subprocess.PIPE if advice else None
    job = subprocess.Popen(named, env=environment, stdin=watcher.stdin, stdout=pipe, stderr=pipe, process_group=0)
    signals.attend(job)
    readers = _pass_on(job, advice) if advice else []
    code = _wait(job, advice) if advice else job.wait()
    for reader in readers:
        reader.join(_REST_SECONDS)
    watcher.communicate(b"over\n")
    if signals.told and code:  # else it was done already
        return Ending(128 + signals.told[0], told=True)
    return Ending(code if code >= 0 else 128 - code, told=False)


def _wait(job: subprocess.Popen[bytes], advice: tuple[Advice, Advice]) -> int:
    """Return a job's exit code; it is killed where it does not end though a rank has ended it."""
    while True:
        with suppress(subprocess.TimeoutExpired):
            return job.wait(_LOOK_SECONDS)
        since = min((own.ended for own in advice if own.ended is not None), default=None)
        if since is not None and time.monotonic() - since > _END_SECONDS:
            told = f"mpirun has not ended {_END_SECONDS:.0f} s after the job, as a host does not answer: it is ended"
            print(f"fedclip: {told}", file=sys.stderr, flush=True)
            _kill(job)
            job.wait()
            return next((own.rank.code for own in advice if own.rank is not None and own.rank.code), 1)


def _kill(job: subprocess.Popen[bytes]) -> None:
    """Kill mpirun, its ranks on this machine, and what has reached other hosts for it."""
    import psutil  # type: ignore[import-untyped]

    try:
        others = psutil.Process(job.pid).children(recursive=True)
    except psutil.Error:  # it has just ended
        others = []
    job.kill()
    for process in others:
        with suppress(psutil.Error):
            process.kill()


def _pass_on(job: subprocess.Popen[bytes], advice: tuple[Advice, Advice]) -> list[threading.Thread]:
    """Write what a job says, as it comes, on the stream of the same number; each thread ends when the job closes it."""
    ways = ((job.stdout, sys.stdout), (job.stderr, sys.stderr))
    threads = [
        threading.Thread(target=_pump, args=(pipe, own, stream.fileno()), daemon=True)
        for (pipe, stream), own in zip(ways, advice, strict=True)
    ]
    for thread in threads:
        thread.start()
    return threads


def _pump(pipe: IO[bytes] | None, advice: Advice, stream: int) -> None:
    assert pipe is not None, "a pipe was asked for"
    with pipe:
        while text := os.read(pipe.fileno(), _READ_BYTES):
            _write(stream, advice.pass_on(text))
    _write(stream, advice.rest())


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
