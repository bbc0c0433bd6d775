"""Serve a bundle on a device: verified, self-tested, and updated while it answers; needs onnxruntime and numpy."""

from fedclip_export.errors import BundleError, ExportError, ImageError
from fedclip_export.runtime.change import Change
from fedclip_export.runtime.classifier import EdgeClassifier
from fedclip_export.runtime.install import install
from fedclip_export.runtime.prediction import Prediction

__all__ = ["BundleError", "Change", "EdgeClassifier", "ExportError", "ImageError", "Prediction", "install"]
