"""``fedclip export``: from an adapter to ONNX for devices."""

from __future__ import annotations

from fedclip_export.cli import act, add

__all__ = ["act", "add"]
