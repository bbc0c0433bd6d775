"""From a backbone folder to transformers' model: all weights of both towers, no others, and finite."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from fedclip_plugin.backbone.checkpoint import require_weights
from fedclip_plugin.errors import BackboneError

if TYPE_CHECKING:
    from transformers import CLIPModel


def load_model(folder: Path) -> CLIPModel:
    """Return the CLIP of a folder, in float32 on the CPU.

    Parameters
    ----------
    folder
        A backbone folder (see :func:`~fedclip_plugin.backbone.locate.locate_backbone`).

    Raises
    ------
    BackboneError
        When transformers cannot load it, or would leave weights as chance made them or drop some, or when a weight is
        not finite.
    """
    from transformers import CLIPModel
    from transformers import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        model, info = CLIPModel.from_pretrained(
            folder,
            dtype=torch.float32,
            local_files_only=True,
            ignore_mismatched_sizes=True,  # named below, as what is missing
            output_loading_info=True,
        )
    except Exception as error:  # its parsers raise whatever a file makes them raise
        reason = " ".join(str(error).split())
        raise BackboneError(f"backbone {folder} cannot be loaded as a CLIP: {reason}") from error
    sizes = {name: f"{list(stored)}, {list(wanted)} by config.json" for name, stored, wanted in info["mismatched_keys"]}
    require_weights(folder, info["missing_keys"], info["unexpected_keys"], sizes)
    _require_finite(folder, model)
    return model


def _require_finite(folder: Path, model: CLIPModel) -> None:
    bad = [name for name, weight in model.named_parameters() if not _is_finite(weight.detach())]
    if bad:
        raise BackboneError(
            f"backbone {folder}: weight {bad[0]} holds NaN or infinite numbers"
            f"{f', and {len(bad) - 1} more do' if len(bad) > 1 else ''}; fetch the backbone again"
        )
    scale = float(model.logit_scale.detach())
    if not torch.tensor(scale).exp().isfinite():
        raise BackboneError(
            f"backbone {folder}: logit_scale is {scale:g}, a logarithm, too large for float32 to raise; a CLIP has up "
            "to 4.6: fetch the backbone again"
        )


def _is_finite(weight: torch.Tensor) -> bool:
    """Return whether all of it is; extremes take one pass, and NaN shows in them."""
    low, high = weight.aminmax()
    return bool(low.isfinite() and high.isfinite())
