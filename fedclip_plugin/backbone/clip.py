"""A frozen CLIP that turns images and prompts into features."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from fedclip_plugin.backbone.clip_config import read_clip_config
from fedclip_plugin.backbone.load_model import load_model
from fedclip_plugin.backbone.preprocessing import Preprocessing
from fedclip_plugin.backbone.prompt_tokenizer import PromptTokenizer
from fedclip_plugin.backbone.towers import finite, image_features, text_features

if TYPE_CHECKING:
    from transformers import CLIPModel


class FrozenClip:
    """CLIP in evaluation mode, without gradients, with its own preprocessing.

    Shapes: B images, C prompts, d width of the joint space, S side of the input image in pixels.

    Parameters
    ----------
    folder
        A backbone folder (see :func:`~fedclip_plugin.backbone.locate.locate_backbone`).
    device
        Where it runs.
    precision
        ``fp32``, ``bf16`` or ``fp16``: the type of the encoders' matrix products; features are float32 in any case.

    Attributes
    ----------
    folder, device, precision
        As given.
    preprocessing
        Its own, from images to pixels.

    Raises
    ------
    BackboneError
        When the folder does not hold a whole CLIP whose parts fit each other.
    """

    def __init__(self, folder: Path, device: torch.device, precision: str = "fp32") -> None:
        self.folder = folder
        self._model = load_model(folder).requires_grad_(False).eval().to(device)
        self._tokenizer = PromptTokenizer(folder, read_clip_config(folder))
        self.preprocessing = Preprocessing(folder)
        self.device = device
        self.precision = precision

    @property
    def model(self) -> CLIPModel:
        """The transformers model, frozen; methods that go through one of its towers copy what they need."""
        return self._model

    def hand_over(self) -> CLIPModel:
        """Return the model for good, to be trained; nothing can be encoded here any more, and nothing was copied."""
        model = self._model
        del self._model
        return model

    @property
    def feature_dim(self) -> int:
        """Width d of the features."""
        return int(self._model.config.projection_dim)

    @property
    def logit_scale(self) -> float:
        """CLIP's learned factor on cosine similarities, exponentiated."""
        return float(self._model.logit_scale.exp())

    def preprocess(self, image: Image.Image) -> npt.NDArray[np.float32]:
        """Return the pixels that CLIP sees: bicubic resize, centre crop, normalisation, by PIL and numpy.

        Returns
        -------
        numpy.ndarray
            ``[3, S, S]`` float32.
        """
        return self.preprocessing.preprocess(image)

    def crop(self, image: Image.Image) -> npt.NDArray[np.uint8]:
        """Return what methods on pixels take in: an RGB image resized and cropped, ``[3, S, S]``."""
        return self.preprocessing.crop(image)

    @torch.no_grad()
    def encode_pixels(self, pixels: Tensor) -> Tensor:
        """Return image features, not normalised.

        Parameters
        ----------
        pixels
            ``[B, 3, S, S]`` float32 on any device.

        Returns
        -------
        Tensor
            ``[B, d]`` float32 on the CPU.

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
            Tokens of each prompt, start and end marker included, padded to the longest prompt; ``[C, L]`` int64.
        mask
            1 for a prompt's own tokens, 0 for padding; ``[C, L]`` int64.
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
