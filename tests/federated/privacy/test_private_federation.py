"""Differential privacy in a federation: what is spent, who stops, and what leaves."""

import json

import numpy as np
import pytest
import torch

from fedclip_plugin.errors import DataError, FederationError, RunFolderError
from fedclip_plugin.federated.managers import server
from fedclip_plugin.federated.privacy.accountant import Mechanism
from fedclip_plugin.federated.privacy.privacy_settings import PrivacySettings
from fedclip_plugin.federated.privacy.secret_random import KEY_BYTES, SecretRandom
from fedclip_plugin.federated.privacy.silo_privacy import SiloPrivacy, require_budget
from fedclip_plugin.methods import METHODS, Method
from fedclip_plugin.runs import RunFolder, load_adapter
from fedclip_plugin.runs.closing_table import round_text
from tests.support.in_process_federation import SILOS, Federation, settings_of, silo_features

ABLE = [own.name for own in METHODS.data.values() if isinstance(own, Method) and own.image_gradients]
SUMS = ["ridge", "ncm", "gda"]
NOISY = PrivacySettings(target_epsilon=None, noise_multiplier=1.0, delta=1e-3)

pytestmark = pytest.mark.usefixtures("fresh_fedml")


def federation(folder, privacy=NOISY, **changes):
    return Federation(folder, privacy=privacy, target=silo_features(7).test, **changes)


def ledger(run, silo):
    return json.loads((run.folder.personal(silo) / "privacy.json").read_text())


@pytest.mark.parametrize("method", ABLE)
def test_each_round_tells_what_is_spent_and_no_loss(tmp_path, method):
    run = federation(tmp_path / "run", method=method, comm_round=2).run()
    mechanism = Mechanism(1.0, 8 / 20, 3)
    assert [line.round for line in run.lines] == [0, 1, 2]
    assert run.lines[0].epsilon is None and run.lines[2].delta == 1e-3
    for line in run.lines[1:]:
        assert {silo.train_loss for silo in line.silos.values()} == {None}
        assert line.epsilon == pytest.approx(mechanism.epsilon(line.round, 1e-3, 2))
    assert ledger(run, "art")["rounds"] == 2
    best = load_adapter(run.folder.adapters / "best")
    assert best.metrics["epsilon"] == run.lines[-1].epsilon and best.metrics["delta"] == 1e-3


def test_the_console_shows_how_far_the_silos_epsilons_lie_apart(tmp_path):
    line = federation(tmp_path / "run", comm_round=1).run().lines[1]
    assert f"  epsilon {line.epsilon:.3g}  up" in round_text(line, 1, 3)
    art = line.silos["art"].model_copy(update={"epsilon": 0.5})
    apart = line.model_copy(update={"silos": line.silos | {"art": art}})
    assert f"  epsilon 0.5 to {line.epsilon:.3g}  up" in round_text(apart, 1, 3)


@pytest.mark.parametrize("method", SUMS)
def test_sums_are_noisy_and_cost_what_one_gaussian_does(tmp_path, method):
    private = PrivacySettings(target_epsilon=2.0, noise_multiplier=None, delta=1e-3)
    first, second = (federation(tmp_path / name, private, method=method, comm_round=1).run() for name in "ab")
    assert 1.98 < first.lines[1].epsilon <= 2.0
    assert first.lines[1].answered == SILOS and not first.lines[1].dropped
    saved = [load_adapter(run.folder.adapters / "final").tensors["rows"] for run in (first, second)]
    assert np.isfinite(saved).all() and not np.array_equal(*saved)


def test_a_silo_whose_budget_is_spent_trains_no_more_and_the_run_ends(tmp_path):
    target = Mechanism(1.0, 8 / 20, 3).epsilon(2, 1e-3, 4) + 1e-6
    run = federation(tmp_path / "run", PrivacySettings(target, 1.0, 1e-3)).run()
    assert [line.round for line in run.lines] == [0, 1, 2]
    assert run.lines[-1].privacy_over and run.lines[-1].epsilon <= target
    assert load_adapter(run.folder.adapters / "final").round == 2
    assert run.wire.over == {0, 1, 2, 3}, "all ranks are done"
    with pytest.raises(RunFolderError, match="had no privacy left to spend"):
        run.folder.require_rounds(run.folder.rounds(), 4)


