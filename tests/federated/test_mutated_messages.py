"""Real messages of every kind, harmed in many ways: each is refused by name, or is the message that was sent."""

import copy
import dataclasses
import json
import math
import random
import re
import struct
import time
import zlib

import numpy as np
import pytest
import torch
from fedml.cross_silo.client.message_define import MyMessage

from fedclip_plugin import what_leaves
from fedclip_plugin.errors import FederationError
from fedclip_plugin.federated.messages.closing_messages import (
    BinSums,
    ConfidenceCounts,
    CountConfidences,
    Likelihoods,
    NoMoreQuestions,
    ScoreAdapter,
    ScoreClasses,
)
from fedclip_plugin.federated.messages.exchange import packed
from fedclip_plugin.federated.messages.fedml_messages import announced, decode, encode
from fedclip_plugin.federated.messages.packing.packed_message import ExpectedKind, UnexpectedTensors, read_header
from fedclip_plugin.federated.messages.packing.tensor_layouts import TensorLayout
from fedclip_plugin.federated.messages.packing.typed_values import made_of, record_of
from fedclip_plugin.federated.roles.update_check import update_fault
from fedclip_plugin.federated.simulation import preparation as simulated
from fedclip_plugin.federated.simulation.turns import TrainedClient, Turn, WorkerAnswer
from fedclip_plugin.federated.startup.memory_check import RankMemory
from fedclip_plugin.federated.startup.start_messages import (
    Agreed,
    CannotStart,
    Encoded,
    GoOn,
    Opened,
    Present,
    Ready,
    Room,
)
from fedclip_plugin.runs.class_split_record import ClassCounts
from fedclip_plugin.study.running.answer_counts import Counts, Kinds
from fedclip_plugin.study.running.study_messages import Ask, CellPart, Joint, Over, Question, RunCell, Selected
from tests.support.in_process_federation import Federation

pytestmark = pytest.mark.usefixtures("fresh_fedml", "silo_keys")

MUTATIONS = 10_000
LIMIT = 20.0
"""Seconds of a core that all of them may take."""

MODEL = MyMessage.MSG_ARG_KEY_MODEL_PARAMS
ADAPTER = {"gate.weight": np.ones((3, 2), np.float32), "gate.bias": np.zeros(2, np.float32)}
LABELS = {0: np.arange(4), 7: np.arange(2)}

OTHERS = [
    *(Present(recipe="d" * 64), Room(fault="MemoryShortageError", needed=2**40, there=2**33)),
    Ready(name="photo", classes=("cat", "dog"), images=40, to_encode=7, fingerprint="f" * 64, precision="fp32"),
    *(Encoded(train=20, validation=10, test=10, skipped=1), GoOn(), Opened(3, 2), CannotStart("this rank lacks hen")),
    *(Agreed(("cat", "dog"), "fp32", bar=True), RankMemory(True, 2**34, 2**29)),
    *(ScoreAdapter(ADAPTER), ScoreClasses(ADAPTER), ScoreClasses(None), CountConfidences(1.25), NoMoreQuestions()),
    *(Likelihoods(10, (7, 8, 9)), ClassCounts(base_images=9, new_images=9, base=7, new=5, all=11)),
    ConfidenceCounts((1, 2), (3, 4), BinSums((1,), (1,), (900_000,)), BinSums((1,), (0,), (400_000,))),
    *(RunCell("fedclip", "sketch", 0, 1), RunCell("fedclip", None, 2, 0), Selected(4), Over(), Over(failed=True)),
    Ask((Question("target", ("fedclip/sketch/seed_0_point_1",)), Question("photo", ()))),
    Joint((Kinds(gain=(0, 1), tried=(3, 3), images=(5, 6)), None)),
    CellPart(Counts(zero_shot_wrong=(3, 1), zero_shot_right=(2, 4)), 2**30),
    *(simulated.Listed(classes=("cat",), images=(9, 3), to_encode=2), simulated.Agreed(("cat",), "bf16")),
    *(simulated.Shared(files=("a",), kept=(np.arange(5),)), simulated.Encoded(("a",), (np.arange(5),))),
    Turn(1, ADAPTER, train=True, score=True, total=np.ones(8), chosen=(0.1, 2.0)),
    WorkerAnswer(LABELS, LABELS, seconds={"train": 0.5}, total=np.ones(8)),
    WorkerAnswer(
        LABELS, trained=(TrainedClient(3, 0.5, None, 32, (9, ADAPTER)), TrainedClient(4, math.nan, "lost", 32))
    ),
]


