"""The keys that say how images are shared out: what goes together, what is refused and how it is said."""

import pytest

from tests.recipe.test_recipe_faults import CLASSES, changed, lines

CLASSES_EACH = CLASSES | {"data_args.partition_method": "classes"}
SHARDS = CLASSES | {"data_args.partition_method": "shards"}
QUANTITY = CLASSES | {"data_args.partition_method": "quantity"}
TWO = {"data_args.classes_per_client": 2}

VALID = {
    "classes": CLASSES_EACH | TWO,
    "all classes": CLASSES_EACH | TWO | {"fedclip_args.classes": ["a", "b"]},
    "shards": SHARDS | TWO | {"fedclip_args.classes": ["a"]},
    "sizes": QUANTITY | {"data_args.partition_alpha": 0.5},
    "shots": {"fedclip_args.shots": 16},
}


@pytest.mark.parametrize("changes", VALID.values(), ids=VALID)
def test_these_are_valid(changes):
    assert lines(changed(changes)) == []


INVALID = [
    (QUANTITY, "partition_alpha: is required by partition_method: quantity; 0.5 is uneven"),
    (CLASSES_EACH, "classes_per_client: is required by partition_method: classes; how many classes, or shards, each"),
    (SHARDS, "classes_per_client: is required by partition_method: shards"),
    (SHARDS | {"data_args.classes_per_client": 0}, "classes_per_client = 0: must be at least 1"),
    (
        CLASSES_EACH | TWO | {"fedclip_args.classes": ["a"]},
        "classes_per_client = 2: must be at most the number of classes, 1 (a)",
    ),
    (CLASSES | TWO, "classes_per_client = 2: only for partition_method: classes or shards; leave it out"),
    (SHARDS | TWO | {"data_args.partition_alpha": 1.0}, "only for partition_method: hetero or quantity; leave it out"),
    (TWO, "classes_per_client = 2: only for data_layout: classes or splits or list"),
    ({"fedclip_args.shots": 0}, "fedclip_args.shots = 0: must be at least 1"),
]


@pytest.mark.parametrize(("changes", "told"), INVALID, ids=[told for _, told in INVALID])
def test_one_fault_says_the_rule(changes, told):
    (found,) = lines(changed(changes))
    assert told in found


HALVES = {"fedclip_args.class_split": "base_new"}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (HALVES | {"fedclip_args.class_split": "new"}, "class_split = \"new\": must be 'all' or 'base_new'"),
        (
            HALVES | {"fedclip_args.classes": ["a", "b", "c"]},
            'class_split = "base_new": halves the classes, and each half',
        ),
        (CLASSES_EACH | TWO | HALVES, 'class_split = "base_new": partition_method: classes gives silos single classes'),
        (HALVES | {"fedclip_args.federation": "local"}, 'class_split = "base_new": federation: local averages nothing'),
    ],
)
def test_classes_are_halved_where_that_can_be(changes, told):
    assert any(told in line for line in lines(changed(changes))), lines(changed(changes))
    assert lines(changed(HALVES)) == []
