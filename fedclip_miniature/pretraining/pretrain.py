"""Making clip-tiny from nothing: corpus, tokenizer, training, measuring, saving."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from transformers import CLIPImageProcessor, CLIPModel, CLIPProcessor, CLIPTokenizer

from fedclip_edge.files import new_folder
from fedclip_miniature.canvas import SIZE
from fedclip_miniature.pretraining.batches import DEVIATION, MEAN, BatchMaker, cropped
from fedclip_miniature.pretraining.captions import bare_captions
from fedclip_miniature.pretraining.corpus import OBJECT_NAMES, Corpus, draw_corpus
from fedclip_miniature.pretraining.model import build_clip_tiny
from fedclip_miniature.pretraining.model_card import PretrainReport, held_out_count, model_card
from fedclip_miniature.pretraining.tokenizer import tokenized, train_tokenizer
from fedclip_miniature.pretraining.training import image_features, text_features, train
from fedclip_miniature.pretraining.zero_shot_check import zero_shot
from fedclip_plugin.errors import DataError
from fedclip_plugin.machine import torch_threads

STEPS, IMAGES = 4800, 26_000


@torch.no_grad()
def held_out_accuracy(model: CLIPModel, tokenizer: CLIPTokenizer, corpus: Corpus, first: int) -> float:
    """Return the share of the images from ``first`` on whose object is named rightly among all 25, 0 to 1."""
    count = len(corpus) - first
    zoom, shift = np.full(count, 1.15), np.zeros((count, 2))
    prompts = text_features(model, tokenized(tokenizer, bare_captions(OBJECT_NAMES)[: len(OBJECT_NAMES)]))
    images = image_features(model, cropped(corpus.images[first:], corpus.boxes[first:], zoom, shift))
    right = (images @ prompts.T).argmax(dim=1) == torch.from_numpy(corpus.objects[first:])
    return float(right.double().mean())


def _save(model: CLIPModel, tokenizer: CLIPTokenizer, folder: Path) -> None:
    images = CLIPImageProcessor(
        size={"shortest_edge": SIZE},
        crop_size={"height": SIZE, "width": SIZE},
        image_mean=[MEAN] * 3,
        image_std=[DEVIATION] * 3,
        resample=3,
    )
    model.half().save_pretrained(folder)
    processor = CLIPProcessor(image_processor=images, tokenizer=tokenizer)
    processor.save_pretrained(folder)


def _check(out: Path, steps: int, images: int) -> None:
    if steps < 1 or images < 52:
        raise DataError(f"steps {steps} and images {images} given; pretraining needs at least 1 step and 52 images")
    if out.exists() and not (out / "model.safetensors").is_file() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"{out} exists and holds no model; name a new folder, or one that holds an earlier clip-tiny")


def _arguments(seed: int, steps: int, images: int) -> str:
    given = {"seed": (seed, 0), "steps": (steps, STEPS), "images": (images, IMAGES)}
    return "".join(f" --{name} {value}" for name, (value, default) in given.items() if value != default)


def pretrain(
    out: Path,
    seed: int = 0,
    steps: int = STEPS,
    images: int = IMAGES,
    progress: bool = False,
    workers: int = 2,
    measured_per_class: int = 80,
) -> PretrainReport:
    """Pretrain clip-tiny and write it to a folder in the transformers layout, with its model card.

    Nothing depends on time or on the number of workers; on one machine the same arguments give the same
    bytes. The defaults take 10 to 20 CPU minutes.

    Parameters
    ----------
    out
        Folder to make; an earlier clip-tiny there is replaced when the new one is complete, anything else refused.
    seed
        Of the drawings, the initial weights and the order of the batches.
    steps, images
        Training steps of 64 images, and the size of the corpus, of which one in 26 is held out.
    measured_per_class
        Images per class and domain of the miniature on which the card's zero-shot figures are measured.
    """
    _check(out, steps, images)
    out.parent.mkdir(parents=True, exist_ok=True)
    corpus = draw_corpus(images, seed, workers, progress)
    first_held_out = images - held_out_count(images)
    with new_folder(out) as partial, torch_threads(1):
        tokenizer = train_tokenizer(corpus.captions)
        model = build_clip_tiny(tokenizer, seed)
        maker = BatchMaker(corpus, tokenizer, np.arange(first_held_out))
        loss, scale = train(model, maker, steps, np.random.default_rng([seed, 2]), progress)
        held_out = held_out_accuracy(model, tokenizer, corpus, first_held_out)
        _save(model, tokenizer, partial)
        report = PretrainReport(
            seed=seed,
            steps=steps,
            images=images,
            parameters=sum(p.numel() for p in model.parameters()),
            loss=loss,
            scale=scale,
            held_out_accuracy=held_out,
            zero_shot=zero_shot(partial, measured_per_class),
            zero_shot_images_per_class=measured_per_class,
        )
        (partial / "README.md").write_text(model_card(report, _arguments(seed, steps, images)), encoding="utf-8")
        for file in partial.iterdir():
            file.chmod(0o644)  # safetensors writes files that only their owner can read
    return report
