"""What header and tensors of an adapter must be, each by itself and by each other, before anything is made of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from fedclip_edge.calibration import CALIBRATION_RULE, is_calibration
from fedclip_edge.sample_range import RANGE_RULE, is_range
from fedclip_edge.terminal import printable
from fedclip_plugin.methods.registry import METHODS, ZERO_SHOT
from fedclip_plugin.recipe.prompts import require_template

_WIDEST = 1_000_000
_LAST_ROUND = 2**31 - 1
_LARGEST_SCALE = 1e6
"""Larger ones would make logits that are not finite; a CLIP has up to 100."""


def header_fault(header: Mapping[str, Any]) -> str | None:
    """Return what is wrong with ``adapter.json`` without version and checksum, one sentence; None when nothing is."""
    absent, foreign = sorted(_RULES.keys() - _OPTIONAL - header.keys()), sorted(header.keys() - _RULES.keys())
    if absent or foreign:
        told = [f"lacks {', '.join(absent)}"] * bool(absent)
        return " and ".join(told + [f"has {', '.join(map(printable, foreign[:3]))} too many"] * bool(foreign))
    method = header["method"]
    if isinstance(method, str) and method not in METHODS:
        known = ", ".join(METHODS)
        remedy = "install the package that has it, or update fedclip-plugin"
        return f"is of method {_shown(method)}; known here are {known}: {remedy}"
    start = header.get("start", ZERO_SHOT)
    if isinstance(method, str) and start not in (ZERO_SHOT, *METHODS[method].starts):
        return f"starts from {_shown(start)}, which method {method} does not know here: update fedclip-plugin"
    wrong = next((name for name, (holds, _) in _RULES.items() if name in header and not holds(header[name])), None)
    return f"has {wrong} = {_shown(header[wrong])}, which must be {_RULES[wrong][1]}" if wrong else None


def tensors_fault(
    header: Mapping[str, Any],
    text: npt.NDArray[Any],
    classes: npt.NDArray[Any] | None,
    biases: npt.NDArray[Any] | None,
    tensors: Mapping[str, npt.NDArray[Any]],
) -> str | None:
    """Return what is wrong with an adapter's tensors, by a header without fault, one sentence; None when nothing is."""
    wanted = (len(header["classes"]), header["feature_dim"])
    features = {"text_features": text} | ({} if classes is None else {"class_features": classes})
    for name, array in features.items():
        if array.shape != wanted:
            sizes = f"{wanted[0]} classes and feature_dim {wanted[1]} need {list(wanted)}"
            return f"has {name} of shape {list(array.shape)}; {sizes}"
    added = {} if biases is None else {"class_biases": biases}
    if biases is not None and biases.shape != wanted[:1]:
        return f"has class_biases of shape {list(biases.shape)}; {wanted[0]} classes need {list(wanted[:1])}"
    for name, array in {**features, **added, **tensors}.items():
        if array.dtype != np.float32:
            return f"has {printable(name)} of type {array.dtype}, which must be float32"
        if not np.isfinite(array).all():
            return f"has {printable(name)} with NaN or infinite numbers"
    return None


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _is_whole(value: Any, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _is_scale(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and 0 < value <= _LARGEST_SCALE


def _are_classes(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(map(_is_text, value)) and len({*value}) == len(value)


def _is_template(value: Any) -> bool:
    try:
        return isinstance(value, str) and bool(require_template(value))
    except ValueError:
        return False


_TEXT = (_is_text, "text")
_RULES: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "method": _TEXT,
    "feature_dim": (lambda value: _is_whole(value, 1, _WIDEST), "a whole number of 1 or more"),
    "backbone": _TEXT,
    "fingerprint": _TEXT,
    "precision": (lambda value: value in ("fp32", "bf16", "fp16"), "fp32, bf16 or fp16"),
    "logit_scale": (_is_scale, f"a number above 0, at most {_LARGEST_SCALE:,.0f}"),
    "classes": (_are_classes, "a list of different names"),
    "prompt_template": (_is_template, "text with one '{}' and no other brace"),
    "round": (lambda value: _is_whole(value, 0, _LAST_ROUND), "a whole number of 0 or more"),
    "recipe_digest": _TEXT,
    "metrics": (lambda value: isinstance(value, dict), "an object"),
    "start": _TEXT,
    "sample_range": (is_range, RANGE_RULE),
    "calibration": (is_calibration, CALIBRATION_RULE),
}
_OPTIONAL = {"sample_range", "calibration", "start"}


def _shown(value: Any) -> str:
    """Return a value on one line, shortened."""
    text = printable(repr(value))
    return text if len(text) <= 60 else f"{text[:57]}..."
