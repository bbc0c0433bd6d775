"""The errors for image files that cannot be used."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fedclip_edge.terminal import printable
from fedclip_plugin.errors import DataError


class UnreadableImageError(DataError):
    """An image file that is missing, no plain file, empty, truncated, too large, or no image.

    Only this error is what ``on_bad_image: skip`` leaves out and counts.

    Parameters
    ----------
    path
        The file.
    reason
        What is wrong with it.
    remedy
        What to do about it.

    Attributes
    ----------
    path, reason, remedy
        As given.
    """

    def __init__(self, path: Path, reason: str, remedy: str = "Replace or remove the file") -> None:
        super().__init__(f"cannot read image {printable(str(path))}: {reason}. {remedy}")
        self.path = path
        self.reason = reason
        self.remedy = remedy

    def __reduce__(self) -> tuple[type[UnreadableImageError], tuple[Path, str, str]]:
        """Rebuild from what was given, so that a worker process can send the error."""
        return type(self), (self.path, self.reason, self.remedy)


class UnreadableImagesError(DataError):
    """Images of a set that cannot be read, where none may be left out.

    Parameters
    ----------
    name
        The silo or domain.
    count
        Images of the set.
    faults
        One for each that cannot be read, at least one.
    """

    def __init__(self, name: str, count: int, faults: Sequence[UnreadableImageError]) -> None:
        first = f"{printable(str(faults[0].path))} ({faults[0].reason})"
        super().__init__(
            f"{printable(name)}: {len(faults)} of {count} images cannot be read, the first: {first}; repair or remove "
            "them (fedclip check FOLDER lists all)",
            in_recipe=", or set fedclip_args.on_bad_image to skip",
        )
