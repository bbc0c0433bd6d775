"""A device's own calibration: beside the rounds, never in them, and for the round that it was made with alone."""

from __future__ import annotations

from pathlib import Path

from fedclip_edge.bundle import canonical
from fedclip_edge.calibration import Calibration, is_calibration
from fedclip_edge.device.state import exclusive, writing
from fedclip_edge.errors import BundleError
from fedclip_edge.files import remove, write_file
from fedclip_edge.safe_files import read_capped

CALIBRATION = "calibration.json"
_MOST = 4096


def read_calibration(folder: Path, sequence: int) -> tuple[Calibration | None, str]:
    """Return the device's own calibration for a round, and what an operator should know of it.

    None where there is none, where it was made with another round, and where its file is damaged; the last two are
    said, and the bundle's own counts.
    """
    path = folder / CALIBRATION
    if not path.exists():
        return None, ""
    try:
        value = canonical.parse(read_capped(path, _MOST))
        made_for = value.pop("sequence", None)
        if type(made_for) is not int or not is_calibration(value):
            raise BundleError("malformed", "it does not say what it should")
    except BundleError as error:
        return None, f"{path} cannot be used ({error}): the bundle's own calibration counts; calibrate anew"
    if made_for != sequence:
        return None, f"this device was calibrated for sequence {made_for}: for {sequence} the bundle's own counts"
    return Calibration.of(value), ""


def write_calibration(folder: Path, sequence: int, calibration: Calibration | None) -> None:
    """Keep a calibration for a round, or none; ``device-state`` when the folder cannot be written."""
    with writing(folder), exclusive(folder):
        if calibration is None:
            remove(folder / CALIBRATION)
        else:
            write_file(folder / CALIBRATION, canonical.dump({"sequence": sequence, **calibration.to_json()}))
