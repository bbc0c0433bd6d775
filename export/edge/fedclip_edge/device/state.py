"""The few facts that a device must never lose: its product, the highest sequence, and which round it serves."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from fedclip_edge.bundle import canonical, manifest_schema
from fedclip_edge.errors import BundleError
from fedclip_edge.files import write_file
from fedclip_edge.safe_files import read_capped

try:
    import fcntl
except ImportError:  # Windows has none: there, one process at a time is the owner's business.
    fcntl = None  # type: ignore[assignment]

STATE, LOCK = "state.json", "lock"
_MAX_STATE = 4096
_ROUND = re.compile(r"0|[1-9]\d{0,15}")


def _is_round(value: object) -> bool:
    return isinstance(value, str) and _ROUND.fullmatch(value) is not None


_FIELDS: dict[str, manifest_schema.Rule] = {
    "schema": manifest_schema.MANIFEST["schema"],
    "product": manifest_schema.MANIFEST["product"],
    "sequence": manifest_schema.MANIFEST["sequence"],
    "current": (_is_round, "the sequence of a round, as a string"),
    "previous": (lambda value: value is None or _is_round(value), "null or the sequence of a round, as a string"),
    "keyed": manifest_schema.BOOLEAN,
}


@dataclass(frozen=True)
class DeviceState:
    """What ``state.json`` says.

    `sequence` is the highest ever accepted; it never goes down. `current` and `previous` name the folders of the round
    that is served and of the one to fall back to, or None. `keyed`: keys were stored here; from then on their absence
    is damage, and no permission.
    """

    product: str
    sequence: int
    current: str
    previous: str | None
    keyed: bool
    schema: int = 1

    def write(self, folder: Path) -> None:
        """Write the file in one step; this is the moment at which another round is the current one."""
        write_file(folder / STATE, canonical.dump(asdict(self)))

    @classmethod
    def read(cls, folder: Path) -> DeviceState:
        """Read and check the file; refuses with ``device-state`` and the way to repair it."""
        try:
            value = canonical.parse(read_capped(folder / STATE, _MAX_STATE))
            state = cls(**manifest_schema.require_object(value, _FIELDS, STATE))
        except BundleError as error:
            what = "is missing or cannot be read" if error.reason == "missing-file" else "is not as it was written"
            raise damaged(folder, f"{STATE} {what}") from error
        if max(int(state.current), int(state.previous or 0)) > state.sequence:
            raise damaged(folder, f"{STATE} names a round beyond the highest sequence {state.sequence}")
        return state


def damaged(folder: Path, what: str) -> BundleError:
    """Return the error for records that cannot be trusted any more, with the way to repair them."""
    return BundleError(
        "device-state",
        f"the records of the device folder {folder} are damaged ({what}); install a full bundle anew, into a new "
        "folder",
    )


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Hold the device folder for one process at a time; the others wait."""
    with (folder / LOCK).open("ab") as stream:
        if fcntl is not None:
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turn a full disk or a folder that cannot be written into a ``device-state`` error that says what still holds."""
    try:
        yield
    except OSError as error:
        raise BundleError(
            "device-state",
            f"the device folder {folder} cannot be written ({error.strerror or error}); nothing is half-installed: "
            "free some space or mend the permissions, then try again (if that is refused as a replay, it is there)",
        ) from error
