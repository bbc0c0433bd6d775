"""Simulations in one process: equal to a cross-silo run, resumed to the byte, with every method."""

import functools
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from safetensors.numpy import load_file

from fedclip_miniature import ensure_miniature
from fedclip_plugin.data.silo_sources import keys_of_silos
from fedclip_plugin.errors import FedClipError
from fedclip_plugin.federated.job_here import run_job_here
from fedclip_plugin.federated.simulation import simulator
from fedclip_plugin.federated.simulation.worker_group import WorkerGroup
from fedclip_plugin.fitting import _Progress, fit
from fedclip_plugin.recipe import load_recipe
from fedclip_plugin.report.tensorboard import scalars
from fedclip_plugin.runs import RunFolder, load_adapter
from fedclip_plugin.runs.closing_table import round_text, summary_rows
from tests.support.workshop import IMAGES_PER_CLASS, results

pytestmark = pytest.mark.usefixtures("fresh_fedml")

SIMULATED = {"common_args__training_type": "simulation", "comm_args__backend": "sp"}
CLIENTS = SIMULATED | {
    "train_args__client_num_in_total": 12,
    "train_args__client_num_per_round": 6,
    "data_args__partition_method": "homo",
    "fedclip_args__silos_per_domain": 4,
}


@pytest.fixture
def simulate(workshop, tmp_path):
    """Return a function that runs a small simulation in this process and returns its run folder."""

    def run(name, resume=False, **changes):
        recipe = workshop.recipe(f"simulated_{name}", **CLIENTS | changes)
        folder = RunFolder(tmp_path / name)
        run_job_here(load_recipe(recipe), folder, resume=resume, progress=False, observer=_Progress(3, shown=False))
        return folder

    return run


def tensors(folder, name="final"):
    return load_file(folder.adapters / name / "adapter.safetensors")


def adapter_bytes(folder, name="final"):
    return (folder.adapters / name / "adapter.safetensors").read_bytes()


def test_clients_choose_the_interpolation_that_silos_choose(workshop, simulate, tmp_path):
    same = {"train_args__comm_round": 3, "train_args__learning_rate": 0.03, "fedclip_args__method": "linear_probe"}
    same |= {"fedclip_args__wise": True, "data_args__partition_method": None, "fedclip_args__silos_per_domain": None}
    few = {"train_args__client_num_in_total": 3, "train_args__client_num_per_round": 2}
    simulated, silos = simulate("wise", **same | few), RunFolder(tmp_path / "wise_silos")
    recipe = load_recipe(workshop.recipe("wise_silos", **same | few))
    run_job_here(recipe, silos, resume=False, progress=False, observer=_Progress(3, shown=False))
    ours, theirs = simulated.rounds()[-1], silos.rounds()[-1]
    assert (ours.wise, ours.train_loss, len(ours.answered), ours.bytes_up) == (theirs.wise, None, 3, 3 * 4 * 8)
    assert theirs.wise in (0.25, 0.5, 0.75, 1.0)
    for name, own in tensors(silos).items():
        assert np.abs(own - tensors(simulated)[name]).max() <= 1e-6
    assert ours.tests() == theirs.tests()
    assert load_adapter(simulated.adapters / "final").metrics["wise"] == ours.wise


def test_three_clients_are_the_three_silos(workshop, simulate, tmp_path):
    same = {"train_args__client_num_in_total": 3, "train_args__client_num_per_round": 3}
    same |= {"data_args__partition_method": None, "fedclip_args__silos_per_domain": None, "train_args__comm_round": 1}
    simulated = simulate("three", **same)
    silos = RunFolder(tmp_path / "silos")
    recipe = load_recipe(workshop.recipe("three_silos", train_args__comm_round=1))
    run_job_here(recipe, silos, resume=False, progress=False, observer=_Progress(1, shown=False))
    for name, own in tensors(silos).items():
        assert np.abs(own - tensors(simulated)[name]).max() <= 1e-6
    ours, theirs = simulated.read_calibration().adapters[0], silos.read_calibration().adapters[0]
    assert ours.calibration == theirs.calibration
    assert (ours.sources.images, ours.sources.unknown) == (theirs.sources.images, theirs.sources.unknown)
    ours, theirs = simulated.rounds(), silos.rounds()
    for mine, other in zip(results(ours), results(theirs), strict=True):
        assert {**mine, "clients": None, "zero_shot_clients": None} == other | {
            "train_loss": pytest.approx(other["train_loss"], abs=1e-6)
        }


