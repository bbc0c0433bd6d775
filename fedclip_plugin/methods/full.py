"""Full fine-tuning of CLIP: the FedAVG baseline of FedCLIP's paper (arXiv 2302.13485, section 4)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fedclip_plugin.backbone.towers import text_features
from fedclip_plugin.features import TextFeatures
from fedclip_plugin.methods.base import AdapterInputs
from fedclip_plugin.methods.losses import contrastive_loss
from fedclip_plugin.methods.pixel_base import PixelAdapter


class Full(PixelAdapter):
    """Train both towers, both projections and the logit scale, from the pretrained weights.

    Parameters have transformers' names, so that they load into its ``CLIPModel``. The backbone's model is taken over,
    not copied: with gradients and Adam's moments, training holds four times the weights. The text tower runs in
    float32, over no more tokens than the longest prompt has.

    Shapes: B images in a batch, C classes, L tokens of the longest prompt, d feature width. Parameters: all of CLIP's;
    151,277,313 for ViT-B/32.
    """

    trains_classes = True

    ids: Tensor
    mask: Tensor

    def __init__(
        self, frozen: AdapterInputs, generator: torch.Generator | None = None, dtype: torch.dtype = torch.float32
    ) -> None:
        clip = frozen.clip()
        super().__init__(clip)
        for name, tokens in zip(("ids", "mask"), clip.tokenize(frozen.prompts), strict=True):
            self.register_buffer(name, tokens, persistent=False)
        model = clip.hand_over().to(dtype).requires_grad_(True)
        self.vision_model, self.visual_projection = model.vision_model, model.visual_projection
        self.text_model, self.text_projection = model.text_model, model.text_projection
        self.logit_scale: nn.Parameter = model.logit_scale

    def class_features(self, text: TextFeatures) -> Tensor:
        """Return the features of the prompts by the trained text tower, ``[C, d]``."""
        return text_features(self, self.ids, self.mask)

    def scale(self, text: TextFeatures) -> Tensor:
        """Return the trained factor on cosine similarities, a scalar."""
        return self.logit_scale.exp()

    def loss(self, inputs: Tensor, labels: Tensor, text: TextFeatures, padded: bool = False) -> Tensor:
        """Return CLIP's symmetric contrastive loss, a scalar; only the prompts of classes in the batch are encoded."""
        present, places = labels.unique(return_inverse=True)
        prompts = text_features(self, self.ids[present], self.mask[present])
        return contrastive_loss(self(inputs), prompts, places, self.scale(text))
