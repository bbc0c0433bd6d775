"""From a federated FedCLIP adapter to signed ONNX bundles and updates."""

from fedclip_edge import __version__

__all__ = ["__version__"]
