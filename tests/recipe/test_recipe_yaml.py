"""Recipes that are broken or hostile: one sentence each, in bounded time and memory."""

import os
import time

import pytest
import yaml

from fedclip_plugin.cli.main import main
from fedclip_plugin.errors import RecipeError
from fedclip_plugin.recipe import find_either, load_recipe, yaml_reader
from fedclip_plugin.recipe.faults import Fault, listed, show
from fedclip_plugin.recipe.overrides import parse_override
from fedclip_plugin.recipe.yaml_reader import MOST_BYTES
from fedclip_plugin.study.definition import load_study
from tests.support.study_samples import write_study

ALIASES = "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 40))
MERGES = "".join(f"m{i}: &m{i}\n  <<: [*m{i - 1}, *m{i - 1}]\n  k{i}: 1\n" for i in range(1, 40))
CHAIN = "".join(f"m{i}: &m{i}\n  <<: *m{i - 1}\n  k{i}: 1\n" for i in range(1, 1000))
TOO_MUCH = "aliases and merge keys written out"
HOSTILE = {
    "aliases": ("a0: &a0 [x]\n" + ALIASES, TOO_MUCH),
    "merge keys": ("m0: &m0 {a: 1}\n" + MERGES, TOO_MUCH),
    "chained merge keys": ("m0: &m0 {a: 1}\n" + CHAIN, TOO_MUCH),
    "alias of itself": ("common_args: &a\n  random_seed: *a\n", "*a stands inside of what it stands for"),
    "merge key of itself": ("common_args: &a\n  <<: *a\n", "*a stands inside of what it stands for"),
    "deep lists": ("a: " + "[" * 100_000, "deeper than 32 levels"),
    "deep mappings": ("{a: " * 50_000, "deeper than 32 levels"),
    "deep blocks": ("- " * 100_000, "deeper than 32 levels"),
    "bytes": ("#" * (MOST_BYTES + 1), "more than 256 kB"),
    "bool": ("common_args: {using_mlops: !!bool maybe}\n", 'line 1, column 28: "maybe" is neither true nor false'),
    "empty int": ("a: !!int ''\n", "no plain whole number"),
    "date": ("a: !!timestamp x\n", "a date to YAML"),
    "no date": ("a: 2024-13-45\n", "a date to YAML"),
    "float": ("a: !!float x\n", "no plain number"),
    "null": ("a: !!null x\n", "no null"),
    "binary": ("a: !!binary \u00e9\n", 'tag "!!binary"'),
    "set": ("a: !!set {b: 1}\n", 'tag "!!set"'),
    "pairs": ("a: !!pairs [b: 1]\n", 'tag "!!pairs"'),
    "python": ("a: !!python/object/apply:os.system [id]\n", 'tag "!!python/object/apply:os.system"'),
    "list as text": ("a: !!str [b]\n", 'tag "!!str"'),
    "mapping as number": ("a: !!int {b: 1}\n", 'tag "!!int"'),
    "list as key": ("? [a, b]\n: 1\n", "a key must be a word"),
    "mapping as key": ("? {a: b}\n: 1\n", "a key must be a word"),
    "equals sign": ("a: =\n", "put it in quotes"),
    "huge int": ("a: 1" + "0" * 10_000, "no plain whole number"),
    "huge hexadecimal int": ("a: 0x1" + "0" * 10_000, "no plain whole number"),
    "octal": ("a: 010\n", '"010" is no plain whole number: decimal, no leading zero'),
    "base 60": ("a: 1:30\n", "no plain whole number"),
    "base 60 with a fraction": ("a: 1:30.5\n", "no plain number"),
    "escape": ('a: "\\e[2J"\n', "holds the character \\x1b"),
    "surrogate": ('a: "\\ud800"\n', "holds the character \\ud800"),
    "null character": ('a: "\\0"\n', "holds the character \\x00"),
    "raw null character": ("a: 1\nb: \0\n", "line 2: malformed YAML: holds the character '\\x00'"),
    "UTF-16": ("a: 1\n".encode("utf-16"), "is not text in UTF-8"),
    "latin-1": ("a: caf\u00e9\n".encode("latin-1"), "is not text in UTF-8"),
}


def refusal(path, text):
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    return str(caught.value)


