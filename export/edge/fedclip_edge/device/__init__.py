"""The device's folder: its rounds and keys, and the update that is installed whole or not at all."""

from fedclip_edge.device.device import Device
from fedclip_edge.device.state import DeviceState

__all__ = ["Device", "DeviceState"]
