"""A federation from Python: the same bytes as under mpirun, any labelled images, and a result that can be kept."""

import logging
import shutil
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

import fedclip_plugin
from fedclip_miniature import CLASSES, ensure_miniature
from fedclip_plugin import Classifier, FedClipError, Result, fit
from fedclip_plugin.federated.job_here import run_job_here
from fedclip_plugin.fitting import _Progress
from fedclip_plugin.recipe import load_recipe
from fedclip_plugin.runs import RunFolder
from tests.support.workshop import IMAGES_PER_CLASS, results

DOMAINS = ("art_painting", "cartoon", "photo")
FILES = ("adapter.json", "adapter.safetensors")


@pytest.fixture(scope="module")
def place(workshop):
    return workshop.place


@pytest.fixture
def run(workshop, tmp_path, monkeypatch):
    """Return ``fit`` on caches that all tests share, quiet, two rounds."""
    monkeypatch.chdir(tmp_path)
    shared = {"feature_cache_dir": workshop.features, "data_cache_dir": workshop.data, "progress": False, "rounds": 2}
    shared["backbone"] = "clip-tiny"
    return lambda *silos, **keys: fit(*silos, **shared | keys)


@pytest.fixture(scope="module")
def images(workshop):
    return ensure_miniature(workshop.data, IMAGES_PER_CLASS, 1.0)


@pytest.fixture
def folders(images):
    return {name: images / name for name in DOMAINS}


def adapter(folder, name="final"):
    return [(folder / "adapters" / name / file).read_bytes() for file in FILES]


def tensors(result, name="final"):
    return adapter(result.folder, name)[1]


def test_public_names_are_listed_and_there():
    assert {"Classifier", "fit", "Result", "Recipe", "build"} <= set(dir(fedclip_plugin))
    assert all(getattr(fedclip_plugin, name) is not None for name in dir(fedclip_plugin))


def test_fit_on_the_miniature(run, tmp_path):
    result = run("miniature", "sketch", images_per_class=IMAGES_PER_CLASS, seed=3)
    assert [record.round for record in result.rounds] == [0, 1, 2]
    assert list(result.rounds[0].silos) == list(DOMAINS)
    assert result.recipe.fedclip_args.target_domain == "sketch" and result.recipe.common_args.random_seed == 3
    drawing = Image.new("RGB", (64, 64), "white")
    assert result.best.predict(drawing, top=7).keys() == set(CLASSES)
    assert not (tmp_path / "runs").exists()


def test_a_method_in_one_round_takes_one_unless_another_number_is_asked_for(run):
    result = run("miniature", "sketch", images_per_class=IMAGES_PER_CLASS, method="ridge", rounds=None)
    assert [record.round for record in result.rounds] == [0, 1]
    assert "3 silos, 1 round, seed 0" in repr(result)
    with pytest.raises(FedClipError, match="method ridge is solved in one round; set it to 1"):
        run("miniature", "sketch", images_per_class=IMAGES_PER_CLASS, method="ridge")


def test_methods_on_features_take_four_views_unless_told_otherwise(run):
    few = {"images_per_class": IMAGES_PER_CLASS, "rounds": 1}
    usual = run("miniature", "sketch", **few).to_recipe().fedclip_args
    assert (usual.method, usual.augmented_views) == ("sigmoid_gate", 4)
    assert run("miniature", "sketch", **few, augmented_views=0).to_recipe().fedclip_args.augmented_views == 0
    assert run("miniature", "sketch", **few, method="lora").to_recipe().fedclip_args.augmented_views == 0


