"""Which tensors the messages of a federation have: what its server, and what each of its silos, is to expect."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from fedml.cross_silo.server.message_define import MyMessage

from fedclip_plugin.federated.messages.added_fields import OTHERS
from fedclip_plugin.federated.messages.error_feedback import ErrorFeedback
from fedclip_plugin.federated.messages.fedml_messages import expected_kinds, model_layout
from fedclip_plugin.federated.messages.packing.packed_message import ExpectedKind
from fedclip_plugin.federated.messages.packing.tensor_layouts import TensorLayout, TensorRule
from fedclip_plugin.federated.roles.choice import Trials
from fedclip_plugin.federated.roles.settings import TrainingSettings
from fedclip_plugin.federated.roles.trainer import RIGHT
from fedclip_plugin.federated.secure_sums.collector import masked_like
from fedclip_plugin.federated.secure_sums.fixed_point import FixedPoint
from fedclip_plugin.methods import Adapter, parameters_of
from fedclip_plugin.methods.closed_form.adapters import ClosedForm

Rules = Mapping[str, TensorRule]


def expected_of_silos(model: Adapter, settings: TrainingSettings, silos: int) -> dict[str, ExpectedKind]:
    """Return what the server of ``silos`` expects: updates as the codec has them, sums, trials, interpolations."""
    layouts = [_masked_update(model, silos) if settings.secure_sums else _compressed(model, settings)]
    if isinstance(model, ClosedForm):
        sums = _masked_sums(model, silos) if settings.secure_sums else TensorLayout(sums_rules(model))
        layouts += [sums, TensorLayout(trials_rules(model, settings, silos))]
    if settings.wise:
        layouts.append(TensorLayout.like({RIGHT: torch.zeros(len(settings.wise), dtype=torch.int64)}))
    return expected_kinds(True, {MyMessage.MSG_TYPE_C2S_SEND_MODEL_TO_SERVER: [*map(model_layout, layouts)]})


def expected_of_server(model: Adapter, settings: TrainingSettings, silos: int) -> dict[str, ExpectedKind]:
    """Return what one of ``silos`` expects: the adapter itself, then as the codec has it, or solutions to be tried."""
    plain = TensorLayout.like(parameters_of(model))
    later = [plain if isinstance(model, ClosedForm) else _compressed(model, settings)]
    if settings.round_grace is not None:
        later.append(plain)  # after a round that the silo missed
    if isinstance(model, ClosedForm):
        later.append(TensorLayout({**solution_rules(model, settings, silos), **dict(_others(model, settings))}))
    first, sync = MyMessage.MSG_TYPE_S2C_INIT_CONFIG, MyMessage.MSG_TYPE_S2C_SYNC_MODEL_TO_CLIENT
    return expected_kinds(False, {first: [model_layout(plain)], sync: [*map(model_layout, later)]})


def solution_rules(model: ClosedForm, settings: TrainingSettings, silos: int) -> dict[str, TensorRule]:
    """Return the rules of solutions to be tried, of all silos and perhaps without each of them."""
    classes, width = model.rows.shape
    sets, penalties = _sets(settings, silos), len(model.penalties)
    rules = {"weights": TensorRule("float32", (sets, penalties, classes, width))}
    if model.has_biases:
        rules["biases"] = TensorRule("float32", (sets, penalties, classes))
    return rules


def trials_rules(model: ClosedForm, settings: TrainingSettings, silos: int) -> dict[str, TensorRule]:
    """Return the rules of what is said of such solutions."""
    each = TensorLayout.like(Trials.none(len(model.penalties), len(model.mixes)).to_wire()).rules
    sets = _sets(settings, silos)
    return {name: TensorRule(rule.dtype, (sets, *rule.shape)) for name, rule in each.items()}


def sums_rules(model: ClosedForm) -> Rules:
    """Return the rules of a silo's sums over its images."""
    return TensorLayout.like(model.no_sums(model.rows).to_wire()).rules


def _masked_update(model: Adapter, silos: int) -> TensorLayout:
    shapes = {name: tensor.shape for name, tensor in parameters_of(model).items()}
    return TensorLayout.like(masked_like(FixedPoint.of_updates(1.0, silos).dtype, shapes))


def _masked_sums(model: ClosedForm, silos: int) -> TensorLayout:
    shapes = {name: part.shape for name, part in model.no_sums(model.rows).parts().items()}
    return TensorLayout.like(masked_like(FixedPoint.of_sums(silos).dtype, shapes))


def _others(model: ClosedForm, settings: TrainingSettings) -> Iterator[tuple[str, TensorRule]]:
    """Yield the rules of the sums of the other silos, beside solutions."""
    if settings.personal_statistics:
        yield from ((f"{OTHERS}{name}", rule) for name, rule in sums_rules(model).items())


def _sets(settings: TrainingSettings, silos: int) -> int | range:
    """Return how many sets of solutions there are: silos whose sums cannot be used are not left out once more."""
    return range(1, silos + 2) if settings.forgettable else 1


def _compressed(model: Adapter, settings: TrainingSettings) -> TensorLayout:
    return TensorLayout.like(ErrorFeedback(settings.codec).template(parameters_of(model)))