@dataclasses.dataclass(frozen=True)
class Captured:
    """A message on its way, and what its receiver does with it."""

    header: bytes
    contents: tuple[bytes, ...]
    receive: object  # from header and contents to what goes out again, or to why it is dropped


def seen_again(packed_message):
    return packed_message.header, tuple(bytes(tensor.memory) for tensor in packed_message.tensors)


def of_exchange(value):
    """Return a message of an exchange, whose receiver expects arrays of its layout."""
    kind, sent = type(value), packed(value)
    rules = {tensor.spec.name: tensor for tensor in sent.tensors}
    layout = TensorLayout.like(
        {name: np.frombuffer(own.memory, own.spec.dtype).reshape(own.spec.shape) for name, own in rules.items()}
    )
    expected = {kind.__name__: ExpectedKind(record_of(kind), [layout])}

    def receive(header, contents):
        found = read_header(header, expected)
        require_lengths(found, contents)
        return seen_again(packed(made_of(kind, found.values(contents))))

    return Captured(*seen_again(sent), receive)


def require_lengths(found, contents):
    """Do what is done where parts arrive: a length that was not announced is not received."""
    if [len(content) for content in contents] != [spec.nbytes for spec in found.specs] and not found.unexpected:
        raise ValueError("parts have other lengths than were announced")


def of_federation(folder, **changes):
    """Return a message of each kind and look that cross in a federation."""
    run, found = Federation(folder, **changes), {}
    deliver = run.wire.deliver

    def note(pair):
        waiting, end = run.wire.waiting[pair][0], run.wire.transports[pair[1]]
        looks = re.sub(rb"\d+", b"0", waiting.header[12:])
        if pair[1] == 0 or pair[1] == 1:
            found.setdefault(looks, (waiting, pair, end, copy.deepcopy(run.server._expected)))
        deliver(pair)

    run.wire.deliver = note
    run.run()
    return [of_fedml(*each) for each in found.values()]


def of_fedml(waiting, pair, end, expected):
    """Return a message of FedML's; the server believes it as far as it does in a round."""
    contents = tuple(bytes(content) for content in waiting.contents)
    good = decode(
        announced(waiting.header, end.expected, pair[0], "silo art (rank 1)", pair[1]), [*map(writable, contents)]
    )
    template, samples = good.get(MODEL), good.get("num_samples")

    def receive(header, parts):
        found = announced(header, end.expected, pair[0], "silo art (rank 1)", pair[1])
        require_lengths(found, parts)
        message = decode(found, parts)
        if pair[0]:
            copy.deepcopy(expected).take(message)
        if message.get_type() == MyMessage.MSG_TYPE_C2S_SEND_MODEL_TO_SERVER:
            fault = update_fault(message.get("num_samples"), message.get(MODEL), template, samples)
            if fault is not None:
                raise FederationError(f"the update of silo art (rank 1) is dropped: {fault}")
        assert not isinstance(message.get(MODEL), UnexpectedTensors), "an update is dropped, all else is refused"
        if not pair[0] and message.get_type() != good.get_type():
            raise FederationError(
                "the server sent silo art (rank 1) an adapter out of turn"
            )  # see test_expected_answers.py
        return seen_again(encode(message))

    return Captured(waiting.header, contents, receive)


def writable(content):
    return memoryview(bytearray(content))


def sealed(text):
    return b"fedclip\x02" + struct.pack("<I", zlib.crc32(text)) + text


def places(value, found, path=()):
    """Collect the paths of all values in JSON."""
    found.append(path)
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        places(inner, found, (*path, key))
    return found


def replaced(header, path, change):
    """Return a header with another value at a path."""
    value = json.loads(header[12:])
    if not path:
        return sealed(json.dumps(change(value)).encode())
    holder = value
    for key in path[:-1]:
        holder = holder[key]
    holder[path[-1]] = change(holder[path[-1]])
    return sealed(json.dumps(value).encode())


def at(header, path):
    value = json.loads(header[12:])
    for key in path:
        value = value[key]
    return value


