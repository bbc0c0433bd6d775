"""An adapter as a repository of the hub: its files, the recipe without places of this machine, and a card."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml

from fedclip_edge import __version__
from fedclip_plugin.errors import HubError
from fedclip_plugin.hub.adapter_card import AdapterCard
from fedclip_plugin.hub.stored_adapters import Repository, asking_hub, require_repository
from fedclip_plugin.recipe import load_recipe
from fedclip_plugin.recipe.schema.sections import NOT_IN_DIGEST
from fedclip_plugin.runs import RunFolder, SavedAdapter, load_adapter, save_adapter

_KEPT = {"comm_round"}
BUILT_IN = "clip-tiny"


@dataclass(frozen=True)
class Publication:
    """What goes to the hub: the adapter, its card, and the recipe's text where there is a run.

    Attributes
    ----------
    notes
        What whoever publishes should know, a sentence each.
    """

    saved: SavedAdapter
    card: AdapterCard
    recipe: str | None
    notes: tuple[str, ...] = field(default=())

    def files(self, repository: Repository, license: str | None = None) -> Mapping[str, bytes]:
        """Return name and content of every file."""
        with TemporaryDirectory() as place:
            save_adapter(Path(place) / "adapter", self.saved)
            files = {path.name: path.read_bytes() for path in sorted((Path(place) / "adapter").iterdir())}
        if self.recipe is not None:
            files["recipe.yaml"] = self.recipe.encode()
        return files | {"README.md": self.card.text(repository, license).encode()}


def what_to_publish(place: Path) -> Publication:
    """Read a run folder, whose best adapter is taken, or the folder of an adapter.

    Raises
    ------
    FedClipError
        When there is no adapter, or adapter, recipe or rounds are damaged.
    """
    run = RunFolder(place if (place / "adapters").is_dir() else place.absolute().parent.parent)
    folder = run.adapters / "best" if run.path == place else place
    saved = load_adapter(folder)
    ours = run.recipe.is_file() and run.read_digest() == saved.recipe_digest
    recipe, rounds = (load_recipe(run.recipe), run.rounds()) if ours else (None, [])
    notes = [saved.warning] if saved.warning else []
    public = _public_name(saved.backbone)
    if public != saved.backbone:
        notes.append(
            f"the backbone is a folder of this machine and is named {public} there; who loads the adapter says where "
            "his own is, with --backbone"
        )
        saved = replace(saved, backbone=public)
    if not ours:
        notes.append("this adapter lies in no run's folder: there is no recipe to publish, and the card has no table")
    text = None
    if recipe is not None:
        lines = run.recipe.read_text(encoding="utf-8").splitlines()
        header = [line for line in lines if line.startswith("# ") and ": " in line]
        text = _public_recipe(header, recipe.to_yaml(), public)
    return Publication(saved, AdapterCard(saved, recipe, tuple(rounds)), text, tuple(notes))


def require_target(name: str) -> Repository:
    """Read the name of a repository to upload into.

    Raises
    ------
    HubError
        When it is none, or names a revision too.
    """
    target = require_repository(name)
    if target.revision:
        raise HubError(f"{name!r}: give the branch by itself, with --revision {target.revision}")
    return target


def push_adapter(
    publication: Publication,
    name: str,
    *,
    private: bool = False,
    revision: str | None = None,
    message: str | None = None,
    license: str | None = None,
) -> str:
    """Upload an adapter into a repository of the hub, which is made where it is missing; return the commit's address.

    Parameters
    ----------
    publication
        What goes there.
    name
        ``owner/name``.
    private
        Only into a repository that others cannot see.
    revision
        A branch; it is made where it is missing. None is the main branch.
    message
        Of the commit.
    license
        As the hub names it, such as ``apache-2.0``; None leaves it open.

    Raises
    ------
    HubError
        When the hub does not answer or refuses, or ``private`` is asked of a repository that others can see.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    target = require_target(name)
    files = publication.files(replace(target, revision=revision), license)
    api = HfApi(library_name="fedclip", library_version=__version__)
    with asking_hub(target.name):
        api.create_repo(target.name, private=private or None, exist_ok=True)
        if private and not api.model_info(target.name).private:
            raise HubError(
                f"{target} is there already, and others can see it: make it private on the hub, name another "
                "repository, or leave --private out; nothing was sent"
            )
        if revision:
            api.create_branch(target.name, branch=revision, exist_ok=True)
        saved = publication.saved
        done = api.create_commit(
            target.name,
            [CommitOperationAdd(path, content) for path, content in files.items()],
            commit_message=message or f"Round {saved.round} of {saved.method}",
            revision=revision,
        )
    return str(done.commit_url)


def _public_name(backbone: str) -> str:
    """Return a backbone's name; of a path, its last part alone."""
    if backbone == BUILT_IN or Repository.parse(backbone):
        return backbone
    return re.split(r"[\\/]", backbone.rstrip("\\/"))[-1] or "backbone"


def _public_recipe(header: list[str], text: str, backbone: str) -> str:
    """Return a recipe with its header, without the keys that change no result: places, devices, trackers."""
    sections = yaml.safe_load(text)
    for name, keys in NOT_IN_DIGEST.items():
        for key in (keys - _KEPT) & sections.get(name, {}).keys():
            del sections[name][key]
    sections["fedclip_args"]["backbone"] = backbone
    kept = {name: section for name, section in sections.items() if section}
    note = "# The recipe of this adapter without the keys that change no result: places, devices, time-outs, trackers."
    return "\n".join([note, *header, "", yaml.safe_dump(kept, sort_keys=False, allow_unicode=True, width=100)])
