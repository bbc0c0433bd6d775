"""A job that is started again without the silos that it has lost, as long as enough are left."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from fedclip_edge.terminal import message
from fedclip_plugin.cli.mpirun.run_and_wait import Ending
from fedclip_plugin.errors import FedClipError
from fedclip_plugin.federated.members import Members
from fedclip_plugin.federated.stop import WAITED_IN_VAIN
from fedclip_plugin.recipe import Recipe

_PLACING = ("map-by", "rank-by", "rankfile", "ppr")
"""Options of mpirun by which ranks run elsewhere than the slots of a hostfile say."""


@dataclass(frozen=True)
class Loss:
    """Who is to blame for the end of a job.

    Attributes
    ----------
    ranks
        Which ranks of it are gone.
    why
        What became of them, as words behind their names.
    """

    ranks: frozenset[int]
    why: str


class Start(Protocol):
    """Starts a job of some silos, and waits for its end; ``again`` if it is not the first one."""

    def __call__(self, members: Members, again: bool) -> Ending:
        """Return how the job ended."""


def require_recipe(recipe: Recipe) -> None:
    """Refuse with a FedClipError a recipe that cannot go on with fewer silos."""
    if recipe.simulated:
        raise FedClipError("--keep-going is about silos, and a simulation has none: leave it out")
    if recipe.fedclip_args.secure_sums and recipe.fedclip_args.on_missing != "redo":
        raise FedClipError(
            "--keep-going: with secure_sums no silo masks a round again without one that is lost (on_missing: abort); "
            "leave it out and resume with all silos, or where the server is trusted set fedclip_args.on_missing: redo"
        )
    min_silos, total = recipe.fedclip_args.min_silos, recipe.train_args.client_num_in_total
    if min_silos is None:
        raise FedClipError(
            "--keep-going: the recipe does not say how few silos will do, so that every round needs all of those "
            "sampled for it; set fedclip_args.min_silos"
        )
    if min_silos >= total:
        raise FedClipError(
            f"--keep-going: fedclip_args.min_silos is {min_silos}, and there are {total} silos, so that none may be "
            "lost: lower it, or leave --keep-going out"
        )


def require_placing(options: Sequence[str]) -> None:
    """Refuse with a FedClipError options of mpirun with which a hostfile does not tell where ranks run."""
    for word in options:
        if word.startswith("-") and word.lstrip("-").partition("=")[0] in _PLACING:
            raise FedClipError(
                f"{word} after -- places ranks, so that the hostfile does not tell --keep-going or --without where the "
                "rank of a silo runs: leave one of the two out"
            )


def loss(ending: Ending, hosts: Sequence[str] | None) -> Loss | None:
    """Return who is to blame for the end of a job; None where it came to its end, or nobody knows, or the server is.

    Bad input, which ends a job with exit code 2, is no loss: it is to be mended.

    Parameters
    ----------
    hosts
        The host of each rank by the hostfile; None where all are on this machine.
    """
    if ending.told or ending.code in (0, FedClipError.exit_code):
        return None
    if ending.silent:
        return _of_silos(Loss(frozenset(ending.silent), "stayed silent"))
    if ending.host is not None:
        nodes = [ending.nodes.get(rank, "") for rank in range(len(hosts or ()))]
        there = frozenset(_on(ending.host.host, nodes)) or frozenset(_on(ending.host.host, hosts or ()))
        return _of_silos(Loss(there, f"was on host {ending.host.host}"))
    end = ending.rank
    if end is None or end.code in (FedClipError.exit_code, WAITED_IN_VAIN):
        return None
    return _of_silos(Loss(frozenset({end.rank}), end.how))


def keep_going(
    start: Start,
    recipe: Recipe,
    members: Members,
    names: Sequence[str],
    placed: Callable[[Members], Sequence[str] | None],
    progress: Callable[[], str],
) -> tuple[Ending, Mapping[int, str]]:
    """Start a job, and start it again without each silo that it loses; return how the last one ended, and the losses.

    Parameters
    ----------
    names
        Of all silos of the recipe.
    placed
        From silos to the host of each rank of their job, as for :func:`loss`.
    progress
        Says from where a job goes on.
    """
    min_silos, lost = recipe.fedclip_args.min_silos or len(names), dict[int, str]()
    ending = start(members, again=False)
    while (found := loss(ending, placed(members))) is not None:
        gone = {members.index(rank): names[members.index(rank)] for rank in sorted(found.ranks)}
        left, told = len(members.present) - len(gone), f"{', '.join(gone.values())} {found.why}"
        if left < min_silos:
            rule = f"a round needs {min_silos} (fedclip_args.min_silos)"
            _say(f"{told}; {left} of {len(members.present)} silos would be left, and {rule}")
            break
        lost |= gone
        members = Members.of(recipe, [*members.without, *gone.values()])
        _say(f"{told}: the job goes on without, {progress()}")
        ending = start(members, again=True)
    return ending, lost


def _on(host: str, hosts: Sequence[str]) -> Iterator[int]:
    """Yield the ranks on a host by the name that Open MPI has for it, which may lack the domain that the file has."""
    alike = {name for name in hosts if name.partition(".")[0] == host and not name[:1].isdigit()}
    named = host if host in hosts or len(alike) != 1 else alike.pop()
    yield from (rank for rank, name in enumerate(hosts) if name == named)


def _of_silos(found: Loss) -> Loss | None:
    return found if found.ranks and 0 not in found.ranks else None


def _say(text: str) -> None:
    print(message(f"fedclip: {text}"), file=sys.stderr, flush=True)