def test_the_others_go_on_without_a_silo_that_is_spent(tmp_path):
    run = federation(tmp_path / "run", PrivacySettings(30.0, 1.0, 1e-3), min_silos=3)
    own = run.silos[0]._driver.silo_trainer.privacy
    own.settings = PrivacySettings(Mechanism(1.0, 8 / 20, 3).epsilon(1, 1e-3, 4) + 1e-6, 1.0, 1e-3)
    run.run()
    assert [line.answered for line in run.lines[1:]] == [SILOS, *[("cartoon", "photo")] * 3]
    assert [line.silos["art"].spent for line in run.lines] == [False, True, True, True, True]
    assert run.lines[4].silos["art"].epsilon == run.lines[1].silos["art"].epsilon
    assert ledger(run, "art")["rounds"] == 1


def test_fewer_silos_than_min_silos_end_the_run(tmp_path):
    run = federation(tmp_path / "run", PrivacySettings(30.0, 1.0, 1e-3), min_silos=3, fewest_silos=3)
    own = run.silos[0]._driver.silo_trainer.privacy
    own.settings = PrivacySettings(Mechanism(1.0, 8 / 20, 3).epsilon(1, 1e-3, 4) + 1e-6, 1.0, 1e-3)
    run.run()
    assert [line.round for line in run.lines] == [0, 1]
    assert load_adapter(run.folder.adapters / "final").round == 1


def test_a_resumed_run_keeps_what_was_spent_and_counts_what_it_repeats(tmp_path):
    whole = federation(tmp_path / "run")
    whole.run(until=lambda: len(whole.lines) > 2)
    spent = ledger(whole, "art")["rounds"]
    assert spent >= 2
    again = federation(tmp_path / "run", start_round=2, adapter=RunFolder(tmp_path / "run").load_round(2)).run()
    assert ledger(again, "art")["rounds"] == spent + 2
    assert again.lines[-1].silos["art"].epsilon == pytest.approx(
        Mechanism(1.0, 8 / 20, 3).epsilon(spent + 2, 1e-3, 4), rel=0.01
    )


def killed(folder, ledgers):
    """Leave a run after round 2, and let ledgers tell of so many rounds by silo; three of them fit."""
    private = PrivacySettings(Mechanism(1.0, 8 / 20, 3).epsilon(3, 1e-3, 4) + 1e-6, 1.0, 1e-3)
    whole = federation(folder, private)
    whole.run(until=lambda: len(whole.lines) > 2)
    for name, rounds in zip(SILOS, ledgers, strict=True):
        place = whole.folder.personal(name) / "privacy.json"
        place.write_text(json.dumps(json.loads(place.read_text()) | {"rounds": rounds}))
    return {"privacy": private, "start_round": 2, "adapter": RunFolder(folder).load_round(2)}


def test_a_silo_whose_ledger_is_ahead_of_the_rounds_trains_no_more_and_the_others_go_on(tmp_path):
    again = federation(tmp_path / "run", min_silos=2, **killed(tmp_path / "run", (3, 2, 2))).run()
    assert [line.answered for line in again.lines] == [("cartoon", "photo")]
    assert [ledger(again, name)["rounds"] for name in SILOS] == [3, 3, 3]
    assert again.lines[-1].privacy_over and load_adapter(again.folder.adapters / "final").round == 3


@pytest.mark.parametrize(
    ("spent", "changes", "told"),
    [
        ((3, 3, 3), {}, r"0 silos may train on .* needs 1: keep"),
        ((3, 2, 2), {"fewest_silos": 3}, r"2 silos may train on .* needs 3: lower fedclip_args.min_silos, or keep"),
        ((3, 2, 2), {"fewest_silos": 3, "secure_sums": True}, r"2 silos may train on .* needs 3: keep"),
    ],
)
def test_a_run_that_too_few_silos_can_go_on_with_ends_with_its_last_complete_round(
    spent, changes, told, tmp_path, monkeypatch
):
    def end(comm, who, error):
        raise FederationError(error)

    monkeypatch.setattr(server, "stop_job", end)
    given = killed(tmp_path / "run", spent)
    with pytest.raises(FederationError, match=f"{told} .* adapters/final is of round 2"):
        federation(tmp_path / "run", **given, **changes)
    assert load_adapter(tmp_path / "run" / "adapters" / "final").round == 2
    assert [json.loads((path / "privacy.json").read_text())["rounds"] for path in personal(tmp_path)] == list(spent)


