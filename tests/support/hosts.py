"""Hosts that this machine stands for: a network namespace and a host name each, on one bridge of their own."""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

NETWORK = "10.203.77"

AGENT = """#!/bin/sh
# In ssh's place: AGENT ADDRESS COMMAND...; like ssh it gives the words to a shell, in an environment of its own.
host={prefix}${{1##*.}}
shift
exec ip netns exec "$host" unshare --uts env -i HOME=/ PATH="$PATH" sh -c 'hostname "$0"; eval "$1"' "$host" "$*"
"""


class Hosts:
    """Several hosts.

    Parameters
    ----------
    count
        How many.
    place
        Folder for the agent that stands for ssh.
    """

    def __init__(self, count: int, place: Path) -> None:
        self.prefix = f"fc{os.getpid() % 100_000}-"
        self.numbers = range(1, count + 1)
        self.agent = place / "agent.sh"
        self.agent.write_text(AGENT.format(prefix=self.prefix))
        self.agent.chmod(0o755)

    def up(self) -> None:
        """Set the hosts up; a CalledProcessError or FileNotFoundError where this machine cannot."""
        middle = f"{self.prefix}0"
        _ip("netns", "add", middle)
        _ip("-n", middle, "link", "add", "bridge", "type", "bridge")
        _ip("-n", middle, "link", "set", "bridge", "up")
        for number in self.numbers:
            host, port = f"{self.prefix}{number}", f"port{number}"
            _ip("netns", "add", host)
            _ip("-n", middle, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", host)
            _ip("-n", middle, "link", "set", port, "master", "bridge", "up")
            _ip("-n", host, "addr", "add", f"{self.address(number)}/24", "dev", "eth0")
            _ip("-n", host, "link", "set", "eth0", "up")
            _ip("-n", host, "link", "set", "lo", "up")

    def down(self) -> None:
        """Remove what is there of them."""
        for number in (0, *self.numbers):
            subprocess.run(["ip", "netns", "del", f"{self.prefix}{number}"], capture_output=True, check=False)

    def end_processes(self, *numbers: int) -> None:
        """Kill all that runs on some hosts, or on all of them."""
        for number in numbers or self.numbers:
            named = ["ip", "netns", "pids", f"{self.prefix}{number}"]
            for process in subprocess.run(named, capture_output=True, text=True, check=True).stdout.split():
                with suppress(ProcessLookupError):
                    os.kill(int(process), signal.SIGKILL)

    def cut_off(self, number: int) -> None:
        """Take a host's cable out."""
        _ip("-n", f"{self.prefix}0", "link", "set", f"port{number}", "down")

    def address(self, number: int) -> str:
        """Return the address of a host, counted from 1."""
        return f"{NETWORK}.{number}"

    def on(self, number: int) -> tuple[str, ...]:
        """Return the words before a command that is to run on a host."""
        named = f'hostname {self.prefix}{number}; exec "$@"'
        return ("ip", "netns", "exec", f"{self.prefix}{number}", "unshare", "--uts", "sh", "-c", named, "sh")


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], capture_output=True, text=True, check=True)


def why_not(error: Exception) -> str:
    """Return why a machine has no such hosts."""
    said = error.stderr.strip() if isinstance(error, subprocess.CalledProcessError) else str(error)
    return f"no hosts in network namespaces on this machine ({sys.platform}): {said}"
