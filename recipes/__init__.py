"""The recipes that come along, as package data: `<dataset>/<backbone>_<method>.yaml`."""
