"""A federation in one process with secure sums: the server gets no single update, and the same adapters come out."""

from collections import OrderedDict

import numpy as np
import pytest
import torch
from fedml.cross_silo.client.message_define import MyMessage

from fedclip_plugin.errors import RecipeError, SiloKeysError
from fedclip_plugin.federated.build import require_plain
from fedclip_plugin.federated.messages.added_fields import ROUND
from fedclip_plugin.federated.secure_sums import masks, member
from fedclip_plugin.federated.secure_sums.fixed_point import ZEROS
from fedclip_plugin.federated.secure_sums.hello import HELLO, MEMBERS, RoundMembers
from fedclip_plugin.recipe import load_recipe
from tests.support import in_process_federation
from tests.support.in_process_federation import SILOS, Federation, silo_features

pytestmark = pytest.mark.usefixtures("fresh_fedml", "silo_keys")

MODEL, UPDATE = MyMessage.MSG_ARG_KEY_MODEL_PARAMS, MyMessage.MSG_TYPE_C2S_SEND_MODEL_TO_SERVER
RIDGE = {"method": "ridge", "comm_round": 1}


class Ended(Exception):
    """The job was ended, with an exit code."""


def end_of(run, capfd):
    """Return what a federation that ends its job says on stderr."""

    def abort(code):
        raise Ended(code)

    run.wire.Abort = abort
    with pytest.raises(Ended) as end:
        run.run()
    said = capfd.readouterr().err
    assert "Traceback" not in said
    refused = "is not sent, as the list of its members is not right" in said
    assert end.value.args == (2 if refused else 1,), "no loss of a silo: nobody goes on without it by himself"
    return said


class Caught:
    """A federation, and every message that crossed in it: header, size and content."""

    def __init__(self, folder, **changes):
        self.run = Federation(folder, target=silo_features(7).test, **changes)
        self.sent = []
        deliver = self.run.wire.deliver

        def note(pair):
            waiting = self.run.wire.waiting[pair][0]
            tensors = sum(len(content) for content in waiting.contents)
            self.sent.append((pair, len(waiting.header), tensors, self.run.wire.message(pair)))
            deliver(pair)

        self.run.wire.deliver = note
        self.run.run()

    def updates(self, round_=0):
        """Return what each silo sent of training in a round, by rank."""
        found = {}
        for pair, _, _, message in self.sent:
            if message.get_type() == UPDATE and message.get(ROUND) == round_:
                found.setdefault(pair[0], message.get(MODEL))
        return found

    def started(self):
        """Return the first adapter that was sent."""
        return next(message.get(MODEL) for (sender, _), *_, message in self.sent if sender == 0 and message.get(MODEL))

    def adapter(self):
        return self.run.server._aggregator.get_model_params()


def both(folder, **changes):
    """Return the same federation without secure sums and with them."""
    return Caught(folder / "plain", **changes), Caught(folder / "masked", secure_sums=True, **changes)


def off(one, other):
    return max(float((one.adapter()[name] - other.adapter()[name]).abs().max()) for name in one.adapter())


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"weighting": "samples"},
        {"server_optimizer": "sgd", "server_momentum": 0.9},
        {"method": "linear_probe"},
        {"wise": (0.5, 1.0), "comm_round": 3},
        {"personal_epochs": 1, "comm_round": 2},
    ],
)
def test_the_adapter_is_that_of_plain_averaging(tmp_path, changes):
    plain, masked = both(tmp_path, **changes)
    most = 5e-6 if "server_momentum" in changes else 1e-6
    assert off(plain, masked) < most, "each round is off by 1e-8 or so, and Adam and momentum make more of it"
    assert len(masked.run.lines) == len(plain.run.lines) == changes.get("comm_round", 4) + 1
    last = [line.silos for line in (plain.run.lines[-1], masked.run.lines[-1])]
    assert {name: own.test for name, own in last[0].items()} == {name: own.test for name, own in last[1].items()}


def test_one_round_is_off_by_less_than_1e_7(tmp_path):
    plain, masked = both(tmp_path, comm_round=1)
    assert 0 < off(plain, masked) < 1e-7


def correlation(one, other, names):
    """Return that of what silos sent in two federations, all of them together, by rank and name."""
    flat = [torch.cat([own[rank][name].double().flatten() for rank in own for name in names]) for own in (one, other)]
    return float(np.corrcoef(*(values.numpy() for values in flat))[0, 1])