def test_a_result_shows_itself(run):
    result = run("miniature", "sketch", images_per_class=IMAGES_PER_CLASS)
    assert [line.split("  ")[0] for line in result.table.splitlines()[2:]] == [
        "zero-shot CLIP",
        f"Sigmoid gate, best round {result.rounds[-1].best_round}",
        "Sigmoid gate, last round 2",
    ]
    shown, page = repr(result), result._repr_html_()
    assert result.table in shown and "3 silos, 2 rounds, seed 0" in shown
    first, second, _ = page.split("</table>")
    assert first.count("<tr>") == 4 and "<th>target sketch</th>" in first and "<th>temperature</th>" in second
    frame = result.to_frame()
    assert list(frame.index) == [0, 1, 2]
    assert list(frame["photo_validation"]) == [record.silos["photo"].validation for record in result.rounds]
    assert list(frame["target"]) == [record.target for record in result.rounds]


def test_a_saved_result_is_an_ordinary_run_folder(run, tmp_path):
    result = run("miniature", "sketch", images_per_class=IMAGES_PER_CLASS)
    saved = result.save(tmp_path / "kept")
    assert RunFolder(saved).rounds() == result.rounds
    assert adapter(saved) == adapter(result.folder)
    assert load_recipe(saved / "recipe.yaml") == result.to_recipe()
    before = result.best.encode(np.zeros((8, 8, 3), np.uint8))
    del result
    again = Classifier.load(saved / "adapters" / "best", device="cpu")
    assert (again.encode(np.zeros((8, 8, 3), np.uint8)) == before).all()
    kept = Result(load_recipe(saved / "recipe.yaml"), saved)
    for place, told in {
        saved: "kept is not empty; name another folder",
        "a\0b": "folder is 'a.x00b', which can be no path",
        "": "folder is empty",
        None: "folder is a NoneType; it is a path",
    }.items():
        with pytest.raises(FedClipError, match=told):
            kept.save(place)


def test_folders_beside_each_other_are_the_layout_silos(run, folders, images):
    result = run(folders, images / "sketch")
    settings = result.recipe.fedclip_args
    assert settings.data_layout == "silos" and settings.data_root == images and settings.target_domain == "sketch"
    assert result.rounds[-1].target is not None


def test_one_of_the_silos_may_be_held_out(run, images):
    result = run({name: images / name for name in (*DOMAINS, "sketch")}, "sketch")
    assert list(result.rounds[0].silos) == list(DOMAINS) and result.recipe.train_args.client_num_in_total == 3


def test_an_independent_run_ends_with_the_same_bytes(run, folders):
    assert tensors(run(folders)) == tensors(run(folders)) != tensors(run(folders, seed=1))


def test_noise_of_one_federation_is_not_that_of_the_next(run, folders):
    plain = tensors(run(folders))
    noisy = [run(folders, dp_target_epsilon=3) for _ in range(2)]
    assert tensors(noisy[0]) != tensors(noisy[1]) != plain
    assert tensors(run(folders)) == plain
    assert noisy[0].rounds[-1].epsilon == pytest.approx(3, rel=0.02) and noisy[0].rounds[-1].epsilon <= 3
    assert noisy[0].best.saved.metrics["epsilon"] <= 3 and noisy[0].final.saved.metrics["delta"] == 1e-5


def test_a_run_is_continued(run, folders, tmp_path):
    whole = run(folders, rounds=3)
    run(folders, run_dir=tmp_path / "run")
    with pytest.raises(FedClipError, match="run already holds a run; give resume=True to continue it"):
        run(folders, run_dir=tmp_path / "run", rounds=3)
    longer = run(folders, run_dir=tmp_path / "run", rounds=3, resume=True)
    assert tensors(longer) == tensors(whole) and results(longer.rounds) == results(whole.rounds)
    with pytest.raises(FedClipError, match=r"run has 3 rounds already, and 1 are asked for .*: ask for 3 or more"):
        run(folders, run_dir=tmp_path / "run", rounds=1, resume=True)
    assert load_recipe(tmp_path / "run" / "recipe.yaml").train_args.comm_round == 3


