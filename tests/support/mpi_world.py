"""Ranks of one process, a thread each, with a communicator that notes everything that crosses."""

import pickle
import threading
import time
from types import SimpleNamespace


class World:
    """As many ranks as asked for, one after the other on their hosts.

    Attributes
    ----------
    crossed
        Every object that went from one rank to another: sender, receiver, object.
    inside
        The same for what went between ranks of one host only.
    """

    def __init__(self, size, hosts=None):
        self.size = size
        self.hosts = hosts or ["here"] * size
        self.boxes, self.crossed, self.inside = {}, [], []
        self.lock = threading.Lock()
        self.codes = []

    def rank(self, number):
        return Rank(self, number, range(self.size), self.crossed)

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
    """One rank's end, as far as the product uses mpi4py's communicators: objects travel pickled."""

    def __init__(self, world, number, members, record):
        self.world, self.number, self.members, self.record = world, number, list(members), record

    def Get_rank(self):
        return self.members.index(self.number)

    def Get_size(self):
        return len(self.members)

    def send(self, content, dest, tag=0):
        to = self.members[dest]
        with self.world.lock:
            self.record.append((self.number, to, pickle.loads(pickle.dumps(content))))
            key = (id(self.record), self.number, to, tag)
            self.world.boxes.setdefault(key, []).append(pickle.dumps(content))

    def isend(self, content, dest, tag=0):
        self.send(content, dest, tag)
        return SimpleNamespace(Test=lambda: True)

    def issend(self, content, dest, tag=0):
        """Send an object; done when it has been taken."""
        self.send(content, dest, tag)
        box = self.world.boxes[id(self.record), self.number, self.members[dest], tag]
        return SimpleNamespace(Test=lambda: not box)

    def Iprobe(self, source, tag=0):
        return bool(self.world.boxes.get((id(self.record), self.members[source], self.number, tag)))

    def recv(self, source, tag=0):
        while not self.Iprobe(source, tag):
            time.sleep(0.001)
        with self.world.lock:
            return pickle.loads(self.world.boxes[id(self.record), self.members[source], self.number, tag].pop(0))

    def bcast(self, value, root=0):
        if self.Get_rank() != root:
            return self.recv(root, "bcast")
        for other in range(self.Get_size()):
            if other != root:
                self.send(value, other, "bcast")
        return value

    def gather(self, value, root=0):
        if self.Get_rank() != root:
            self.send(value, root, "gather")
            return None
        return [value if other == root else self.recv(other, "gather") for other in range(self.Get_size())]

    def allgather(self, value):
        return self.bcast(self.gather(value))

    def Split_type(self, kind):
        host = self.world.hosts[self.number]
        members = [number for number in self.members if self.world.hosts[number] == host]
        return Rank(self.world, self.number, members, self.world.inside)

    def Free(self):
        pass

    def Barrier(self):
        self.allgather(None)

    def Abort(self, code):
        self.world.codes.append(code)
