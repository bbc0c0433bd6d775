"""The benchmarks' parts run on toy sizes and say what they are to say; no figure is judged here."""

import json
from pathlib import Path

import pytest
import torch

from benchmarks import __main__ as command
from benchmarks import attacks, costs, encode, loading, memory, privacy, rounds, scaling, startup
from benchmarks.costs import Federation
from benchmarks.encode import Subject
from benchmarks.random_clip import write_random_clip
from benchmarks.reference import encode_padded
from benchmarks.setup import command_times, synthetic
from benchmarks.setup.attacked_federation import ATTACKS, HONEST, MiniatureSilos
from benchmarks.setup.mpi_jobs import JobResult
from benchmarks.setup.random_images import SIDE, write_jpegs, write_silos
from benchmarks.setup.ratios import Figure, as_json, number_text, of_samples, table
from benchmarks.setup.workload import PACS_SOURCES, QUICK
from fedclip_plugin.backbone.clip import FrozenClip
from fedclip_plugin.data import open_rgb
from fedclip_plugin.methods import create_adapter
from fedclip_plugin.recipe import find_recipe, load_recipe
from tests.support.round_records import round_record
from tests.support.workshop import IMAGES_PER_CLASS

CPU = torch.device("cpu")
PHASES = {"train": 0.1, "evaluate": 0.01, "aggregate": 0.003, "target": 0.004, "exchange": 0.02, "round": 0.137}


@pytest.fixture(scope="module")
def subject(tmp_path_factory):
    folder = write_random_clip(tmp_path_factory.mktemp("clip"), small=True)
    images = write_jpegs(tmp_path_factory.mktemp("images"), 8)
    return Subject("small", FrozenClip(folder, CPU), images, CPU)


def by_name(figures):
    return {figure.name: figure for figure in figures}


def test_a_table_names_goal_and_outcome():
    figures = [of_samples("exchange", [10.0, 20.0, 40.0], "ms", at_most=30.0), Figure("ratio", 1.5, "x", at_least=2.0)]
    text = table("rounds", figures)
    assert text.startswith("== rounds\n")
    assert "20.0  ms     3  <= 30 met" in text
    assert "1.50  x      1  >= 2 MISSED" in text
    assert as_json(figures)[1] == {"name": "ratio", "value": 1.5, "unit": "x", "repeats": 1, "at_least": 2.0}


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (0.01234, "0.0123"), (1.234, "1.23"), (12.34, "12.3"), (2101720, "2,101,720")]
)
def test_numbers_are_short(value, text):
    assert number_text(value) == text


def test_a_random_clip_tells_images_and_prompts_apart(subject):
    features = torch.from_numpy(subject.encode())
    cosines = torch.nn.functional.cosine_similarity(features[0], features[1:], dim=-1)
    prompts = subject.clip.encode_prompts(["a picture of a dog", "a picture of a house"])
    assert features.shape == (8, subject.clip.feature_dim)
    assert cosines.max() < 0.9999
    assert prompts[0] @ prompts[1] < 0.9999


def test_a_random_clip_depends_on_its_seed_alone(subject, tmp_path):
    same, other = (write_random_clip(tmp_path / str(seed), small=True, seed=seed) for seed in (0, 1))
    image = open_rgb(subject.images.paths()[0])
    encoded = [
        clip.encode_pixels(torch.from_numpy(clip.preprocess(image)[None]))
        for clip in (subject.clip, FrozenClip(same, CPU), FrozenClip(other, CPU))
    ]
    assert torch.equal(encoded[0], encoded[1])
    assert not torch.equal(encoded[0], encoded[2])


def test_padding_to_the_full_length_changes_no_text_feature(subject):
    prompts = ["a picture of a dog", "a picture of an elephant"]
    torch.testing.assert_close(encode_padded(subject.clip, prompts), subject.clip.encode_prompts(prompts))


def test_files_have_the_size_of_pacs(subject):
    assert open_rgb(subject.images.paths()[3]).size == (SIDE, SIDE)
    sizes = [path.stat().st_size for path in subject.images.paths()]
    assert 10_000 < sum(sizes) / len(sizes) < 40_000