def test_silos_keep_their_own_adapters(run, folders):
    result = run(folders, personal_epochs=1)
    assert result.personal("photo").saved.round == 2
    assert "each silo's own" in result.table
    with pytest.raises(FedClipError, match=r"this run has no personal/moon/adapter"):
        result.personal("moon")


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"learning_rat": 1e-3}, r"learning_rat = 0.001: unknown key \(did you mean 'learning_rate'\?\)"),
        ({"comm_round": 3}, "comm_round = 3: is given as rounds"),
        ({"random_seed": 3}, "random_seed = 3: is given as seed"),
        ({"rounds": 0}, "train_args.comm_round = 0: must be at least 1"),
        ({"method": "fedclp"}, r"fedclip_args.method = \"fedclp\": must be .*did you mean 'fedclip'"),
        ({"batch_size": "many", "codec": "int4"}, "2 errors in fit"),
        ({"client_num_per_round": 4}, "client_num_per_round = 4: must be at most client_num_in_total, 3"),
        ({"byzantine_client_num": 1}, "belongs to several sections: give defense_args or attack_args as a dictionary"),
        ({"defense_args": 3}, "defense_args = 3: is a section: give it as a dictionary of keys"),
        ({"dp_args": {}}, "dp_args: FedML's noise, local or central, guarantees nothing"),
        ({"zzz": 3}, "zzz = 3: unknown key; 'fedclip keys' lists all"),
        ({"backbone": "./no/such"}, "no/such"),
        ({"enable_wandb": True}, "wandb would open a connection; export WANDB_MODE=offline"),
        ({"enable_tensorboard": True}, "enable_tensorboard = true: is of fedclip launch; take the result's to_frame"),
        ({"device": "cuda"}, 'device = "cuda": is no key: a GPU is used where there is one; using_gpu=False keeps to'),
        ({"run_dir": "a\0b"}, "run_dir = .*: must not hold a NUL character"),
        ({"run_dir": "a" * 300}, "run_dir is 'aaa.*which can be no path .File name too long"),
        ({"feature_cache_dir": "a\0b"}, "feature_cache_dir = .*: must not hold a NUL character"),
        ({"classes": {"dog", "horse"}}, "fedclip_args.classes = .*: is a set, which has no order; give a list"),
    ],
)
def test_keywords_get_the_recipes_errors(run, folders, keys, told):
    with pytest.raises(FedClipError, match=told):
        run(folders, **keys)


@pytest.mark.parametrize(
    ("silos", "target", "told"),
    [
        ({}, None, "silos is {}; give a dictionary from each silo's name"),
        ("minature", None, "silos is 'minature', and there is no such folder or list; give one, 'miniature', or"),
        ("miniature", "skech", r"target = \"skech\": must be a domain of the miniature, .*did you mean 'sketch'"),
        ({"a": "no/such"}, None, "folder .*no/such does not exist"),
        ({"a": []}, None, "a: the list or dataset holds no image"),
        ({"a": [("x.png", 1)]}, None, r"a, item 0 has the label 1, which has no name; give classes=\[...\]"),
    ],
)
def test_silos_that_cannot_be_used_are_named(run, silos, target, told):
    with pytest.raises(FedClipError, match=told):
        run(silos, target)


def test_a_target_that_is_not_there_is_named(run, folders):
    with pytest.raises(FedClipError, match=r"target 'phto' is neither one of silos, .*did you mean 'photo'"):
        run(folders, "phto")


def test_unreadable_images_are_named_or_left_out(run, folders, tmp_path):
    place = tmp_path / "own"
    for name, folder in folders.items():
        shutil.copytree(folder, place / name)
    (place / "photo" / "dog" / "0000.png").write_bytes(b"broken")
    own = {name: place / name for name in folders}
    with pytest.raises(FedClipError, match=r"photo: 1 of 84 images cannot be read, the first: .*0000\.png"):
        run(own)
    assert run(own, on_bad_image="skip").rounds[-1].round == 2


def test_the_progress_bar_counts_rounds(capsys, run, folders):
    records = run(folders).rounds
    with _Progress(2, shown=True) as bar:
        bar.begin(3, 0, None)
        bar.train(None, 0)
        for record in records:
            bar.round(record)
    assert "2/2" in capsys.readouterr().err