@pytest.mark.parametrize(("text", "said"), HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_file_is_one_line_soon(tmp_path, text, said):
    began = time.process_time()
    told = refusal(tmp_path / "r.yaml", text)
    seconds = time.process_time() - began

    assert said in told
    assert len(told.splitlines()) == 2
    assert len(told) < 1000
    assert all(line.isprintable() for line in told.splitlines())
    assert seconds < 10


@pytest.mark.parametrize(
    ("limit", "text"), [("MOST_VALUES", "a: [1, 2, 3, 4, 5, 6]"), ("MOST_KEYS", "{a: 1, b: 2, c: 3}")]
)
def test_values_and_keys_are_counted(tmp_path, monkeypatch, limit, text):
    assert TOO_MUCH not in refusal(tmp_path / "r.yaml", text)
    monkeypatch.setattr(yaml_reader, limit, 2)
    assert TOO_MUCH in refusal(tmp_path / "r.yaml", text)


def test_an_alias_counts_as_what_it_stands_for(monkeypatch):
    monkeypatch.setattr(yaml_reader, "MOST_VALUES", 11)
    for uses, fits in ((2, True), (3, False)):
        loader = yaml_reader.RecipeLoader(f"[&a [1, 2], {', '.join(['*a'] * uses)}]")
        if fits:
            assert loader.get_single_data() == [[1, 2]] * 3
        else:
            with pytest.raises(yaml.YAMLError, match=TOO_MUCH):
                loader.get_single_data()


def test_what_a_merge_key_brings_is_not_given_twice():
    loader = yaml_reader.RecipeLoader("a: {b: &b {x: 1}, c: &c {<<: *b, x: 2}}\nd: {<<: *c, x: 3}\n")

    assert loader.get_single_data() == {"a": {"b": {"x": 1}, "c": {"x": 2}}, "d": {"x": 3}}
    assert loader.twice == []


@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "dangling", "loop", "long", "nobody"])
def test_what_is_no_file_is_told_and_not_opened(tmp_path, kind, capsys):
    place = tmp_path / kind
    if kind == "pipe":
        os.mkfifo(place)
    elif kind == "folder":
        place.mkdir()
    elif kind in ("dangling", "loop"):
        place.symlink_to(place if kind == "loop" else tmp_path / "nowhere")
    given = {"device": "/dev/zero", "long": "x" * 5000, "nobody": "~no-such-user/r.yaml"}.get(kind, str(place))
    said = {"pipe": "not an ordinary file", "device": "not an ordinary file", "folder": "Is a directory"}
    said |= {"dangling": "No such file", "loop": "Too many levels", "long": "no such file", "nobody": "no such file"}

    assert main(["validate", given]) == 2
    told = capsys.readouterr().err
    assert said[kind] in told
    assert len(told.splitlines()) == 2


def test_keys_that_are_no_text_are_told(tmp_path):
    told = refusal(tmp_path / "r.yaml", "2: 2\nnull: 3\ntrue: 4\ncomm_args: {backend: MPI, 1: 2, null: 3}\n")

    for line in (
        "2: unknown section",
        "None: unknown section",
        "True: unknown section",
        "comm_args.1 = 2: unknown key",
    ):
        assert line in told


def test_many_faults_are_counted_and_not_all_listed(tmp_path):
    told = refusal(tmp_path / "r.yaml", "comm_args: {" + ", ".join(f"key_{i}: 1" for i in range(300)) + "}\n")

    first, *lines, last = told.splitlines()
    count = int(first.split()[1])
    assert count > 300
    assert len(lines) == 100
    assert last == f"  and {count - 100} more"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("x" * 10**6, '"' + "x" * 56 + "..."),
        ([["x"] * 1000] * 1000, '[["x", "x", "x", "x", "x", "x", "x", "x", "x", "x", "x", ...'),
        ("\x1b]0;title\x07", '"\\u001b]0;title\\u0007"'),
        ("\u202ereversed", '"\\u202ereversed"'),
        ("caf\udce9", '"caf\\udce9"'),
        ("\u732b", '"\u732b"'),
        ({"a": [1, None, True]}, '{"a": [1, null, true]}'),
    ],
)
def test_a_value_is_shown_short_and_printable(value, shown):
    assert show(value) == shown


