"""The server's link to the aggregator: it samples silos, knows who has answered, and lets the answers be averaged."""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import replace
from typing import Any

import torch
from fedml.cross_silo.server.fedml_aggregator import FedMLAggregator
from fedml.cross_silo.server.message_define import MyMessage
from torch import Tensor

from fedclip_plugin.features import InputSet
from fedclip_plugin.federated.managers.quorum import Quorum
from fedclip_plugin.federated.messages.added_fields import OTHERS
from fedclip_plugin.federated.roles.aggregator import FedClipAggregator
from fedclip_plugin.federated.roles.closed_form_round import Sent
from fedclip_plugin.federated.roles.task import Histories
from fedclip_plugin.recipe.client_sampling import sampled


class AveragingDriver(FedMLAggregator):
    """Drives the aggregator: samples the silos of a round and averages their updates in silo order.

    Silos go by their places among those that are there (:mod:`fedclip_plugin.federated.members`).

    Attributes
    ----------
    drawn
        Silos that are to train in the current round, ascending; some may not be able to.
    sampled
        Silos that do, ascending.
    seconds
        Wall time of the last averaging and of the last scoring on the target domain.
    spent
        Silos that may train no more, as their images' privacy is spent.
    quorum
        Which silos the round waits for.
    ended
        Whether too few silos may train for another round.
    late
        Silos that took no part in the last round, as they did not answer in time.
    to_try
        What silos are to be sent of a closed-form method before the round is over: solutions.
    """

    def __init__(
        self, args: Any, target: InputSet | None, aggregator: FedClipAggregator, histories: Histories | None = None
    ) -> None:
        super().__init__(None, target, 0, {}, {}, {}, args.worker_num, torch.device("cpu"), args, aggregator)
        self._aggregator, self._histories = aggregator, histories
        self.quorum = Quorum(aggregator.settings.round_grace, aggregator.settings.fewest_silos)
        self.drawn: list[int] = []
        self.sampled: list[int] = []
        self.late: set[int] = set()
        self.ended = False
        self._answered: list[int] = []  # whose answers have come in time, ascending
        self._summed: list[int] = []  # whose sums have, of a closed-form method
        self.spent = set(aggregator.spent)
        self.seconds: dict[str, float] = {}
        self.to_try: dict[int, OrderedDict[str, Tensor]] = {}
        self._tried = False

    def sample(self, number: int) -> None:
        """Sample the silos of round ``number`` among those that can train; the run has ended where these are too few.

        Where enough could with those that are behind, the others begin: :attr:`short` says that they wait for one.
        """
        settings, members = self._aggregator.settings, self._aggregator.members
        away, seed = self.spent | self.quorum.behind, settings.random_seed
        asked = settings.taking_part(number, members.total)
        self.drawn = members.places(sampled(seed, number, members.total, asked))
        self.sampled, self.ended = [place for place in self.drawn if place not in away], False
        if not (away or members.away) or len(self.sampled) >= settings.fewest_silos:
            return
        able = [place for place in range(self.client_num) if place not in away]
        if len(able) >= settings.fewest_silos:
            self.sampled = [able[own] for own in sampled(seed, number, len(able), min(asked, len(able)))]
        else:
            self.sampled = able
            self.ended = len(able) + len(self.quorum.behind - self.spent) < settings.fewest_silos

    def let_join(self, place: int) -> None:
        """Let a silo train in the round that goes on, as well as those that were sampled for it."""
        self.sampled = sorted({*self.sampled, place})

    @property
    def short(self) -> bool:
        """Whether the round needs more silos than train in it, and is to wait for one that is behind."""
        settings = self._aggregator.settings
        goes_on = self.quorum.lenient and not self.ended and self.args.round_idx < settings.comm_round
        return goes_on and len(self.sampled) < settings.fewest_silos

    def end_after(self, rounds: int) -> None:
        """Take the round for the last one whose adapter is being made: all that follows ends the run."""
        self.args.comm_round = rounds
        self._aggregator.settings = replace(self._aggregator.settings, comm_round=rounds)

    def client_selection(
        self, round_idx: int, client_id_list_in_total: list[int], client_num_per_round: int
    ) -> list[int]:
        """Return every silo: all receive the adapter and evaluate it; only the sampled ones train."""
        return client_id_list_in_total

    def data_silo_selection(self, round_idx: int, client_num_in_total: int, client_num_per_round: int) -> list[int]:
        """Return each silo's own data: data never moves between ranks."""
        return list(range(client_num_in_total))

    def add_local_trained_result(self, place: int, model_params: Any, sample_num: float) -> None:
        """Note what a silo sent, as it is; the aggregator checks it first (FedML would fail on nonsense)."""
        self.model_dict[place], self.sample_num_dict[place] = model_params, sample_num
        self.flag_client_model_uploaded_dict[place] = True

    def check_whether_all_receive(self) -> bool:
        """Return whether the round is over, and forget who has answered if so; one that is short is not closed."""
        if not self.quorum.is_over() or self.short:
            return False
        flags = self.flag_client_model_uploaded_dict
        self._answered = [place for place in self.sampled if flags[place]]
        for place in self.sampled:
            flags[place] = False
        late = self.quorum.close()
        self.late = self.late | late if self._tried else late
        if self._aggregator.solving(self.args.round_idx) is None or self._tried:
            return True
        self._tried = True
        self._take_sums()
        return False

    def can_use(self, place: int, message: Any) -> bool:
        """Return whether a silo's update can be averaged; what is none is looked at when the round is closed."""
        if (
            message.get_type() != MyMessage.MSG_TYPE_C2S_SEND_MODEL_TO_SERVER
            or self._aggregator.solving(self.args.round_idx) is not None
            or self._aggregator.settings.interpolates(self.args.round_idx)
        ):
            return True
        samples, tensors = (
            message.get(key) for key in (MyMessage.MSG_ARG_KEY_NUM_SAMPLES, MyMessage.MSG_ARG_KEY_MODEL_PARAMS)
        )
        return self._aggregator.fault_of(self._aggregator.silos[place], samples, tensors) is None

    def an_answer(self) -> tuple[int, Any, float] | None:
        """Return one of the answers to the round, as the silo's place, what it sent, and images; None without."""
        flags = self.flag_client_model_uploaded_dict
        place = next((place for place in self.sampled if flags[place]), None)
        return None if place is None else (place, self.model_dict[place], self.sample_num_dict[place])

    def _take_sums(self) -> None:
        """Solve a closed-form method from the silos' sums; what silos are to try of it goes to :attr:`to_try`."""
        aggregator, self._summed = self._aggregator, self._answered
        aggregator.take_sums(self._answers())
        assert aggregator.closed_form is not None, "asked of those methods only"
        found = aggregator.closed_form.candidates()
        for place in self._answered:
            self.to_try[place] = OrderedDict(found)
            if aggregator.settings.personal_statistics:
                others = aggregator.closed_form.total(aggregator.silos[place]).to_wire()
                self.to_try[place].update((f"{OTHERS}{name}", tensor) for name, tensor in others.items())

    def _answers(self) -> list[Sent]:
        """Return what the silos sent, and forget it."""
        splits, silos = self._aggregator.splits, self._aggregator.silos
        return [
            Sent(silos[place], self.sample_num_dict[place], self.model_dict.pop(place), splits[place] if splits else {})
            for place in self._answered
        ]

    def aggregate(self) -> tuple[Any, list[Any], list[int]]:
        """Average the updates that came, load what silos will see of it, and sample those of the next round.

        Return what travels to the silos, the updates that were averaged, and the places of their silos.
        """
        began = time.perf_counter()
        aggregator = self._aggregator
        solved = aggregator.solving(self.args.round_idx) is not None
        answered = self._summed if solved else self._answered
        aggregator.answered = tuple(aggregator.silos[place] for place in answered)
        if solved:
            result = aggregator.take_trials(self._answers())
            self.set_global_model_params(result)
            self.seconds, self._tried = {"aggregate": time.perf_counter() - began}, False
            self._go_on(self.args.round_idx + 1)
            return self._to_send(result), [], answered
        updates = [(self.sample_num_dict[place], self.model_dict.pop(place)) for place in self._answered]
        if aggregator.settings.interpolates(self.args.round_idx):
            chosen = list(range(len(updates)))
            result = aggregator.interpolate(aggregator.take_interpolations(updates))
        elif aggregator.settings.secure_sums:
            chosen, result = list(range(len(updates))), aggregator.aggregate_masked(updates)
            updates = []
        else:
            updates, chosen = aggregator.on_before_aggregation(updates)
            result = aggregator.on_after_aggregation(aggregator.aggregate(updates))
        payload, seen = aggregator.compressor.compress(result, aggregator.get_model_params())
        self.set_global_model_params(seen)
        self.seconds = {"aggregate": time.perf_counter() - began}
        places = [self._answered[own] for own in chosen]
        self._go_on(self.args.round_idx + 1)
        return self._to_send(payload), updates, places

    def _to_send(self, tensors: OrderedDict[str, Tensor]) -> OrderedDict[str, Tensor]:
        """Return tensors that nobody changes: a silo that is late may take them much later."""
        if not self.quorum.lenient:
            return tensors
        return OrderedDict((name, tensor.clone()) for name, tensor in tensors.items())

    def get_global_model_params(self) -> OrderedDict[str, Tensor]:
        """Return the global adapter, as it is sent."""
        return self._to_send(super().get_global_model_params())

    def _go_on(self, number: int) -> None:
        """Sample the silos of the next round; where none may train any more, there is none."""
        self.sample(number)
        if self.ended and number < self._aggregator.settings.comm_round:
            self.end_after(number)

    def test_on_server_for_all_clients(self, round_idx: int) -> None:
        """Score the new adapter on the target domain, when it is this round's turn."""
        began = time.perf_counter()
        self.aggregator.target = None
        super().test_on_server_for_all_clients(round_idx)
        self.note(round_idx + 1)
        self.seconds["target"] = time.perf_counter() - began

    def note(self, number: int) -> None:
        """Keep what was answered about the target domain after round ``number``, where somebody asked for it."""
        self._aggregator.note_target(number, self._histories)

    def get_dummy_input_tensor(self) -> None:
        """FedML asks for a sample input to describe the model to its cloud: there is none."""
