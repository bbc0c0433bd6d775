"""Run folders of FedCLIP in experiment trackers; imports neither fedml nor torch nor the plugin."""

__version__ = "0.1.0"
