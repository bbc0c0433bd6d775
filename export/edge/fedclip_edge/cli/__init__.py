"""The ``fedclip-edge`` command line: what a device's operator needs, without torch."""

from fedclip_edge.cli.main import main

__all__ = ["main"]
