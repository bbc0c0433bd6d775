"""The rules between the keys that say which images there are, and whose they are."""

from __future__ import annotations

from collections.abc import Iterator

from fedclip_plugin.recipe.faults import Fault, Rule, Values, closest, listed
from fedclip_plugin.recipe.prompts import same_prompts, same_prompts_rule
from fedclip_plugin.recipe.schema.fedclip import FedClipArgs
from fedclip_plugin.recipe.schema.types import folder_name

PLAIN_LISTS: tuple[str, ...] = (".txt", ".lst")
"""Suffixes of lists of images without a header."""

LIST_SUFFIXES: tuple[str, ...] = (".csv", ".tsv", *PLAIN_LISTS)
"""Suffixes, in lower case, of lists of images."""

BY_ALPHA: tuple[str, ...] = ("hetero", "quantity")
"""Values of ``partition_method`` that draw from a Dirichlet distribution."""

BY_CLASSES: tuple[str, ...] = ("classes", "shards")
"""Values of ``partition_method`` that give each silo some classes, or shards of them."""

LEAST_HALVED = 4
"""Fewest classes that ``class_split: base_new`` halves: with one name to choose from every answer is right."""

PARTITIONS = "homo, hetero, classes, shards or quantity"
"""The values of ``partition_method``, for what errors say."""

_OF_LISTS = ("data_list", "file_column", "label_column", "silo_column", "group_column", "split_column")
_OF_PARTITIONS = ("partition_method", "partition_alpha", "partition_seed", "classes_per_client")


def shares_out(values: Values) -> bool:
    """Return whether the images of one folder or list are shared out among the silos."""
    layout, told = values.get("fedclip_args.data_layout"), values.get("fedclip_args.silo_column")
    own = told or values.get("data_args.data_silo_config") or _per_silo(values, "data_list")
    return layout in ("classes", "splits") or (layout == "list" and not own)


def _per_silo(values: Values, key: str) -> bool:
    return "{silo}" in str(values.get(f"fedclip_args.{key}"))


def told_silos(values: Values) -> tuple[str, ...] | None:
    """Name the silos that the keys alone tell, in silo order.

    Returns
    -------
    tuple of str or None
        None where the folders decide.
    """
    domains, silos = values.get("fedclip_args.domains"), values.get("fedclip_args.silos")
    if values.get("fedclip_args.data_layout") == "domains":
        target = values.get("fedclip_args.target_domain", "")  # "" where it is faulty: then nothing is told
        if domains is None or target not in (None, *domains):
            return None
        return tuple(name for name in domains if name != target)
    return silos


def _silo_count(values: Values) -> Iterator[Fault]:
    total, names = values.get("train_args.client_num_in_total"), told_silos(values)
    each = values.get("fedclip_args.silos_per_domain") or 1
    if total is None or names is None or len(names) * each == total:
        return
    key, told = "domains" if values["fedclip_args.data_layout"] == "domains" else "silos", listed(names)
    rule = f"must equal the number of silos, {len(names)} ({told}); set it so, or change fedclip_args.{key}"
    if each > 1:
        rule = f"must equal {len(names)} domains x silos_per_domain {each} ({told}); set it so"
    yield Fault("train_args.client_num_in_total", rule, total)


def _silo_files(values: Values) -> Iterator[Fault]:
    files, total = values.get("data_args.data_silo_config"), values.get("train_args.client_num_in_total")
    if files and total and len(files) != total:
        rule = f"must list one file per silo, {total}; it lists {len(files)}"
        yield Fault("data_args.data_silo_config", rule)


def _target(values: Values) -> Iterator[Fault]:
    target, layout = values.get("fedclip_args.target_domain"), values.get("fedclip_args.data_layout")
    if target is None or layout is None:
        return
    where = "fedclip_args.target_domain"
    domains, silos = values.get("fedclip_args.domains"), values.get("fedclip_args.silos")
    if layout == "domains" and domains and target not in domains:
        rule = f"must be one of fedclip_args.domains, {listed(domains)}"
        yield Fault(where, rule, target, closest(target, domains))
    if layout in ("silos", "list") and silos and target in silos:
        yield Fault(where, "must not be one of fedclip_args.silos; take it out of one of the two", target)
    if shares_out(values):
        yield Fault(where, f"data_layout: {layout} shares all images out and holds none out; leave it out", target)