OTHER_TYPES = {
    str: (7, [], {}, 0.5, True),
    int: ("7", [], 0.5, {}, True),
    bool: (1, "true", [], 0.5),
    type(None): (0.5, [0.5], {"x": 1}),
    list: ({}, "x", 0.5, None, True),
    dict: ([], "x", 0.5, 3),
}
HUGE = (2**63, -(2**63) - 1, 10**25, 10**4000)
NUMBERS = (math.nan, math.inf, -math.inf, 1e308)
SPECS = (
    lambda spec: ["object", spec[1]],
    lambda spec: ["float64" if spec[0] != "float64" else "float32", spec[1]],
    lambda spec: ["bfloat16", spec[1]],
    lambda spec: [spec[0], [*spec[1], 2]],
    lambda spec: [spec[0], [-1, *spec[1][1:]]],
    lambda spec: [spec[0], [2**62]],
    lambda spec: [spec[0], [*spec[1][:-1], 1 + (spec[1] or [1])[-1]]],
    lambda spec: [spec[0], [1] * 70],
    lambda spec: spec[:1],
)


def of_record(path):
    """Return whether an object at a path has fields, not entries."""
    return not path or path[-1] not in ("zero_shot", "personal", "seconds", "predicted")


def bits(header, contents, rng):
    made = bytearray(header)
    for _ in range(rng.randint(1, 8)):
        made[rng.randrange(len(made))] ^= 1 << rng.randrange(8)
    return bytes(made), contents


def cut(header, contents, rng):
    return header[: rng.randrange(len(header))], contents


def lengthened(header, contents, rng):
    return header + rng.randbytes(rng.randint(1, 40)), contents


def noise(header, contents, rng):
    return rng.choice(
        [rng.randbytes(rng.randint(0, 99)), sealed(rng.randbytes(30)), header[:12] + rng.randbytes(50)]
    ), contents


def removed(header, contents, rng):
    records = [path for path in places(json.loads(header[12:]), []) if of_record(path) and at(header, path)]
    path = rng.choice([path for path in records if isinstance(at(header, path), dict)])
    return replaced(header, path, lambda own: {key: own[key] for key in [*own][1:]}), contents


def added(header, contents, rng):
    records = [path for path in places(json.loads(header[12:]), []) if isinstance(at(header, path), dict)]
    return replaced(header, rng.choice(records), lambda own: own | {"__class__": "os.system"}), contents


def of_another_type(header, contents, rng):
    path = rng.choice(places(json.loads(header[12:]), []))
    return replaced(header, path, lambda own: rng.choice(OTHER_TYPES[type(own)])), contents


def number(values):
    def mutate(header, contents, rng):
        path = rng.choice(places(json.loads(header[12:]), [])[2:] or [("kind",)])
        return replaced(header, path, lambda own: rng.choice(values)), contents

    return mutate


def deep(header, contents, rng):
    depth, path = rng.choice([30, 2000, 200_000]), rng.choice(places(json.loads(header[12:]), []))
    marked = replaced(header, path, lambda own: "@")[12:]
    return sealed(marked.replace(b'"@"', b"[" * depth + b"]" * depth)), contents


def repeated(header, contents, rng):
    keys = [*re.finditer(rb"[{,](\"[a-z_]+\"):", header[12:])]
    chosen = rng.choice(keys)
    start = 12 + chosen.start(1)
    return sealed((header[:start] + chosen[1] + b":0," + header[start:])[12:]), contents


def other_tensors(header, contents, rng):
    paths = [path for path in places(json.loads(header[12:]), []) if is_spec(at(header, path))]
    if not paths:
        return other_kind(header, contents, rng)
    return replaced(header, rng.choice(paths), rng.choice(SPECS)), contents


def is_spec(value):
    return isinstance(value, list) and len(value) == 2 and isinstance(value[0], str) and isinstance(value[1], list)


def other_kind(header, contents, rng):
    kind = rng.choice(["", "adapter", "Present", "os.system", "update", "Over", "x" * 9999])
    return replaced(header, ("kind",), lambda own: kind if kind != own else "none"), contents


def other_contents(header, contents, rng):
    if not contents:
        return header, (rng.randbytes(8),)
    made, place = [*contents], rng.randrange(len(contents))
    made[place] = rng.choice([made[place][:-1], made[place] + b"\0", b"", made[place] * 2])
    return header, rng.choice([tuple(made), tuple(made[1:]), (*made, b"\0")])


