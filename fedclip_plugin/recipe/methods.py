"""The table of methods, free of torch: recipes are checked against it, adapters are built from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


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
    inputs
        What a silo trains on: ``features``, encoded once, or ``pixels`` for methods that change the image tower.
    """

    name: str
    title: str
    source: str
    trains: str
    inputs: Literal["features", "pixels"] = "features"


CLIP_ADAPTER_REDUCTION = 4
"""CLIP-Adapter's bottleneck is d / 4 wide."""

CLIP_ADAPTER_RATIO = 0.2
"""Share of the bottleneck's result in CLIP-Adapter's feature."""

LORA_TARGETS = ("q_proj", "v_proj")
"""LoRA's projections, in every layer of the image tower."""

LORA_RANK = 4
"""Rank r of LoRA's matrices; higher fits the silos more closely and sends more bytes."""

LORA_ALPHA = 4
"""LoRA's product of matrices is scaled by alpha / r, 1."""

METHODS: dict[str, MethodSpec] = {
    spec.name: spec
    for spec in (
        MethodSpec(
            name="zero_shot",
            title="Zero-shot CLIP",
            source="Radford et al., CLIP, ICML 2021, arXiv 2103.00020",
            trains="nothing",
        ),
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
        MethodSpec(
            name="linear_probe",
            title="Linear probe",
            source="Radford et al., CLIP, ICML 2021, section 3.2; rows start as in Wortsman et al., arXiv 2109.01903",
            trains="a linear classifier that starts at the text features, C d parameters",
        ),
        MethodSpec(
            name="prompt",
            title="Prompt (CoOp)",
            source="Zhou et al., CoOp, IJCV 2022, arXiv 2109.01134; federated as PromptFL, arXiv 2208.11625",
            trains="the words before the class name, through the text tower, M w parameters",
        ),
        MethodSpec(
            name="lora",
            title="LoRA",
            source="Hu et al., LoRA, ICLR 2022, arXiv 2106.09685",
            trains="matrices of rank 4 on the image tower's query and value projections, 16 w parameters a layer",
            inputs="pixels",
        ),
        MethodSpec(
            name="full",
            title="Full fine-tuning",
            source="FedAVG in Lu et al., FedCLIP, IEEE Data Eng. Bull. 2023; microsoft/PersonalizedFL, fedclip/",
            trains="all of CLIP, both towers",
            inputs="pixels",
        ),
    )
}
"""Every method by name; a method missing here cannot be named in a recipe."""
