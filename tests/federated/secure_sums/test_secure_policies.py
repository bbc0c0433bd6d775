"""Secure sums beside a silo's policy and log, differential privacy, a resume, and rounds that were masked before."""

import json
from collections import OrderedDict

import numpy as np
import pytest
import torch

from fedclip_plugin.errors import FederationError, MaskingRefusedError, PolicyError, RunFolderError
from fedclip_plugin.federated.managers import handlers
from fedclip_plugin.federated.managers.averaging_driver import AveragingDriver
from fedclip_plugin.federated.privacy.privacy_settings import PrivacySettings
from fedclip_plugin.federated.roles.aggregator import FedClipAggregator
from fedclip_plugin.federated.secure_sums.masked_rounds import MASKED_ROUNDS
from fedclip_plugin.runs import load_adapter
from fedclip_plugin.trust.audit import audit
from fedclip_plugin.trust.egress import Egress
from fedclip_plugin.trust.egress_log import EgressLog
from tests.support.in_process_federation import SILOS, Federation, silo_features
from tests.support.policies import policy_of
from tests.support.secure_silos import write_keys

pytestmark = pytest.mark.usefixtures("fresh_fedml", "raised", "silo_keys")


@pytest.fixture
def raised(monkeypatch):
    """Let what ends a job be raised, as in one process."""

    def end(comm, who, error):
        raise error

    monkeypatch.setattr(handlers, "stop_job", end)


def egress_of(folder, rank, **policy):
    folder.mkdir(parents=True, exist_ok=True)
    opening = {"run": "run", "silo": SILOS[rank - 1], "recipe": "d", "policy": None}
    return Egress(policy_of(folder, **policy), EgressLog(folder / f"egress_{rank}.jsonl", opening), "run")


def logged(folder, rank, entry="message"):
    lines = map(json.loads, (folder / f"egress_{rank}.jsonl").read_text().splitlines())
    return [line for line in lines if line["entry"] == entry]


@pytest.mark.parametrize(
    ("changes", "kinds"),
    [
        ({"comm_round": 2}, {"status", "masked update"}),
        ({"method": "ridge", "comm_round": 1}, {"status", "masked sums", "trials"}),
    ],
)
def test_the_log_has_masked_messages_with_the_norm_of_what_is_in_them(tmp_path, changes, kinds):
    egress = {1: egress_of(tmp_path / "logs", 1, require_secure_sums=True, min_silos=3)}
    Federation(tmp_path / "run", secure_sums=True, egress=egress, **changes).run()
    plain = {1: egress_of(tmp_path / "plain", 1)}
    Federation(tmp_path / "unmasked", egress=plain, **changes).run()
    egress[1].close()
    assert {line["kind"] for line in logged(tmp_path / "logs", 1)} == kinds
    norms = [
        [line["norm"] for line in logged(tmp_path / name, 1) if line["norm"] is not None] for name in ("logs", "plain")
    ]
    assert norms[0] == pytest.approx(norms[1], rel=1e-4)
    assert len(norms[0]) == (2 if "masked update" in kinds else 0)
    assert audit(tmp_path / "logs" / "egress_1.jsonl").verified


def test_a_policy_that_requires_them_keeps_back_an_update_that_can_be_read(tmp_path):
    egress = {2: egress_of(tmp_path / "logs", 2, require_secure_sums=True)}
    with pytest.raises(PolicyError, match=r"message update: can be read by itself \(require_secure_sums\)"):
        Federation(tmp_path / "run", egress=egress).run()
    (refused,) = logged(tmp_path / "logs", 2, "refused")
    assert (refused["what"], refused["policy_keys"]) == ("update", ["require_secure_sums"])


def test_a_silo_masks_for_as_many_as_its_policy_asks_for(tmp_path):
    egress = {3: egress_of(tmp_path / "logs", 3, min_silos=4)}
    with pytest.raises(FederationError, match="it has 3 members, and must have 4 or more"):
        Federation(tmp_path / "run", secure_sums=True, egress=egress).run()