def test_a_fault_is_short_and_printable_whatever_it_names():
    line = Fault("a\x1b[2J" + "x" * 1000, "must be one of " + "y" * 5000, "z" * 5000).line()

    assert line.isprintable()
    assert len(line) <= 1200
    assert listed(map(str, range(25)), 3) == "0, 1, 2 and 22 more"


WHOLE = {
    "comment": ("data #2", "data #2"),
    "only a comment": ("#2", "#2"),
    "mapping": ("x: y", "x: y"),
    "key": ("a:", "a:"),
    "braces": ("{silo}", "{silo}"),
    "prompt": ("a photo: {}", "a photo: {}"),
    "sequence": ("- x", "- x"),
    "alias": ("*x", "*x"),
    "anchor": ("&x y", "&x y"),
    "tag": ("!tag", "!tag"),
    "tagged": ("!!int 3", "!!int 3"),
    "document": ("--- x", "--- x"),
    "block text": (">x", ">x"),
    "home": ("~", "~"),
    "quotes inside": ("it's", "it's"),
    "quotes and more": ("'a' #2", "'a' #2"),
    "comma": ("a, b", "a, b"),
    "blanks around": (" data ", " data "),
    "line break": ("a\nb", "a\nb"),
    "open list": ("[a", "[a"),
    "list and more": ("[draft] x", "[draft] x"),
    "list and comment": ("[a] #2", "[a] #2"),
    "comment in a list": ("[a #2\n, b]", "[a #2\n, b]"),
    "quoted": ("'0123'", "0123"),
    "escapes": (r'"a\tb"', "a\tb"),
    "nothing": ("", None),
    "null": ("null", None),
    "number": ("20", 20),
    "exponent": ("1e3", "1e3"),
    "flag": ("yes", True),
    "list": ("[1, 'b c', d]", [1, "b c", "d"]),
}


@pytest.mark.parametrize(("text", "value"), WHOLE.values(), ids=WHOLE)
def test_what_follows_the_equals_sign_is_taken_whole(text, value):
    name, found, fault = parse_override(f"fedclip_args.data_root={text}")

    assert (name, found, fault) == ("fedclip_args.data_root", value, None)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("0123", "put it in quotes"),
        ("[a, 0123]", "put it in quotes"),
        ("2024-01-01", "put it in quotes"),
        ("=", "put it in quotes"),
        ("[" * 100 + "]" * 100, "deeper than 32 levels"),
        ("a\0b", "holds \\x00"),
        ("caf\udce9", "holds \\udce9"),
    ],
)
def test_or_is_refused(text, said):
    _, _, fault = parse_override(f"fedclip_args.data_root={text}")

    assert fault is not None
    assert said in fault.line()
    assert fault.line().isprintable()


def test_a_folder_with_a_hash_reaches_the_recipe_and_the_run_s_own_copy(tmp_path):
    recipe = load_recipe(find_either("pacs/vit_b32_fedclip"), ["fedclip_args.data_root=data #2"])
    (tmp_path / "recipe.yaml").write_text(recipe.to_yaml())

    assert str(recipe.fedclip_args.data_root) == "data #2"
    assert load_recipe(tmp_path / "recipe.yaml") == recipe


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"cases": {"a": {"title": "A", "grid": 5}}}, "cases.a.grid = 5: must be a list"),
        ({"cases": {"a": {"title": "A", "set": {"fedclip_args.method": ["x"]}}}}, 'fedclip_args.method = ["x"]'),
        ({"cases": {f"c{i}": {"title": f"T{i}"} for i in range(99)}, "seeds": [*range(999)]}, "at most"),
        ({"recipe": "studies/pacs"}, "is a study; a study begins with a recipe"),
        ({"recipe": "/dev/zero"}, "not an ordinary file"),
    ],
)
def test_a_study_is_bounded_too(tmp_path, changes, said):
    with pytest.raises(RecipeError) as caught:
        load_study(write_study(tmp_path / "s.yaml", **changes), ["train_args.comm_round=2"])

    assert said in str(caught.value)


def test_a_study_for_a_recipe_and_the_other_way_round_is_said_in_one_line(capsys):
    assert main(["launch", "studies/miniature"]) == 2
    assert "is a study and no recipe; run it with `fedclip study`" in capsys.readouterr().err
    assert main(["study", "miniature/clip_tiny_fedclip"]) == 2
    assert "is a recipe and no study; run it with `fedclip launch`" in capsys.readouterr().err


