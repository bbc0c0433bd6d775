"""The server's side of secure sums: it hands silos' hellos on, and adds up what it cannot read by itself."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from fedclip_plugin.errors import FederationError
from fedclip_plugin.federated.roles.update_check import update_fault
from fedclip_plugin.federated.secure_sums.fixed_point import ZEROS, ZEROS_COUNT, FixedPoint, Ring
from fedclip_plugin.federated.secure_sums.hello import Hello, RoundMembers
from fedclip_plugin.methods.closed_form.feature_sums import Statistics
from fedclip_plugin.text import told

Tensors = OrderedDict[str, Tensor]


class HelloCollector:
    """Keeps what silos say of themselves at the start, and makes of it the list of a round's members.

    Parameters
    ----------
    silos
        Their names, in the order of the ranks.
    images
        How many images each trains on, by what it said before; empty where that is not known.
    """

    def __init__(self, silos: Sequence[str], images: Sequence[int]) -> None:
        self._silos, self._images = tuple(silos), tuple(images)
        self._hellos: dict[int, Hello] = {}
        self._round, self._members = -1, RoundMembers(0, ())

    def take(self, rank: int, hello: Hello | None) -> None:
        """Keep a silo's hello.

        Raises
        ------
        FederationError
            There is none, it is another silo's, or says other images than before, or another one came before.
        """
        name = self._silos[rank - 1]
        who = f"silo {told(name)} (rank {rank})"
        if hello is None:
            raise FederationError(f"{who} has sent no hello: with secure_sums each silo must send one")
        if hello.silo != name:
            raise FederationError(f"{who} has sent the hello of {told(hello.silo)}: it must be its own")
        if self._images and hello.images != self._images[rank - 1]:
            said = self._images[rank - 1]
            raise FederationError(f"{who} says {hello.images:,} training images in its hello, and said {said:,} before")
        if self._hellos.setdefault(rank, hello) != hello:
            raise FederationError(f"{who} has sent two hellos that differ: it must send one")

    def members(self, round_: int, places: Iterable[int]) -> RoundMembers:
        """Return the list of the silos of these places, for the round of this index: one for each round."""
        if round_ != self._round:
            hellos = tuple(self._hellos[place + 1] for place in places)
            self._round, self._members = round_, RoundMembers(self._members.attempt + 1, hellos)
        return self._members


def average(
    held: Mapping[str, Tensor],
    sent: Sequence[tuple[Any, Any]],
    silos: Sequence[str],
    images: Mapping[str, int],
    bound: float,
) -> Tensors:
    """Return the weighted average of the parameters that silos have trained, from their masked updates.

    Parameters
    ----------
    held
        The global adapter's parameters, from which they went on.
    sent
        Of each silo its number of training images and what it sent.
    silos, images
        The silos' names, and of those that said so before, how many images they train on.
    bound
        The recipe's ``secure_sums_bound``.

    Raises
    ------
    FederationError
        What a silo sent is no masked update, or the masks do not cancel: then nothing of the round can be used.
    """
    point = FixedPoint.of_updates(bound, len(sent))
    shapes = {name: tensor.shape for name, tensor in held.items()}
    total = _total(point, shapes, sent, silos, images)
    return Tensors(
        (name, (tensor.double() + point.decode(total[name], tensor.shape)).to(tensor.dtype))
        for name, tensor in held.items()
    )


def summed(
    none: Statistics, sent: Sequence[tuple[Any, Any]], silos: Sequence[str], images: Mapping[str, int]
) -> Statistics:
    """Return the total of the silos' sums over their images, from what they masked; errors as :func:`average`.

    Parameters
    ----------
    none
        Sums of no image, of the shapes that the silos' have.
    """
    point, shapes = FixedPoint.of_sums(len(sent)), {name: own.shape for name, own in none.parts().items()}
    total = _total(point, shapes, sent, silos, images)
    found = {name: point.decode(total[name], shape) for name, shape in shapes.items()}
    return Statistics(found["counts"].round_(), found["sums"], found.get("gram"))


def _total(
    point: FixedPoint,
    shapes: Mapping[str, torch.Size],
    sent: Sequence[tuple[Any, Any]],
    silos: Sequence[str],
    images: Mapping[str, int],
) -> dict[str, Ring]:
    template = masked_like(point.dtype, shapes)
    for silo, (samples, tensors) in zip(silos, sent, strict=True):
        if fault := update_fault(samples, tensors, template, images.get(silo)):
            raise FederationError(
                f"what {told(silo)} sent is no masked update ({fault}), and without it no sum can be read "
                "(secure_sums): mend that silo and resume"
            )
    total = {name: point.total([tensors[name] for _, tensors in sent]) for name in template}
    if total.pop(ZEROS).any():
        raise FederationError(
            "the masks of the silos do not cancel, so that their sum cannot be read: one of them has sent something "
            "else, or was told of other members, keys, images or parameters than the others (secure_sums); start "
            "again with --resume, and where it happens again look at the silos' logs"
        )
    return total


def masked_like(dtype: torch.dtype, shapes: Mapping[str, torch.Size]) -> dict[str, Tensor]:
    """Return tensors without values of the names, shapes and type of what travels masked."""
    every = {ZEROS: torch.Size([ZEROS_COUNT]), **shapes}
    return {name: torch.empty(shape, dtype=dtype, device="cpu") for name, shape in every.items()}
