"""Adapters as federations save them: of the built-in backbone, and of any method and width."""

import dataclasses

import torch

from fedclip_miniature import CLASSES
from fedclip_plugin.backbone import BUILT_IN, locate_backbone
from fedclip_plugin.backbone.fingerprint import fingerprint
from fedclip_plugin.features import TextFeatures
from fedclip_plugin.federated.roles.task import Task
from fedclip_plugin.methods import create_adapter
from fedclip_plugin.methods.lora_matrices import new_layer
from fedclip_plugin.methods.text_tower.prompt import Prompt
from fedclip_plugin.methods.text_tower.prompt_generator import PromptGenerator
from fedclip_plugin.methods.text_tower.text_lora import TextLora
from fedclip_plugin.runs import save_adapter
from tests.support.workshop import frozen, frozen_clip_tiny

TEMPLATE = "a picture of a {}"


def fresh_adapter(round=3, seed=0, backbone=BUILT_IN, classes=CLASSES, method="fedclip"):
    """Return an adapter of the built-in backbone, not trained; weights depend on ``seed`` alone."""
    base = frozen_clip_tiny(classes, TEMPLATE)
    here = fingerprint(locate_backbone(str(backbone)))
    task = Task(method, str(backbone), here, "fp32", tuple(classes), TEMPLATE, base.text, "0" * 16)
    return task.saved(round, create_adapter(method, base, seed), {})


def random_adapter(method="fedclip", width=32, classes=7, scale=100.0, round=5):
    """Return an adapter of a backbone that does not exist, every parameter at random."""
    base = frozen(width, classes)
    adapter = _THROUGH_TEXT[method](width, classes) if method in _THROUGH_TEXT else create_adapter(method, base, seed=3)
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    names = tuple(f"class {index}" for index in range(classes))
    text = TextFeatures(base.text.features, scale)
    task = Task(method, "clip-tiny", "0" * 64, "fp32", names, "a photo of a {}", text, "0" * 64)
    return task.saved(round, adapter, {})


def _tower(width, classes):
    """Return a random matrix in place of a text tower."""
    tower = torch.randn(4 * 8, classes * width, generator=torch.Generator().manual_seed(5))
    return lambda values: torch.nn.functional.normalize((values.reshape(-1) @ tower).reshape(classes, width), dim=-1)


def _text_lora(width, classes):
    layers = torch.nn.ModuleList([new_layer(8)])
    for parameter in layers.parameters():
        torch.nn.init.normal_(parameter, generator=torch.Generator().manual_seed(6))
    return TextLora(layers, _tower(width, classes))


_THROUGH_TEXT = {
    "prompt": lambda width, classes: Prompt(torch.zeros(4, 8), _tower(width, classes)),
    "text_lora": _text_lora,
    "prompt_generator": lambda width, classes: PromptGenerator(
        4, 8, width, _tower(width, classes), torch.Generator().manual_seed(6)
    ),
}
"""Methods that train through the text tower, of whatever width."""


def write_adapter(folder, **changes):
    """Write a fresh adapter, with fields changed, and return its folder."""
    known = {name: changes.pop(name) for name in ("round", "seed", "backbone", "classes", "method") if name in changes}
    save_adapter(folder, dataclasses.replace(fresh_adapter(**known), **changes))
    return folder
