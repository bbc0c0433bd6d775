"""Zero-shot accuracy of a CLIP folder on the miniature.

From the command line: ``python -m fedclip_miniature.pretraining.zero_shot_check FOLDER``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from transformers import CLIPModel, CLIPTokenizer

from fedclip_miniature.dataset import DEFAULT_DIFFICULTY, DOMAINS, render_image
from fedclip_miniature.objects.catalogue import CLASSES
from fedclip_miniature.pretraining.batches import pixels
from fedclip_miniature.pretraining.tokenizer import tokenized
from fedclip_miniature.pretraining.training import image_features, text_features

PROMPT = "a picture of a {}"


@torch.no_grad()
def zero_shot(
    folder: Path,
    images_per_class: int = 80,
    difficulty: float = DEFAULT_DIFFICULTY,
    domains: tuple[str, ...] = DOMAINS,
) -> dict[str, float]:
    """Measure how often the nearest of the seven prompts is the right one; by domain, 0 to 1.

    The folder holds a CLIP in the transformers layout that takes 64 px images normalised as clip-tiny's. So many images
    per class and domain are drawn in memory, as `dataset.render_image` does.
    """
    model = CLIPModel.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = CLIPTokenizer.from_pretrained(folder)
    prompts = text_features(model, tokenized(tokenizer, [PROMPT.format(name) for name in CLASSES]))
    truth = torch.arange(len(CLASSES)).repeat_interleave(images_per_class)
    accuracy = {}
    for domain in domains:
        images = [render_image(domain, name, k, difficulty) for name in CLASSES for k in range(images_per_class)]
        guesses = (image_features(model, pixels(np.stack(images))) @ prompts.T).argmax(dim=1)
        accuracy[domain] = float((guesses == truth).double().mean())
    return accuracy


def zero_shot_table(accuracy: dict[str, float]) -> str:
    """Format accuracies as a table in Markdown, with their mean; percent."""
    mean = sum(accuracy.values()) / len(accuracy)
    rows = [f"| {domain} | {100 * value:.1f} |" for domain, value in [*accuracy.items(), ("mean", mean)]]
    return "\n".join(["| domain | zero-shot accuracy, % |", "|---|---|", *rows])


def main() -> None:
    """Print the table for the folder named on the command line."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images-per-class", type=int, default=80)
    parser.add_argument("--difficulty", type=float, default=DEFAULT_DIFFICULTY)
    arguments = parser.parse_args()
    print(zero_shot_table(zero_shot(arguments.folder, arguments.images_per_class, arguments.difficulty)))


if __name__ == "__main__":
    main()
