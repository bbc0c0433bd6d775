"""What is costly to make and the same for all tests: made once in a run of pytest, by whichever process comes first."""

import fcntl

from fedclip_edge.files import write_file


def made_once(path, make):
    """Return ``path``; where nobody has written it yet, ``make()`` gives its bytes, and other processes wait."""
    with path.with_name(f"{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            write_file(path, make())
    return path