def nan_inside(header, contents, rng):
    """Put NaN into an update; elsewhere tensors are what they are."""
    value = json.loads(header[12:])
    floats = [own for own in value["value"].get(MODEL, {}).values() if own[0].startswith("float")]
    if value["kind"] != "update" or len(floats) < len(contents):
        return bits(header, contents, rng)
    place = rng.randrange(len(contents))
    width = np.dtype(floats[place][0])
    made = np.frombuffer(contents[place], width).copy()
    made[rng.randrange(len(made))] = rng.choice([math.nan, math.inf])
    return header, (*contents[:place], made.tobytes(), *contents[place + 1 :])


MUTATE = [
    *(bits, cut, lengthened, noise, removed, added, of_another_type, number(HUGE), number(NUMBERS)),
    *(deep, repeated, other_tensors, other_kind, other_contents, nan_inside),
]


def captured(folder):
    changes = [
        {"min_silos": 2, "silos_per_round": 2},
        {"codec": "int8", "comm_round": 2},
        {"method": "ridge", "comm_round": 1, "personal_statistics": True, "forgettable": True},
        {"wise": (0.0, 0.5, 1.0), "comm_round": 2, "personal_epochs": 1},
        *({"secure_sums": True, "method": method, "comm_round": 1} for method in ("fedclip", "ridge")),
    ]
    found = [one for number, own in enumerate(changes) for one in of_federation(folder / f"run_{number}", **own)]
    return found + [of_exchange(value) for value in OTHERS]


def test_every_kind_of_message_is_among_them(tmp_path):
    kinds = {type(value) for value in OTHERS}
    own = {Turn, WorkerAnswer, simulated.Listed, simulated.Shared, simulated.Agreed, simulated.Encoded}
    assert kinds == {*what_leaves.MESSAGES, *what_leaves.WITHIN_A_MACHINE, *own}
    of_fedml = {json.loads(one.header[12:])["kind"] for one in captured(tmp_path)} - {kind.__name__ for kind in kinds}
    assert of_fedml == {"status", "update", "report", "status question", "first adapter", "adapter"}


def test_a_harmed_message_is_refused_by_name_or_is_the_one_that_was_sent(tmp_path):
    messages, rng, refused, began = captured(tmp_path), random.Random(15), 0, time.process_time()
    for one in messages:
        assert one.receive(one.header, [*map(writable, one.contents)]) == (one.header, one.contents)
    for number in range(MUTATIONS):
        one, mutate = messages[number % len(messages)], rng.choice(MUTATE)
        header, contents = mutate(one.header, one.contents, rng)
        try:
            back = one.receive(header, [*map(writable, contents)])
        except (FederationError, ValueError) as error:
            refused += 1
            assert str(error), mutate
            assert len(str(error)) < 600
            if isinstance(error, FederationError):
                assert "silo art (rank 1) " in str(error)
                assert str(error).isprintable()
        else:
            assert back == (one.header, one.contents), (number, mutate, header)
    assert refused > 0.98 * MUTATIONS
    assert time.process_time() - began < LIMIT


def of_another_shape(header, contents, rng):
    """Declare another shape for the first tensor of an update, and send as much."""
    (name, (dtype, shape)), *_ = json.loads(header[12:])["value"][MODEL].items()
    changed = replaced(header, ("value", MODEL, name), lambda spec: [dtype, [2 * shape[0], *shape[1:]]])
    return changed, (contents[0] * 2, *contents[1:])


@pytest.mark.parametrize("harm", [of_another_shape, nan_inside])
def test_an_update_with_harmed_tensors_never_reaches_the_average(tmp_path, harm):
    """The round goes on without it: the average is, bit by bit, that of the others."""
    run, sent = Federation(tmp_path, min_silos=2, comm_round=1), []
    deliver, rng = run.wire.deliver, random.Random(3)

    def spoil(pair):
        waiting = run.wire.waiting[pair][0]
        if pair[1] == 0 and b'"kind":"update"' in waiting.header:
            if pair[0] == 2:
                header, contents = harm(waiting.header, tuple(map(bytes, waiting.contents)), rng)
                run.wire.waiting[pair][0] = type(waiting)(header, tuple(map(writable, contents)))
            else:
                sent.append({name: own.clone() for name, own in run.wire.message(pair).get(MODEL).items()})
        deliver(pair)

    run.wire.deliver = spoil
    run.run()
    assert list(run.lines[1].dropped) == ["cartoon"]
    for name, own in run.server._aggregator.get_model_params().items():
        assert torch.equal(own, sent[0][name] * 0.5 + sent[1][name] * 0.5)
