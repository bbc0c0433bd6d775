"""The egress log: each message that leaves a silo, written on the silo's machine before it is sent."""

from __future__ import annotations

import errno
import fcntl
import logging
import math
import os
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fedclip_edge.terminal import printable
from fedclip_plugin.errors import PolicyError
from fedclip_plugin.trust.hash_chain import BEGINNING, Finding, check_chain, seal
from fedclip_plugin.trust.left_before import LeftBefore
from fedclip_plugin.trust.outgoing import Outgoing

logger = logging.getLogger(__name__)

VARIABLE = "FEDCLIP_EGRESS_LOG"
"""The environment variable that names the folder of egress logs; it also switches them on where there is no policy."""

FORMAT = 1
"""Of the lines; it stands in the first one of each start."""

OPEN, RECIPE, MESSAGE, REFUSED, CLOSE = "open", "recipe", "message", "refused", "close"
"""What a line is about: a start of a silo, another recipe (of a study), a message that left, what the policy kept back,
an end in order."""

_TOTALS = {"messages": (int,), "bytes": (int,), "round": (int, type(None))}
_FIELDS: Mapping[str, Mapping[str, tuple[type, ...]]] = {
    OPEN: {"run": (str,), "silo": (str,), "recipe": (str,), "policy": (str, type(None))},
    RECIPE: {"recipe": (str,)},
    MESSAGE: {
        "kind": (str,),
        "round": (int, type(None)),
        "bytes": (int,),
        "sha256": (str,),
        "tensors": (list,),
        "norm": (float, int, type(None)),
        "epsilon": (float, int, type(None)),
        "delta": (float, int, type(None)),
        "account": (str, type(None)),
    },
    REFUSED: {"what": (str,), "policy_keys": (list,)},
    CLOSE: _TOTALS,
}
"""What a line of each kind has besides its time, and of which types."""

_MOST = 2**63
"""No number of bytes or rounds comes to that; it keeps forged figures from what cannot hold them."""

_ADVICE = "nothing is sent before it is written; make it writable, or let {} name another folder"


def read_log(lines: Iterable[bytes]) -> tuple[list[dict[str, Any]], list[Finding]]:
    """Return the lines of a log that can be read, and what is wrong with it, as :func:`check_chain` does."""
    entries, findings = check_chain(lines)
    whole = []
    for entry in entries:
        fields = _FIELDS.get(entry["entry"], {"of this kind": ()})
        if lacking := [key for key, types in fields.items() if not _usable(entry.get(key, ()), types)]:
            text = f"number {entry['number']} has no usable {', '.join(lacking)}"
            findings.append(Finding(entry["number"], "malformed", text))
        else:
            whole.append(entry)
    if whole and whole[0]["entry"] != OPEN:
        findings.append(Finding(1, "malformed", "it does not begin with the start of a silo"))
    return whole, findings


def _usable(value: Any, types: tuple[type, ...]) -> bool:
    """Return whether a value is of one of these types, and a number one that a silo can have written."""
    whole, part = type(value) is int, type(value) is float
    return type(value) in types and (not whole or 0 <= value < _MOST) and (not part or 0 <= value < math.inf)


