"""The ONNX graphs: how images are prepared, encoded and labelled."""
