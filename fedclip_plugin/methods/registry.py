"""The table from a method's name to its module."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy.typing as npt
import torch

from fedclip_plugin.errors import AdapterFileError
from fedclip_plugin.features import TextFeatures, prompts_of
from fedclip_plugin.methods.attention_gate import AttentionGate
from fedclip_plugin.methods.base import Adapter, AdapterInputs
from fedclip_plugin.methods.clip_adapter import ClipAdapter
from fedclip_plugin.methods.full import Full
from fedclip_plugin.methods.linear_probe import LinearProbe
from fedclip_plugin.methods.lora import Lora
from fedclip_plugin.methods.parameters import load_parameters, require_parameters
from fedclip_plugin.methods.prompt import Prompt
from fedclip_plugin.methods.sigmoid_gate import SigmoidGate
from fedclip_plugin.methods.zero_shot import ZeroShot
from fedclip_plugin.recipe import METHODS
from fedclip_plugin.runs import SavedAdapter

if TYPE_CHECKING:
    from fedclip_plugin.backbone.clip import FrozenClip

Generator = torch.Generator | None


def _on_features(module: Callable[[int, Generator, torch.dtype], Adapter]) -> Callable[..., Adapter]:
    """Return the builder of a module that needs to know the width of the features only."""

    def _build(frozen: AdapterInputs, generator: Generator, dtype: torch.dtype) -> Adapter:
        return module(frozen.feature_dim, generator, dtype)

    return _build


def _zero_shot(frozen: AdapterInputs, generator: Generator, dtype: torch.dtype) -> Adapter:
    return ZeroShot()


ADAPTERS: Mapping[str, Callable[[AdapterInputs, Generator, torch.dtype], Adapter]] = {
    "zero_shot": _zero_shot,
    "fedclip": _on_features(AttentionGate),
    "sigmoid_gate": _on_features(SigmoidGate),
    "clip_adapter": _on_features(ClipAdapter),
    "linear_probe": LinearProbe,
    "prompt": Prompt.through_tower,
    "lora": Lora,
    "full": Full,
}


def _prompt_as_saved(saved: SavedAdapter) -> Adapter:
    if saved.class_features is None:
        raise AdapterFileError("adapter of method 'prompt' without class features: take another round of its run")
    classes = torch.tensor(saved.class_features)
    return Prompt(torch.tensor(saved.tensors.get("context", ())), lambda context: classes.to(context))


AS_SAVED: Mapping[str, Callable[[SavedAdapter], Adapter]] = {"prompt": _prompt_as_saved}
"""Methods that answer by what was saved where others need a tower of the backbone; these cannot be trained on."""


def create_adapter(method: str, frozen: AdapterInputs, seed: int, dtype: torch.dtype = torch.float32) -> Adapter:
    """Build a method's adapter with weights that depend on ``seed`` and the frozen CLIP alone.

    Parameters
    ----------
    method
        A name in :data:`ADAPTERS`.
    frozen
        What it is built on.
    seed
        The recipe's ``random_seed``.
    dtype
        Of the parameters.

    Raises
    ------
    KeyError
        When no method has that name; recipes are checked against the same names beforehand.
    """
    return ADAPTERS[method](frozen, torch.Generator().manual_seed(seed), dtype)


def restore_adapter(saved: SavedAdapter, backbone: str | None = None) -> Adapter:
    """Build the module of a saved adapter and load its parameters.

    Parameters
    ----------
    saved
        The adapter.
    backbone
        Where its backbone is, for methods that answer through one of its towers; None takes the adapter's own word.

    Raises
    ------
    AdapterFileError
        When the method is unknown here, or a tensor's name or shape is not the method's.
    """
    if saved.method not in ADAPTERS:
        raise AdapterFileError(
            f"adapter of method {saved.method!r}; this version knows {', '.join(ADAPTERS)}: update fedclip-plugin"
        )
    frozen = frozen_of(saved, backbone)
    if saved.method in AS_SAVED:
        adapter = AS_SAVED[saved.method](saved)
    else:
        if METHODS[saved.method].inputs == "features":
            with torch.device("meta"):  # compared before memory is taken for what a stranger's header says
                _fitting(require_parameters, create_adapter(saved.method, frozen, seed=0), saved)
        adapter = create_adapter(saved.method, frozen, seed=0)
    load_saved(adapter, saved)
    return adapter


def load_saved(adapter: Adapter, saved: SavedAdapter) -> None:
    """Copy the parameters of a saved adapter into a module of its method.

    Raises
    ------
    AdapterFileError
        When a tensor's name or shape is not the method's.
    """
    _fitting(load_parameters, adapter, saved)


def _fitting(act: Callable[[Adapter, dict[str, torch.Tensor]], None], adapter: Adapter, saved: SavedAdapter) -> None:
    try:
        act(adapter, to_tensors(saved.tensors))
    except ValueError as error:
        raise AdapterFileError(f"adapter does not fit method {saved.method!r}: {error}") from error


def frozen_of(saved: SavedAdapter, backbone: str | None = None) -> AdapterInputs:
    """Return what a saved adapter was built on; its backbone is looked for when it is asked for.

    Parameters
    ----------
    saved, backbone
        As for :func:`restore_adapter`.
    """

    def _clip() -> FrozenClip:
        from fedclip_plugin.backbone.clip import FrozenClip
        from fedclip_plugin.backbone.clip_config import read_clip_config
        from fedclip_plugin.backbone.fingerprint import fingerprint
        from fedclip_plugin.backbone.locate import locate_backbone

        place = locate_backbone(backbone or saved.backbone)
        saved.require_backbone(fingerprint(place), read_clip_config(place).dim, str(place))
        return FrozenClip(place, torch.device("cpu"), saved.precision)

    text = TextFeatures(torch.tensor(saved.text_features), saved.logit_scale)
    return AdapterInputs(text, prompts_of(saved.classes, saved.prompt_template), _clip)


def to_tensors(arrays: Mapping[str, npt.NDArray[Any]]) -> dict[str, torch.Tensor]:
    """Return torch copies of named arrays."""
    return {name: torch.tensor(array) for name, array in arrays.items()}
