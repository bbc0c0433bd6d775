"""What silos mask adds up to the plain average and to nothing else; a silo refuses a list that is not right."""

from collections import OrderedDict
from dataclasses import replace

import numpy as np
import pytest
import torch

from fedclip_plugin.errors import FederationError, RunFolderError
from fedclip_plugin.federated.secure_sums.collector import average, summed
from fedclip_plugin.federated.secure_sums.fixed_point import ZEROS
from fedclip_plugin.federated.secure_sums.hello import Purpose, RoundMembers
from fedclip_plugin.methods.closed_form.feature_sums import QUANTUM, Statistics
from tests.support.secure_silos import list_of, members_of, write_keys

NAMES = ("art", "cartoon", "photo")
SHAPES = {"gate.weight": (300, 200), "gate.bias": (200,)}


@pytest.fixture
def keys(tmp_path):
    return write_keys(tmp_path / "keys", NAMES)


def parameters(seed, scale=0.05):
    generator = torch.Generator().manual_seed(seed)
    return OrderedDict((name, scale * torch.randn(shape, generator=generator)) for name, shape in SHAPES.items())


def updates(count, held):
    """Return what silos trained: some thousandths from what they held."""
    return [
        OrderedDict((name, tensor + parameters(number + 1, 2e-3)[name]) for name, tensor in held.items())
        for number in range(count)
    ]


def masked(members, held, trained, bound=1.0, attempt=1, round_=1, told=None):
    told = told or list_of(members, attempt)
    return [member.mask_update(round_, told, held, own, bound) for member, own in zip(members, trained, strict=True)]


def averaged(members, held, sent, bound=1.0):
    names, images = [member.hello.silo for member in members], [member.hello.images for member in members]
    return average(held, list(zip(images, sent, strict=True)), names, dict(zip(names, images, strict=True)), bound)


def plain(held, trained, weights):
    """Return FedAvg in float64."""
    return {
        name: sum(weight * own[name].double() for weight, own in zip(weights, trained, strict=True)) for name in held
    }


@pytest.mark.parametrize("count", [3, 8, 32])
@pytest.mark.parametrize("by_images", [False, True])
def test_the_average_is_the_plain_one_to_within_1e_7(tmp_path, count, by_images):
    names, images = [f"silo_{number:02d}" for number in range(count)], [50 + 37 * number for number in range(count)]
    members = members_of(write_keys(tmp_path, names), names, images, by_images=by_images)
    held = parameters(0)
    trained = updates(count, held)
    found = averaged(members, held, masked(members, held, trained))
    weights = [own / sum(images) if by_images else 1 / count for own in images]
    wanted = plain(held, trained, weights)
    assert max(float((found[name].double() - wanted[name]).abs().max()) for name in held) < 1e-7
    moved = max(float((found[name] - held[name]).abs().max()) for name in held)
    assert moved > 1e-4, "there is something to be off from"


def test_what_the_server_gets_of_a_silo_is_not_its_update(keys):
    members, held = members_of(keys, NAMES), parameters(0)
    trained = updates(3, held)
    sent = masked(members, held, trained)
    for own, update in zip(sent, trained, strict=True):
        assert own.keys() - {ZEROS} == held.keys()
        change = (update["gate.weight"] - held["gate.weight"]).flatten().numpy()
        seen = own["gate.weight"].flatten().numpy().astype(np.float64)
        assert abs(np.corrcoef(seen, change)[0, 1]) < 0.025  # six standard deviations of 60,000 numbers
        assert own["gate.weight"].dtype == torch.int32
        assert 0.4 < np.unpackbits(own["gate.weight"].numpy().view(np.uint8)).mean() < 0.6
    two = sent[0]["gate.weight"].numpy().view(np.uint32) + sent[1]["gate.weight"].numpy().view(np.uint32)
    assert two.view(np.int32).astype(np.float64).std() > 1e9, "two of three are noise"


def test_the_order_in_which_parts_come_does_not_matter(keys):
    members, held = members_of(keys, NAMES), parameters(0)
    sent = masked(members, held, updates(3, held))
    one, other = averaged(members, held, sent), averaged(members[::-1], held, sent[::-1])
    assert all(torch.equal(one[name], other[name]) for name in held)


def test_the_order_in_which_the_server_lists_members_does_not_matter(keys):
    members, held = members_of(keys, NAMES), parameters(0)
    trained = updates(3, held)
    lists = [list_of(members), list_of(members[::-1]), list_of(members[1:] + members[:1])]
    sent = [
        member.mask_update(1, told, held, own, 1.0) for member, told, own in zip(members, lists, trained, strict=True)
    ]
    assert averaged(members, held, sent).keys() == held.keys()


