"""Adapters that change the image encoder itself: their encoder is exported as a backbone of its own."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import replace
from pathlib import Path

import torch

from fedclip_export.source import Source
from fedclip_plugin.backbone.clip import FrozenClip
from fedclip_plugin.classifier import Classifier
from fedclip_plugin.methods import PixelAdapter

_SETTINGS = (".json", ".txt")
_SHARDS = ".index.json"


def write_tuned(source: Source, backbone: Path, folder: Path) -> Source:
    """Write an adapter's own CLIP to a new folder, and return the adapter as one that leaves that CLIP as it is.

    The new source is zero-shot classification on the tuned encoder, by the adapter's class features. Its fingerprint is
    a hash of the backbone's and the adapter's: no head of another round or method is ever made for this encoder, and
    its own head for no other.
    """
    saved = source.saved
    adapter = Classifier(saved, str(backbone), "cpu").adapter
    assert isinstance(adapter, PixelAdapter), "the caller looked at what the method takes in"
    model = FrozenClip(backbone, torch.device("cpu")).hand_over()
    model.load_state_dict(adapter.image_weights(), strict=False)
    folder.mkdir()
    for path in backbone.iterdir():
        if path.suffix in _SETTINGS and not path.name.endswith(_SHARDS):
            shutil.copyfile(path, folder / path.name)
    model.save_pretrained(folder)
    tuned = replace(
        saved,
        method="zero_shot",
        fingerprint=hashlib.sha256(f"{saved.fingerprint}:{source.sha256}".encode()).hexdigest(),
        tensors={},
        text_features=saved.head_features,
        class_features=None,
    )
    return replace(source, saved=tuned, trained_by=saved.method)
