"""The errors for image files that cannot be used."""

from __future__ import annotations

from pathlib import Path

from fedclip_plugin.errors import DataError


class UnreadableImageError(DataError):
    """An image file that is missing, empty, truncated, too large, or no image.

    Only this error is what ``on_bad_image: skip`` leaves out and counts.

    Parameters
    ----------
    path
        The file.
    reason
        What is wrong with it.

    Attributes
    ----------
    path, reason
        As given.
    """

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"cannot read image {path}: {reason}. Replace or remove the file")
        self.path = path
        self.reason = reason

    def __reduce__(self) -> tuple[type[UnreadableImageError], tuple[Path, str]]:
        """Rebuild from `path` and `reason`, so that a worker process can send the error."""
        return type(self), (self.path, self.reason)


class UnreadableImagesError(DataError):
    """Images of a set that cannot be read, where none may be left out."""