def test_an_update_beyond_the_bound_is_scaled_down_whole_and_told_of(keys, caplog):
    members, held = members_of(keys, NAMES), parameters(0)
    trained = updates(3, held)
    trained[1]["gate.bias"] = held["gate.bias"] + 0.5
    found = averaged(members, held, masked(members, held, trained, bound=0.1), bound=0.1)
    down = OrderedDict((name, held[name] + 0.2 * (own - held[name])) for name, own in trained[1].items())
    wanted = plain(held, [trained[0], down, trained[2]], [1 / 3] * 3)
    assert max(float((found[name].double() - wanted[name]).abs().max()) for name in held) < 1e-7
    assert "the update of cartoon is scaled down to 0.2 of itself: a parameter changed by 0.5" in caplog.text


def test_nothing_wraps_where_all_are_at_the_bound(keys):
    members = members_of(keys, NAMES, images=[1, 2**20, 3], by_images=True)
    held = OrderedDict(a=torch.zeros(5))
    trained = [OrderedDict(a=torch.full((5,), 7.0))] * 3
    assert torch.equal(
        averaged(members, held, masked(members, held, trained, bound=0.3), 0.3)["a"], torch.full((5,), 0.3)
    )


def test_an_update_with_nan_cannot_be_masked(keys):
    members, held = members_of(keys, NAMES), parameters(0)
    broken = OrderedDict(held, **{"gate.bias": torch.full((200,), torch.nan)})
    with pytest.raises(FederationError, match=r"holds NaN or infinite values.*lower train_args.learning_rate"):
        members[0].mask_update(1, list_of(members), held, broken, 1.0)


