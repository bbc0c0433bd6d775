"""Adapters on the Hugging Face hub: found by name, fetched and published; only `pull` and `push` open a connection."""

from fedclip_plugin.hub.publish import Publication, push_adapter, require_target, what_to_publish
from fedclip_plugin.hub.stored_adapters import find_adapter, pull_adapter

__all__ = ["Publication", "find_adapter", "pull_adapter", "push_adapter", "require_target", "what_to_publish"]