def test_epochs_are_compared_and_the_extrapolation_is_called_one(subject):
    figures = by_name(encode.compare_epochs(subject, 1, goal=2.0))
    assert figures["small, 8 images: re-encoding / cached epoch"].value > 0
    assert "EXTRAPOLATED" in figures["small, 8 images: 200 rounds, fp32"].note
    assert subject.clip.precision == "fp32"


def test_the_extrapolation_adds_up():
    figures = by_name(encode.ratios("x", {"fp32": 10.0, "bf16": 5.0}, [20.0], [0.05, 0.05, 0.05], goal=283.0))
    assert figures["x: 200 rounds, fp32"].value == pytest.approx(200 * 20 / (10 + 200 * 0.05))
    assert figures["x: 200 rounds, fp32"].goal() == ""
    assert figures["x: 200 rounds, bf16"].goal() == ">= 283 MISSED"


def test_throughput_is_compared_in_every_precision(subject):
    figures = encode.compare_throughput(subject, 1)
    assert len(figures) == 4 * len(subject.precisions())
    assert all(figure.value > 0 for figure in figures)


def test_loading_is_compared_with_transformers_and_threads_with_processes(subject):
    figures = by_name(loading.compare_loading(subject.images.paths(), 1))
    assert len(figures) == 10
    assert all(figure.value > 0 for figure in figures.values())
    assert figures["load an image: ours / theirs"].at_most == 0.5


def test_the_part_for_a_gpu_runs_without_one(subject):
    figures = loading.compare_on_gpu(subject.clip, subject.images.paths(), 1)
    assert [figure.unit for figure in figures] == ["images/s", "-", "images/s"]
    assert (figures[0].at_least, figures[1].value) == (5000, 0)


def test_the_federation_of_rounds_has_the_adapter_of_vit_b32():
    server, silo = (synthetic.prepared(rank, synthetic.Work((10, 20, 30), 7)) for rank in (0, 2))
    adapter = create_adapter(silo.task.method, silo.frozen, seed=0)
    assert sum(parameter.numel() for parameter in adapter.parameters()) == 525_312
    assert len(server.target) == 7
    assert [len(part) for part in (silo.splits.train, silo.splits.validation, silo.splits.test)] == [12, 4, 4]


def test_rounds_compares_ours_with_plain_fedml():
    ours = [{"rounds": [line(number) for number in range(5)]}]
    server = {
        "on_before_aggregation": [(number + 0.1, number + 0.2) for number in range(4)],
        "on_after_aggregation": [(number + 0.2, number + 0.3) for number in range(4)],
        "test": [(number + 0.3, number + 0.35) for number in range(4)],
    }
    silo = {"spans": {"train": [(number + 0.4, number + 0.9) for number in range(4)]}}
    figures = by_name(rounds.compare("toy", ours, [{"spans": server}, silo, silo], skipped=1))
    assert figures["toy: exchange"].value == pytest.approx(20)
    assert figures["toy: exchange"].repeats == 3
    assert figures["toy: plain FedMLRunner, round"].value == pytest.approx(1000)
    assert figures["toy: plain FedMLRunner, exchange"].value == pytest.approx(1000 * (1 - 0.5 - 0.2 - 0.05))


def test_startup_phases_add_up_to_the_way_to_the_first_round():
    steps = {phase: 100.0 + 2 * number for number, phase in enumerate(startup.PHASES, 1)}
    start = JobResult(100.0, [{"steps": steps, "transformers": False, "processor": 3.0}] * 4)
    bare = JobResult(50.0, [{"steps": {"import fedml": 60.0}, "processor": 6.0}] * 4)
    figures = by_name(startup.summarize([start], [bare]))
    assert sum(figures[phase].value for phase in startup.PHASES[:-1]) == figures["mpirun to the first round"].value
    assert figures["to the first round / import fedml"].value == pytest.approx(1.4)
    assert figures["processor time, two rounds included / import fedml"].value == 0.5
    assert figures["ranks that import transformers"].goal() == "<= 0 met"


