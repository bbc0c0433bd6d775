"""What DESIGN.md says of speed and size, measured; every ratio is taken within one run (``python -m benchmarks``)."""
