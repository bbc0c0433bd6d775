"""Serve a bundle on a device: verified, self-tested, and updated while it answers; needs onnxruntime and numpy."""

from fedclip_edge.errors import BundleError, ExportError, ImageError
from fedclip_edge.runtime.edge_classifier import EdgeClassifier
from fedclip_edge.runtime.install import Change, install
from fedclip_edge.runtime.prediction import Prediction
from fedclip_edge.runtime.site_calibration import SiteCalibration

__all__ = [
    "BundleError",
    "Change",
    "EdgeClassifier",
    "ExportError",
    "ImageError",
    "Prediction",
    "SiteCalibration",
    "install",
]
