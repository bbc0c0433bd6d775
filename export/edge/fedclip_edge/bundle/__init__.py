"""Signed bundles and updates: what they hold, and whether they may be trusted."""

from fedclip_edge.bundle import canonical, keys
from fedclip_edge.bundle.acceptance import Installed, Trust
from fedclip_edge.bundle.golden import Golden
from fedclip_edge.bundle.keys import PublicKey
from fedclip_edge.bundle.manifest import FileEntry, Manifest
from fedclip_edge.bundle.opening import Bundle, open_bundle
from fedclip_edge.bundle.writing import write_bundle

__all__ = [
    "Bundle",
    "FileEntry",
    "Golden",
    "Installed",
    "Manifest",
    "PublicKey",
    "Trust",
    "canonical",
    "keys",
    "open_bundle",
    "write_bundle",
]
