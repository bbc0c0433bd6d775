"""The rules between the keys that say which images there are, and whose they are."""

from __future__ import annotations

from collections.abc import Iterator

from fedclip_plugin.recipe.faults import Fault, Rule, Values, closest, listed
from fedclip_plugin.recipe.prompts import same_prompts, same_prompts_rule
from fedclip_plugin.recipe.schema.fedclip import FedClipArgs


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
    if total is None or names is None or len(names) == total:
        return
    key = "domains" if values["fedclip_args.data_layout"] == "domains" else "silos"
    rule = f"must equal the number of silos, {len(names)} ({listed(names)}); set it so, or change fedclip_args.{key}"
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
    if layout == "silos" and silos and target in silos:
        yield Fault(where, "must not be one of fedclip_args.silos; take it out of one of the two", target)
    if layout == "classes":
        yield Fault(where, "data_layout: classes has no domains to hold out; leave it out", target)


def _layout_keys(values: Values) -> Iterator[Fault]:
    layout = values.get("fedclip_args.data_layout")
    only = {"fedclip_args.domains": ("domains",), "fedclip_args.silos": ("silos", "classes")}
    only |= {f"data_args.partition_{key}": ("classes",) for key in ("method", "alpha", "seed")}
    for where, layouts in only.items():
        if layout and values.get(where) is not None and layout not in layouts:
            rule = f"only for data_layout: {' or '.join(layouts)}; leave it out, or change the layout"
            yield Fault(where, rule, values[where])
    needed = {"silos": "fedclip_args.silos", "classes": "data_args.partition_method"}.get(layout or "")
    if needed and needed in values and values[needed] is None:
        yield Fault(needed, f"is required by data_layout: {layout}")


def _partition(values: Values) -> Iterator[Fault]:
    method, alpha = values.get("data_args.partition_method"), values.get("data_args.partition_alpha")
    where = "data_args.partition_alpha"
    if method == "hetero" and alpha is None and where in values:
        yield Fault(where, "is required by partition_method: hetero; 0.5 is uneven, 100 nearly even")
    if method == "homo" and alpha is not None:
        yield Fault(where, "only for partition_method: hetero; leave it out", alpha)


def _data_root(values: Values) -> Iterator[Fault]:
    where, dataset = "fedclip_args.data_root", values.get("data_args.dataset")
    if where not in values or dataset is None:
        return
    root, layout = values[where], values.get("fedclip_args.data_layout")
    if dataset == "miniature" and root is not None:
        rule = "dataset: miniature draws its own images; leave it out, or give data_args.dataset another name"
        yield Fault(where, rule, root)
    elsewhere = values.get("data_args.data_silo_config") and not values.get("fedclip_args.target_domain")
    if dataset != "miniature" and root is None and not elsewhere:
        yield Fault(where, "is required; only dataset: miniature has images of its own")
    if root is not None and "{silo}" in str(root) and layout == "classes":
        yield Fault(where, "data_layout: classes has one folder for all silos; take {silo} out", root)


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


def _prompts(values: Values) -> Iterator[Fault]:
    classes, template = values.get("fedclip_args.classes"), values.get("fedclip_args.prompt_template")
    same = same_prompts(classes, template) if classes and template else []
    if same:
        yield Fault("fedclip_args.classes", same_prompts_rule(same))


RULES: tuple[Rule, ...] = (
    _silo_count,
    _silo_files,
    _target,
    _layout_keys,
    _partition,
    _data_root,
    _miniature,
    _prompts,
)
"""On images, silos and classes."""