class Drawings:
    """A dataset as torch and torchvision have them: images in memory, numbered labels, and names of the classes."""

    def __init__(self, folder):
        self.classes = list(CLASSES)
        self._files = sorted(folder.glob("*/*.png"))

    def __len__(self):
        return len(self._files)

    def __getitem__(self, index):
        return Image.open(self._files[index]), self.classes.index(self._files[index].parent.name)


def listed(folder):
    return [(path, path.parent.name) for path in sorted(folder.glob("*/*.png"))]


def test_lists_and_datasets_are_trained_on_as_their_folders_are(run, folders, images):
    result = run(folders, images / "sketch")
    lists = run({name: listed(folder) for name, folder in folders.items()}, listed(images / "sketch"))
    mixed = run(
        {
            "art_painting": folders["art_painting"],
            "cartoon": Drawings(folders["cartoon"]),
            "photo": listed(folders["photo"]),
        },
        Drawings(images / "sketch"),
    )
    assert tensors(lists) == tensors(result) == tensors(mixed)
    assert lists.recipe.fedclip_args.data_layout == "list" and lists.recipe.fedclip_args.target_domain == "target"
    assert [record.target for record in mixed.rounds] == [record.target for record in result.rounds]


def test_the_recipe_of_lists_can_be_run_again(run, folders, tmp_path):
    result = run({name: listed(folder) for name, folder in folders.items()})
    file = tmp_path / "again.yaml"
    file.write_text(result.to_recipe().to_yaml())
    folder = RunFolder(tmp_path / "again")
    run_job_here(load_recipe(file), folder, resume=False, progress=False, observer=_Progress(2, shown=False))
    assert adapter(folder.path) == adapter(result.folder)


def test_datasets_that_name_their_classes_differently_are_refused(run, folders):
    other = Drawings(folders["photo"])
    other.classes = list(reversed(other.classes))
    with pytest.raises(FedClipError, match="the datasets name their classes differently"):
        run({"cartoon": Drawings(folders["cartoon"]), "photo": other})


def test_images_of_ones_own_want_a_clip_that_knows_photographs(run, folders, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(FedClipError, match="openai/clip-vit-base-patch32"):
        run(folders, backbone=None)
    result = run("miniature", "sketch", backbone=None, images_per_class=IMAGES_PER_CLASS)
    assert result.recipe.fedclip_args.backbone == "clip-tiny"


@pytest.fixture
def list_of_all(images, tmp_path):
    """Return a list of all silos; four drawings of one number in each style are one group."""
    lines = ["file,label,style,sheet"]
    for style in (*DOMAINS, "sketch"):
        for path in sorted((images / style).glob("*/*.png")):
            lines.append(f"{path},{path.parent.name},{style},{style} {int(path.stem) % 6}")
    file = tmp_path / "images.csv"
    file.write_text("\n".join(lines))
    return file


def test_one_folder_or_one_list_holds_all_silos(run, images, list_of_all, folders):
    plain = run(folders, images / "sketch")
    folder = run(images, "sketch")
    listed_ = run(list_of_all, "sketch", silo_column="style")
    assert tensors(folder) == tensors(plain) == tensors(listed_)
    assert folder.recipe.fedclip_args.data_layout == "domains" and listed_.recipe.fedclip_args.silo_column == "style"


def test_groups_of_lists_stay_together(run, list_of_all, tmp_path, folders):
    whole = run(list_of_all, "sketch", silo_column="style", group_column="sheet")
    for silo in whole.rounds[0].silos.values():
        assert set(silo.images.values()) == {14}, "one of six groups of 14 drawings"
    own = {}
    rows = list_of_all.read_text().splitlines()
    for name in folders:
        own[name] = tmp_path / f"list_{name}.csv"
        own[name].write_text("\n".join([rows[0], *(row for row in rows if f",{name}," in row)]))
    apart = run(own, group_column="sheet")
    assert [silo.images for silo in apart.rounds[0].silos.values()] == [
        silo.images for silo in whole.rounds[0].silos.values()
    ]
    with pytest.raises(FedClipError, match='group_column = "sheet": photo are folders, pairs or datasets and have no'):
        run(own | {"photo": listed(folders["photo"])}, group_column="sheet")
    with pytest.raises(FedClipError, match='group_column = "sheet": art_painting, cartoon, photo are folders'):
        run(folders, group_column="sheet")
    with pytest.raises(FedClipError, match='silo_column = "style": the dictionary says whose each list is'):
        run(own, silo_column="style")


def test_a_folder_without_silos_is_shared_out(run, images):
    result = run(images / "photo", client_num_in_total=2, partition_method="hetero", partition_alpha=1.0)
    assert list(result.rounds[0].silos) == ["silo_1", "silo_2"]
    assert result.recipe.fedclip_args.data_layout == "classes"


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"data_layout": "list"}, 'data_layout = "list": follows from silos and target; leave it out'),
        ({"target": 3}, "target is a int; name one of the domains or silos in "),
        ({"target": "skech"}, r"has no domain or silo 'skech' \(did you mean 'sketch'\?\)"),
    ],
)
def test_what_contradicts_one_place_is_named(run, images, keys, told):
    with pytest.raises(FedClipError, match=told):
        run(images, keys.pop("target", None), **keys)


