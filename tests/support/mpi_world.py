"""Ranks of one process, a thread each, with a communicator that notes everything that crosses."""

import threading
import time
from types import SimpleNamespace

from mpi4py import MPI

from fedclip_plugin import what_leaves
from fedclip_plugin.federated.messages.exchange import _TAG, packed
from fedclip_plugin.federated.messages.packing.mpi_transfer import Sending
from fedclip_plugin.federated.messages.packing.packed_message import ExpectedKind, read_header
from fedclip_plugin.federated.messages.packing.typed_values import made_of, record_of

CLASSES = {kind.__name__: kind for kind in (*what_leaves.MESSAGES, *what_leaves.WITHIN_A_MACHINE)}


ANYTHING = SimpleNamespace(fault=lambda specs: None, strangeness=lambda specs: 0)
"""A layout that all tensors have."""


def tell(comm, value, dest):
    """Send a message as an exchange does, and wait for nobody."""
    Sending.begin(comm, packed(value), dest, _TAG)


def arriving(content, source, status):
    """Return what a probe finds: bytes that a rank has sent."""
    status.Set_elements(MPI.BYTE, len(content))
    status.Set_source(source)

    def receive(buffer):
        buffer[0][:] = content
        return SimpleNamespace(Test=lambda: True)

    return SimpleNamespace(Recv=receive, Irecv=receive)


def value_of(header):
    """Return the message of a header as the class that it names; what is declared of arrays stands for them."""
    found = read_header(header, {name: ExpectedKind(record_of(kind), [ANYTHING]) for name, kind in CLASSES.items()})
    return made_of(CLASSES[found.kind], found.values())


class World:
    """As many ranks as asked for, one after the other on their hosts.

    Attributes
    ----------
    sent
        Every header that went from one rank to another: sender, receiver, header.
    inside
        The same for what went between ranks of one host only.
    """

    def __init__(self, size, hosts=None):
        self.size = size
        self.hosts = hosts or ["here"] * size
        self.boxes, self.sent, self.inside = {}, [], []
        self.lock = threading.Lock()
        self.barrier = threading.Barrier(size)
        self.codes = []

    @property
    def crossed(self):
        """Return every message that went from one rank to another: sender, receiver, message."""
        return [(sender, receiver, value_of(header)) for sender, receiver, header in self.sent]

    def rank(self, number):
        return Rank(self, number, range(self.size), self.sent)

    def together(self, act, limit=60):
        """Let ``act(comm)`` run on every rank, and return what each one returns, or the exception that it raises."""
        results = {}

        def call(number):
            try:
                results[number] = act(self.rank(number))
            except Exception as error:
                results[number] = error

        threads = [threading.Thread(target=call, args=(number,), daemon=True) for number in range(self.size)]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + limit
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return [results.get(number) for number in range(self.size)]


class Rank:
    """One rank's end, as far as the product uses mpi4py's communicators: bytes travel, copied."""

    def __init__(self, world, number, members, record):
        self.world, self.number, self.members, self.record = world, number, list(members), record

    def Get_rank(self):
        return self.members.index(self.number)

    def Get_size(self):
        return len(self.members)

    def Issend(self, content, dest, tag):
        """Send bytes; done when they have been taken."""
        to, copy = self.members[dest], bytes(content)
        with self.world.lock:
            if copy.startswith(b"fedclip"):
                self.record.append((self.number, to, copy))
            box = self.world.boxes.setdefault((id(self.record), self.number, to, tag), [])
            entry = [copy]
            box.append(entry)
        return SimpleNamespace(Test=lambda: entry not in box)

    def Improbe(self, source, tag, status):
        """Take out the oldest bytes of a rank, which can then be received; None where there are none."""
        with self.world.lock:
            box = self.world.boxes.get((id(self.record), self.members[source], self.number, tag))
            if not box:
                return None
            (content,) = box.pop(0)
        return arriving(content, source, status)

    def Split_type(self, kind):
        host = self.world.hosts[self.number]
        members = [number for number in self.members if self.world.hosts[number] == host]
        return Rank(self.world, self.number, members, self.world.inside)

    def Free(self):
        pass

    def Barrier(self):
        self.world.barrier.wait()

    def Abort(self, code):
        self.world.codes.append(code)