SILO_FILES = {
    "north.yaml": ("fedclip_args: {data_root: $NOT_ON_THIS_MACHINE/images}\n", None),
    "south.yaml": ("fedclip_args: {data_rot: /srv}\n", "fedclip_args.data_rot"),
    "east.yaml": ("fedclip_args: {data_root: !!bool maybe}\n", "neither true nor false"),
}


@pytest.mark.parametrize("study", [False, True])
def test_validate_looks_at_the_silos_own_files(tmp_path, monkeypatch, capsys, study):
    monkeypatch.chdir(tmp_path)
    name = "own_images/vit_b32_sigmoid_gate_silo_folders"
    if study:
        name = str(write_study(tmp_path / "s.yaml", recipe=name, targets=None, set={}))
    for file, (text, _) in SILO_FILES.items():
        (tmp_path / file).write_text(text)

    assert main(["validate", name, "--set", f"data_args.data_silo_config=[{', '.join(SILO_FILES)}]"]) == 2
    told = capsys.readouterr().err
    assert [fault for _, fault in SILO_FILES.values() if fault and fault not in told] == []
    assert "north.yaml" not in told

    assert main(["validate", name, "--set", "data_args.data_silo_config=[north.yaml, far.yaml, north.yaml]"]) == 0
    first, *notes = capsys.readouterr().out.splitlines()
    assert "valid" in first
    assert notes == [
        "  north.yaml names $NOT_ON_THIS_MACHINE/images, which is not on this machine: not checked",
        "  far.yaml is not on this machine: not checked",
    ]


def test_validate_looks_at_the_images_of_silos_that_are_here(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["validate", "own_images/vit_b32_sigmoid_gate_silo_folders"]
    words += ["--set", "data_args.data_silo_config=[north.yaml, south.yaml, east.yaml]"]
    for label in ("dog", "cat"):
        for number in range(5):
            (tmp_path / f"scans/{label}").mkdir(parents=True, exist_ok=True)
            (tmp_path / f"scans/{label}/{number}.png").write_bytes(b"is not opened")
    (tmp_path / "empty").mkdir()
    for name, place in {"north": tmp_path / "scans", "south": "/no/such/folder", "east": tmp_path / "scans"}.items():
        (tmp_path / f"{name}.yaml").write_text(f"fedclip_args: {{data_root: {place}}}\n")

    assert main(words) == 0
    assert capsys.readouterr().out.splitlines()[1:] == [
        f"  north.yaml: 10 images of 2 classes in {tmp_path}/scans",
        "  south.yaml names /no/such/folder, which is not on this machine: not checked",
        f"  east.yaml: 10 images of 2 classes in {tmp_path}/scans",
    ]
    (tmp_path / "east.yaml").write_text(f"fedclip_args: {{data_root: {tmp_path}/empty}}\n")
    assert main(words) == 2
    assert f"east.yaml: silo_c: folder {tmp_path}/empty has no class folders" in capsys.readouterr().err


def test_validate_takes_overrides_for_recipes_and_studies(tmp_path, capsys):
    study = str(write_study(tmp_path / "s.yaml"))

    assert main(["validate", "miniature/clip_tiny_fedclip", study, "--set", "train_args.comm_round=7"]) == 0
    assert "7 rounds" in capsys.readouterr().out
    assert main(["validate", "miniature/clip_tiny_fedclip", study, "--set", "train_args.comm_rounds=7"]) == 2
    assert capsys.readouterr().err.count("did you mean 'comm_round'?") == 2


@pytest.mark.parametrize(
    ("optimizer", "key"),
    [
        ("FedProx", "fedclip_args.proximal_mu"),
        ("FedOpt", "fedclip_args.server_optimizer"),
        ("fedadam", "fedclip_args.server_optimizer"),
        ("FedAvg_robust", "fedclip_args.robust_aggregation"),
        ("local", "fedclip_args.federation: local"),
        ("SCAFFOLD", "use FedAvg"),
    ],
)
def test_a_refused_optimizer_names_the_key_that_does_it(optimizer, key):
    with pytest.raises(RecipeError) as caught:
        load_recipe(find_either("miniature/clip_tiny_fedclip"), [f"train_args.federated_optimizer={optimizer}"])

    assert key in str(caught.value)
