"""The ``fedclip-edge`` command line: what a device's operator needs, without torch."""

from fedclip_export.edge.cli import main

__all__ = ["main"]
