"""A frozen dual encoder, a CLIP or one like it, that turns images and prompts into features."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor, nn

from fedclip_plugin.backbone.checkpoint import reading, require_weights
from fedclip_plugin.backbone.configs.clip_config import read_clip_config
from fedclip_plugin.backbone.configs.open_clip_config import OpenClipConfig
from fedclip_plugin.backbone.exact_resize import ExactResize
from fedclip_plugin.backbone.open_clip_model import load_open_clip
from fedclip_plugin.backbone.preprocessing import Preprocessing
from fedclip_plugin.backbone.prompt_tokenizer import PromptTokenizer
from fedclip_plugin.backbone.towers import finite, image_features, text_features
from fedclip_plugin.data.decoding.center_crop import Levels
from fedclip_plugin.data.decoding.decode import See
from fedclip_plugin.errors import BackboneError

_WHOLE = 1 << 20
"""Bytes of an RGB image that goes to a GPU as it is; larger ones are resized by PIL, so that memory stays bounded."""


class FrozenClip:
    """A CLIP, a SigLIP or an OpenCLIP model, frozen, with its own preprocessing and tokenizer.

    A SigLIP has a bias that is added to all logits. It is left out: in a softmax over classes it changes nothing.

    Shapes: B images, C prompts, d width of the joint space, L tokens of the longest prompt, S side of the input image
    in pixels.

    Parameters
    ----------
    folder
        A backbone folder (see :func:`~fedclip_plugin.backbone.locate.locate_backbone`).
    precision
        ``fp32``, ``bf16`` or ``fp16``: the type of the encoders' matrix products; features are float32 in any case.

    Raises
    ------
    BackboneError
        When the folder does not hold a whole CLIP whose parts fit each other.
    """

    def __init__(self, folder: Path, device: torch.device, precision: str = "fp32") -> None:
        self.folder = folder
        config = read_clip_config(folder)
        self._model = load_model(folder).requires_grad_(False).eval().to(device)
        self._tokenizer = PromptTokenizer(folder, config)
        self.preprocessing = Preprocessing(folder)
        self._normalization = self.preprocessing.normalization().to(device)
        self._resize = ExactResize.on(device, self.preprocessing.center_crop)
        self.device = device
        self.precision = precision
        self.feature_dim = config.dim
        """Width d of the features."""

    @property
    def model(self) -> Any:
        """The model, frozen, by the names of transformers' ``CLIPModel``, as :func:`load_model` gives it.

        Methods that go through one of its towers copy what they need.
        """
        return self._model

    def hand_over(self) -> Any:
        """Return the model for good, to be trained; nothing can be encoded here any more, and nothing was copied."""
        model = self._model
        del self._model
        return model

    @property
    def logit_scale(self) -> float:
        """The learned factor on cosine similarities, exponentiated."""
        return float(self._model.logit_scale.exp())

    def preprocess(self, image: Image.Image) -> npt.NDArray[np.float32]:
        """Return the pixels that CLIP sees, ``[3, S, S]``: resize, crop, normalisation."""
        return self.preprocessing.preprocess(image)

    def see(self, views: Sequence[int] = (0,)) -> See:
        """Return what makes of an RGB image what is kept until its batch is encoded: ``[S, S, 3]`` a view, cropped.

        ``views`` are the augmented views that are seen; 0 is the image itself. For a GPU that resizes, images that are
        not large stay whole.
        """
        return self.preprocessing.see(views, _WHOLE if self._resize else 0)

    def pixels(self, seen: Sequence[Levels], room: Tensor | None = None) -> Tensor:
        """Return the pixels that CLIP sees, ``[B, 3, S, S]`` on its device, of images as :meth:`see` leaves them.

        ``room`` is the pixels of an earlier batch, to be written over on a CPU.
        """
        if self.device.type == "cpu" and self._resize is None:
            return self._normalization.of_images(seen, room)
        by_shape: dict[tuple[int, ...], list[int]] = {}
        for index, image in enumerate(seen):
            by_shape.setdefault(image.shape, []).append(index)
        parts = [self._levels([seen[index] for index in same]) for same in by_shape.values()]
        levels = torch.cat(parts) if len(parts) > 1 else parts[0]
        if len(parts) > 1:
            levels = levels[torch.tensor(list(chain.from_iterable(by_shape.values()))).argsort().to(self.device)]
        pixels: Tensor = self._normalization(levels.permute(0, 3, 1, 2))
        return pixels

    def _levels(self, same: Sequence[Levels]) -> Tensor:
        """Return images of one shape as ``[B, S, S, 3]`` on the device."""
        shape, side = (len(same), *same[0].shape), self.preprocessing.side
        staged = torch.empty(shape, dtype=torch.uint8, pin_memory=self.device.type == "cuda")
        np.stack(same, out=staged.numpy())
        levels = staged.to(self.device, non_blocking=True)
        return self._resize(levels) if self._resize and shape[1:3] != (side, side) else levels

    @torch.no_grad()
    def encode_pixels(self, pixels: Tensor) -> Tensor:
        """Return image features, not normalised, ``[B, d]`` float32 on the CPU, of pixels ``[B, 3, S, S]`` anywhere.

        Raises
        ------
        BackboneError
            When some are not finite.
        """
        features = image_features(self._model, pixels.to(self.device, non_blocking=True), self.precision).cpu()
        return finite(features, f"backbone {self.folder} in {self.precision}")

    def tokenize(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Return what the text tower takes in, on its device.

        Returns
        -------
        ids
            Tokens of each prompt, start and end marker included, padded to the longest prompt, or where the tower sees
            the padding to all of its places; ``[C, L]`` int64.
        mask
            1 for what the tower sees, a prompt's own tokens as a rule, 0 for the rest; ``[C, L]`` int64.
        """
        ids, mask = self._tokenizer(prompts)
        return ids.to(self.device), mask.to(self.device)

    @torch.no_grad()
    def encode_prompts(self, prompts: Sequence[str]) -> Tensor:
        """Return text features of unit length, ``[C, d]`` float32 on the CPU, always computed in float32.

        Raises
        ------
        BackboneError
            When some are not finite.
        """
        return finite(text_features(self._model, *self.tokenize(prompts)).cpu(), f"backbone {self.folder}")