def test_records_have_the_domains_and_name_the_clients(simulate):
    first, *_, last = simulate("records").rounds()
    assert list(last.silos) == ["art_painting", "cartoon", "photo"]
    assert len(last.answered) == 6
    assert set(last.answered) <= {f"{domain}_{number}" for domain in last.silos for number in range(1, 5)}
    assert all(silo.images == {"validation": 16, "test": 16} for silo in last.silos.values())
    assert all(set(silo.zero_shot) == {"validation", "test"} for silo in first.silos.values())
    assert last.bytes_up == last.bytes_down == 6 * 4 * 33_024


KEEPING = {
    "int8": {"fedclip_args__codec": "int8", "fedclip_args__server_optimizer": "adam", "fedclip_args__server_lr": 0.01},
    "local": {"fedclip_args__federation": "local", "train_args__client_num_per_round": 12},
    "dropped": {"fedclip_args__client_drop_rate": 0.5, "fedclip_args__weighting": "samples"},
}


@pytest.mark.parametrize("case", KEEPING)
def test_a_resumed_simulation_has_the_bytes_of_one_that_was_not_stopped(simulate, case):
    whole = simulate(f"{case}_whole", **KEEPING[case], train_args__comm_round=4)
    simulate(f"{case}_part", **KEEPING[case], train_args__comm_round=2)
    part = simulate(f"{case}_part", resume=True, **KEEPING[case], train_args__comm_round=4)
    assert adapter_bytes(part) == adapter_bytes(whole)
    assert results(part.rounds()) == results(whole.rounds())


def test_local_clients_keep_their_own_adapters(simulate):
    folder = simulate("local", **KEEPING["local"])
    own = {place.name: load_file(place / "adapter" / "adapter.safetensors") for place in folder.path.glob("personal/*")}
    assert len(own) == 12
    first, second = own["photo_1"], own["photo_2"]
    assert any(not np.array_equal(first[name], second[name]) for name in first if "gate" in name)
    assert folder.rounds()[-1].target is not None


def test_every_client_fine_tunes_in_the_end(simulate):
    folder = simulate("personal", fedclip_args__personal_epochs=2)
    last = folder.rounds()[-1]
    assert all(set(silo.personal) == {"validation", "test"} for silo in last.silos.values())
    header = json.loads((folder.path / "personal/cartoon_4/adapter/adapter.json").read_text())
    assert set(header["metrics"]) >= {"validation", "test"}


def test_lost_updates_are_named_and_the_others_averaged(simulate):
    rounds = simulate("lost", **KEEPING["dropped"]).rounds()
    lost = [name for record in rounds for name in record.dropped]
    assert lost
    assert {reason for record in rounds for reason in record.dropped.values()} == {
        "its update is lost (client_drop_rate)"
    }
    assert all(set(record.dropped) < set(record.answered) for record in rounds[1:])


def test_a_round_that_loses_every_update_ends_the_job(simulate, monkeypatch):
    monkeypatch.setattr("fedclip_plugin.recipe.client_sampling.survivors", lambda *words: 1)
    with pytest.raises(FedClipError, match=r"0 usable updates, min_silos is 1 .*client_drop_rate.*and 2 more"):
        simulate("all_lost", fedclip_args__client_drop_rate=0.999999, train_args__client_num_per_round=12)


def test_defences_get_single_updates(simulate):
    defended = {"enable_defense": True, "defense_type": "norm_diff_clipping", "norm_bound": 0.01}
    clipped = simulate("clipped", **{f"defense_args__{key}": value for key, value in defended.items()})
    assert adapter_bytes(clipped) != adapter_bytes(simulate("mean"))


@pytest.mark.parametrize("method", ["linear_probe", "prompt", "lora"])
def test_methods_train(simulate, method):
    few = {"train_args__comm_round": 1, "train_args__client_num_per_round": 2}
    rounds = simulate(method, fedclip_args__method=method, **few).rounds()
    assert rounds[-1].train_loss is not None
    assert rounds[-1].test > 0


def test_clients_that_are_trained_at_once_end_where_they_end_alone(simulate, monkeypatch):
    alone = simulate("alone", **KEEPING["dropped"])
    monkeypatch.setattr(simulator, "Worker", functools.partial(_batching, simulator.Worker))
    together = simulate("together", **KEEPING["dropped"])
    for name, own in tensors(alone).items():
        assert np.abs(own - tensors(together)[name]).max() <= 1e-4
    lost = [[record.dropped for record in folder.rounds()] for folder in (alone, together)]
    assert lost[0] == lost[1]


