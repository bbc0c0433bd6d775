"""A ``fedclip launch`` that goes on while a test looks at it, and kills or freezes its ranks."""

import os
import signal
import subprocess
import sys
import time

import psutil

from benchmarks.setup.mpi_jobs import rank_process
from fedclip_plugin.runs import RunFolder
from tests.support.paths import ROOT
from tests.support.workshop import LAUNCH

_LOOK_SECONDS = 0.02


class Launched:
    """A launcher and its job.

    Parameters
    ----------
    words
        Behind ``fedclip launch RECIPE --run RUN``.
    wrap
        Before all of it, such as what runs a command on another host.
    """

    def __init__(self, recipe, run, *words, wrap=(), env=None):
        run.parent.mkdir(parents=True, exist_ok=True)
        self.folder, self.said = RunFolder(run), run.with_suffix(".log")
        command = [*wrap, sys.executable, *LAUNCH, str(recipe), "--run", str(run), *map(str, words)]
        own = os.environ | {"PYTHONUNBUFFERED": "1", "PYTHONPATH": str(ROOT)} | (env or {})
        with self.said.open("w") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, cwd=run.parent, env=own)

    def text(self):
        """Return what it has said so far, on both streams."""
        return self.said.read_text(encoding="utf-8")

    def rounds(self):
        """Return how many rounds are complete; a line that is being written does not count."""
        metrics = self.folder.metrics
        return max(0, metrics.read_bytes().count(b"\n") - 1) if metrics.exists() else 0

    def wait_until(self, holds, limit=120.0):
        """Return when something holds, at once where the job has ended; an AssertionError when that takes too long."""
        end = time.monotonic() + limit
        while not holds() and self.process.poll() is None:
            assert time.monotonic() < end, f"waited in vain:\n{self.text()}"
            time.sleep(_LOOK_SECONDS)

    def send(self, rank, number):
        """Send a signal to a rank, and return its process."""
        process = psutil.Process(rank_process(rank, str(self.folder.path)))
        process.send_signal(number)
        return process

    def end(self, limit=180.0):
        """Wait for its end, and return its exit code; what takes too long is killed."""
        try:
            return self.process.wait(limit)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGTERM)
            raise AssertionError(f"it does not end:\n{self.text()}") from None