def statistics(seed, classes=3, width=16, gram=True):
    generator = torch.Generator().manual_seed(seed)
    sums = torch.randn(classes, width, generator=generator, dtype=torch.float64)
    upper = torch.randn(width * (width + 1) // 2, generator=generator, dtype=torch.float64)
    return Statistics(torch.tensor([7.0, 0.0, 12.0 + seed], dtype=torch.float64), sums, upper if gram else None)


@pytest.mark.parametrize("gram", [True, False])
def test_sums_over_images_add_up_exactly_and_one_alone_is_noise(keys, gram):
    members, held = members_of(keys, NAMES), parameters(0)
    own = [statistics(number, gram=gram) for number in range(3)]
    told = list_of(members)
    sent = [member.mask_sums(1, told, held, sums.parts()) for member, sums in zip(members, own, strict=True)]
    images = dict.fromkeys(NAMES, 20)
    found = summed(Statistics.none(3, 16, gram), [(20, one) for one in sent], NAMES, images)
    wanted = own[0].rounded() + own[1].rounded() + own[2].rounded()
    assert torch.equal(found.counts, wanted.counts)
    assert torch.equal(found.sums, wanted.sums)
    assert found.gram is None if not gram else torch.equal(found.gram, wanted.gram)
    assert sent[0]["counts"].abs().min() > 2**40 * QUANTUM
    assert [int(count) for count in sent[0]["counts"]] != [7, 0, 12]


def test_sums_that_do_not_fit_are_refused(keys):
    members, held = members_of(keys, NAMES), parameters(0)
    sums = {"counts": torch.tensor([2.0**26], dtype=torch.float64)}
    with pytest.raises(FederationError, match="cannot be masked: of 3 silos each may have"):
        members[0].mask_sums(1, list_of(members), held, sums)


def refusal(member, told, round_=1):
    held = OrderedDict(a=torch.zeros(3))
    with pytest.raises(FederationError) as caught:
        member.mask_update(round_, told, held, held, 1.0)
    return str(caught.value)


def forged(hello, **changes):
    return replace(hello, **changes)


EVIL = {
    "no list": (lambda own, all_: None, "the server has not said with whom"),
    "a member twice": (lambda own, all_: [*all_, all_[1]], "cartoon is a member twice"),
    "itself missing": (lambda own, all_: [*all_[1:], *all_[1:2]][:2], "art itself is no member"),
    "two members": (lambda own, all_: all_[:2], "it has 2 members, and must have 3 or more"),
    "alone": (lambda own, all_: all_[:1], "it has 1 member, and must have 3 or more"),
    "another key": (
        lambda own, all_: [all_[0], forged(all_[1], key="ab" * 32), all_[2]],
        "the hello of cartoon is not signed by its key on the roster",
    ),
    "another signature": (
        lambda own, all_: [all_[0], forged(all_[1], signature=all_[2].signature), all_[2]],
        "the hello of cartoon is not signed by its key on the roster",
    ),
    "no signature": (
        lambda own, all_: [all_[0], forged(all_[1], signature="00" * 64), all_[2]],
        "the hello of cartoon is not signed by its key on the roster",
    ),
    "other images": (
        lambda own, all_: [all_[0], all_[1], forged(all_[2], images=10**6)],
        "the hello of photo is not signed by its key on the roster",
    ),
    "other images of itself": (
        lambda own, all_: [forged(all_[0], images=1), *all_[1:]],
        "what art says of itself was changed on the way",
    ),
    "a stranger": (
        lambda own, all_: [*all_[:2], forged(all_[2], silo="mallory")],
        "mallory is not on the roster",
    ),
    "one silo in the name of another": (
        lambda own, all_: [*all_[:2], forged(all_[1], silo="photo")],
        "the hello of photo is not signed by its key on the roster",
    ),
}


@pytest.mark.parametrize("evil", EVIL)
def test_a_list_that_is_not_right_is_refused_by_name(keys, evil):
    change, told = EVIL[evil]
    members = members_of(keys, NAMES)
    made = change(members[0], [member.hello for member in members])
    said = refusal(members[0], None if made is None else RoundMembers(1, tuple(made)))
    assert told in said
    assert said.startswith("the update of round 1 is not sent")
    assert not (keys / "personal" / "art" / "masked_rounds.json").read_text().count("cartoon"), (
        "nothing is written down"
    )


@pytest.mark.parametrize("purpose", [Purpose("e" * 64, "demo"), Purpose("d" * 64, "other")])
def test_a_hello_for_another_recipe_or_run_is_refused(keys, purpose):
    members, others = members_of(keys, NAMES), members_of(keys, NAMES, purpose=purpose)
    told = RoundMembers(1, (members[0].hello, others[1].hello, members[2].hello))
    assert "the hello of cartoon is not signed by its key on the roster, for this recipe" in refusal(members[0], told)


def test_a_policy_may_ask_for_more_members(keys):
    members = members_of(keys, NAMES, fewest=5)
    assert "it has 3 members, and must have 5 or more" in refusal(members[0], list_of(members))


@pytest.mark.parametrize(("round_", "attempt"), [(1, 2), (2, 1), (1, 1)])
def test_no_mask_serves_twice(keys, round_, attempt):
    members = members_of(keys, NAMES)
    held = OrderedDict(a=torch.zeros(3))
    members[0].mask_update(1, list_of(members, attempt=1), held, held, 1.0)
    assert "both must grow: a mask is used once" in refusal(members[0], list_of(members, attempt), round_)


def test_masks_of_two_rounds_have_nothing_in_common(keys):
    members, held = members_of(keys, NAMES), OrderedDict(a=torch.zeros(20_000))
    one = members[0].mask_update(1, list_of(members, 1), held, held, 1.0)["a"].double()
    two = members[0].mask_update(2, list_of(members, 2), held, held, 1.0)["a"].double()
    assert abs(np.corrcoef(one, two)[0, 1]) < 0.03


@pytest.mark.parametrize("lie", ["a hello of before", "another adapter", "another attempt"])
def test_silos_that_were_told_different_things_have_masks_that_do_not_cancel(keys, lie):
    """A replayed hello is signed, and a server may send one silo another adapter: then the sum is noise."""
    members, held = members_of(keys, NAMES), parameters(0)
    before = members_of(keys, NAMES)[1].hello
    lists, adapters = [list_of(members)] * 3, [held] * 3
    if lie == "a hello of before":
        lists[0] = RoundMembers(1, (members[0].hello, before, members[2].hello))
    elif lie == "another adapter":
        adapters[1] = parameters(9)
    else:
        lists[2] = list_of(members, attempt=2)
    sent = [
        member.mask_update(1, told, own, own, 1.0) for member, told, own in zip(members, lists, adapters, strict=True)
    ]
    with pytest.raises(FederationError, match="the masks of the silos do not cancel"):
        averaged(members, held, sent)


def test_what_is_no_masked_update_ends_the_round_by_name(keys):
    members, held = members_of(keys, NAMES), parameters(0)
    sent = masked(members, held, updates(3, held))
    sent[2] = OrderedDict(held)
    with pytest.raises(FederationError, match=r"what photo sent is no masked update \(tensors missing: :zeros"):
        averaged(members, held, sent)


def test_abort_masks_a_round_with_its_first_members_only(keys):
    """Also after a restart; the same members again, which a plain resume has, are no fault."""
    four = (*NAMES, "sketch")
    folder = write_keys(keys.parent / "four", four)
    held = OrderedDict(a=torch.zeros(3))
    members = members_of(folder, four)
    members[0].mask_update(5, list_of(members), held, held, 1.0)
    again = members_of(folder, four, done=4)
    again[0].mask_update(5, list_of(again), held, held, 1.0)
    without = members_of(folder, four, done=4)
    with pytest.raises(FederationError) as caught:
        without[0].mask_update(5, list_of(without[:3]), held, held, 1.0)
    said = str(caught.value)
    assert (
        "round 5 was masked with art, cartoon, photo, sketch before, and round 5 is now to be masked with art" in said
    )
    assert "on_missing: abort" in said


def test_abort_masks_no_other_round_with_other_members_either(keys):
    """A server may send the adapter of one round again as the next one's: the difference of two sums is an update."""
    four, held = (*NAMES, "sketch"), OrderedDict(a=torch.zeros(3))
    folder = write_keys(keys.parent / "four", four)
    members = members_of(folder, four)
    members[0].mask_update(1, list_of(members), held, held, 1.0)
    said = refusal(members[0], list_of(members[:3], 2), 2)
    assert "round 1 was masked with art, cartoon, photo, sketch before, and round 2 is now to be masked with" in said
    assert "resume with all silos of before, or begin a new run" in said and "on_missing: redo" in said
    resumed = members_of(folder, four, done=1)
    assert "round 1 was masked with" in refusal(resumed[0], list_of(resumed[:3]), 2)
    resumed = members_of(folder, four, done=1)
    resumed[0].mask_update(2, list_of(resumed), held, held, 1.0)
    fewer = members_of(folder, four[:3])
    fewer[1].mask_update(1, list_of(fewer), held, held, 1.0)
    more = members_of(folder, four, done=1)
    assert "round 1 was masked with art, cartoon, photo before" in refusal(more[1], list_of(more), 2)


def test_redo_masks_again_and_names_who_is_said_to_be_lost(keys, caplog):
    four = (*NAMES, "sketch")
    folder = write_keys(keys.parent / "four", four)
    held = OrderedDict(a=torch.zeros(3))
    members = members_of(folder, four, redo=True)
    members[0].mask_update(1, list_of(members), held, held, 1.0)
    assert "declared lost" not in caplog.text
    again = members_of(folder, four, redo=True)
    again[0].mask_update(1, list_of(again[:3]), held, held, 1.0)
    assert "round 1 is masked again, without sketch: the server has other members for it" in caplog.text
    back = members_of(folder, four, redo=True)
    caplog.clear()
    back[0].mask_update(2, list_of(back[:3], 1), held, held, 1.0)
    assert "masked again" not in caplog.text
    back = members_of(folder, four, redo=True)
    back[0].mask_update(2, list_of(back, 1), held, held, 1.0)
    assert "round 2 is masked again, with sketch: the server has other members" in caplog.text
    other = members_of(folder, four, redo=True)
    other[0].mask_update(2, list_of([other[0], *other[2:]], 1), held, held, 1.0)
    assert "round 2 is masked again, without cartoon and with sketch: " in caplog.text


def test_a_list_of_masked_rounds_that_is_lost_or_damaged_ends_the_run(keys):
    with pytest.raises(RunFolderError, match="is missing, and the run has 3 complete rounds"):
        members_of(keys, NAMES, done=3)
    members_of(keys, ("art",))
    place = keys / "personal" / "art" / "masked_rounds.json"
    groups = ('{"0": ["a"]}', '["abc"]', "[[1]]", '[["b", "a"]]', "[[]]", "7", '[["a", "a"]]')
    rounds = (
        '{"1": [4]}',
        '{"x": [0]}',
        '{"0": [0]}',
        '{"1": [true]}',
        '{"1": []}',
        '{"1": 0}',
        "[0]",
        '{"1": {"0": 0}}',
    )
    harm = [f'{{"format_version": 1, "groups": {own}, "rounds": {{"1": [0]}}}}' for own in groups]
    harm += [f'{{"format_version": 1, "groups": [["a"]], "rounds": {own}}}' for own in rounds]
    for harmed in ("", "{}", "[]", *harm):
        place.write_text(harmed)
        with pytest.raises(RunFolderError, match="nobody knows for which rounds"):
            members_of(keys, ("art",))
    place.write_text('{"format_version": 9, "groups": [], "rounds": {}}')
    with pytest.raises(RunFolderError, match="of format 9, and this version reads 1"):
        members_of(keys, ("art",))
