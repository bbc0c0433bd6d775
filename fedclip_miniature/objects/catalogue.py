"""The registry of the drawn objects: PACS's seven classes and eighteen that only the corpus shows."""

from __future__ import annotations

from collections.abc import Callable

from fedclip_miniature.objects import animals as beasts
from fedclip_miniature.objects import people_and_instruments as small
from fedclip_miniature.objects import things, vehicles
from fedclip_miniature.shapes import Jitter, Part

CLASSES: tuple[str, ...] = ("dog", "elephant", "giraffe", "guitar", "horse", "house", "person")
"""The classes of the federated data, as in PACS."""

OBJECTS: dict[str, Callable[[Jitter], list[Part]]] = {
    draw.__name__: draw
    for draw in (
        beasts.dog,
        beasts.elephant,
        beasts.giraffe,
        things.guitar,
        beasts.horse,
        things.house,
        small.person,
        beasts.cat,
        beasts.cow,
        small.rabbit,
        small.bird,
        small.fish,
        small.butterfly,
        things.tree,
        things.flower,
        things.mushroom,
        vehicles.car,
        vehicles.boat,
        vehicles.plane,
        things.cup,
        things.chair,
        things.umbrella,
        things.violin,
        things.castle,
        small.robot,
    )
}
"""Every drawn object by name: the classes first, then those that only the pretraining corpus shows."""

UPRIGHT: frozenset[str] = frozenset(
    {"house", "castle", "person", "robot", "tree", "chair", "cup", "umbrella", "boat", "flower", "mushroom"}
)
"""Objects that hardly lean, however much the pose turns."""
