"""Training batches: crops about the object, light changes, captions of which half only name the object."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional
from transformers import CLIPTokenizer

from fedclip_miniature.canvas import SIZE
from fedclip_miniature.pretraining.captions import bare_captions
from fedclip_miniature.pretraining.corpus import OBJECT_NAMES, Corpus
from fedclip_miniature.pretraining.tokenizer import tokenized

MEAN, DEVIATION = 0.5, 0.25
"""Pixel normalisation of every channel, for values 0 to 1."""

BARE_SHARE = 0.5


def pixels(images: npt.NDArray[np.uint8]) -> torch.Tensor:
    """Normalise images uint8 [B, 64, 64, 3] to float32 [B, 3, 64, 64], as the saved image processor does."""
    return (torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255 - MEAN) / DEVIATION


def cropped(
    images: npt.NDArray[np.uint8],
    boxes: npt.NDArray[np.float32],
    zoom: npt.NDArray[np.float64],
    shift: npt.NDArray[np.float64],
) -> torch.Tensor:
    """Cut a square about each object and scale it to the full image; normalised pixels, float32 [B, 3, 64, 64].

    Its side is ``zoom`` [B] times the longer one of the box [B, 4], and its centre is displaced by ``shift`` [B, 2]
    times its side.
    """
    side = np.maximum(boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]) * zoom
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2 + shift * side[:, None]
    frame = np.zeros((len(images), 2, 3), dtype=np.float32)
    frame[:, 0, 0] = frame[:, 1, 1] = side / SIZE
    frame[:, :, 2] = centre / (SIZE / 2) - 1
    grid = functional.affine_grid(torch.from_numpy(frame), [len(images), 3, SIZE, SIZE], align_corners=False)
    return functional.grid_sample(pixels(images), grid, padding_mode="reflection", align_corners=False)


@dataclass(frozen=True)
class Batch:
    """A batch of B images with U distinct captions."""

    pixels: torch.Tensor  # float32 [B, 3, 64, 64]
    texts: torch.Tensor  # token ids of the distinct captions, int64 [U, L]
    caption_of: torch.Tensor  # which caption each image has, int64 [B]


class BatchMaker:
    """Makes the batches of a corpus, in an order and with changes that depend on the generator alone."""

    def __init__(self, corpus: Corpus, tokenizer: CLIPTokenizer, train: npt.NDArray[np.int64]) -> None:
        ids, bare = tokenized(tokenizer, corpus.captions), tokenized(tokenizer, bare_captions(OBJECT_NAMES))
        longest = int((torch.cat([ids, bare]) != tokenizer.eos_token_id).sum(dim=1).max()) + 1
        self._corpus, self._train = corpus, train
        self._ids, self._bare = ids[:, :longest], bare[:, :longest]

    def _images(self, chosen: npt.NDArray[np.int64], rng: np.random.Generator) -> torch.Tensor:
        count = len(chosen)
        zoom, shift = rng.uniform(1.02, 1.45, count), rng.uniform(-0.08, 0.08, (count, 2))
        cut = cropped(self._corpus.images[chosen], self._corpus.boxes[chosen], zoom, shift)
        if rng.random() < 0.5:
            cut = cut.flip(3)
        contrast = torch.from_numpy(rng.uniform(0.75, 1.25, (count, 1, 1, 1)).astype(np.float32))
        tint = torch.from_numpy(rng.normal(0, 0.15, (count, 3, 1, 1)).astype(np.float32))
        return cut * contrast + tint

    def _texts(self, chosen: npt.NDArray[np.int64], wording: int, rng: np.random.Generator) -> torch.Tensor:
        ids = self._ids[torch.from_numpy(chosen)].clone()
        bare = torch.from_numpy(rng.random(len(chosen)) < BARE_SHARE)
        names = torch.from_numpy(self._corpus.objects[chosen])
        ids[bare] = self._bare[names[bare] + wording * len(OBJECT_NAMES)]
        return ids

    def batches(self, steps: int, size: int, rng: np.random.Generator) -> Iterator[Batch]:
        """Yield ``steps`` batches of ``size`` images, running through the shuffled training images."""
        passes = -(-steps * size // len(self._train))
        order = np.concatenate([rng.permutation(self._train) for _ in range(passes)])
        for step in range(steps):
            chosen = order[step * size : (step + 1) * size]
            images = self._images(chosen, rng)
            wording = int(rng.integers(3)) if step % 2 else 0
            texts, caption_of = torch.unique(self._texts(chosen, wording, rng), dim=0, return_inverse=True)
            yield Batch(images, texts, caption_of)