def personal(folder):
    return [RunFolder(folder / "run").personal(name) for name in SILOS]


def silo(place, images=40, settings=NOISY, **given):
    return SiloPrivacy(settings, place / "privacy.json", images, 8, 1, 4, **given)


def test_what_was_spent_is_on_disk_before_the_round_is_computed(tmp_path):
    own = silo(tmp_path, random=lambda: pytest.fail("nothing is drawn"))
    own.begin(0)
    assert own.epsilon == 0.0
    own.spend()
    again = silo(tmp_path)
    again.begin(1)
    assert again.epsilon == own.epsilon > 0


def test_a_lost_or_foreign_ledger_is_refused(tmp_path):
    with pytest.raises(RunFolderError, match="is missing: 3 rounds have spent"):
        silo(tmp_path).begin(3)
    silo(tmp_path).begin(0)
    with pytest.raises(RunFolderError, match="is of other images"):
        silo(tmp_path, images=41).begin(0)
    for text in ("{", '{"format_version": 1}', '{"format_version": 9}', "[]", "3"):
        (tmp_path / "privacy.json").write_text(text)
        with pytest.raises(RunFolderError, match="nobody knows what was spent"):
            silo(tmp_path).begin(0)


def test_a_ledger_keeps_its_account_and_one_that_is_begun_anew_has_another(tmp_path):
    first, resumed, anew = silo(tmp_path), silo(tmp_path), silo(tmp_path / "anew")
    for own, done in ((first, 0), (resumed, 1), (anew, 0)):
        own.begin(done)
    assert first.account == resumed.account != anew.account
    place = tmp_path / "privacy.json"
    for account in ("", "x" * 16, 7):
        place.write_text(json.dumps(json.loads(place.read_text()) | {"account": account}))
        with pytest.raises(RunFolderError, match="does not hold what was spent"):
            silo(tmp_path).begin(1)


def test_a_round_beyond_the_target_is_not_computed(tmp_path):
    once = Mechanism(1.0, 8 / 40, 5).epsilon(1, 1e-3, 4)
    own = silo(tmp_path, settings=PrivacySettings(once + 1e-6, 1.0, 1e-3))
    own.begin(0)
    own.spend()
    assert not own.may_train
    with pytest.raises(FederationError, match="more than dp_target_epsilon"):
        own.spend()
    with pytest.raises(FederationError, match="one round would spend epsilon"):
        silo(tmp_path / "other", settings=PrivacySettings(once / 2, 1.0, 1e-3)).begin(0)


def budget(privacy, images, solved=False, **changes):
    require_budget(settings_of(privacy=privacy, **{"comm_round": 1} | changes), images, 0, 3, solved)


def test_numbers_that_promise_nothing_or_forbid_every_round_are_refused_before_the_first():
    budget(NOISY, 900)
    with pytest.raises(DataError, match=r"dp_delta 0.001 is 1 by 1,000, and the silo trains on 1,000 images"):
        budget(NOISY, 1000)
    with pytest.raises(DataError, match=r"one round would spend epsilon .*raise dp_noise_multiplier"):
        budget(PrivacySettings(0.1, 1.0, 1e-3), 40)


@pytest.mark.parametrize("own", [{"batch_size": 8}, {"batch_size": 40}, {"solved": True}])
def test_a_target_that_no_noise_reaches_is_refused_before_the_first_round_without_talk_of_a_multiplier(own):
    with pytest.raises(DataError, match=r"with the most noise that there is.*1e-06: raise the target$") as refused:
        budget(PrivacySettings(1e-6, None, 1e-5), 40, comm_round=3, **own)
    assert refused.value.exit_code == 2


def test_the_noise_of_an_update_is_that_of_the_account(tmp_path):
    """Without learning rate or images that matter: gradients of no image are the noise alone."""
    from fedclip_plugin.federated.privacy.dp_sgd import set_noisy_gradients

    parameters = [torch.nn.Parameter(torch.zeros(300, 100)), torch.nn.Parameter(torch.zeros(500))]
    sums = [torch.zeros_like(own) for own in parameters]
    set_noisy_gradients(parameters, sums, 3.0, 8.0, SecretRandom(bytes(KEY_BYTES)))
    found = torch.cat([own.grad.flatten() for own in parameters])
    assert float(found.std()) == pytest.approx(3 / 8, rel=0.02)
    assert abs(float(found.mean())) < 0.01
