"""``fedclip init``: write a recipe for a folder or list of images."""

from __future__ import annotations

import argparse
import shlex
import sys
from typing import TYPE_CHECKING

from fedclip_edge.terminal import message, printable
from fedclip_plugin.cli.options import add_columns, add_images, columns_of
from fedclip_plugin.errors import DataError

if TYPE_CHECKING:
    from fedclip_plugin.data import FolderListing
    from fedclip_plugin.data.checking.proposals import Proposal

_GATES = ("sigmoid_gate", "fedclip")
"""Methods that the recipes' learning rate was chosen for."""


def add(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_images(parser)
    parser.add_argument(
        "--target", metavar="DOMAIN", help="the domain or silo that does not train and the server tests on (none)"
    )
    parser.add_argument(
        "--method", metavar="METHOD", help="what is trained, as 'fedclip ls --methods' lists it (sigmoid_gate)"
    )
    parser.add_argument("--backbone", metavar="NAME", help="clip-tiny, a hub name, or a folder (CLIP ViT-B/32)")
    add_columns(parser, ("file", "label", "silo", "group", "split"))


def act(options: argparse.Namespace) -> int:
    """Look at a folder, print a recipe for it on stdout and what to know on stderr, and return the exit code.

    Folders and lists are read and no image is opened.

    Raises
    ------
    FedClipError
        When a federation could not start on the folder, or method, backbone or target do not fit it.
    """
    from fedclip_plugin.data import list_images, require_images_here
    from fedclip_plugin.recipe.recipe import Recipe
    from fedclip_plugin.recipe.yaml_reader import RecipeLoader

    if any(mark in str(options.images) for mark in ("$", "{silo}")) or str(options.images).startswith("~"):
        raise DataError(
            f"{options.images}: a recipe reads ~, $NAME and {{silo}} in a path as what they stand for; give the path "
            "without them, rename the folder, or make a link of another name to it"
        )
    listing = list_images(options.images, columns_of(options, options.images), options.data_root)
    proposal = listing.proposal(options.target)
    text = _recipe_text(options, listing, proposal)
    recipe = Recipe.checked(RecipeLoader(text).get_single_data(), f"the recipe for {options.images}")
    require_images_here(recipe)
    for problem in listing.problems:
        _note(problem)
    if recipe.fedclip_args.classes:
        _note("not every silo has every class, so fedclip_args.classes lists them all; take out what is none")
    if recipe.fedclip_args.method not in _GATES:
        _note(f"the learning rate is that of gates; studies/miniature tells which suit {recipe.fedclip_args.method}")
    _note(f"no image was opened; look through all of them with: fedclip check {shlex.quote(str(options.images))}")
    _note("check the recipe with fedclip validate, and start it with fedclip launch")
    print(text, end="")
    return 0


def _recipe_text(options: argparse.Namespace, listing: FolderListing, proposal: Proposal) -> str:
    """Return the recipe of the package that a proposal starts from, with its keys and a header of its own."""
    from fedclip_plugin.methods.registry import METHODS
    from fedclip_plugin.recipe import find_recipe
    from fedclip_plugin.recipe.edit_text import set_in_text

    own = {"method": options.method, "backbone": options.backbone}
    chosen: dict[str, object] = {key: value for key, value in own.items() if value is not None}
    if options.method in METHODS and METHODS[options.method].on_pixels:
        chosen["augmented_views"] = 0  # views are of methods on features
    keys = {**proposal.keys, "fedclip_args": {**proposal.keys["fedclip_args"], **chosen}}
    _, _, body = find_recipe(proposal.recipe).read_text(encoding="utf-8").partition("\n\n")
    return _header(options, listing, proposal) + set_in_text(body, keys)


def _header(options: argparse.Namespace, listing: FolderListing, proposal: Proposal) -> str:
    folder, silos = shlex.quote(str(options.images)), proposal.keys["train_args"]["client_num_in_total"]
    counts = {name: sum(row.values()) for name, row in listing.counts.items()}
    each = f" ({', '.join(f'{name} {count:,}' for name, count in counts.items())})" if len(counts) > 1 else ""
    images = f"{sum(counts.values()):,} images of {len(listing.classes)} classes{each}"
    lines = [
        f"A federation on {options.images}: {proposal.what.partition(': ')[2]}.",
        "",
        f"From:      {proposal.recipe}, with what fits this folder",
        f"Data:      {images}",
        f"           look through them: fedclip check {folder}",
        *_weights(options.backbone),
        "Launch:    fedclip launch FILE, with this file's name",
        "Keys:      fedclip keys KEY tells what one means",
        f"Hardware:  {silos + 1} ranks (a server and {silos} silos); a GPU that they share, or CPU.",
    ]
    return "".join(f"# {printable(line)}".rstrip() + "\n" for line in lines) + "\n"


def _weights(backbone: str | None) -> list[str]:
    name = "openai/clip-vit-base-patch32" if backbone is None else backbone
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        return []
    return [
        f"Weights:   once, with a network: hf download {name}",
        "           (or try it without: --set fedclip_args.backbone=clip-tiny)",
    ]


def _note(text: str) -> None:
    print(message(f"note: {text}"), file=sys.stderr, flush=True)