def _layout_keys(values: Values) -> Iterator[Fault]:
    layout = values.get("fedclip_args.data_layout")
    only = {"fedclip_args.domains": ("domains",), "fedclip_args.silos": ("silos", "classes", "splits", "list")}
    parted = ("classes", "splits", "list", *(["domains"] if values.get("fedclip_args.silos_per_domain") else []))
    only |= {f"data_args.{key}": parted for key in _OF_PARTITIONS}
    only |= {f"fedclip_args.{key}": ("list",) for key in _OF_LISTS}
    for where, layouts in only.items():
        name = where.partition(".")[2]
        idle = FedClipArgs.model_fields[name].default if name in _OF_LISTS else None
        if layout and values.get(where) not in (None, idle) and layout not in layouts:
            rule = f"only for data_layout: {' or '.join(layouts)}; leave it out, or change the layout"
            if layouts is parted and layout == "domains" and values.get("common_args.training_type") == "simulation":
                rule = "of no use while each domain is one client; set fedclip_args.silos_per_domain, or leave it out"
            yield Fault(where, rule, values[where])
    needed = {"fedclip_args.silos": layout == "silos", "data_args.partition_method": layout in ("classes", "splits")}
    for where, wanted in needed.items():
        if wanted and where in values and values[where] is None:
            yield Fault(where, f"is required by data_layout: {layout}")


def _list(values: Values) -> Iterator[Fault]:
    if values.get("fedclip_args.data_layout") != "list" or "fedclip_args.data_list" not in values:
        return
    where, path = "fedclip_args.data_list", values["fedclip_args.data_list"]
    own_files, target = values.get("data_args.data_silo_config"), values.get("fedclip_args.target_domain")
    column, per_silo = values.get("fedclip_args.silo_column"), _per_silo(values, "data_list")
    if path is None and (target or not own_files):
        yield Fault(where, "is required by data_layout: list")
    if path is not None and path.suffix.lower() not in LIST_SUFFIXES:
        yield Fault(where, f"must end in {', '.join(LIST_SUFFIXES)}", path)
    if path is not None and path.suffix.lower() in PLAIN_LISTS:
        yield from _no_columns(values)
    if column and per_silo:
        yield Fault(
            "fedclip_args.silo_column", "data_list has {silo}, a list per silo; leave one of the two out", column
        )
    lists = "{silo} in data_list" if per_silo else "data_silo_config" if own_files and not column else ""
    if lists and "fedclip_args.silos" in values and values["fedclip_args.silos"] is None:
        yield Fault("fedclip_args.silos", f"is required by {lists}; name the silos in the order of their ranks")
    method = values.get("data_args.partition_method", "")
    if path is not None and shares_out(values) and method is None:
        rule = f"is required by a list that is shared out: {PARTITIONS}; where each image has its silo, set"
        yield Fault("data_args.partition_method", f"{rule} fedclip_args.silo_column")
    if not shares_out(values) and method:
        yield Fault("data_args.partition_method", "only for a list that is shared out; leave it out", method)


def _no_columns(values: Values) -> Iterator[Fault]:
    for key in _OF_LISTS[1:]:
        value = values.get(f"fedclip_args.{key}")
        if value not in (None, FedClipArgs.model_fields[key].default):
            rule = f"a list that ends in {' or '.join(PLAIN_LISTS)} has a file and a label a line and no header"
            yield Fault(f"fedclip_args.{key}", f"{rule}; leave it out, or write a .csv", value)


