"""How much memory a federation will take, before anything is loaded; no torch.

Bytes are resident bytes at the peak. Coefficients were measured with fedml 0.9.6, torch 2.15 and Open MPI 5.0 on
CPUs (``python -m benchmarks costs`` measures the peaks themselves); estimates are meant to be a little high.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fedclip_plugin.backbone.configs.backbone_config import FLOAT, BackboneConfig
from fedclip_plugin.backbone.configs.clip_config import read_clip_config
from fedclip_plugin.methods.registry import METHODS, ZERO_SHOT
from fedclip_plugin.recipe import Recipe
from fedclip_plugin.recipe.schema.codec_bytes import CODEC_BYTES

BASE_OWN, BASE_SHARED = 640_000_000, 380_000_000
"""What a rank takes with fedml, torch and transformers imported, and what all ranks of a host share (libraries)."""

TRAINING_COPIES = 3
"""Of the trained parameters, beside themselves: gradients, and Adam's two moments."""

SAVING_COPIES = 3
"""Of the global adapter while the server writes it to disk."""

LOSSY_COPIES = 3
"""With a lossy codec: what the other end holds, what is still owed, and the difference on its way."""

_CLASSES = 7  # of a recipe that does not list them
_EVALUATED = 64  # images on pixels that are evaluated at once, or encoded where the recipe says nothing
_MARGIN = 1.1  # what the allocator keeps beyond what is in use


@dataclass(frozen=True)
class Footprint:
    """Peak resident bytes of one rank on the CPU, and of one process that is all ranks, beyond what ranks share.

    With a GPU, weights and training are on the device, whose memory is not estimated, and for the host this is
    somewhat high.
    """

    server: int
    silo: int
    one_process: int = 0

    def on_host(self, silos: int, server: bool) -> int:
        """Return the bytes that a host needs for so many silos' ranks, and for the server's if it runs there."""
        return BASE_SHARED + silos * self.silo + server * self.server


def footprint(recipe: Recipe, backbone: Path, images: int = 0, logged: bool = False) -> Footprint:
    """Return what the ranks of a checked recipe will take at most, everything on the CPU.

    Parameters
    ----------
    backbone
        Its folder, of which only ``config.json`` is read.
    images
        Those of the largest silo, where known; they matter from some 100,000 on, when their features weigh.
    logged
        Whether silos there send through a policy or a log, which has the norm of each update: they keep the adapter
        that came, which they keep in any case with a lossy codec. A simulation and one process log nothing.
    """
    size, settings = read_clip_config(backbone), recipe.fedclip_args
    method = METHODS[settings.method]
    weights, trained = FLOAT * size.parameters, update_bytes(recipe, backbone)
    lossy = LOSSY_COPIES * trained if settings.codec != "none" else 0
    if recipe.simulated:
        return _simulated(recipe, size, trained, images)
    arriving = recipe.train_args.client_num_per_round * trained
    features = 0 if method.on_pixels else FLOAT * size.dim * images
    encoding = max(settings.encode_batch_size or 0, _EVALUATED) * size.vision.passing_bytes
    kept = _kept_bytes(recipe, size)
    training = TRAINING_COPIES * trained + kept + (trained if settings.proximal_mu else 0)
    start = trained if settings.wise else 0
    start += trained if settings.secure_sums else 0  # a silo keeps the adapter that came, the server the sum
    kept_by_silo = trained + lossy + 2 * features + start
    compared = trained if logged and not lossy else 0
    silo = weights + kept_by_silo + compared + max(encoding, training)
    moments = 2 * trained if settings.server_optimizer == "adam" else trained
    kept_by_server = arriving + lossy + features + moments + start
    server = weights + kept_by_server + max(encoding, SAVING_COPIES * trained)
    silos = recipe.train_args.client_num_in_total
    clips = silos + 1 if kept else 1  # who passes through a tower in training holds one of his own
    here = clips * weights + kept_by_server + silos * kept_by_silo + max(encoding, training, SAVING_COPIES * trained)
    return Footprint(*(BASE_OWN + round(_MARGIN * own) for own in (server, silo, here)))


def _simulated(recipe: Recipe, size: BackboneConfig, trained: int, images: int) -> Footprint:
    """Return what the ranks of a simulation take; the features of all images are mapped, and count once as shared.

    The first rank of a host, the server's on its host, encodes for all: workers hold no backbone, unless the method
    trains through it. What a worker sends is one sum in float64, or each update where a defence looks at them.
    """
    settings, weights = recipe.fedclip_args, FLOAT * size.parameters
    kept = _kept_bytes(recipe, size)
    lossy = LOSSY_COPIES * trained if settings.codec != "none" else 0
    single = recipe.defense_args is not None or recipe.attack_args is not None
    single |= settings.robust_aggregation not in {None, "none"}
    sums = recipe.train_args.client_num_per_round * trained if single else 2 * trained
    encoding = weights + max(settings.encode_batch_size or 0, _EVALUATED) * size.vision.passing_bytes
    training = (2 + TRAINING_COPIES) * trained + kept + lossy + (trained if settings.proximal_mu else 0)
    features = FLOAT * size.dim * images
    worker = training + sums + (weights if kept else 0)
    server = max(encoding + features, (4 + SAVING_COPIES) * trained + sums * (recipe.device_args.worker_num or 1))
    return Footprint(*(BASE_OWN + round(_MARGIN * own) for own in (server, worker, server + worker)))


def update_bytes(recipe: Recipe, backbone: Path) -> int:
    """Return the bytes of an update, as a silo sends it without a codec; of a prompt, of 16 words at most."""
    settings, size, classes = recipe.fedclip_args, read_clip_config(backbone), _classes(recipe)
    first = METHODS[settings.method if settings.start == ZERO_SHOT else settings.start]
    sums = 0 if first.sums is None else first.sums(size, classes) * (2 if settings.secure_sums else 1)  # of 64 bits
    return FLOAT * max(METHODS[settings.method].parameters(size, classes), sums)


def sent_bytes(recipe: Recipe, backbone: Path) -> int:
    """Return the fewest bytes of an update as it leaves a silo: as its codec writes its numbers, without scales."""
    return update_bytes(recipe, backbone) // FLOAT * CODEC_BYTES[recipe.fedclip_args.codec]


def _kept_bytes(recipe: Recipe, size: BackboneConfig) -> int:
    """Return what a training step keeps for its backward pass; regularisers pass the class side once more."""
    settings = recipe.fedclip_args
    passes = 2 if settings.zero_shot_distillation or settings.text_pull else 1
    return passes * METHODS[settings.method].activations(size, _classes(recipe), recipe.train_args.batch_size)


def _classes(recipe: Recipe) -> int:
    return len(recipe.fedclip_args.classes or range(_CLASSES))
