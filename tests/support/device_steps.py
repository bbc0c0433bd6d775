"""What the tests of a device folder do with one: open, install, look at what lies in it, and let it crash."""

import os

import pytest

from fedclip_edge.bundle import open_bundle
from fedclip_edge.errors import BundleError
from tests.support import forge

STEPS = ("fsync", "replace", "mkdir", "unlink", "rmdir")


def trust(device, held):
    """Return what is asked for here: a signature where a key is held by device or caller, else none."""
    return device.trust("fedclip", held, allow_unsigned=True)


def opened(device, folder, held=()):
    return open_bundle(folder, trust(device, held), installed=device.installed(), now=forge.NOW)


def install(device, folder, held=()):
    device.commit(opened(device, folder, held))


def current(device, held=()):
    return device.current(trust(device, held), forge.RUNTIME)


def reason(function, *arguments):
    with pytest.raises(BundleError) as caught:
        function(*arguments)
    return caught.value.reason


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def tree(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def crashes_at(step, act):
    """Run ``act`` in a child process that dies before its ``step``-th change to the disk; tell whether it died."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    left = step

    def counted(function):
        def wrapper(*arguments, **options):
            nonlocal left
            if left == 0:
                os._exit(9)
            left -= 1
            return function(*arguments, **options)

        return wrapper

    try:
        for name in STEPS:
            setattr(os, name, counted(getattr(os, name)))
        act()
    finally:
        os._exit(0)
