"""How much work the benchmarks do."""

from __future__ import annotations

from dataclasses import dataclass

PACS_SOURCES = (2048, 2344, 1670)
"""Images of PACS's art_painting, cartoon and photo: what three silos hold when sketch is held out."""

PACS_TARGET = 3929
"""Images of PACS's sketch."""


@dataclass(frozen=True)
class Scale:
    """Sizes and repeats of one run of the benchmarks."""

    rounds: int = 40  # of a federation with PACS's counts of images
    idle_rounds: int = 120  # of one with next to no images, where FedML's own work is all there is
    skipped: int = 5  # first rounds that are left out of every median
    starts: int = 3  # of the miniature job, each beside one bare import of fedml
    commands: int = 10  # starts of each short command
    tiny_images: int = 336  # of an epoch with clip-tiny
    large_images: int = 64  # of an epoch with ViT-B/32
    throughput_images: int = 128  # files that are encoded to compare encoding with the pure forward pass
    gpu_images: int = 16_384  # files that are encoded on a GPU, where there is one
    passes: int = 2  # repeats of each epoch and of each throughput measurement
    cost_images: int = 256  # of each silo in `costs`, with ViT-B/32
    cost_tiny_images: int = 280  # the same with clip-tiny
    cost_rounds: int = 200  # of FedCLIP
    cost_full_rounds: int = 3  # of full fine-tuning
    silos: tuple[int, ...] = (3, 8, 16, 32)  # how many `scaling` tries
    client_images: int = 500  # of each of 100 simulated clients in `clients`
    client_rounds: int = 30  # of each of its simulations
    client_growth_rounds: int = 4  # the same where clients grow
    simulated: tuple[tuple[int, int, int], ...] = (  # clients, those of a round, images of each
        *((10, 10, 100), (100, 10, 100), (1_000, 100, 100)),
        (10_000, 1_000, 20),
    )
    attack_rounds: int = 8  # of each federation in `attacks`
    attack_seeds: int = 3
    private_images: int = 3_414  # of a silo in `privacy`, of which 2,048 are trained on
    private_epochs: int = 12  # of each kind of step there
    kills: int = 25  # of ranks in `kills`
    small_backbone: bool = False  # tiny widths in the place of ViT-B/32's


FULL = Scale()
QUICK = Scale(
    rounds=12,
    idle_rounds=20,
    starts=1,
    commands=1,
    tiny_images=64,
    large_images=64,
    throughput_images=64,
    gpu_images=128,
    passes=1,
    cost_images=28,
    cost_tiny_images=28,
    cost_rounds=5,
    cost_full_rounds=2,
    silos=(2, 4),
    client_images=20,
    client_rounds=3,
    client_growth_rounds=2,
    simulated=((20, 4, 10),),
    attack_rounds=1,
    attack_seeds=1,
    private_images=427,
    private_epochs=3,
    kills=2,
    small_backbone=True,
)
"""Minutes less, only to see that all parts run: its figures mean nothing."""