@pytest.fixture
def own_lists(list_of_all, tmp_path):
    """Return a list file for each of two silos."""
    rows, own = list_of_all.read_text().splitlines(), {}
    for name in ("photo", "cartoon"):
        own[name] = tmp_path / f"{name}.csv"
        own[name].write_text("\n".join([rows[0], *(row for row in rows if f",{name}," in row)]))
    return own


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("/tmp/x", "must be the name of one folder"),
        ("../x", "must be the name of one folder"),
        (1, "names are text"),
        ("a\0b", "must be the name of one folder"),
        ("a\nb", "has a line break or a control character"),
    ],
)
def test_names_of_silos_are_looked_at_before_anything_is_written(run, own_lists, name, told, tmp_path):
    before = {path: path.read_bytes() for path in own_lists.values()}
    with pytest.raises(FedClipError, match=told):
        run({name: own_lists["photo"], "cartoon": own_lists["cartoon"]}, data_cache_dir=tmp_path / "cache")
    assert {path: path.read_bytes() for path in own_lists.values()} == before and not (tmp_path / "cache").exists()


def test_the_target_is_no_silos(run, folders, own_lists, images):
    with pytest.raises(FedClipError, match="the target is the place of silo 'pictures'"):
        run({"pictures": images / "photo", "cartoon": images / "cartoon"}, images / "cartoon" / ".." / "photo")
    with pytest.raises(FedClipError, match="84 images are both the target's and photo's, such as "):
        run(own_lists, listed(images / "photo"))


def test_groups_in_several_lists_are_told(run, own_lists, caplog):
    for path in own_lists.values():
        path.write_text(path.read_text().replace("cartoon 1\n", "shared\n").replace("photo 1\n", "shared\n"))
    run(own_lists, group_column="sheet", rounds=1)
    assert "1 groups are in several silos, such as shared in photo, cartoon; what one trains on" in caplog.text


