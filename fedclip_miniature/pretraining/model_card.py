"""The README.md beside clip-tiny's weights."""

from __future__ import annotations

from dataclasses import dataclass

from fedclip_miniature.dataset import DEFAULT_DIFFICULTY
from fedclip_miniature.objects.catalogue import CLASSES
from fedclip_miniature.pretraining.corpus import OBJECT_NAMES
from fedclip_miniature.pretraining.training import BATCH_SIZE
from fedclip_miniature.pretraining.zero_shot_check import zero_shot_table
from fedclip_miniature.styles.pretraining import PRETRAINING_STYLES


@dataclass(frozen=True)
class PretrainReport:
    """What a pretraining made; accuracies are 0 to 1."""

    seed: int
    steps: int
    images: int
    parameters: int
    loss: float  # running mean at the end
    scale: float  # of the logits
    held_out_accuracy: float  # share of the held-out images whose object is named rightly among all 25
    zero_shot: dict[str, float]  # per domain of the miniature at the default difficulty
    zero_shot_images_per_class: int  # on which that was measured, also per domain


_CARD = """# clip-tiny

A very small CLIP that comes with the FedCLIP plugin, so that a federation can be run and tested on a laptop
without downloading anything. Loads with `CLIPModel.from_pretrained` and `AutoProcessor.from_pretrained`.

**What it is not.** It is trained by this project, on drawings made by this project, and it is tiny
({parameters:,} parameters, 64 x 64 pixels, 24 tokens). All seven classes of the miniature were seen in
pretraining. Its figures say nothing about the published PACS results, and nothing about real photographs.

## Shape

Vision: patch 16, width 128, 4 layers, 2 heads. Text: width 128, 2 layers, 2 heads, byte-level BPE learnt
from the captions. Projection 128. Weights in fp16; load them as float32. Images: shorter side to 64
(bicubic), centre crop 64, mean 0.5, standard deviation 0.25.

## How it was made

```
python -m fedclip_miniature.pretraining --out DIR{arguments}
```

- Corpus: {images:,} captioned drawings, the last {held_out:,} of them held out.
- Styles: {styles}. The renderers of the federated domains art_painting, cartoon and sketch never appear in
  the corpus; photo does, in milder light.
- Objects: the classes ({classes}) and
  {others}.
- Loss: symmetric contrastive, equal captions being each other's positives; half of the captions only name the
  object; images are cropped about the object.
- Training: {steps:,} steps of {batch} images, Muon for the encoders' matrices, AdamW for the rest, one thread,
  seed {seed}. The same command on the same machine gives the same bytes.

## Figures

Held-out drawings, 25 objects: {held_out_accuracy:.1f} % named rightly.

The miniature at its default difficulty ({difficulty:g}), {per_class} images per class and domain,
prompt "a picture of a {{}}", seven classes:

{table}

```
python -m fedclip_miniature.pretraining.zero_shot_check DIR{zero_shot_arguments}
```
"""


def held_out_count(images: int) -> int:
    """Return how many of a corpus's images, the last ones, are kept for measuring: one in 26."""
    return max(1, images // 26)


def model_card(report: PretrainReport, arguments: str = "") -> str:
    """Write the card of a pretrained clip-tiny; ``arguments`` follow ``--out DIR`` in its command."""
    per_class = report.zero_shot_images_per_class
    return _CARD.format(
        parameters=report.parameters,
        arguments=arguments,
        images=report.images,
        styles=", ".join(PRETRAINING_STYLES),
        held_out=held_out_count(report.images),
        classes=", ".join(CLASSES),
        others=", ".join(name for name in OBJECT_NAMES if name not in CLASSES),
        steps=report.steps,
        batch=BATCH_SIZE,
        seed=report.seed,
        held_out_accuracy=100 * report.held_out_accuracy,
        difficulty=DEFAULT_DIFFICULTY,
        per_class=per_class,
        table=zero_shot_table(report.zero_shot),
        zero_shot_arguments="" if per_class == 80 else f" --images-per-class {per_class}",
    )
