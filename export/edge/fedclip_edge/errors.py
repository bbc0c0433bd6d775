"""The base of all typed errors, and those of the device side; a message says what was given, the rule, the remedy."""

from __future__ import annotations


class FedClipError(Exception):
    """Base of every error that a user can cause and mend; the command lines print it as one line.

    `text` says what was given, the rule, and how to mend it; `in_recipe` how else to mend it where there is a recipe.
    `exit_code` is 2 for bad input, 1 for a federation that stopped, an export or an update that failed its checks.
    """

    exit_code: int = 2

    def __init__(self, text: str, in_recipe: str = "") -> None:
        super().__init__(text + in_recipe)
        self.text = text


class ExportError(FedClipError):
    """Base of the errors of exports and of the device side."""


class MissingPackageError(ExportError):
    """A package that an extra of this distribution would have brought: onnxruntime, Pillow, cryptography, torch."""


class ProviderError(ExportError):
    """An execution provider that was asked for and cannot be used here."""


class ImageError(ExportError):
    """An image that cannot be read, or is beyond the limits."""


class ConversionError(ExportError):
    """An adapter or a backbone that cannot be turned into ONNX."""


class ParityError(ExportError):
    """An export whose answers differ from what was trained by more than the tolerances; nothing is written."""

    exit_code = 1


class BundleError(ExportError):
    """A bundle, an update or a device folder that is refused.

    `reason` is the short code of the rule that was broken, the same on every host: ``signature``, ``hash`` ...
    """

    exit_code = 1

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
