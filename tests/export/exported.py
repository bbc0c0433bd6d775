"""A real adapter of the built-in backbone, and bundles exported from it, shared by several tests."""

import dataclasses

import torch

from fedclip_plugin.adapters import create_adapter
from fedclip_plugin.backbone import BUILT_IN, locate_backbone
from fedclip_plugin.backbone.clip import FrozenClip
from fedclip_plugin.backbone.fingerprint import fingerprint
from fedclip_plugin.miniature import CLASSES
from fedclip_plugin.runs import SavedAdapter, save_adapter

TEMPLATE = "a picture of a {}"


def fresh_adapter(round=3, seed=0, backbone=BUILT_IN, classes=CLASSES):
    """Return an adapter as a federation would save it; weights depend on ``seed`` alone."""
    place = locate_backbone(str(backbone))
    clip = FrozenClip(place, torch.device("cpu"))
    text = clip.encode_prompts([TEMPLATE.format(name) for name in classes]).numpy()
    module = create_adapter("fedclip", clip.feature_dim, seed)
    return SavedAdapter(
        method="fedclip",
        feature_dim=clip.feature_dim,
        backbone=str(backbone),
        fingerprint=fingerprint(place),
        precision="fp32",
        logit_scale=clip.logit_scale,
        classes=tuple(classes),
        prompt_template=TEMPLATE,
        round=round,
        recipe_digest="0" * 16,
        text_features=text,
        tensors={name: value.numpy() for name, value in module.state_dict().items()},
    )


def write_adapter(folder, **changes):
    """Write a fresh adapter, with fields changed, and return its folder."""
    known = {name: changes.pop(name) for name in ("round", "seed", "backbone", "classes") if name in changes}
    save_adapter(folder, dataclasses.replace(fresh_adapter(**known), **changes))
    return folder
