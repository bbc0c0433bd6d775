"""From an adapter and its backbone to ONNX graphs; the only part of the package that imports torch and onnx."""
