"""From a federated FedCLIP adapter to signed ONNX bundles, and the small runtime that serves them on a device."""

__version__ = "0.1.0"
