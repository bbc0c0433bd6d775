"""What Open MPI says in blocks of advice, between two lines of dashes: about a host, or about how a rank ended."""

from __future__ import annotations

import re
import time

from fedclip_plugin.cli.mpirun.host_faults import HostFault, host_fault
from fedclip_plugin.cli.mpirun.rank_ends import RankEnd, rank_end

_FRAME = re.compile(rb"-{40,}\s*")
_PLACE = re.compile(rb"\[([^\]]+):\d+\] Rank (\d+) (?:is not bound|bound to)")
"""What ``--report-bindings`` says of each rank."""

_SERVER_ENDS = re.compile(r"process rank 0 with PID \d+ on node \S+ calling \"abort\"")
"""What mpirun says beside the block in which a server ends its job."""

_LONGEST_BLOCK, _LONGEST_PLACE = 16_384, 512
"""Bytes; what is longer is no block, or no such line, and is shown as it is."""


class Advice:
    """Hands on what mpirun writes on one stream, but for blocks about hosts, which it keeps.

    It keeps what is said of a server that ends its job with exit code 0 too: that is no fault, and the server says why.
    With ``keep_places`` it keeps what ``--report-bindings`` says too.

    Attributes
    ----------
    host
        What the first of them says.
    rank
        Which rank ended first, by the first block about one; it is shown.
    ended
        When that was said, by the monotonic clock, in seconds; None before.
    nodes
        The host of each rank, by the name that Open MPI has for it, where ``--report-bindings`` was given.
    """

    def __init__(self, keep_places: bool = False) -> None:
        self._keep_places = keep_places
        self.nodes: dict[int, str] = {}
        self.host: HostFault | None = None
        self.rank: RankEnd | None = None
        self.ended: float | None = None
        self._line = b""  # what a line has so far, where it may be a frame
        self._block: bytearray | None = None
        self._kept = False  # whether the last thing was a block that is not shown: the blanks after it are not either

    def pass_on(self, text: bytes) -> bytes:
        """Return what of ``text``, and of what was held back before, is to be shown."""
        shown = bytearray()
        for part in re.split(rb"(?<=\n)", text.replace(b"\0", b"")):  # mpirun writes some
            line, self._line = self._line + part, b""
            if not line or (self._kept and not line.strip()):
                continue
            self._kept = False
            if not line.endswith(b"\n") and (self._block is not None or not line.strip(b"-") or self._may_place(line)):
                self._line = line
            elif self._block is None and (place := _PLACE.match(line)):
                self.nodes[int(place[2])] = place[1].decode(errors="replace")
                shown += b"" if self._keep_places else line
            elif self._block is not None:
                self._block += line
                shown += self._in_block(line)
            elif _FRAME.fullmatch(line):
                self._block = bytearray(line)
            else:
                shown += line
        return bytes(shown)

    @property
    def ended_well(self) -> bool:
        """Whether the server has ended the job with exit code 0."""
        return self.rank is not None and (self.rank.rank, self.rank.code) == (0, 0)

    def rest(self) -> bytes:
        """Return what was held back when nothing more comes."""
        rest = bytes(self._block or b"") + self._line
        self._block, self._line = None, b""
        return rest

    def _may_place(self, line: bytes) -> bool:
        """Return whether a line that is not whole yet may be one that is kept."""
        return self._keep_places and line.startswith(b"[") and len(line) < _LONGEST_PLACE

    def _in_block(self, line: bytes) -> bytes:
        """Return a block that is over and is to be shown, or nothing."""
        block = bytes(self._block or b"")
        if not _FRAME.fullmatch(line) and len(block) < _LONGEST_BLOCK:
            return b""
        self._block = None
        text = block.decode(errors="replace")
        if (fault := host_fault(text)) is None:
            end = rank_end(text)
            if self.rank is None and end is not None:
                self.rank, self.ended = end, time.monotonic()
            self._kept = self.ended_well and (end == self.rank or bool(_SERVER_ENDS.search(" ".join(text.split()))))
            return b"" if self._kept else block
        self.host, self._kept = self.host or fault, True
        return b""
