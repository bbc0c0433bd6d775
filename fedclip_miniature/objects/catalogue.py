"""The registry of the drawn objects: PACS's seven classes and eighteen that only the corpus shows."""

from __future__ import annotations

from collections.abc import Callable

from fedclip_miniature.objects import animals, small_animals_and_people, things
from fedclip_miniature.shapes import Jitter, Part

CLASSES: tuple[str, ...] = ("dog", "elephant", "giraffe", "guitar", "horse", "house", "person")
"""The classes of the federated data, as in PACS."""

OBJECTS: dict[str, Callable[[Jitter], list[Part]]] = {
    draw.__name__: draw
    for draw in (
        animals.dog,
        animals.elephant,
        animals.giraffe,
        things.guitar,
        animals.horse,
        things.house,
        small_animals_and_people.person,
        animals.cat,
        animals.cow,
        small_animals_and_people.rabbit,
        small_animals_and_people.bird,
        small_animals_and_people.fish,
        small_animals_and_people.butterfly,
        things.tree,
        things.flower,
        things.mushroom,
        things.car,
        things.boat,
        things.plane,
        things.cup,
        things.chair,
        things.umbrella,
        things.violin,
        things.castle,
        small_animals_and_people.robot,
    )
}
"""Every drawn object by name: the classes first, then those that only the pretraining corpus shows."""

UPRIGHT: frozenset[str] = frozenset(
    {"house", "castle", "person", "robot", "tree", "chair", "cup", "umbrella", "boat", "flower", "mushroom"}
)
"""Objects that hardly lean, however much the pose turns."""
