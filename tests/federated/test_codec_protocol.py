"""A federation with codecs and server optimisers: what travels, what silos and server hold, and runs taken up again."""

import shutil
from types import SimpleNamespace

import pytest
import torch

import fedclip_plugin
from fedclip_plugin.federated import stop
from fedclip_plugin.federated.messages.added_fields import COMPLETE
from fedclip_plugin.federated.messages.codec import CODECS
from fedclip_plugin.machine import torch_threads
from fedclip_plugin.recipe import find_recipe, load_recipe
from fedclip_plugin.recipe.client_sampling import sampled
from fedclip_plugin.runs import RunFolder
from tests.support.in_process_federation import SILOS, Federation
from tests.support.workshop import results

ADAM = {"server_optimizer": "adam", "server_lr": 0.05}
MOMENTUM = {"server_optimizer": "sgd", "server_lr": 0.7, "server_momentum": 0.9}
SETTINGS = {
    "int8": {"codec": "int8"},
    "fp16, sampled": {"codec": "fp16", "silos_per_round": 2},
    "adam": ADAM,
    "int8, adam, sampled": {"codec": "int8", "silos_per_round": 1, **ADAM},
    "fp16, momentum": {"codec": "fp16", **MOMENTUM},
    "local": {"averaged": False},
}

pytestmark = pytest.mark.usefixtures("fresh_fedml")


def files(federation):
    """Return everything that a later round depends on: adapters, and what server and silos remember of the end."""
    root, last = federation.folder.path, "round_0004"
    paths = [root / "adapters" / "final", root / "adapters" / "best", root / "state" / last]
    paths += sorted(root.glob(f"personal/*/state/{last}")) + sorted(root.glob("personal/*/adapter"))
    return {
        str(path.relative_to(root)): file.read_bytes() for path in paths for file in sorted(path.glob("*.safetensors"))
    }


def resumed(path, **settings):
    """Return the federation of a run folder, taken up after its last complete round."""
    folder = RunFolder(path)
    done = folder.last_complete().round
    return Federation(path, start_round=done, adapter=folder.load_round(done), **settings)


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_a_run_resumed_after_any_round_ends_the_same(tmp_path, settings):
    straight = Federation(tmp_path / "straight", **settings)
    for last in (1, 2, 3):
        straight.run(until=lambda last=last: len(straight.lines) > last)
        shutil.copytree(straight.folder.path, tmp_path / f"torn_{last}", symlinks=True)
    straight.run()
    for last in (1, 2, 3):
        again = resumed(tmp_path / f"torn_{last}", **settings).run()
        assert files(again) == files(straight)
        assert results(again.folder.rounds()) == results(straight.folder.rounds())


def test_a_run_stopped_twice_ends_the_same(tmp_path):
    settings = {"codec": "int8", "silos_per_round": 2, **ADAM}
    straight = Federation(tmp_path / "straight", **settings).run()
    run = Federation(tmp_path / "torn", **settings)
    run.run(until=lambda: len(run.lines) > 1)
    second = resumed(run.folder.path, **settings)
    second.run(until=lambda: len(second.lines) > 1)
    assert files(resumed(run.folder.path, **settings).run()) == files(straight)


@pytest.mark.parametrize("codec", CODECS)
def test_server_and_silos_hold_the_same_bits_in_every_round(tmp_path, codec):
    run = Federation(tmp_path / codec, codec=codec, **MOMENTUM)
    loaded = [noted(owner) for owner in (run.server._aggregator, *(silo._driver.silo_trainer for silo in run.silos))]
    run.run()
    assert [len(parameters) for parameters in loaded] == [4, 5, 5, 5], "silos get the untrained adapter too"
    for parameters in loaded[1:]:
        assert parameters[1:] == loaded[0]


def noted(owner):
    """Return a list to which the bits of all parameters are added that ``owner`` loads from now on."""
    found, load = [], owner.set_model_params

    def load_and_note(parameters):
        found.append({name: tensor.numpy().tobytes() for name, tensor in parameters.items()})
        load(parameters)

    owner.set_model_params = load_and_note
    return found


def test_sgd_at_rate_1_is_fedavg_bit_for_bit(tmp_path):
    plain = Federation(tmp_path / "plain").run()
    stepped = Federation(tmp_path / "stepped", server_optimizer="sgd").run()
    assert files(stepped) == files(plain)


def sent(run):
    """Deliver everything, and return the messages with parameters as (sender, names and types of the tensors)."""
    found = []
    for sender, message in messages(run):
        params = message.get("model_params")
        if params is not None:
            found.append((sender, {(name, tensor.dtype) for name, tensor in params.items()}))
    return found


def messages(run):
    """Deliver everything, and yield each message with its sender's rank."""
    with torch_threads(1):
        while pairs := run.wire.pairs():
            yield pairs[0][0], run.wire.message(pairs[0])
            run.wire.deliver(pairs[0])