def test_short_commands_are_timed_beside_their_goal(tmp_path, monkeypatch):
    monkeypatch.setattr(command_times, "_COMMANDS", ("validate miniature/clip_tiny_fedclip",))
    monkeypatch.setattr(command_times, "_OTHERS", ())
    monkeypatch.setattr(command_times, "_IMAGES", 1)
    figures = by_name(command_times.command_times(1, tmp_path))
    assert 0 < figures["python"].value < figures["python, pydantic and yaml"].value
    assert figures["python"].goal() == ""
    assert figures["fedclip validate"].goal().startswith("<= 0.3 ")
    assert figures["fedclip validate / python, pydantic and yaml"].value > 0


def test_memory_sees_growth():
    assert memory.growth([500, *[100] * 20], skipped=1) == 0
    assert memory.growth([100 + 10 * number for number in range(41)], skipped=1) == pytest.approx(10)


def line(number, size=1.0, **seconds):
    return round_record(number, seconds=PHASES | seconds, bytes_up=size * 2000, bytes_down=size * 1000).to_json()


def federation(rounds, parameters=100, images=50, set_up=10.0, total=30.0, peaks=(4e9, 2e9, 3e9), size=1.0, **seconds):
    """A job of a server and two silos whose rounds take 1 s: 0.6 s of training, 0.2 s of evaluation."""
    seconds = {"train": 0.6, "evaluate": 0.2, "round": 1.0} | seconds
    lines = [line(number, size, **seconds) for number in range(rounds + 1)]
    facts = {"parameters": parameters, "precision": "fp32", "set_up": set_up, "total": total, "rounds": lines}
    first, *rest = ({"peak": int(peak)} for peak in peaks)
    return Federation([first | facts, *rest], images)


def test_what_was_measured_is_not_extrapolated():
    assert federation(200, total=33.0).seconds(200) == 33.0
    assert federation(3, set_up=10.0).seconds(200) == pytest.approx(10 + 200 * 1.0)


def test_more_images_lengthen_what_is_done_to_images_alone():
    found = federation(3, images=50, set_up=10.0)
    assert found.seconds_with(50, 200) == pytest.approx(found.seconds(200))
    assert found.seconds_with(100, 200) == pytest.approx(10 + 200 * (2 * 0.8 + 0.2))
    assert found.forward_seconds() == pytest.approx(0.2 / 20)


def test_traffic_is_counted_a_round_and_silo():
    assert federation(3).bytes_a_silo("up") == 1000
    assert federation(3).bytes_a_silo("down") == 500


def test_costs_are_ratios_of_full_to_ours_each_on_its_own_line():
    ours = federation(200, total=20.0, size=0.01)
    found = {
        "full": federation(3, total=9.0),
        "fedclip": ours,
        "int8": federation(200, size=0.001, peaks=(1e9, 1e9, 1e9)),
    }
    figures = by_name(costs.compare("toy", found, cached=0.1, goals=True))
    assert figures["toy: time of 200 rounds, full / FedCLIP"].value == pytest.approx(210 / 20)
    assert figures["toy: time of 200 rounds, full / FedCLIP"].goal() == ">= 283 MISSED"
    assert "EXTRAPOLATED from 3" in figures["toy: time of 200 rounds, full / FedCLIP"].note
    assert figures["toy: bytes a round, full / FedCLIP"].value == pytest.approx(100)
    assert figures["toy: bytes a round, int8, full / FedCLIP"].value == pytest.approx(1000)
    assert figures["toy: bytes a round, int8, full / FedCLIP"].goal() == ">= 1100 MISSED"
    assert figures["toy: memory, features cached, full / FedCLIP"].value == pytest.approx(3)
    assert figures["toy: full, 200 rounds"].note == "EXTRAPOLATED from 3 measured rounds"
    assert figures["toy: FedCLIP, 200 rounds"].note == "measured"
    most = max(PACS_SOURCES)
    own = 10 + (most - 50) * 0.01 + 200 * 0.1
    assert figures[f"toy: FedCLIP, 200 rounds, {most} images a silo"].value == pytest.approx(own)
    ratio = figures[f"toy: time of 200 rounds, {most} images a silo, full / FedCLIP"]
    assert ratio.value == pytest.approx((10 + 200 * (0.8 * most / 50 + 0.2)) / own)
    assert figures["toy: full, a silo's peak"].value == pytest.approx(2500)


