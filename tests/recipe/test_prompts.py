"""Classes that CLIP cannot tell apart by their prompts are named: by text before a run, by features at its start."""

import itertools

import pytest
import torch

from fedclip_plugin.data import check_images
from fedclip_plugin.errors import DataError
from fedclip_plugin.features import TextFeatures, prompts_of
from fedclip_plugin.features.text_features import require_distinct
from fedclip_plugin.recipe.check import check
from fedclip_plugin.recipe.prompts import USUAL_TEMPLATE, require_template, same_prompts
from tests.support.workshop import clip_tiny

SAME = [
    ("oak", "Oak", "OAK"),
    ("alarm_clock", "alarm clock", "Alarm__clock", " alarm  clock "),
    ("caf\u00e9", "cafe\u0301"),
    ("type2", "type 2", "Type_2"),
    ("mp3", "mp 3"),
    ("e-mail", "e - mail"),
    ("12", "1 2"),
    ("oak's", "oak 's"),
]
APART = [
    "oak",
    "oaks",
    "alarmclock",
    "cafe",
    "type 22",
    "e mail",
    "l2",
    "oak ' s",
    "日本",
    "日 本",
    "x²",
    "_",
    "?!",
    "? !",
]


@pytest.fixture(scope="module")
def clip():
    return clip_tiny()


def look(clip, classes, template=USUAL_TEMPLATE):
    return TextFeatures(clip.encode_prompts(prompts_of(classes, template)), clip.logit_scale)


def tokens(clip, name):
    return clip.tokenize(prompts_of([name], USUAL_TEMPLATE))[0][0].tolist()


@pytest.mark.parametrize("names", SAME)
def test_names_that_differ_in_case_and_spacing_have_the_same_prompt(clip, names):
    assert same_prompts(names) == [names]
    assert len({str(tokens(clip, name)) for name in names}) == 1


def test_no_other_names_are_taken_for_the_same(clip):
    every = [*APART, *(names[0] for names in SAME if names[0] not in APART)]
    assert same_prompts(every) == []
    pairs = itertools.combinations([*itertools.chain(*SAME), *APART], 2)
    wrong = [pair for pair in pairs if same_prompts(pair) and tokens(clip, pair[0]) != tokens(clip, pair[1])]
    assert wrong == []


def test_the_template_counts():
    assert same_prompts(["1", " 1"], "type{}") == [("1", " 1")]
    assert same_prompts(["oak", " oak"], "an{}") == []
    with pytest.raises(ValueError, match="must hold exactly one"):
        require_template("a {0.__class__}")


def test_a_recipe_that_lists_them_is_refused():
    raw = {"fedclip_args": {"classes": ["elm", "oak", "Oak\x1b", "OAK\x1b"]}}
    lines = [fault.line() for fault in check(raw)[1] if fault.where == "fedclip_args.classes"]
    assert len(lines) == 1
    assert r"classes with the same prompt: Oak\x1b and OAK\x1b (CLIP ignores case" in lines[0]


def test_check_names_them(tmp_path):
    for name in ("elm", "oak", "Oak"):
        (tmp_path / "site" / name).mkdir(parents=True)
    problems = check_images(tmp_path).problems
    assert [line for line in problems if "same prompt: Oak and oak" in line] != []


def test_classes_that_look_the_same_are_refused_at_the_start(clip):
    with pytest.raises(DataError, match="the same prompt: oak and Oak; alarm_clock and alarm clock"):
        classes = ["oak", "alarm_clock", "elm", "Oak", "alarm clock"]
        require_distinct(look(clip, classes), classes, USUAL_TEMPLATE)
    long = ["very " * 30 + end for end in ("old oak", "young oak")]
    with pytest.raises(DataError, match="cuts long prompts off"):
        require_distinct(look(clip, [*long, "elm"]), [*long, "elm"], USUAL_TEMPLATE)
    with pytest.raises(DataError, match="the same prompt: oak and Oak"):
        require_distinct(look(clip, ["oak", "Oak"]), ["oak", "Oak"], USUAL_TEMPLATE)


@pytest.mark.parametrize("words", [21, 30])
def test_a_template_that_ends_before_the_class_name_is_refused(clip, words):
    template, classes = "a" + " big" * words + " {}", ("oak", "elm", "fir")
    with pytest.raises(DataError, match=r"all 3 classes look the same to CLIP.*shorten"):
        require_distinct(look(clip, classes, template), classes, template)


def test_classes_that_differ_at_all_are_taken(clip):
    classes = ("dog", "dogs", "a dog", "dog a", "hot dog", "d o g")
    assert require_distinct(look(clip, classes), classes, USUAL_TEMPLATE) is None
    assert require_distinct(look(clip, ["dog"]), ["dog"], USUAL_TEMPLATE) is None
    assert require_distinct(TextFeatures(torch.eye(300), 1.0), ["x"] * 300, USUAL_TEMPLATE) is None