def _batching(worker, *arguments, batched):
    return worker(*arguments, batched=True)


def test_fit_simulates_in_this_process(workshop, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    keys = {"client_num_in_total": 12, "client_num_per_round": 6, "silos_per_domain": 4, "partition_method": "homo"}
    caches = {"data_cache_dir": workshop.data, "feature_cache_dir": workshop.features, "images_per_class": 12}
    result = fit("miniature", "sketch", training_type="simulation", rounds=1, progress=False, **keys, **caches)
    assert result.to_recipe().comm_args.backend == "sp"
    assert "12 clients" in repr(result)
    assert "accuracy of clients in %" in repr(result)
    assert result._repr_html_().count("<table>") == 3


def test_clients_are_scored_in_the_rounds_that_are_tested(simulate):
    often = simulate("often", train_args__comm_round=5)
    seldom = simulate("seldom", train_args__comm_round=5, validation_args__frequency_of_the_test=3)
    assert adapter_bytes(seldom) == adapter_bytes(often)
    tested = [record.round for record in seldom.rounds() if record.validation is not None]
    assert tested == [0, 1, 4, 5]
    for record, other in zip(seldom.rounds(), often.rounds(), strict=True):
        known = record.round in tested
        assert (record.target is None, record.clients is None, record.tests() == {}) == (not known,) * 3
        assert not known or results([record])[0] | {"best_round": 0} == results([other])[0] | {"best_round": 0}
    assert seldom.rounds()[-1].best_round in tested
    assert load_adapter(seldom.adapters / "best").metrics["validation"] == max(
        record.validation for record in seldom.rounds()[1:] if record.validation is not None
    )


def test_a_report_and_its_tables_leave_out_rounds_that_are_not_tested(simulate):
    rounds = simulate("seldom_table", train_args__comm_round=6, validation_args__frequency_of_the_test=4).rounds()[:5]
    assert "validation -  test -" in round_text(rounds[3], 6, 12)
    stopped = rounds[:4]
    assert [row[0] for row in summary_rows(stopped, "M")] == ["zero-shot CLIP", "M, best round 1", "M, last round 1"]
    assert dict(scalars(stopped[3])).keys() >= {"loss/mean"}
    assert "test/mean" not in dict(scalars(stopped[3]))


def test_images_that_are_skipped_are_counted_at_the_start_and_at_the_end(workshop):
    drawn = ensure_miniature(workshop.data, IMAGES_PER_CLASS, 1.0)
    own = workshop.place / "own" / "skipped"
    for domain in ("cartoon", "photo", "sketch"):
        shutil.copytree(drawn / domain, own / domain)
        (own / domain / "dog" / "broken.png").write_bytes(b"not an image")
    recipe = workshop.recipe(
        "skipped",
        **CLIENTS | {"train_args__client_num_in_total": 8},
        data_args__dataset="own",
        fedclip_args__data_root=str(own),
        fedclip_args__images_per_class=None,
        fedclip_args__domains=["cartoon", "photo", "sketch"],
        fedclip_args__on_bad_image="skip",
    )
    outcome = workshop.run_here(recipe)
    told = [line for line in outcome.out.splitlines() if "skipped unreadable" in line]
    counts = "skipped unreadable images: cartoon 1, photo 1, target sketch 1 (logs/ says which)"
    assert told == [counts, f"note: {counts}"]
    assert outcome.log(0).count("broken.png") >= 3


@pytest.mark.parametrize("changes", [CLIENTS, {}], ids=["simulation", "silos"])
def test_a_cache_disk_without_room_is_told_before_anything_is_encoded(workshop, tmp_path, monkeypatch, changes):
    recipe = workshop.recipe("small_cache", **changes, fedclip_args__feature_cache_dir=str(tmp_path / "cache"))
    real = shutil.disk_usage

    def _usage(path):
        return real(path)._replace(free=30_000) if (tmp_path / "cache") in Path(path).parents else real(path)

    monkeypatch.setattr(shutil, "disk_usage", _usage)
    with pytest.raises(FedClipError, match=r"features that are to be encoded take \d+ kB in .*, where 30 kB are free"):
        run_job_here(load_recipe(recipe), RunFolder(tmp_path / "run"), False, False, _Progress(3, shown=False))
    assert not list((tmp_path / "cache").rglob("*.safetensors"))
    assert RunFolder(tmp_path / "run").rounds() == []


def test_fit_is_one_process_and_says_so():
    with pytest.raises(FedClipError) as caught:
        fit("miniature", "sketch", training_type="simulation", backend="MPI", worker_num=2, progress=False)
    assert [line.split(" = ")[0] for line in str(caught.value).splitlines()[1:]] == ["  backend", "  worker_num"]
    assert str(caught.value).count("fit is one process; leave it out") == 2


def test_a_server_alone_is_no_simulation_over_mpi():
    alone = SimpleNamespace(Get_rank=lambda: 0, Get_size=lambda: 1)
    with pytest.raises(FedClipError, match=r"there is 1 rank: start more by mpirun .* or write comm_args\.backend: sp"):
        WorkerGroup.of(alone, 1.0)


@pytest.mark.parametrize("silos", ["miniature", "own folders"])
def test_clients_of_domains_need_not_be_counted(workshop, silos):
    place = silos if silos == "miniature" else ensure_miniature(workshop.data, IMAGES_PER_CLASS, 1.0)
    keys = keys_of_silos(place, "sketch", {"silos_per_domain": 4}, "test")
    assert (keys["client_num_in_total"], keys["client_num_per_round"]) == (12, 12)


@pytest.mark.parametrize("error", [ValueError("odd"), SystemExit(0)], ids=["error", "exit"])
def test_a_worker_that_leaves_ends_the_job(monkeypatch, error):
    def _leave():
        raise error

    told, left = [], simulator.Simulator.__new__(simulator.Simulator)
    left.group = WorkerGroup("communicator", 2, 3, False, True, 1.0)
    monkeypatch.setattr(left, "_part", _leave, raising=False)
    monkeypatch.setattr(simulator, "stop_job", lambda *words: told.append(words))
    left.run()
    assert told == [("communicator", "worker 2 (rank 2)", error)]


EVERYONE = {"train_args__client_num_per_round": 12, "train_args__comm_round": 1}
"""What a method needs that is solved in one round."""


@pytest.mark.parametrize("method", ["ridge", "ncm", "gda"])
def test_a_solved_method_is_the_same_however_images_are_shared_out(simulate, method):
    solved = EVERYONE | {"fedclip_args__method": method}
    folder = simulate(f"{method}_solved", **solved, fedclip_args__personal_statistics=True)
    assert [line.round for line in folder.rounds()] == [0, 1]
    assert len(folder.rounds()[1].answered) == 12
    assert all(set(silo.personal) == {"validation", "test"} for silo in folder.rounds()[1].silos.values())
    three = {"train_args__client_num_in_total": 3, "train_args__client_num_per_round": 3}
    cross = three | {"common_args__training_type": "cross_silo", "comm_args__backend": "MPI"}
    cross |= {"data_args__partition_method": None, "fedclip_args__silos_per_domain": None}
    silos = simulate(f"{method}_silos", **solved | cross)
    simulated = simulate(f"{method}_three", **solved | cross | SIMULATED)
    for name, own in tensors(silos).items():
        assert np.abs(own - tensors(simulated)[name]).max() <= 1e-6
    ours, theirs = results(simulated.rounds()), results(silos.rounds())
    assert [{**mine, "clients": None, "zero_shot_clients": None} for mine in ours] == theirs


def test_a_probe_that_starts_from_ridge_asks_all_clients_at_first(simulate):
    probe = {"fedclip_args__method": "linear_probe", "fedclip_args__start": "ridge", "train_args__comm_round": 3}
    folder = simulate("probe_started", **probe, train_args__client_num_per_round=4)
    ridge = simulate("ridge_alone", **EVERYONE | {"fedclip_args__method": "ridge"})
    rounds = folder.rounds()
    assert [len(line.answered) for line in rounds] == [0, 12, 4, 4]
    assert rounds[1].solved == ridge.rounds()[1].solved
    assert rounds[1].bytes_up == ridge.rounds()[1].bytes_up
    assert rounds[2].bytes_up == 4 * sum(own.nbytes for own in load_adapter(folder.adapters / "final").tensors.values())
    first = load_file(folder.adapters / "round_0001" / "adapter.safetensors")
    assert all(np.array_equal(first[name], own) for name, own in tensors(ridge).items())
