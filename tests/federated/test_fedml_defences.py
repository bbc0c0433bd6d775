"""What each defence of FedML 0.9.6 makes of updates: those that a recipe may name are right, the others are refused."""

import importlib.util
from collections import OrderedDict
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from fedclip_plugin.federated.fedml_imports import import_fedml
from fedclip_plugin.recipe.check import check
from fedclip_plugin.recipe.fedml_refusals import REFUSED_VALUES

import_fedml()

from fedml.core.security.fedml_defender import FedMLDefender  # noqa: E402
from fedml.ml.aggregator.agg_operator import FedMLAggOperator  # noqa: E402

SIZE = 6
HELD = np.linspace(-1, 1, SIZE)
SETTINGS = {"byzantine_client_num": 1, "norm_bound": 0.5, "batch_num": 4, "beta": 0.25}
SETTINGS |= {"trim_param_b": 1, "alpha": 1.0, "option_type": 2, "bucket_size": 1, "clip_threshold": 0.5}
SETTINGS |= {"stddev": 1.0, "robust_threshold": 4, "dataset": "own", "comm_round": 3, "federated_optimizer": "FedAvg"}
SETTINGS |= {"training_type": "cross_silo", "scenario": "horizontal", "device_type": "cpu", "using_gpu": False}
SETTINGS |= {"gpu_mapping_file": None, "gpu_mapping_key": None, "process_id": 0, "worker_num": 4}
SETTINGS |= {"enable_cuda_rpc": False}


def named(change):
    vector = torch.tensor(HELD + change, dtype=torch.float32)
    return OrderedDict(weight=vector[:3].clone(), bias=vector[3:5].clone(), last=vector[5:].clone())


def defended(name, changes, samples=None, **settings):
    """Return the change that FedML makes of updates with a defence, by the calls of its aggregator."""
    own = {"enable_defense": True, "defense_type": name, "client_num_per_round": len(changes)}
    args = SimpleNamespace(**own | SETTINGS | settings)
    defender = FedMLDefender()
    defender.init(args)
    updates = [(count, named(change)) for count, change in zip(samples or [10] * len(changes), changes, strict=True)]
    updates = defender.defend_before_aggregation(updates, named(np.zeros(SIZE)))
    found = defender.defend_on_aggregation(updates, FedMLAggOperator.agg, named(np.zeros(SIZE)))
    found = defender.defend_after_aggregation(found)
    return np.concatenate([found[key].numpy() for key in ("weight", "bias", "last")]) - HELD


def drawn(silos):
    return 0.1 * (1 + np.random.default_rng(silos).normal(size=(silos, SIZE)))


def test_krum_and_multikrum_take_the_updates_closest_to_others():
    changes = drawn(8)
    changes[2] *= -50
    away = np.linalg.norm(changes[:, None] - changes[None], axis=2) ** 2
    scores = np.sort(away, axis=1)[:, 1 : 8 - 1 - 2 + 1].sum(axis=1)
    best = np.argsort(scores)
    assert defended("krum", changes) == pytest.approx(changes[best[0]], abs=1e-6)
    mean = changes[best[:3]].mean(axis=0)
    assert defended("multikrum", changes, krum_param_m=3) == pytest.approx(mean, abs=1e-6)


def test_norm_diff_clipping_cuts_updates_and_not_weights():
    changes = drawn(3)
    changes[1] *= 100
    cut = changes.copy()
    cut[1] *= 0.5 / np.linalg.norm(changes[1])
    assert defended("norm_diff_clipping", changes) == pytest.approx(cut.mean(axis=0), abs=1e-6)


def test_wise_median_is_the_median_of_an_odd_number_alone():
    assert defended("wise_median", drawn(5)) == pytest.approx(np.median(drawn(5), axis=0), abs=1e-6)
    lower = np.sort(drawn(4), axis=0)[1]
    assert defended("wise_median", drawn(4)) == pytest.approx(lower, abs=1e-6)
    assert not np.allclose(lower, np.median(drawn(4), axis=0), atol=0.01)
    assert defended("wise_median", drawn(2)) == pytest.approx(drawn(2).min(axis=0), abs=1e-6)


@pytest.mark.parametrize("name", ["rfa", "geo_median"])
def test_geometric_medians_keep_one_of_all_silos_that_weigh_alike(name):
    changes = drawn(4)
    assert defended(name, changes) == pytest.approx(changes[0], abs=1e-6)


@pytest.mark.parametrize("name", ["trimmed_mean", "slsgd"])
def test_trimming_goes_by_sample_counts_whatever_is_sent(name):
    changes = drawn(4)
    changes[1] = 1000.0
    kept = changes[[1, 2]].mean(axis=0)  # of 5, 10, 10 and 20 images
    assert defended(name, changes, [5, 10, 10, 20]) == pytest.approx(kept, rel=1e-5)


def test_cclip_clips_around_the_weights_of_a_silo_that_it_draws():
    changes = drawn(4)
    changes[3] = 1000.0
    found = []
    for seed in range(8):
        np.random.seed(seed)
        found.append(np.abs(defended("cclip", changes)).max())
    assert min(found) < 20 < 900 < max(found), "it goes where the bad silo is, if that is the one drawn"


def test_crfl_clips_the_weights_of_the_average():
    found = defended("crfl", drawn(4))
    assert np.linalg.norm(found + HELD) < 0.6 < np.linalg.norm(HELD)


@pytest.mark.parametrize("name", ["weak_dp", "robust_learning_rate"])
def test_defences_without_effect(name):
    changes = drawn(4)
    changes[3] = 1000.0
    assert defended(name, changes) == pytest.approx(changes.mean(axis=0), rel=1e-5)


def test_foolsgold_changes_next_to_nothing_of_a_scaled_update():
    changes = drawn(4)
    changes[3] *= 1000
    assert np.linalg.norm(defended("foolsgold", changes)) > 10 * np.linalg.norm(drawn(4).mean(axis=0))


def test_the_three_sigmas_and_anomaly_detection_look_at_one_tensor_alone():
    import fedml

    file = Path(fedml.__file__).parent / "core" / "security" / "defense" / "three_sigma_defense.py"  # not imported
    spec = importlib.util.spec_from_file_location("fedml.core.security.defense.three_sigma_whole", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    changes = drawn(4)
    changes[3] = changes[2]
    changes[3][[0, 1, 2, 5]] = 1000.0  # all but `bias`
    kept = module.ThreeSigmaDefense(SimpleNamespace(**SETTINGS)).defend_before_aggregation(
        [(10, named(change)) for change in changes]
    )
    assert max(float(own["weight"].max()) for _, own in kept) > 900, "it is not seen, and goes into the average"
    assert all("[-2]" in (file.parent / name).read_text() for name in SAME_TENSOR)


SAME_TENSOR = (
    *("three_sigma_geomedian_defense.py", "three_sigma_defense_foolsgold.py", "cross_round_defense.py"),
    "foolsgold_defense.py",
)


@pytest.mark.parametrize(
    "name", ["bulyan", "cross_round", "residual_reweight", "soteria", "wbc", "diff_clipping", "dp"]
)
def test_defences_that_fedml_does_not_start(name):
    with pytest.raises(Exception, match="is not defined"):
        defended(name, drawn(4))


def test_the_refused_ones_name_ours():
    for name, reason in REFUSED_VALUES["defense_type"].items():
        faults = check({"defense_args": {"enable_defense": True, "defense_type": name}})[1]
        told = [fault.line() for fault in faults if fault.where == "defense_args.defense_type"]
        assert told, name
        assert reason in told[0]
        assert "fedclip_args.robust_aggregation" in reason