def test_the_recipes_of_costs_are_valid(tmp_path):
    for method in costs.METHODS:
        recipe = load_recipe(find_recipe(costs.RECIPE), costs._overrides(method, "clip-tiny", QUICK, tmp_path))
        assert recipe.train_args.comm_round == (2 if method == "full" else 5)
        assert recipe.silo_names() == costs.SILOS


def test_silos_have_folders_of_classes(tmp_path):
    root = write_silos(tmp_path / "silos", ("a", "b"), 9)
    files = {silo: sorted(path.parent.name for path in (root / silo).rglob("*.jpg")) for silo in ("a", "b")}
    assert len(files["a"]) == len(files["b"]) == 9
    assert len(set(files["a"])) == 7


def test_scaling_tells_what_a_silo_and_a_byte_cost():
    lines = [line(number, exchange=0.03, train=0.002) for number in range(8)]
    ranks = [{"federations": [{"parameters": 1000, "rounds": lines}], "peak": 1_000_000_000}]
    figures = by_name(scaling.by_silos(3, ranks, skipped=5))
    assert figures["3 silos: exchange for each silo"].value == pytest.approx(10)
    assert figures["3 silos: exchange"].repeats == 2
    federations = [{"parameters": 250_000, "rounds": lines}] * len(scaling.SIZES)
    figures = by_name(scaling.by_size(federations, skipped=5))
    assert figures["1,000 images a silo: train, for 1,000 images"].value == pytest.approx(2)
    assert figures["1.00 MB of parameters: traffic"].value == pytest.approx(3000 / 30 / 1000)


def test_silos_for_which_there_is_no_memory_are_left_out(monkeypatch, tmp_path):
    monkeypatch.setattr(scaling, "available_bytes", lambda: 10**9)
    monkeypatch.setattr(scaling, "federate", lambda rounds, results, silos, sizes: [{"federations": []}])
    monkeypatch.setattr(scaling, "by_size", lambda federations, skipped: [])
    figures = scaling.measure(QUICK, tmp_path)
    assert [figure.value for figure in figures] == list(QUICK.silos)
    assert all("left out: takes" in figure.note for figure in figures)


def test_private_steps_are_compared_with_plain_ones(tmp_path):
    figures = by_name(privacy.measure(QUICK, tmp_path))
    for method in ("fedclip", "sigmoid_gate", "clip_adapter", "linear_probe"):
        plain, private = (figures[f"{method}, {kind}"].value for kind in ("plain", "private"))
        ratio = figures[f"{method}, private by plain"]
        assert ratio.value == pytest.approx(private / plain) and ratio.value > 0
        assert ratio.goal().startswith("<= 1.5")


