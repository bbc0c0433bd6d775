"""From a backbone's name to the folder with its files; never over the network."""

from __future__ import annotations

import os
from pathlib import Path

from fedclip_edge.arguments import as_path
from fedclip_plugin.backbone.checkpoint import require_checkpoint
from fedclip_plugin.backbone.configs.open_clip_config import OPEN_CLIP_CONFIG
from fedclip_plugin.errors import BackboneError

BUILT_IN = "clip-tiny"


def locate_backbone(name: str | Path) -> Path:
    """Return the local folder of a backbone.

    Parameters
    ----------
    name
        ``clip-tiny`` (built in), a folder in the transformers or the OpenCLIP layout, or a hub name that is in the
        local cache.

    Raises
    ------
    BackboneError
        When nothing of that name is here, or it is not a whole backbone, as far as can be told without loading it.
    """
    folder = _find(name)
    if not any((folder / config).is_file() for config in ("config.json", OPEN_CLIP_CONFIG)):
        raise BackboneError(
            f"backbone {name!r}: {folder} has no config.json and no {OPEN_CLIP_CONFIG}; give a folder that "
            "CLIPModel.save_pretrained and "
            "CLIPProcessor.save_pretrained wrote"
        )
    require_checkpoint(folder)
    return folder


def _find(given: str | Path) -> Path:
    folder, name = as_path(given, "backbone", BackboneError), os.fspath(given)
    if name == BUILT_IN:
        return Path(__file__).parent / "clip_tiny"
    if folder.is_dir():
        return folder
    if name.startswith((".", "/", "~")) or name.count("/") != 1:
        raise BackboneError(
            f"backbone {name!r}: there is no such folder, and it is not a hub name (OWNER/NAME); "
            f"give a local folder, a hub name, or {BUILT_IN!r}"
        )
    return find_in_hub_cache(name)


def find_in_hub_cache(name: str) -> Path:
    """Return the folder of a hub name (OWNER/NAME) in this machine's cache; a BackboneError when it is not there."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, local_files_only=True))
    except HFValidationError as error:
        raise BackboneError(f"backbone {name!r} is neither a folder here nor a hub name: {error}") from error
    except (LocalEntryNotFoundError, FileNotFoundError) as error:
        raise BackboneError(
            f"backbone {name!r} is not in this machine's hub cache, and nothing is downloaded at run time; fetch it "
            f"beforehand on every host with: hf download {name} (set HF_HOME to place it), or give a local folder"
        ) from error
