"""One epoch of the reference algorithm: every batch encodes its images and its prompts again.

Written from the description of microsoft/PersonalizedFL, ``fedclip/``: frozen encoders, the adapter on image features,
the symmetric in-batch loss over 32 images and their 32 prompts, Adam with coupled weight decay.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fedclip_plugin.backbone.clip import FrozenClip
from fedclip_plugin.backbone.towers import text_features
from fedclip_plugin.federated.roles.adam import BETAS, EPSILON
from fedclip_plugin.federated.roles.settings import TrainingSettings
from fedclip_plugin.methods.losses import contrastive_loss

_MIN_BATCH = 2


def reference_epoch(
    clip: FrozenClip,
    adapter: nn.Module,
    pixels: Tensor,
    labels: Tensor,
    prompts: Sequence[str],
    settings: TrainingSettings,
) -> float:
    """Train one epoch in place, encoding as the reference does, and return the mean loss of its batches.

    Pixels are decoded already, ``[N, 3, S, S]``, labels ``[N]``; there is a prompt a class.
    """
    optimizer = torch.optim.Adam(
        adapter.parameters(),
        lr=settings.learning_rate,
        betas=BETAS,
        eps=EPSILON,
        weight_decay=settings.weight_decay,
    )
    losses = []
    device = next(adapter.parameters()).device
    for chosen in torch.randperm(len(labels), generator=torch.Generator().manual_seed(0)).split(settings.batch_size):
        if len(chosen) < _MIN_BATCH:
            continue
        images = clip.encode_pixels(pixels[chosen]).to(device)
        text = encode_padded(clip, [prompts[label] for label in labels[chosen].tolist()])
        pairs = torch.arange(len(chosen), device=device)
        loss = contrastive_loss(adapter(images), text, pairs, clip.logit_scale)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return sum(losses) / len(losses)


@torch.no_grad()
def encode_padded(clip: FrozenClip, prompts: Sequence[str]) -> Tensor:
    """Return unit-length text features ``[B, d]`` as the reference computes them: padded to the model's full length.

    The product pads to the longest prompt instead, which gives the same features for less.
    """
    ids, mask = clip.tokenize(prompts)
    end, behind = int(ids[0, mask[0].sum() - 1]), clip.model.config.text_config.max_position_embeddings - ids.shape[1]
    ids, mask = nn.functional.pad(ids, (0, behind), value=end), nn.functional.pad(mask, (0, behind))
    return text_features(clip.model, ids, mask)