@pytest.mark.parametrize(
    ("changes", "dtype", "count"), [({"comm_round": 1}, torch.int32, 525_312), (RIDGE, torch.int64, 131_328)]
)
def test_the_server_sees_nothing_of_a_single_silo(tmp_path, monkeypatch, changes, dtype, count):
    """At the real width: what silos send has nothing to do with their updates; without secure sums it is these."""
    monkeypatch.setattr(in_process_federation, "WIDTH", 512)
    plain, again, masked = (
        Caught(tmp_path / name, secure_sums=name == "masked", **changes) for name in ("plain", "again", "masked")
    )
    start = plain.started()
    sent = [{rank: dict(own) for rank, own in caught.updates().items()} for caught in (plain, again, masked)]
    names = [name for name in sent[0][1] if name in sent[2][1]]
    for own in sent[:2]:
        for tensors in own.values():
            tensors.update({name: tensors[name] - start[name] for name in names if name in start})
    assert sum(sent[2][1][name].numel() for name in names) >= count
    assert {tensor.dtype for tensor in sent[2][1].values()} == {dtype}
    assert correlation(sent[0], sent[1], names) > 0.999
    assert abs(correlation(sent[0], sent[2], names)) < 0.01
    assert sum(sent[2][rank][ZEROS] for rank in (1, 2, 3)).tolist() == [0, 0]


def test_the_order_of_answers_does_not_matter(tmp_path):
    runs = []
    for seed in (None, 1, 2):
        run = Federation(tmp_path / f"run_{seed}", secure_sums=True).run(seed)
        runs.append(run.server._aggregator.get_model_params())
    assert all(torch.equal(runs[0][name], other[name]) for other in runs[1:] for name in other)


def test_silos_are_told_the_members_of_a_round_in_which_they_train_and_of_no_other(tmp_path):
    caught = Caught(tmp_path / "run", secure_sums=True, wise=(0.5, 1.0), comm_round=3)
    lists = {}
    for (sender, _), *_, message in caught.sent:
        if sender == 0 and message.get(MODEL) is not None:
            lists.setdefault(message.get(ROUND), []).append(message.get(MEMBERS))
    told = {
        number: {own and (own.attempt, *(hello.silo for hello in own.hellos)) for own in lists[number]}
        for number in lists
    }
    assert told == {0: {(1, *SILOS)}, 1: {(2, *SILOS)}, 2: {None}, 3: {None}}


@pytest.mark.parametrize("changes", [RIDGE, {"method": "gda", "comm_round": 1}, {"method": "ncm", "comm_round": 1}])
def test_sums_over_images_are_hidden_too_and_solved_alike(tmp_path, changes):
    plain, masked = both(tmp_path, **changes)
    assert off(plain, masked) < 1e-6
    for rank, sums in plain.updates().items():
        hidden = masked.updates()[rank]
        assert hidden.keys() == {ZEROS, *(name for name in sums if not name.endswith(".scale"))}
        assert hidden["counts"].abs().min() > 2**40, "no number of images"


def test_a_start_from_sums_and_rounds_after_it(tmp_path):
    plain, masked = both(tmp_path, method="linear_probe", start="ridge", comm_round=3)
    assert off(plain, masked) < 1e-5
    kinds = [{tensor.dtype for tensor in masked.updates(number)[1].values()} for number in (0, 1, 2)]
    assert kinds == [{torch.int64}, {torch.int32}, {torch.int32}]


def test_an_update_takes_no_byte_more_but_for_two_zeros_and_the_header(tmp_path):
    plain, masked = both(tmp_path, comm_round=2)
    of = [[own for own in caught.sent if own[3].get_type() == UPDATE] for caught in (plain, masked)]
    assert {own[2] for own in of[1]} == {own[2] + 8 for own in of[0]}
    assert max(masked[1] - plain[1] for plain, masked in zip(*of, strict=True)) < 20
    lists = [own for own in masked.sent if own[3].get(MEMBERS) is not None]
    bare = {own[3].get_type(): own[1] for own in plain.sent}
    extra = {own[1] - bare[own[3].get_type()] for own in lists}
    assert max(extra) < 60 + 3 * 330
    hello = [own[1] for own in masked.sent if own[3].get(HELLO) is not None]
    assert len(hello) == 6
    assert max(hello) - min(own[1] for own in plain.sent if own[0][0]) < 400


