"""Which images of a set are known already, which are to be read, and which cannot be."""

from __future__ import annotations

import logging
from collections.abc import Container, Mapping, Sequence
from pathlib import Path

from fedclip_plugin.data import ImageSet, UnreadableImageError, UnreadableImagesError
from fedclip_plugin.errors import DataError
from fedclip_plugin.features.cache import identities

logger = logging.getLogger(__name__)


class Inventory:
    """The images of a set by identity, and what is wrong with some of them.

    Parameters
    ----------
    images
        N labelled files.
    unreadable
        Identity to reason, of images that were found unreadable before.

    Attributes
    ----------
    keys
        Identity of each image, in order.
    lasting
        Identity to reason, of images in this set that will be as unreadable next time.
    """

    def __init__(self, images: ImageSet, unreadable: Mapping[str, str]) -> None:
        self.images = images
        self.keys = identities(images)
        self.lasting = {key: unreadable[key] for key in self.keys if key in unreadable}
        self._unreadable = dict(self.lasting)
        self._paths = dict(zip(self.keys, images.paths(), strict=True))

    def missing(self, known: Container[str]) -> list[str]:
        """Return the identities that are neither known nor known to be unreadable, in order."""
        return [key for key in self.keys if key not in known and key not in self._unreadable]

    def paths(self, keys: Sequence[str]) -> list[Path]:
        """Return the file of each of ``keys``."""
        return [self._paths[key] for key in keys]

    def note(self, errors: Mapping[str, UnreadableImageError]) -> None:
        """Take down why images cannot be read, by identity."""
        self._unreadable |= {key: error.reason for key, error in errors.items()}
        # A disk or a permission may be mended, and nothing about the file would show it: not kept.
        self.lasting |= {key: error.reason for key, error in errors.items() if not _is_machines(error)}

    def judge(self, known: Container[str], skip_bad: bool) -> tuple[list[int], list[UnreadableImageError]]:
        """Return the indices of the readable images, and one error for each of the others.

        Parameters
        ----------
        known
            Identities of readable images.
        skip_bad
            Leave unreadable images out (and say which) instead of refusing them.

        Raises
        ------
        UnreadableImagesError
            When an image is unreadable and ``skip_bad`` is off.
        DataError
            When no image is readable.
        """
        kept = [index for index, key in enumerate(self.keys) if key in known]
        bad = [key for key in self.keys if key in self._unreadable]
        faults = [UnreadableImageError(self._paths[key], self._unreadable[key]) for key in bad]
        name, count = self.images.name, len(self.images)
        if faults and not skip_bad:
            raise UnreadableImagesError(name, count, faults)
        if not kept:
            raise DataError(
                f"{name}: none of the {count} images in {self.images.root} can be read; "
                f"the first: {faults[0].path} ({faults[0].reason})"
            )
        for fault in faults:
            logger.warning("%s: skipped: %s", name, fault)
        return kept, faults


def _is_machines(error: UnreadableImageError) -> bool:
    """Return whether the operating system failed to read the file, rather than the file being no image."""
    return getattr(error.__cause__, "errno", None) is not None
