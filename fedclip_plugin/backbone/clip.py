"""A frozen CLIP that turns images and prompts into features."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from safetensors import SafetensorError
from torch import Tensor

from fedclip_plugin.errors import BackboneError

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


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

    Raises
    ------
    BackboneError
        When transformers cannot load the folder as a CLIP.
    """

    def __init__(self, folder: Path, device: torch.device, precision: str = "fp32") -> None:
        from transformers import AutoTokenizer, CLIPModel
        from transformers import logging as transformers_logging
        from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

        transformers_logging.set_verbosity_error()
        transformers_logging.disable_progress_bar()
        try:
            self._model = CLIPModel.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
            # The default processor of transformers 5 resizes with torchvision and differs from PIL's by a level.
            self._processor = CLIPImageProcessorPil.from_pretrained(folder, local_files_only=True)
            self._tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
            raise BackboneError(f"backbone {folder} cannot be loaded as a CLIP: {error}") from error
        self._model.requires_grad_(False).eval().to(device)
        self.device = device
        self.precision = precision

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
        pixels: npt.NDArray[np.float32] = self._processor(image, return_tensors="np")["pixel_values"][0]
        return pixels

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
        """
        # TF32 in the patch embedding's convolution, cudnn's default, would not be float32.
        with self._autocast(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            pooled = self._model.vision_model(pixel_values=pixels.to(self.device, non_blocking=True)).pooler_output
            features: Tensor = self._model.visual_projection(pooled)
            return features.float().cpu()

    @torch.no_grad()
    def encode_prompts(self, prompts: Sequence[str]) -> Tensor:
        """Return text features of unit length, ``[C, d]`` float32 on the CPU, always computed in float32."""
        tokens = self._tokenizer(list(prompts), padding=True, truncation=True, return_tensors="pt").to(self.device)
        pooled = self._model.text_model(**tokens).pooler_output
        return torch.nn.functional.normalize(self._model.text_projection(pooled), dim=-1).float().cpu()

    def _autocast(self) -> torch.autocast:
        dtype = DTYPES[self.precision]
        return torch.autocast(self.device.type, dtype=dtype, enabled=dtype is not torch.float32)