def _partition(values: Values) -> Iterator[Fault]:
    method = values.get("data_args.partition_method")
    keys = {
        "data_args.partition_alpha": (BY_ALPHA, "0.5 is uneven, 100 nearly even"),
        "data_args.classes_per_client": (BY_CLASSES, "how many classes, or shards, each silo gets"),
    }
    for where, (methods, told) in keys.items():
        if method in methods and where in values and values[where] is None:
            yield Fault(where, f"is required by partition_method: {method}; {told}")
        if method and method not in methods and values.get(where) is not None:
            yield Fault(where, f"only for partition_method: {' or '.join(methods)}; leave it out", values[where])
    each, classes = values.get("data_args.classes_per_client"), values.get("fedclip_args.classes")
    if method == "classes" and each and classes and each > len(classes):
        rule = f"must be at most the number of classes, {len(classes)} ({listed(classes)})"
        yield Fault("data_args.classes_per_client", rule, each)


def _data_root(values: Values) -> Iterator[Fault]:
    where, dataset = "fedclip_args.data_root", values.get("data_args.dataset")
    if where not in values or dataset is None:
        return
    root, layout = values[where], values.get("fedclip_args.data_layout")
    if dataset == "miniature" and root is not None:
        rule = "dataset: miniature draws its own images; leave it out, or give data_args.dataset another name"
        yield Fault(where, rule, root)
    elsewhere = values.get("data_args.data_silo_config") and not values.get("fedclip_args.target_domain")
    if dataset != "miniature" and root is None and not elsewhere and layout != "list":
        yield Fault(where, "is required; only dataset: miniature has images of its own")
    if root is not None and _per_silo(values, "data_root") and shares_out(values):
        yield Fault(where, f"data_layout: {layout} has one folder for all silos here; take {{silo}} out", root)


def _miniature(values: Values) -> Iterator[Fault]:
    dataset = values.get("data_args.dataset")
    layout = values.get("fedclip_args.data_layout")
    if dataset == "miniature" and layout not in {"domains", None}:
        yield Fault("fedclip_args.data_layout", "dataset: miniature comes as domains; write domains", layout)
    for key in ("images_per_class", "difficulty"):
        value = values.get(f"fedclip_args.{key}")
        default = FedClipArgs.model_fields[key].default
        if dataset not in {"miniature", None} and value not in {None, default}:
            yield Fault(f"fedclip_args.{key}", "only for dataset: miniature; leave it out", value)


def _class_folders(values: Values) -> Iterator[Fault]:
    if values.get("fedclip_args.data_layout") in {"list", None}:  # labels of a list are any text
        return
    for number, name in enumerate(values.get("fedclip_args.classes") or ()):
        try:
            folder_name(name)
        except ValueError as error:
            yield Fault(f"fedclip_args.classes[{number}]", str(error), name)


def _prompts(values: Values) -> Iterator[Fault]:
    classes, template = values.get("fedclip_args.classes"), values.get("fedclip_args.prompt_template")
    same = same_prompts(classes, template) if classes and template else []
    if same:
        yield Fault("fedclip_args.classes", same_prompts_rule(same))


def _class_split(values: Values) -> Iterator[Fault]:
    where, split = "fedclip_args.class_split", values.get("fedclip_args.class_split")
    classes, partition = values.get("fedclip_args.classes"), values.get("data_args.partition_method")
    if split != "base_new":
        return
    if classes and len(classes) < LEAST_HALVED:
        rule = f"halves the classes, and each half needs 2 to tell apart: list {LEAST_HALVED} classes or more"
        yield Fault(where, f"{rule}, or leave it out", split)
    if partition in BY_CLASSES:
        rule = f"partition_method: {partition} gives silos single classes, some of them new ones that are not trained"
        yield Fault(where, f"{rule}; take homo, hetero or quantity, or leave it out", split)


RULES: tuple[Rule, ...] = (
    _silo_count,
    _silo_files,
    _target,
    _layout_keys,
    _list,
    _partition,
    _data_root,
    _miniature,
    _class_folders,
    _prompts,
    _class_split,
)
"""On images, silos and classes."""
