"""The contrastive training of clip-tiny: Muon and AdamW on a schedule that counts steps."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional
from tqdm import tqdm
from transformers import CLIPModel

from fedclip_miniature.pretraining.batches import Batch, BatchMaker

BATCH_SIZE = 64
WARM_UP_STEPS = 60
DECAY_SHARE = 0.4
ADAM_RATE, MUON_RATE = 1e-3, 1e-2
WEIGHT_DECAY = 0.05
MAX_SCALE = 100.0


def image_features(model: CLIPModel, pixels: torch.Tensor) -> torch.Tensor:
    """Encode pixels [B, 3, 64, 64] as unit vectors [B, 128]."""
    return functional.normalize(model.visual_projection(model.vision_model(pixel_values=pixels).pooler_output), dim=-1)


def text_features(model: CLIPModel, ids: torch.Tensor) -> torch.Tensor:
    """Encode token ids [B, L] as unit vectors [B, 128]."""
    return functional.normalize(model.text_projection(model.text_model(input_ids=ids).pooler_output), dim=-1)


def contrastive_loss(model: CLIPModel, batch: Batch) -> torch.Tensor:
    """CLIP's symmetric loss, where all images that share a caption are each other's positives."""
    images = image_features(model, batch.pixels)
    texts = text_features(model, batch.texts)[batch.caption_of]
    logits = model.logit_scale.exp() * images @ texts.T
    same = (batch.caption_of[:, None] == batch.caption_of[None, :]).float()
    target = same / same.sum(dim=1, keepdim=True)
    return (functional.cross_entropy(logits, target) + functional.cross_entropy(logits.T, target)) / 2


def make_optimizers(model: CLIPModel) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the encoders' layers; AdamW for all others, without decay on vectors."""
    hidden = [p for name, p in model.named_parameters() if p.ndim == 2 and "encoder.layers" in name]
    taken = {id(parameter) for parameter in hidden}
    rest = [p for p in model.parameters() if id(p) not in taken]
    groups = [
        {"params": [p for p in rest if p.ndim >= 2], "weight_decay": WEIGHT_DECAY},
        {"params": [p for p in rest if p.ndim < 2], "weight_decay": 0.0},
    ]
    return [
        torch.optim.AdamW(groups, lr=ADAM_RATE, betas=(0.9, 0.98), eps=1e-6),
        torch.optim.Muon(hidden, lr=MUON_RATE, weight_decay=WEIGHT_DECAY, momentum=0.95, ns_steps=4),
    ]


def rate_factor(step: int, steps: int) -> float:
    """Return the learning rate's factor at a step (from 0): warm-up, constant, then linear decay to 2 %."""
    left = (1 - step / steps) / DECAY_SHARE
    return min(1.0, (step + 1) / WARM_UP_STEPS) * min(1.0, max(0.02, left))


def _step(model: CLIPModel, batch: Batch, optimizers: list[torch.optim.Optimizer]) -> float:
    loss = contrastive_loss(model, batch)
    model.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for optimizer in optimizers:
        optimizer.step()
    with torch.no_grad():
        model.logit_scale.clamp_(max=float(np.log(MAX_SCALE)))
    return float(loss.detach())


def train(
    model: CLIPModel, maker: BatchMaker, steps: int, rng: np.random.Generator, progress: bool = False
) -> tuple[float, float]:
    """Train a model in place for ``steps`` batches of `BATCH_SIZE`; nothing in it depends on time.

    Returns the running mean of the loss, and the logit scale.
    """
    optimizers, running = make_optimizers(model), 0.0
    rates = [[group["lr"] for group in optimizer.param_groups] for optimizer in optimizers]
    model.train()
    bar = tqdm(
        maker.batches(steps, BATCH_SIZE, rng),
        total=steps,
        desc="pretraining",
        unit="step",
        disable=not progress,
    )
    for step, batch in enumerate(bar):
        factor = rate_factor(step, steps)
        for optimizer, base in zip(optimizers, rates, strict=True):
            for group, rate in zip(optimizer.param_groups, base, strict=True):
                group["lr"] = rate * factor
        loss = _step(model, batch, optimizers)
        running = loss if step == 0 else 0.97 * running + 0.03 * loss
        if step % 20 == 0:
            bar.set_postfix(loss=f"{running:.3f}", refresh=False)
    model.eval()
    return running, float(model.logit_scale.detach().exp())
