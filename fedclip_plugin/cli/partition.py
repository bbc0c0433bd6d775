"""``fedclip partition``: how many images of which class each silo or client has, before anything is trained."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedclip_edge.arguments import path_argument
from fedclip_edge.terminal import align, printable
from fedclip_plugin.cli.options import add_overrides, add_progress
from fedclip_plugin.errors import DataError
from fedclip_plugin.recipe import Recipe, find_recipe, load_recipe

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from fedclip_plugin.data import Split
    from fedclip_plugin.data.clients import Clients

_MOST_ROWS, _FIRST_ROWS, _MOST_COLUMNS = 40, 20, 20
"""Most clients that are all shown, those that are shown of more, and most classes that have a column each."""

_PICTURES = (".svg", ".png")


def add(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("recipe", metavar="RECIPE", help="a file, or a name that 'fedclip ls' shows")
    add_overrides(parser, "override a key")
    parser.add_argument("--all", action="store_true", help="show every client and every class")
    parser.add_argument("--json", action="store_true", help="print JSON, with every client and every class")
    parser.add_argument(
        "--picture", type=path_argument, metavar="FILE", help="draw clients and classes too (.svg or .png)"
    )
    add_progress(parser)


def act(options: argparse.Namespace) -> int:
    """Print the images of every silo or client by class, and the sizes of its splits; return the exit code.

    No image is opened. The miniature is drawn where it is not there yet.

    Raises
    ------
    FedClipError
        When the recipe is at fault, images are missing or cannot be shared out so, or the picture cannot be written.
    """
    picture: Path | None = options.picture
    if picture is not None and picture.suffix.lower() not in _PICTURES:
        raise DataError(f"--picture {picture} must end in {' or '.join(_PICTURES)}")
    recipe = load_recipe(find_recipe(options.recipe), options.overrides)
    clients, splits = _listed(recipe, options.progress)
    names, classes = [own.name for own in clients.members], clients.image_sets[0].classes
    counts = clients.table()
    print(_json(clients, counts, splits) if options.json else _text(names, classes, counts, splits, options.all))
    if picture is not None:
        _draw(picture, counts, names, classes)
    return 0


def _listed(recipe: Recipe, progress: bool) -> tuple[Clients, list[Split]]:
    """List the images of all silos or clients, which must be on this machine, and split them."""
    from fedclip_plugin.data import common_classes
    from fedclip_plugin.data.clients import list_clients

    root, domains, settings = None, None, recipe.fedclip_args
    if recipe.draws_images:
        from fedclip_miniature import DOMAINS, ensure_miniature

        cache, domains = Path(recipe.data_args.data_cache_dir), DOMAINS
        sources = [name for name in DOMAINS if name != settings.target_domain]
        root = ensure_miniature(cache, settings.images_per_class, settings.difficulty, sources, progress)
    clients = list_clients(recipe, root, domains)
    common_classes({images.name: images.classes for images in clients.image_sets}, settings.classes)
    return clients, clients.usable_splits(recipe)


def _text(
    names: Sequence[str], classes: Sequence[str], counts: NDArray[np.int64], splits: Sequence[Split], everything: bool
) -> str:
    """Return the table, a client a row, and what is to be said of all clients."""
    rows = len(names) if everything or len(names) <= _MOST_ROWS else _FIRST_ROWS
    wide = everything or len(classes) <= _MOST_COLUMNS
    parts = [list(own.sizes().values()) for own in splits]
    head = ["client", *(classes if wide else ["classes"]), "images", "train", "validation", "test"]
    table = [head]
    for name, own, sizes in zip(names[:rows], counts.tolist(), parts, strict=False):
        told = [str(count or "-") for count in own] if wide else [str(sum(map(bool, own)))]
        table.append([name, *told, str(sum(own)), *map(str, sizes)])
    totals = [sum(column) for column in zip(*parts, strict=True)]
    summed = counts.sum(axis=0)
    shown = [f"{count:,}" for count in summed] if wide else [str(int((summed > 0).sum()))]
    table.append([f"all {len(names):,}", *shown, *(f"{count:,}" for count in (counts.sum(), *totals))])
    lines = [align(table)]
    if rows < len(names) or not wide:
        hidden = [f"{len(names) - rows:,} more clients"] if rows < len(names) else []
        hidden += [] if wide else [f"{len(classes):,} classes in columns"]
        lines.append(f"--all shows {' and '.join(hidden)}")
    for what, found in _quartiles(counts).items():
        least, *middle, most = (f"{value:,g}" for value in found)
        lines.append(f"{what} a client: {least} to {most}; quartiles {', '.join(middle)}")
    return "\n".join(lines)


def _json(clients: Clients, counts: NDArray[np.int64], splits: Sequence[Split]) -> str:
    classes = clients.image_sets[0].classes
    told: list[dict[str, Any]] = [
        {"name": own.name, "source": own.source, "images": dict(zip(classes, row, strict=True)), **split.sizes()}
        for own, row, split in zip(clients.members, counts.tolist(), splits, strict=True)
    ]
    return json.dumps({"classes": classes, "clients": told, "quartiles": _quartiles(counts)}, indent=1)


def _quartiles(counts: NDArray[np.int64]) -> dict[str, list[float]]:
    """Return minimum, quartiles and maximum of the clients' numbers of images and of classes."""
    import numpy as np

    found = {"images": counts.sum(axis=1), "classes": (counts > 0).sum(axis=1)}
    return {what: np.quantile(own, (0, 0.25, 0.5, 0.75, 1)).tolist() for what, own in found.items()}


def _draw(path: Path, counts: NDArray[np.int64], names: Sequence[str], classes: Sequence[str]) -> None:
    from fedclip_edge.files import write_file, writing_to
    from fedclip_plugin.report.plots.partition_map import partition_map
    from fedclip_plugin.report.plots.style import png, svg

    figure = partition_map(counts, [printable(name) for name in names], [printable(name) for name in classes])
    with writing_to(path, DataError):
        write_file(path, (svg if path.suffix.lower() == ".svg" else png)(figure))