@pytest.mark.parametrize("begun", [0, 2])
def test_only_the_first_messages_of_a_job_carry_the_parameters_themselves(tmp_path, begun):
    run = Federation(tmp_path / "run", codec="int8")
    if begun:
        run.run(until=lambda: len(run.lines) > begun)
        run = resumed(tmp_path / "run", codec="int8")
    looks = sent(run)
    exact = {(name, torch.float32) for name in run.server._aggregator.get_model_params()}
    small = {(name, torch.int8) for name, _ in exact} | {(f"{name}:scale", torch.float32) for name, _ in exact}
    down, up = ([look for sender, look in looks if (sender == 0) == server] for server in (True, False))
    rounds = 4 - begun
    assert down == [exact] * 3 + [small] * 3 * rounds
    assert up == [small] * 3 * rounds


def test_only_what_a_resumed_run_needs_stays_on_disk(tmp_path):
    run = Federation(tmp_path / "run", codec="int8", comm_round=8, **ADAM).run()
    for place in (run.folder.state, *(run.folder.personal(name) / "state" for name in SILOS)):
        assert {path.name for path in place.iterdir()} <= {"round_0006", "round_0007", "round_0008"}
        assert (place / "round_0008").exists()


@pytest.mark.parametrize("settings", [{}, {"server_optimizer": "sgd"}])
def test_nothing_is_kept_where_nothing_is_remembered(tmp_path, settings):
    run = Federation(tmp_path / "run", **settings).run()
    assert not run.folder.state.exists()
    assert not (run.folder.path / "personal").exists()


def test_states_stay_while_no_round_is_complete(tmp_path):
    settings = {"codec": "int8", "silos_per_round": 1, "comm_round": 6}
    draws = [sampled(0, number, 3, 1)[0] for number in range(6)]
    late = next(index for index in range(3) if index not in draws[:2])
    straight = Federation(tmp_path / "straight", **settings).run()
    run = Federation(tmp_path / "late", **settings)
    run.run(until=lambda: run.server._averager.sampled == [late], held=(late + 1,))
    assert run.lines == []
    assert len(list(run.folder.state.iterdir())) == run.server.args.round_idx + 1 >= 3
    assert results(run.run().lines) == results(straight.lines)
    assert files(run) == files(straight)


@pytest.mark.parametrize(
    ("codec", "value"),
    [(codec, value) for codec in CODECS for value in (float("nan"), float("inf"))] + [("fp16", 1e6)],
)
def test_a_silo_that_diverges_is_left_out_by_name_and_comes_back(tmp_path, codec, value):
    run = Federation(tmp_path / "run", codec=codec, min_silos=2)
    trainer = run.silos[1]._driver.silo_trainer
    run.run(until=lambda: run.server.args.round_idx == 1)
    trainer.train = lambda *_: trainer.model.hidden.bias.data[:1].fill_(value)
    run.run(until=lambda: run.server.args.round_idx == 2)
    del trainer.train
    run.run()
    assert [list(line.dropped) for line in run.lines] == [[], [], ["cartoon"], [], []]
    assert "hidden.bias" in run.lines[2].dropped["cartoon"]
    assert "NaN or infinite" in run.lines[2].dropped["cartoon"]


def cut(state):
    (state / "round_0002" / "state.safetensors").write_bytes(b"x")


@pytest.mark.parametrize(
    ("place", "who"), [("state", "server (rank 0)"), ("personal/cartoon/state", "silo cartoon (rank 2)")]
)
@pytest.mark.parametrize(
    ("harm", "reason"),
    [(shutil.rmtree, "state holds nothing of round 2 or before"), (cut, "round_0002 differs from its checksum")],
    ids=["lost", "cut"],
)
def test_a_state_that_is_lost_ends_the_job(tmp_path, monkeypatch, capfd, place, who, harm, reason):
    run = Federation(tmp_path / "run", codec="int8")
    run.run(until=lambda: len(run.lines) > 2)
    harm(run.folder.path / place)
    monkeypatch.setattr(stop.os, "_exit", leave)
    again = resumed(run.folder.path, codec="int8")
    again.wire.Abort = lambda code: None
    with pytest.raises(SystemExit):
        again.run()
    err = capfd.readouterr().err
    assert f"the job stops: {who}, round 3: {run.folder.path / place}" in err
    assert reason in err
    assert "Traceback" not in err


def leave(code):
    raise SystemExit(code)


def test_a_main_of_somebody_elses_sends_adapters_as_they_are(tmp_path, capsys):
    recipe = load_recipe(find_recipe("miniature/clip_tiny_fedclip"), ["fedclip_args.codec=int8"])
    with pytest.raises(SystemExit, match="2"):
        fedclip_plugin.build(SimpleNamespace(**recipe.flat(), rank=0), torch.device("cpu"))
    assert "codec = int8: adapters travel as they are; set it to none" in capsys.readouterr().err


def test_silos_hear_which_round_is_complete(tmp_path):
    run = Federation(tmp_path / "run")
    heard = [message.get(COMPLETE) for sender, message in messages(run) if sender == 0]
    assert [number for number in heard if number is not None] == [-1] * 3 + [0] * 3 + [1] * 3 + [2] * 3 + [3] * 3
