"""From a backbone's name to the folder with its files; never over the network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fedclip_plugin.errors import BackboneError

BUILT_IN = "clip-tiny"
_NEEDED = ("config.json",)


def locate_backbone(name: str) -> Path:
    """Return the local folder of a CLIP.

    Parameters
    ----------
    name
        ``clip-tiny`` (built in), a folder in the transformers layout, or a hub name that is in the local cache.

    Raises
    ------
    BackboneError
        When nothing of that name is on this machine, or what is there is not a CLIP.
    """
    folder = _find(name)
    for needed in _NEEDED:
        if not (folder / needed).is_file():
            raise BackboneError(
                f"backbone {name!r}: {folder} has no {needed}; give a folder that CLIPModel.save_pretrained and "
                "CLIPProcessor.save_pretrained wrote"
            )
    kind = read_config(folder).get("model_type")
    if kind != "clip":
        raise BackboneError(
            f"backbone {name!r} is of model_type {kind!r}; FedCLIP needs a CLIP (model_type 'clip'), such as "
            "openai/clip-vit-base-patch32"
        )
    return folder


def read_config(folder: Path) -> dict[str, Any]:
    """Return ``config.json`` of a backbone folder.

    Raises
    ------
    BackboneError
        When it is not a JSON object.
    """
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except ValueError as error:
        raise BackboneError(f"{folder / 'config.json'} is not JSON: {error}; fetch the backbone again") from error
    if not isinstance(config, dict):
        raise BackboneError(f"{folder / 'config.json'} is not a JSON object; fetch the backbone again")
    return config


def _find(name: str) -> Path:
    if name == BUILT_IN:
        return Path(__file__).parent / "clip_tiny"
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    if name.startswith((".", "/", "~")) or name.count("/") != 1:
        raise BackboneError(
            f"backbone {name!r}: there is no such folder, and it is not a hub name (OWNER/NAME); "
            f"give a local folder, a hub name, or {BUILT_IN!r}"
        )
    return _find_in_hub_cache(name)


def _find_in_hub_cache(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, local_files_only=True))
    except (LocalEntryNotFoundError, FileNotFoundError) as error:
        raise BackboneError(
            f"backbone {name!r} is not in this machine's hub cache, and nothing is downloaded at run time; fetch it "
            f"beforehand on every host with: hf download {name} (set HF_HOME to place it), or give a local folder"
        ) from error
