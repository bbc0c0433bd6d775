"""What differential privacy of training images takes of a recipe, and what not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fedclip_plugin.errors import MethodError
from fedclip_plugin.methods.registry import METHODS, Method
from fedclip_plugin.recipe.faults import Fault, Rule, Values
from fedclip_plugin.recipe.schema.fedclip import DP_SWITCHES, FedClipArgs

_BESIDE = ("dp_delta", "dp_clip")
"""Keys that say more of it."""

_WITHOUT = {
    "start": "its first round is solved and the others train, and no one guarantee is accounted over both",
    "personal_epochs": "a silo's own adapter is trained without noise, and its accuracies are sent",
    "personal_statistics": "a silo's own adapter is solved without noise, and its accuracies are sent",
    "min_class_count": "which classes are left out would tell their exact counts; the noise hides small ones already",
    "wise": "a run may end before its last round, when no silo may train any more",
}
"""Keys that make no sense beside it, and why."""


def is_private(values: Values) -> bool:
    """Return whether a recipe asks for differential privacy, by ``section.key`` to value."""
    return any(values.get(f"fedclip_args.{key}") is not None for key in DP_SWITCHES)


def implied(values: Values) -> dict[str, Any]:
    """Return the keys of a checked recipe that its privacy sets: the loss, where anything is trained."""
    trained = is_private(values) and METHODS[values["fedclip_args.method"]].sums is None
    return {"fedclip_args.loss": "class_cross_entropy"} if trained else {}


def _switched_on(values: Values) -> Iterator[Fault]:
    if is_private(values):
        return
    for key in _BESIDE:
        value = values.get(f"fedclip_args.{key}")
        if value is not None:
            yield Fault(
                f"fedclip_args.{key}", f"only beside {' or '.join(DP_SWITCHES)}; give one, or leave it out", value
            )


def _kind_of_run(values: Values) -> Iterator[Fault]:
    if not is_private(values):
        return
    if values.get("common_args.training_type") == "simulation":
        rule = "differential privacy is of silos on machines of their own; use cross_silo, or leave out the dp_ keys"
        yield Fault("common_args.training_type", rule, "simulation")
    for key, why in _WITHOUT.items():
        value = values.get(f"fedclip_args.{key}")
        if value not in (None, FedClipArgs.model_fields[key].default, ()):
            told = list(value) if isinstance(value, tuple) else value
            yield Fault(f"fedclip_args.{key}", f"not with differential privacy: {why}; leave it out", told)


def _method(values: Values) -> Iterator[Fault]:
    name = values.get("fedclip_args.method")
    if not is_private(values) or name is None:
        return
    try:
        method = METHODS[name]
    except MethodError:  # told of by its own rule
        return
    able = [own.name for own in METHODS.data.values() if isinstance(own, Method) and own.private]
    if not method.private:
        rule = f"not with differential privacy: {_why_not(method)}; take one of {', '.join(able)}"
        yield Fault("fedclip_args.method", rule, name)
    elif method.sums is not None:
        told = {
            "dp_clip": "features have length 1, so that nothing is clipped",
            "augmented_views": "each view counts as an image, and the guarantee is of one",
        }
        for key, why in told.items():
            value = values.get(f"fedclip_args.{key}")
            if value:
                rule = f"not with method {name} and differential privacy: {why}; leave it out"
                yield Fault(f"fedclip_args.{key}", rule, value)


def _why_not(method: Method) -> str:
    if method.name == "zero_shot":
        return "it trains nothing"
    if method.on_pixels:
        return "gradients of single images through the image tower are not known in closed form"
    if method.activations is not Method.activations:
        return "gradients of single images through the text tower are not known in closed form"
    return "it does not say that it can (Method.image_gradients)"


def _loss(values: Values) -> Iterator[Fault]:
    name, loss = values.get("fedclip_args.method"), values.get("fedclip_args.loss")
    if loss is None or name is None:
        return
    try:
        method = METHODS[name]
    except MethodError:
        return
    if method.sums is not None or name == "zero_shot":
        yield Fault("fedclip_args.loss", f"method {name} trains nothing; leave it out", loss)


RULES: tuple[Rule, ...] = (_switched_on, _kind_of_run, _method, _loss)
"""On differential privacy, and the loss that it takes."""
