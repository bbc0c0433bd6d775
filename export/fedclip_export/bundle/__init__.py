"""What lies on disk, and whether it may be trusted: manifests, keys, bundles, updates, device folders."""

from fedclip_export.bundle import canonical, keys
from fedclip_export.bundle.device import Device
from fedclip_export.bundle.device_state import DeviceState
from fedclip_export.bundle.golden import Golden
from fedclip_export.bundle.keys import PublicKey
from fedclip_export.bundle.manifest import FileEntry, Manifest
from fedclip_export.bundle.opening import Bundle, open_bundle
from fedclip_export.bundle.rules import Installed, Trust
from fedclip_export.bundle.writing import write_bundle

__all__ = [
    "Bundle",
    "Device",
    "DeviceState",
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
