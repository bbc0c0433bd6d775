"""The device side of FedCLIP: signed bundles, the folder they are installed in, and predictions; numpy only."""

__version__ = "0.1.0"