def test_a_silo_masks_for_as_many_as_its_recipe_has_in_a_round(tmp_path):
    """A server that sums in small groups, or leaves silos out, is refused where min_silos does not allow it."""
    with pytest.raises(FederationError, match="it has 3 members, and must have 4 or more"):
        Federation(tmp_path / "run", secure_sums=True, min_silos=4).run()


def test_small_classes_in_masked_sums_are_kept_back_by_the_policy(tmp_path):
    """The log and the server see noise; the silo knows how many images of a class are in it."""
    changes = {"secure_sums": True, "method": "ncm", "comm_round": 1}
    egress = {1: egress_of(tmp_path / "logs", 1, min_class_count=7, allow_class_counts=False)}
    with pytest.raises(PolicyError, match=r"message masked sums: has sums over 6 images of a class.*min_class_count"):
        Federation(tmp_path / "run", egress=egress, **changes).run()
    egress = {1: egress_of(tmp_path / "other", 1, min_class_count=6, allow_class_counts=False)}
    assert len(Federation(tmp_path / "allowed", egress=egress, **changes).run().lines) == 2


@pytest.mark.parametrize("method", ["fedclip", "linear_probe"])
def test_private_updates_are_masked_too(tmp_path, method):
    private = PrivacySettings(target_epsilon=None, noise_multiplier=1.0, delta=1e-3)
    runs = [
        Federation(tmp_path / name, privacy=private, method=method, comm_round=2, secure_sums=masked).run()
        for name, masked in (("plain", False), ("masked", True))
    ]
    assert [line.epsilon for line in runs[0].lines] == [line.epsilon for line in runs[1].lines]
    tensors = [load_adapter(run.folder.adapters / "final").tensors for run in runs]
    assert all(np.isfinite(own).all() for own in tensors[1].values())


@pytest.mark.parametrize("method", ["ridge", "ncm", "gda"])
@pytest.mark.parametrize("multiplier", [0.5, 40.0])
def test_private_sums_are_masked_too_whatever_the_noise(tmp_path, method, multiplier):
    """Counts that each silo rounds up to nothing do not make the total look wrong."""
    private = PrivacySettings(target_epsilon=None, noise_multiplier=multiplier, delta=1e-3)
    run = Federation(tmp_path / "run", privacy=private, method=method, comm_round=1, secure_sums=True).run()
    assert run.lines[1].answered == SILOS and run.lines[1].epsilon > 0
    assert np.isfinite(load_adapter(run.folder.adapters / "final").tensors["rows"]).all()


def test_sums_of_other_images_than_were_told_are_noticed_though_nobody_is_named(tmp_path):
    run = Federation(tmp_path / "run", secure_sums=True, method="ridge", comm_round=1)
    trainer = run.silos[1]._driver.silo_trainer
    honest = trainer.sums
    trainer.sums = lambda data: honest(data) + honest(data)
    with pytest.raises(FederationError, match=r"cannot be used: it counts 80 images, of at most 60.*nobody can tell"):
        run.run()


def test_a_resumed_run_masks_its_rounds_with_the_same_members(tmp_path):
    straight = Federation(tmp_path / "straight", secure_sums=True).run()
    part = Federation(tmp_path / "run", secure_sums=True).run(
        until=lambda: len(list((tmp_path / "run").glob("adapters/round_0003"))) > 0
    )
    done = part.folder.rounds()[-1].round
    assert 0 < done < 4
    part.folder.release()
    saved = part.folder.load_round(done)
    again = Federation(tmp_path / "run", secure_sums=True, start_round=done, adapter=saved).run()
    ends = [run.server._aggregator.get_model_params() for run in (straight, again)]
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])
    known = json.loads((again.folder.personal("art") / MASKED_ROUNDS).read_text())
    assert known == {"format_version": 1, "groups": [sorted(SILOS)], "rounds": {str(n): [0] for n in (1, 2, 3, 4)}}