def load_model(folder: Path, attention: str | None = None) -> Any:
    """Return the model of a folder, in float32 on the CPU: all weights of both towers, no others, and finite.

    It has ``vision_model`` and ``visual_projection``, ``text_model`` and ``text_projection`` as transformers'
    ``CLIPModel``; where a kind projects inside of its towers, the projection changes nothing.

    Parameters
    ----------
    attention
        transformers' ``attn_implementation``; None leaves it the choice.

    Raises
    ------
    BackboneError
        When transformers cannot load it, or would leave weights as chance made them or drop some, or when a weight is
        not finite.
    """
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    kind = read_clip_config(folder)
    if isinstance(kind, OpenClipConfig):
        own = load_open_clip(folder, kind.text_tower)
        _require_finite(folder, own)
        return own
    with reading(f"backbone {folder} cannot be loaded as a {kind.title}"):
        model, info = getattr(transformers, f"{kind.transformers}Model").from_pretrained(
            folder,
            dtype=torch.float32,
            attn_implementation=attention,
            local_files_only=True,
            ignore_mismatched_sizes=True,  # named below, as what is missing
            output_loading_info=True,
        )
    sizes = {name: f"{list(stored)}, {list(wanted)} by config.json" for name, stored, wanted in info["mismatched_keys"]}
    require_weights(folder, kind, info["missing_keys"], info["unexpected_keys"], sizes)
    _require_finite(folder, model)
    if not hasattr(model, "visual_projection"):
        model.visual_projection, model.text_projection = nn.Identity(), nn.Identity()
    return model


def _require_finite(folder: Path, model: nn.Module) -> None:
    bad = [name for name, weight in model.named_parameters() if not _is_finite(weight.detach())]
    if bad:
        raise BackboneError(
            f"backbone {folder}: weight {bad[0]} holds NaN or infinite numbers"
            f"{f', and {len(bad) - 1} more do' if len(bad) > 1 else ''}; fetch the backbone again"
        )
    scale = float(model.get_parameter("logit_scale").detach())
    if not torch.tensor(scale).exp().isfinite():
        raise BackboneError(
            f"backbone {folder}: logit_scale is {scale:g}, a logarithm, too large for float32 to raise; a CLIP has up "
            "to 4.6: fetch the backbone again"
        )


def _is_finite(weight: Tensor) -> bool:
    """Return whether all of it is; extremes take one pass, and NaN shows in them."""
    low, high = weight.aminmax()
    return bool(low.isfinite() and high.isfinite())
