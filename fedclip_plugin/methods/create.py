"""Adapters by the name of their method: new ones, and those that were saved."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from fedclip_plugin.errors import AdapterFileError, MethodError
from fedclip_plugin.features import TextFeatures, prompts_of
from fedclip_plugin.features.text_features import require_distinct
from fedclip_plugin.methods.base import Adapter, AdapterInputs
from fedclip_plugin.methods.parameters import load_parameters, parameters_of, to_tensors
from fedclip_plugin.methods.registry import METHODS, ZERO_SHOT
from fedclip_plugin.runs import SavedAdapter
from fedclip_plugin.text import told

if TYPE_CHECKING:
    from fedclip_plugin.backbone.clip import FrozenClip


def adapter_class(method: str, start: str = ZERO_SHOT) -> type[Adapter]:
    """Return the class of a method, by what its training starts from.

    An unknown name is a KeyError: recipes are checked against the same names beforehand. What the method names and is
    no such class is a MethodError.
    """
    entry = METHODS[method]
    place = entry.adapter if start == ZERO_SHOT else entry.starts[start]
    module, _, name = place.partition(":")
    try:
        found = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise MethodError(f"method {method!r}: its adapter {place} cannot be imported: {error}; mend it") from error
    if not (isinstance(found, type) and issubclass(found, Adapter)):
        raise MethodError(f"method {method!r}: {place} is no subclass of fedclip_plugin.methods.Adapter; mend it")
    return found


def create_adapter(
    method: str, frozen: AdapterInputs, seed: int, dtype: torch.dtype = torch.float32, start: str = ZERO_SHOT
) -> Adapter:
    """Build a method's adapter; its weights depend on ``seed`` and the frozen CLIP alone. Errors as `adapter_class`."""
    return adapter_class(method, start).create(frozen, torch.Generator().manual_seed(seed), dtype)


def restore_adapter(saved: SavedAdapter, frozen: AdapterInputs | None = None) -> Adapter:
    """Build the module of a saved adapter and load its parameters.

    Parameters
    ----------
    frozen
        What it was built on; None looks for the backbone where the adapter says, if the method needs it.

    Raises
    ------
    AdapterFileError
        When the method is unknown here, or a tensor's name or shape is not the method's.
    """
    if saved.method not in METHODS:
        raise AdapterFileError(
            f"adapter of method {saved.method!r}; known here are {', '.join(METHODS)}: install the package that "
            "has it, or update fedclip-plugin"
        )
    try:
        return adapter_class(saved.method, saved.start).restore(saved, frozen or frozen_of(saved))
    except ValueError as error:
        raise _misfit(saved, error) from error


def load_saved(adapter: Adapter, saved: SavedAdapter) -> None:
    """Copy the parameters of a saved adapter into a module of its method; errors as :func:`restore_adapter`."""
    try:
        load_parameters(adapter, to_tensors(saved.tensors))
    except ValueError as error:
        raise _misfit(saved, error) from error


def on_classes(
    saved: SavedAdapter, classes: Sequence[str], clip: Callable[[], FrozenClip] | None = None
) -> SavedAdapter:
    """Return a saved adapter for other classes, seen in training or not, in the form that is saved and exported.

    What the silos trained stays; the text features are those of the new prompts, and class features are made anew
    where the method trains them. Scores and calibration, which are of the old classes, are left out.

    Parameters
    ----------
    classes
        The new labels, in order.
    clip
        Loads the backbone; None looks for it where the adapter says.

    Raises
    ------
    FedClipError
        When a class is named twice or looks like another to CLIP, or the backbone is not here.
    AdapterFileError
        When the adapter's parameters do not fit other classes.
    """
    names = tuple(classes)
    if not names or len({*names}) < len(names) or not all(isinstance(name, str) and name for name in names):
        raise AdapterFileError(f"classes are {told(names)}; give one or more names, each once")
    load = frozen_of(saved).clip if clip is None else clip
    prompts, frozen_clip = prompts_of(names, saved.prompt_template), load()
    text = TextFeatures(frozen_clip.encode_prompts(prompts), saved.logit_scale)
    require_distinct(text, names, saved.prompt_template)
    try:
        frozen = AdapterInputs(text, prompts, lambda: frozen_clip)
        adapter = adapter_class(saved.method, saved.start).on_classes(saved, frozen)
    except ValueError as error:
        raise _misfit(saved, error) from error
    with torch.no_grad():
        own = adapter.class_features(text).float().cpu().numpy() if adapter.trains_classes else None
        biases = adapter.class_biases(text)
    return replace(
        saved,
        classes=names,
        text_features=text.features.numpy(),
        tensors={name: tensor.numpy() for name, tensor in parameters_of(adapter).items()},
        class_features=own,
        class_biases=None if biases is None else biases.detach().float().cpu().numpy(),
        metrics={},
        calibration=None,
    )


def _misfit(saved: SavedAdapter, error: ValueError) -> AdapterFileError:
    return AdapterFileError(f"adapter does not fit method {saved.method!r}: {error}")


def frozen_of(saved: SavedAdapter) -> AdapterInputs:
    """Return what a saved adapter was built on; its backbone is looked for when it is asked for."""

    def _clip() -> FrozenClip:
        from fedclip_plugin.backbone.clip import FrozenClip

        return FrozenClip(backbone_of(saved), torch.device("cpu"), saved.precision)

    text = TextFeatures(torch.tensor(saved.text_features), saved.logit_scale)
    return AdapterInputs(text, prompts_of(saved.classes, saved.prompt_template), _clip)


def backbone_of(saved: SavedAdapter, given: str | Path | None = None) -> Path:
    """Return the folder of a saved adapter's backbone: where it is ``given``, or where the adapter says.

    Raises
    ------
    BackboneError
        When it is not on this machine.
    AdapterFileError
        When it is not the adapter's own.
    """
    from fedclip_plugin.backbone.configs.clip_config import read_clip_config
    from fedclip_plugin.backbone.fingerprint import fingerprint
    from fedclip_plugin.backbone.locate import locate_backbone

    place = locate_backbone(saved.backbone if given is None else given)
    saved.require_backbone(fingerprint(place), read_clip_config(place).dim, str(place))
    return place
