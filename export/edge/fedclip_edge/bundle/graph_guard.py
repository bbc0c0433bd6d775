"""The rules for the three graphs, applied before any runtime sees them."""

from __future__ import annotations

from dataclasses import dataclass

from fedclip_edge.bundle.manifest import Manifest
from fedclip_edge.bundle.onnx_facts import FLOAT, UINT8, Facts, Port, inspect
from fedclip_edge.bundle.protobuf import View, WireError
from fedclip_edge.errors import BundleError

_STANDARD = frozenset({"", "ai.onnx"})
# onnxruntime's own operators: quantised encoders use this one, and the others are that many more to be attacked by.
_RUNTIME, _RUNTIME_OPERATORS = "com.microsoft", frozenset({"MatMulNBits"})


@dataclass(frozen=True)
class _Rules:
    name: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    domains: frozenset[str] = _STANDARD
    outside: frozenset[str] = frozenset()


def check_head(content: View, manifest: Manifest) -> None:
    """Refuse a head that is not ``image_features`` [batch, d] to ``logits`` and ``probabilities`` [batch, C].

    Raises
    ------
    BundleError
        ``graph``, ``not-finite``, or ``labels`` when C is not the number of labels.
    """
    name, count = manifest.file("head")[0], len(manifest.labels)
    facts = _inspect(content, name, weights=True)
    for port in facts.outputs:
        if port.name == "logits" and port.shape and port.shape[-1] not in (None, count):
            raise BundleError(
                "labels",
                f"{name} gives {port.shape[-1]} logits, but the manifest has {count} labels; export the bundle again",
            )
    features = Port("image_features", FLOAT, (None, manifest.feature_dim))
    answers = tuple(Port(answer, FLOAT, (None, count)) for answer in ("logits", "probabilities"))
    _enforce(facts, _Rules(name, (features,), answers))


def check_preprocess(content: View, manifest: Manifest) -> None:
    """Refuse a graph that is not ``image`` uint8 [H, W, 3] to ``pixel_values`` [1, 3, S, S].

    Raises
    ------
    BundleError
        ``graph`` or ``not-finite``.
    """
    name, size = manifest.file("preprocess")[0], manifest.image_size
    pixels = Port("pixel_values", FLOAT, (1, 3, size, size))
    rules = _Rules(name, (Port("image", UINT8, (None, None, 3)),), (pixels,))
    _enforce(_inspect(content, name, weights=True), rules)


def check_encoder(content: View, manifest: Manifest) -> None:
    """Refuse a graph that is not ``pixel_values`` [batch, 3, S, S] to ``image_features`` [batch, d].

    Its weights may lie in the file that the manifest lists as ``encoder-data``, and there only. They are not searched
    for NaN: an encoder is large, and the self-test would show it.

    Raises
    ------
    BundleError
        ``graph``.
    """
    name, size = manifest.file("encoder")[0], manifest.image_size
    data = {other for other, entry in manifest.files.items() if entry.role == "encoder-data"}
    rules = _Rules(
        name,
        (Port("pixel_values", FLOAT, (None, 3, size, size)),),
        (Port("image_features", FLOAT, (None, manifest.feature_dim)),),
        domains=_STANDARD | {_RUNTIME},
        outside=frozenset(data),
    )
    _enforce(_inspect(content, name, weights=False), rules)


def _inspect(content: View, name: str, weights: bool) -> Facts:
    try:
        return inspect(content, weights)
    except WireError as error:
        raise BundleError("graph", f"{name} is not an ONNX graph that can be trusted: {error}") from error


def _enforce(facts: Facts, rules: _Rules) -> None:
    foreign, outside = facts.domains - rules.domains, facts.outside - rules.outside
    if foreign:
        raise BundleError(
            "graph",
            f"{rules.name} uses operators of {_listed(foreign)}; allowed is {_listed(rules.domains)}: export it again "
            "with standard operators",
        )
    own = {name for domain, name in facts.operators if domain == _RUNTIME} - _RUNTIME_OPERATORS
    if own:
        raise BundleError(
            "graph",
            f"{rules.name} uses {_listed(own)} of {_RUNTIME}; allowed is {_listed(_RUNTIME_OPERATORS)}: export again",
        )
    if outside:
        raise BundleError(
            "graph",
            f"{rules.name} points to weights in {_listed(outside)}, outside the listed files; export it again with "
            "its weights inside",
        )
    for title, found, wanted in (("inputs", facts.inputs, rules.inputs), ("outputs", facts.outputs, rules.outputs)):
        if found != wanted:
            raise BundleError("graph", f"{rules.name} has the {title} {_told(found)}, but needs {_told(wanted)}")
    if facts.not_finite:
        raise BundleError("not-finite", f"{rules.name} holds NaN or infinite weights; export the round again")


def _listed(names: set[str] | frozenset[str]) -> str:
    return ", ".join(sorted(name[:60] or '""' for name in names))


def _told(ports: tuple[Port, ...]) -> str:
    kinds = {FLOAT: "float32", UINT8: "uint8"}
    return "; ".join(
        f"{port.name[:40]} {kinds.get(port.kind, f'type {port.kind}')} "
        f"[{', '.join('any' if size is None else str(size) for size in port.shape)}]"
        for port in ports[:4]
    )
