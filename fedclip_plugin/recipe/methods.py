"""The table of methods, free of torch: recipes are checked against it, adapters are built from it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class MethodSpec:
    """What one federated method is called, where it comes from, and what it trains.

    Attributes
    ----------
    name
        The value of ``fedclip_args.method`` in a recipe.
    title
        Its name in tables and plots.
    source
        The paper or the code it follows.
    trains
        What moves between silos and server, in words.
    """

    name: str
    title: str
    source: str
    trains: str


METHODS: dict[str, MethodSpec] = {
    spec.name: spec
    for spec in (
        MethodSpec(
            name="fedclip",
            title="FedCLIP",
            source="Lu et al., FedCLIP, IEEE Data Eng. Bull. 2023; microsoft/PersonalizedFL, fedclip/",
            trains="attention gate on the image feature, 2 (d^2 + d) parameters",
        ),
    )
}
"""Every method by name; a method missing here cannot be named in a recipe."""
