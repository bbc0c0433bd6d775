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


CLIP_ADAPTER_REDUCTION = 4
"""CLIP-Adapter's bottleneck is d / 4 wide."""

CLIP_ADAPTER_RATIO = 0.2
"""Share of the bottleneck's result in CLIP-Adapter's feature."""

METHODS: dict[str, MethodSpec] = {
    spec.name: spec
    for spec in (
        MethodSpec(
            name="fedclip",
            title="FedCLIP",
            source="Lu et al., FedCLIP, IEEE Data Eng. Bull. 2023; microsoft/PersonalizedFL, fedclip/",
            trains="attention gate on the image feature, 2 (d^2 + d) parameters",
        ),
        MethodSpec(
            name="sigmoid_gate",
            title="Sigmoid gate",
            source="FedCLIP's gate with a sigmoid in place of the softmax, zero-initialised",
            trains="gate on the image feature that starts at zero-shot CLIP, 2 (d^2 + d) parameters",
        ),
        MethodSpec(
            name="clip_adapter",
            title="CLIP-Adapter",
            source="Gao et al., CLIP-Adapter, IJCV 2024, arXiv 2110.04544",
            trains="residual bottleneck on the image feature, d^2 / 2 parameters",
        ),
    )
}
"""Every method by name; a method missing here cannot be named in a recipe."""