class EgressLog:
    """Appends to a chain of lines; whoever opens a log of earlier starts goes on in it.

    Parameters
    ----------
    path
        The file; its folder is made.
    opening
        What the first line of this start says: run, silo, recipe, policy.

    Attributes
    ----------
    path
        The file.
    last_hash
        Of its last line.
    messages, sent
        How many messages, and bytes, have been written in this start.
    before
        What had left in the starts before.

    Raises
    ------
    PolicyError
        The file cannot be written, another process writes it, or what is there is no whole chain.
    """

    def __init__(self, path: Path, opening: Mapping[str, Any]) -> None:
        self.path, self.last_hash = path, BEGINNING
        self.messages = self.sent = self._number = 0
        self._recipe = opening["recipe"]
        self._rounds: set[int] = set()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
        except OSError as error:
            raise self._unwritable(error) from error
        try:
            self._keep_others_out()
            self._go_on()
            self._append({"entry": OPEN, "time": _now(), "format": FORMAT, **opening})
        except BaseException:
            os.close(self._file)
            raise

    def note_recipe(self, digest: str) -> None:
        """Write whose messages follow, where that is another recipe than before; errors as :meth:`note`."""
        if digest != self._recipe:
            self._append({"entry": RECIPE, "time": _now(), "recipe": digest})
            self._recipe = digest

    def note(self, message: Outgoing) -> None:
        """Write a message that is about to leave; a PolicyError when that fails: then it must not be sent."""
        tensors = [{"name": each.name, "shape": list(each.shape), "dtype": each.dtype} for each in message.tensors]
        size = message.size
        entry = {
            "entry": MESSAGE,
            "time": _now(),
            "kind": message.kind,
            "round": message.round,
            "tensors": tensors,
            "bytes": size,
            "sha256": message.sha256(),
            "norm": message.norm,
            "epsilon": message.epsilon,
            "delta": message.delta,
            "account": message.account,
        }
        self._append(entry)
        self.messages, self.sent = self.messages + 1, self.sent + size
        if message.round is not None:
            self._rounds.add(message.round)

    def note_refused(self, what: str, policy_keys: list[str], round_: int | None = None) -> None:
        """Write what the policy kept back: a recipe, or a message, and by which of its keys."""
        self._append({"entry": REFUSED, "time": _now(), "what": what, "round": round_, "policy_keys": policy_keys})

    def close(self) -> None:
        """End this start in order: the last line has its totals; errors as :meth:`note`."""
        last = max(self._rounds, default=None)
        self._append({"entry": CLOSE, "time": _now(), "messages": self.messages, "bytes": self.sent, "round": last})
        os.close(self._file)

    def _append(self, content: Mapping[str, Any]) -> None:
        line, last_hash = seal(content, self._number + 1, self.last_hash)
        text = f"{line}\n".encode()
        try:
            end = os.fstat(self._file).st_size
            if os.write(self._file, text) != len(text):
                os.ftruncate(self._file, end)  # half a line would keep a later start from going on
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fdatasync(self._file)
        except OSError as error:
            raise self._unwritable(error) from error
        self.last_hash, self._number = last_hash, self._number + 1

    def _keep_others_out(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise PolicyError(
                f"the egress log {self._told()} is being written by another process: wait until it has ended, or let "
                f"{VARIABLE} name another folder"
            ) from error
        except OSError as error:
            raise self._unwritable(error) from error

    def _go_on(self) -> None:
        """Find the end of the chain that is there; one that is damaged is not added to."""
        try:
            with os.fdopen(os.dup(self._file), "rb") as stream:
                stream.seek(0)
                lines = stream.readlines()
            if lines and not lines[-1].endswith(b"\n"):
                self._drop_torn(lines.pop())
        except OSError as error:
            raise self._unwritable(error) from error
        entries, findings = read_log(lines)
        if findings:
            raise PolicyError(
                f"the egress log {self._told()} is damaged ({findings[0].text}): see 'fedclip audit', keep it, and "
                "move it to another place; then a new one is begun"
            )
        if entries:
            self.last_hash, self._number = entries[-1]["hash"], entries[-1]["number"]
        self.before = LeftBefore.of_log(entries)
        self.before.recipe = self._recipe

    def _drop_torn(self, line: bytes) -> None:
        """Take back what was written of a line when this machine went down: what it was about has not been sent."""
        os.ftruncate(self._file, os.fstat(self._file).st_size - len(line))
        logger.warning(
            "the egress log %s ended in %d bytes of a line that was never whole, as a machine that goes down leaves "
            "it: they are taken out; what they were about was not sent",
            *(self._told(), len(line)),
        )

    def _unwritable(self, error: OSError) -> PolicyError:
        reason = error.strerror or error
        return PolicyError(f"the egress log {self._told()} cannot be written ({reason}): {_ADVICE.format(VARIABLE)}")

    def _told(self) -> str:
        return printable(str(self.path))


def log_place(logs: Path, run: str, rank: int, named: str | None) -> Path:
    """Return the file of a silo's egress log: beside the rank's own log, or in the folder that the variable names.

    Parameters
    ----------
    logs
        The folder of the rank's log.
    run
        Name of the run.
    named
        The value of :data:`VARIABLE`; None where it is not set.

    Raises
    ------
    PolicyError
        The variable is empty, or no full path.
    """
    if named is None:
        return logs / f"egress_{rank}.jsonl"
    return named_folder(named) / f"{run}_egress_{rank}.jsonl"


def named_folder(named: str) -> Path:
    """Return the folder that a value of :data:`VARIABLE` names; a PolicyError where it is empty, or no full path."""
    if not named.strip() or not Path(named).is_absolute():
        raise PolicyError(f"{VARIABLE} is {named!r}, and must be the full path of a folder: give one, or unset it")
    return Path(named)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