def test_the_command_writes_its_figures(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(encode, "measure", lambda scale, work: [Figure("toy", 2.0, "x")])
    out = tmp_path / "made" / "benchmarks.json"
    assert command.run(["encode"], QUICK, tmp_path, out) == 0
    document = json.loads(out.read_text())
    assert document["topics"]["encode"]["figures"] == [{"name": "toy", "value": 2.0, "unit": "x", "repeats": 1}]
    assert document["quick"] and document["machine"]["cores"] >= 1
    assert "toy" in capsys.readouterr().out


def test_an_unknown_topic_is_named(capsys):
    assert command.main(["speed"]) == 2
    assert "no topic speed" in capsys.readouterr().err


def test_every_topic_can_be_measured():
    modules = [getattr(__import__(f"benchmarks.{name}"), name) for name in command.TOPICS]
    assert all(callable(module.measure) and module.TITLE for module in modules)
    assert Path(command.__file__).parent.name == "benchmarks"


def test_what_passes_the_egress_log_is_the_adapter_of_vit_b32_and_is_all_written(tmp_path):
    from benchmarks import egress
    from fedclip_plugin.trust.audit import audit

    figures = {figure.name: figure for figure in egress.measure(QUICK, tmp_path)}
    added = figures["what policy and log add / the silo's round"]
    assert added.at_most == 0.05
    assert added.value > 0
    found = audit(tmp_path / "egress_1.jsonl")
    assert found.verified
    assert all(0 < message["bytes"] - 4 * 525_312 < 2000 for message in found.starts[0].messages)


def test_attacks_do_what_they_are_called_and_rules_take_the_harm_away(workshop, fedml_of_the_session, fresh_fedml):
    keys = {"fedclip_args__images_per_class": IMAGES_PER_CLASS, "train_args__comm_round": 2}
    keys |= {"data_args__data_cache_dir": str(workshop.data), "fedclip_args__feature_cache_dir": str(workshop.features)}
    silos = MiniatureSilos(workshop.place, 1, **keys)
    none, bound = attacks.RULES["none"], attacks.RULES["norm_bound 5"]
    honest = silos.federate(none)
    assert honest == silos.federate(bound, HONEST, 1)
    assert silos.federate(none) == honest, "nothing is left of the federation before"
    by_title = {attack.title: silos.federate(none, attack, 1) for attack in ATTACKS}
    mean = [sum(own[:2]) / 2 for own in honest.norms[:1]]
    grown = {title: found.norms[0][2] / honest.norms[0][2] for title, found in by_title.items()}
    expected = {"x 10": 10, "x 1e6": 1e6, "sign flip": 1, "noise of 100 x": 100}
    assert {title: pytest.approx(grown[title], rel=1e-3) for title in expected} == expected
    assert by_title["label flip"].norms[0][2] < 5 * mean[0]
    assert by_title["label flip"].norms[0][2] != honest.norms[0][2]
    assert by_title["x 1e6"].sources < honest.sources - 30
    assert silos.federate(bound, ATTACKS[1], 1).sources > honest.sources - 10
    assert silos.zero_shot().sources > 50


def test_the_table_of_attacks_has_a_row_for_each_rule():
    figures = [
        Figure(f"1 of 3, {rule}, {attack}, {place}", 80.0, "%")
        for rule in ("none", "median")
        for attack in ("none", "x 10")
        for place in ("sources", "target")
    ]
    figures += [Figure("1 of 3, zero-shot CLIP, sources", 79.0, "%"), Figure("fedclip, 3 silos", 1.3, "x")]
    text = attacks.table("attacks", figures)
    assert "median          80.0 / 80.0  80.0 / 80.0" in text
    assert "multi_krum" not in text
    assert text.splitlines()[-1].split()[-1] == "1.3"


def test_what_secure_sums_add_is_taken_from_federations_that_took_turns():
    from benchmarks import secure_sums

    def federation(wall, size):
        records = [round_record(n, bytes_up=size, seconds=PHASES | {"round": wall}) for n in (0, 1, 2, 3)]
        return {"rounds": [record.to_json() for record in records]}

    found = [federation(0.1, 300), federation(0.13, 330), federation(0.1, 300), federation(0.13, 330)]
    figures = by_name(secure_sums.compare("x", found, 1, goal=60.0))
    assert figures["x: more"].value == pytest.approx(30)
    assert figures["x: more"].goal() == "<= 60 met"
    assert figures["x: with / without"].value == pytest.approx(1.3)
    assert figures["x: bytes up, more"].value == 30


@pytest.mark.parametrize(("difference", "told"), [(0.0, 1.0), (0.1, 0.990), (0.5, 0.816), (1.0, 0.577)])
def test_what_a_redo_leaks_is_what_the_page_says(difference, told):
    from benchmarks import secure_sums

    assert secure_sums.leaked(difference).value == pytest.approx(told, abs=2e-3)


def test_masking_alone_is_timed_and_masks_cancel(tmp_path):
    from benchmarks import secure_sums

    figures = secure_sums.alone(3, tmp_path / "masks", repeats=1)
    assert len(figures) == 4
    assert all(figure.value > 0 for figure in figures)