def test_lists_may_be_relative_to_a_root(run, images, tmp_path):
    for name in ("photo", "cartoon"):
        rows = [f"{name}/{path.parent.name}/{path.name},{path.parent.name}" for path, _ in listed(images / name)]
        (tmp_path / f"{name}.csv").write_text("\n".join(["file,label", *rows]))
    own = {name: tmp_path / f"{name}.csv" for name in ("photo", "cartoon")}
    plain = run({name: images / name for name in own})
    assert tensors(run(own, data_root=images)) == tensors(plain)


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"data_root": "x"}, 'data_root = "x": follows from silos and target'),
        ({"data_silo_config": ["a.yaml"]}, "data_silo_config = .*: follows from silos and target"),
        ({"train_args": {"comm_round": 7}}, "comm_round = 7: is given as rounds"),
        ({"fedclip_args": {"silos": ["a"]}}, "silos = .*: follows from silos and target"),
        (
            {"learning_rate": 1.0, "train_args": {"learning_rate": 2.0}},
            "train_args.learning_rate = 2.0: is given twice",
        ),
        ({"resume": True}, "resume = true: continues a run: name it by run_dir"),
        ({"backbone": ""}, "backbone"),
        ({"data_cache_dir": 3}, "data_cache_dir"),
    ],
)
def test_keys_that_contradict_the_silos_are_named(run, folders, keys, told):
    with pytest.raises(FedClipError, match=told):
        run(folders, **keys)


@pytest.mark.parametrize(
    ("images", "told"),
    [
        (None, "a is a NoneType; give a folder, a list of"),
        ({"train": []}, "a is a dict; give one split of it"),
        ([("x.png", 0.9)], r"a, item 0 has the label 0.9; a label is text, or a whole number"),
        ([("x.png", float("inf"))], "has the label inf"),
        ([("x.png", True)], "has the label True"),
        ([("x.png", " dog")], "has the label ' dog'; a label has no line break"),
        ([("x.png", "dog"), ("x.png", "cat")], "item 1 has the label 'cat'; the same image has 'dog' before"),
        ("", "cannot be the place of images: it is empty"),
        ("a$b", "cannot be the place of images"),
        ("~nobody_of_this_name/x", "there is no such user"),
        ("a\0b", "the place of images is 'a.x00b', which can be no path"),
        ([("a\0.png", "dog")], "a, item 0 names a file with a NUL character"),
    ],
)
def test_images_that_are_none_are_named(run, images, told):
    with pytest.raises(FedClipError, match=told):
        run({"a": images})


@pytest.mark.parametrize(
    ("classes", "told"),
    [
        (3, "fedclip_args.classes = 3: must be a list"),
        ([3, 4], r"fedclip_args.classes\[0\] = 3: must be text"),
        ("dog", 'fedclip_args.classes = "dog": must be a list'),
        ([["dog"]], r"fedclip_args.classes\[0\] = .*: must be text"),
    ],
)
def test_classes_that_are_none_are_named_of_folders_that_become_lists_too(run, images, classes, told):
    with pytest.raises(FedClipError, match=told):
        run({"a": images / "photo", "b": images / "cartoon"}, classes=classes)


def test_silos_of_one_place_are_told(run, images, caplog):
    run({"a": images / "photo", "b": images / "photo" / ".." / "photo"}, rounds=1)
    assert f"silos a, b have the same images, {images / 'photo'}" in caplog.text


def test_an_image_that_is_twice_in_a_dataset_counts_once(run, folders, caplog):
    own = {name: listed(folder) for name, folder in folders.items()}
    plain = run(own)
    again = run(own | {"photo": [*own["photo"], own["photo"][3]]})
    assert tensors(again) == tensors(plain)
    assert "photo: 1 images are there before" in caplog.text


def test_nothing_of_the_process_changes(run, folders, tmp_path, monkeypatch):
    logging_before, threads, state = list(logging.getLogger().handlers), torch.get_num_threads(), torch.get_rng_state()
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        result = run(folders, run_dir="here")
        place = run(folders).folder
    assert not place.exists()
    assert logging.getLogger().handlers == logging_before and torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)
    monkeypatch.chdir(tmp_path.parent)
    assert "zero-shot CLIP" in result.table and result.best.saved.round == result.rounds[-1].best_round
    with pytest.raises(FedClipError, match="is in the run folder itself; name another folder"):
        result.save(result.folder / "copy")
    shutil.rmtree(result.folder)
    with pytest.raises(FedClipError, match=r"holds no run any more; keep a result by save"):
        Result(result.recipe, result.folder).rounds  # noqa: B018