def corrupted(run, change, ranks=(1,)):
    """Let the server change the lists of members on their way to some silos."""
    send = run.server.com_manager.send_message

    def lie(message):
        if message.get(MEMBERS) is not None and message.get_receiver_id() in ranks:
            changed = change(message.get_params().pop(MEMBERS))
            if changed is not None:
                message.add_params(MEMBERS, changed)
        send(message)

    run.server.com_manager.send_message = lie
    return run


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda own: None, "the server has not said with whom"),
        (lambda own: RoundMembers(own.attempt, own.hellos[:2]), "it has 2 members, and must have 3 or more"),
        (lambda own: RoundMembers(own.attempt, (*own.hellos[:2], own.hellos[1])), "cartoon is a member twice"),
        (lambda own: RoundMembers(0, own.hellos), "both must grow"),
    ],
)
def test_a_server_that_lies_gets_nothing(tmp_path, capfd, change, told):
    run, seen = corrupted(Federation(tmp_path / "run", secure_sums=True), change), []
    deliver = run.wire.deliver

    def note(pair):
        seen.append(run.wire.message(pair))
        deliver(pair)

    run.wire.deliver = note
    assert told in end_of(run, capfd)
    assert not [message for message in seen if message.get_type() == UPDATE and message.get_sender_id() == 1]


def test_a_server_that_tells_one_silo_another_attempt_cannot_read_the_sum(tmp_path, capfd):
    run = corrupted(Federation(tmp_path / "run", secure_sums=True), lambda own: RoundMembers(9, own.hellos))
    assert "the masks of the silos do not cancel" in end_of(run, capfd)
    assert len(run.lines) == 1, "no round is complete"


def test_a_server_that_sends_one_silo_another_adapter_cannot_read_the_sum(tmp_path, capfd):
    run = Federation(tmp_path / "run", secure_sums=True)
    send = run.server.com_manager.send_message

    def lie(message):
        if message.get(MEMBERS) is not None and message.get_receiver_id() == 2:
            harmless = OrderedDict((name, torch.zeros_like(own)) for name, own in message.get(MODEL).items())
            message.add_params(MODEL, harmless)
        send(message)

    run.server.com_manager.send_message = lie
    assert "the masks of the silos do not cancel" in end_of(run, capfd)


@pytest.mark.parametrize("harm", ["no hello", "another's", "other images"])
def test_a_silo_that_does_not_introduce_itself_is_named(tmp_path, capfd, harm):
    run = Federation(tmp_path / "run", secure_sums=True)
    own, other = run.silos[1]._driver.member, run.silos[2]._driver.member
    if harm == "no hello":
        run.silos[1]._driver.member = None
        told = "silo cartoon (rank 2) has sent no hello"
    elif harm == "another's":
        own.hello, told = other.hello, "silo cartoon (rank 2) has sent the hello of photo"
    else:
        run.server._hellos._images = (20, 21, 20)
        told = "silo cartoon (rank 2) says 20 training images in its hello, and said 21 before"
    for manager in run.silos[1:2]:
        manager.handle_message_connection_ready(None)
    assert told in end_of(run, capfd)


def test_a_silo_without_keys_does_not_begin(tmp_path, monkeypatch):
    monkeypatch.setenv("FEDCLIP_SILO_KEYS", str(tmp_path / "none"))
    with pytest.raises(SiloKeysError, match=r"art\.key cannot be used: No such file.*'fedclip silo-keys new art'"):
        Federation(tmp_path / "run", secure_sums=True)


def test_one_process_and_a_main_of_ones_own_are_refused_by_name(workshop):
    masked = {"fedclip_args__secure_sums": True}
    with pytest.raises(RecipeError, match=r"in one process there is nobody to hide an update from; set it to false"):
        workshop.run_here(workshop.recipe("masked_here", **masked))
    with pytest.raises(RecipeError, match=r"secure_sums = True: the server would see each silo's update; set it to"):
        require_plain(load_recipe(workshop.recipe("masked_main", **masked)))


def test_no_private_key_and_no_mask_is_in_a_message_or_a_log(tmp_path, caplog, monkeypatch):
    secrets, derive = [], masks.pair_mask

    def note(*given):
        found = derive(*given)
        secrets.extend((given[0], found.key))
        return found

    monkeypatch.setattr(member, "pair_mask", note)
    caplog.set_level("DEBUG")
    caught = Caught(tmp_path / "run", secure_sums=True, comm_round=2)
    secrets += [silo._driver.member._private.private_bytes_raw() for silo in caught.run.silos]
    assert len(secrets) == 2 * 2 * 6 + 3
    files = [path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()]
    told = [caplog.text.encode(), *files, *(repr(message.get_params()).encode() for *_, message in caught.sent)]
    assert not [secret for secret in secrets for text in told if secret in text or secret.hex().encode() in text]