def masked_before(run, silo, round_, *members):
    """Write what a silo would know of a round that it masked with other members before a restart."""
    place = run.folder.personal(silo) / MASKED_ROUNDS
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(json.dumps({"format_version": 1, "groups": [sorted(members)], "rounds": {str(round_): [0]}}))


def test_a_silo_that_masked_a_round_with_others_before_ends_the_job_before_it_sends_anything(tmp_path):
    run = Federation(tmp_path / "run", secure_sums=True)
    masked_before(run, "cartoon", 2, *SILOS, "sketch")
    with pytest.raises(MaskingRefusedError, match=r"round 2 was masked with art, cartoon, photo, sketch before"):
        run.run()
    assert [line.round for line in run.lines] in ([], [0]), "not even round 1 is masked with others"


def test_a_server_that_sends_an_adapter_twice_and_leaves_a_silo_out_is_refused_by_every_silo(tmp_path, monkeypatch):
    """The difference of the two sums would be sketch's update, exactly: every silo trains from the same adapter."""
    names, sample, average = (*SILOS, "elephant", "sketch"), AveragingDriver.sample, FedClipAggregator.aggregate_masked
    monkeypatch.setenv("FEDCLIP_SILO_KEYS", str(write_keys(tmp_path / "five", names)))

    def without_sketch(driver, number):
        sample(driver, number)
        driver.sampled = [index for index in driver.sampled if number != 1 or names[index] != "sketch"]

    def same_again(aggregator, sent):
        average(aggregator, sent)
        return OrderedDict((name, own.clone()) for name, own in aggregator.get_model_params().items())

    monkeypatch.setattr(AveragingDriver, "sample", without_sketch)
    monkeypatch.setattr(FedClipAggregator, "aggregate_masked", same_again)
    run, refused = Federation(tmp_path / "run", secure_sums=True, min_silos=4, comm_round=2, names=names), []
    while run.wire.pairs():
        try:
            run.run()
        except MaskingRefusedError as error:
            refused.append(str(error))
    assert len(refused) == 4, "each that is still to train"
    for said in refused:
        assert "round 1 was masked with art, cartoon, elephant, photo, sketch before, and round 2 is now to be" in said
    again = Federation(tmp_path / "trusting", secure_sums=True, redo=True, min_silos=4, comm_round=2, names=names)
    assert len(again.run().lines) == 3, "nothing but the refusal is in the way"


def test_with_redo_it_goes_along_and_says_who_is_said_to_be_lost(tmp_path, caplog):
    run = Federation(tmp_path / "run", secure_sums=True, redo=True)
    masked_before(run, "cartoon", 2, *SILOS, "sketch")
    assert len(run.run().lines) == 5
    told = [record.getMessage() for record in caplog.records if "masked again" in record.getMessage()]
    assert told == [
        "round 2 is masked again, without sketch: the server has other members for it than before "
        "(on_missing: redo); what those in only one of the two sums have sent, the two together tell"
    ]


def test_what_was_masked_is_not_forgotten_when_a_run_begins_anew(tmp_path):
    run = Federation(tmp_path / "run", secure_sums=True)
    masked_before(run, "art", 1, "art", "cartoon", "sketch")
    with pytest.raises(FederationError, match="round 1 was masked with art, cartoon, sketch before"):
        run.run()


def test_a_resume_without_what_was_masked_is_refused(tmp_path):
    run = Federation(tmp_path / "run", secure_sums=True, comm_round=2).run()
    (run.folder.personal("photo") / MASKED_ROUNDS).unlink()
    run.folder.release()
    saved = run.folder.load_round(2)
    with pytest.raises(
        RunFolderError, match=r"photo/masked_rounds\.json is missing, and the run has 2 complete rounds"
    ):
        Federation(tmp_path / "run", secure_sums=True, start_round=2, adapter=saved).run()


def test_the_silos_own_view_of_the_target_does_not_change(tmp_path):
    target = silo_features(7).test
    runs = [Federation(tmp_path / str(masked), target=target, secure_sums=masked).run() for masked in (False, True)]
    assert [line.target for line in runs[0].lines] == [line.target for line in runs[1].lines]
