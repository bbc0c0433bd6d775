"""A silo's side of secure sums: it says who it is, looks at who the others are, and masks what it sends."""

from __future__ import annotations

import hashlib
import logging
import math
from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import chain

import torch
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from torch import Tensor

from fedclip_plugin.errors import FederationError, MaskingRefusedError
from fedclip_plugin.federated.rank_output import say
from fedclip_plugin.federated.roles.trainer import FedClipTrainer
from fedclip_plugin.federated.secure_sums.fixed_point import ZEROS, ZEROS_COUNT, FixedPoint
from fedclip_plugin.federated.secure_sums.hello import Hello, Purpose, RoundMembers, is_genuine, signed_hello
from fedclip_plugin.federated.secure_sums.masked_rounds import MASKED_ROUNDS, Changed, MaskedRounds
from fedclip_plugin.federated.secure_sums.masks import MaskStream, pair_mask, salt_of, shared_secret
from fedclip_plugin.recipe.rules.secure_sums import FEWEST_IN_A_SUM
from fedclip_plugin.text import counted, told
from fedclip_plugin.trust.silo_keys import SiloIdentity, keys_folder, load_identity

logger = logging.getLogger(__name__)

Tensors = OrderedDict[str, Tensor]


@dataclass(frozen=True)
class Sum:
    """One sum that a silo has agreed to take part in.

    Attributes
    ----------
    silos
        How many members it has.
    weight
        What this silo's update weighs in it; the weights of all sum to 1.
    masks
        The masks, to be used once.
    """

    silos: int
    weight: float
    masks: MaskStream


class SumMember:
    """Takes part in sums in the name of a silo, and refuses where the server's list of members is not what it must be.

    The private half of its key pair is made anew for each start of the job and stays in this process.

    Parameters
    ----------
    images
        How many images the silo trains on.
    rounds
        What it has masked before.
    fewest
        Fewest members of a sum that the recipe or the machine's policy asks for.
    by_images
        Whether updates weigh by images.

    Attributes
    ----------
    hello
        What it says of itself.
    """

    def __init__(
        self,
        identity: SiloIdentity,
        purpose: Purpose,
        images: int,
        rounds: MaskedRounds,
        fewest: int = FEWEST_IN_A_SUM,
        by_images: bool = False,
    ) -> None:
        self._identity, self._purpose, self._rounds = identity, purpose, rounds
        self._fewest, self._by_images = max(FEWEST_IN_A_SUM, fewest), by_images
        self._private = X25519PrivateKey.generate()
        public = self._private.public_key().public_bytes_raw().hex()
        self.hello = signed_hello(identity, public, images, purpose)
        self._secrets: dict[Hello, bytes] = {}  # with those whose hello has been verified
        self._last = 0, 0  # round and attempt of the last sum

    def begin(self, done: int) -> None:
        """Begin, or go on after ``done`` rounds with what was masked; a RunFolderError when that is lost."""
        self._rounds.begin(done)

    def mask_update(
        self, round_: int, members: RoundMembers | None, held: Mapping[str, Tensor], update: Tensors, bound: float
    ) -> Tensors:
        """Return a silo's weighted update in fixed point, masked, int32 by name of the parameter.

        Parameters
        ----------
        round_
            The round, counted from 1.
        members
            The server's list; None where it sent none.
        held, update
            The parameters that the silo was sent, and those that it trained.
        bound
            Largest change of one parameter: a larger update is scaled down to it, whole.

        Raises
        ------
        MaskingRefusedError
            The list of members is not right, or this or another round was masked with others before.
        FederationError
            The update is not finite.
        """
        changes = {name: partial(_change, held[name], tensor) for name, tensor in update.items()}
        largest = _largest(change() for change in changes.values())
        if not math.isfinite(largest):
            raise FederationError(
                f"the update of round {round_} holds NaN or infinite values, which cannot be masked, and without it "
                "nobody's counts (secure_sums): lower train_args.learning_rate and resume"
            )
        agreed = self._agree(round_, members, _digest(held))
        scale = min(1.0, bound / largest) if largest else 1.0
        if scale < 1:
            logger.warning(
                "round %d: the update of %s is scaled down to %.3g of itself: a parameter changed by %.3g, and "
                "fedclip_args.secure_sums_bound is %g",
                *(round_, told(self.hello.silo), scale, largest, bound),
            )
        point = FixedPoint.of_updates(bound, agreed.silos)
        return _masked(agreed, point, ((name, change()) for name, change in changes.items()), agreed.weight * scale)

    def mask_sums(
        self, round_: int, members: RoundMembers | None, held: Mapping[str, Tensor], sums: Mapping[str, Tensor]
    ) -> Tensors:
        """Return sums over a silo's images in fixed point, masked, int64 by name; errors as :meth:`mask_update`."""
        agreed = self._agree(round_, members, _digest(held))
        point, largest = FixedPoint.of_sums(agreed.silos), _largest(sums.values())
        if not largest <= point.most / agreed.silos:
            raise FederationError(
                f"sums up to {largest:.3g} cannot be masked: of {agreed.silos} silos each may have "
                f"{point.most / agreed.silos:.3g} (secure_sums); take fewer images or less noise"
            )
        return _masked(agreed, point, sums.items(), 1.0)

    def _agree(self, round_: int, members: RoundMembers | None, adapter: str) -> Sum:
        """Look at a list of members, write down that this round is masked with them, and return the sum's masks."""
        if members is None:
            raise _refused(round_, "the server has not said with whom (secure_sums)")
        names = [hello.silo for hello in members.hellos]
        last_round, last_attempt = self._last
        if round_ <= last_round or members.attempt <= last_attempt:
            raise _refused(
                round_,
                f"round {round_}, attempt {members.attempt}, comes after round {last_round}, attempt {last_attempt}, "
                "and both must grow: a mask is used once",
            )
        if twice := [name for name, count in Counter(names).items() if count > 1]:
            raise _refused(round_, f"{told(twice[0])} is a member twice")
        if self.hello.silo not in names:
            raise _refused(round_, f"{told(self.hello.silo)} itself is no member")
        if len(names) < self._fewest:
            of_whom = f"{FEWEST_IN_A_SUM}, min_silos of the recipe or that of the policy"
            has = f"it has {counted(len(names), 'member')}, and must have {self._fewest} or more"
            raise _refused(round_, f"{has} ({of_whom})")
        for hello in members.hellos:
            self._require_genuine(round_, hello)
        self._last = round_, members.attempt
        changed = self._rounds.note(round_, names)
        if any(changed):
            self._tell_changed(round_, changed)
        salt = salt_of(self._purpose, round_, members, adapter)
        own = self.hello.silo
        pairs = [
            pair_mask(self._secrets[hello], salt, own, hello.silo) for hello in members.hellos if hello.silo != own
        ]
        images = sum(hello.images for hello in members.hellos)
        weight = self.hello.images / images if self._by_images else 1 / len(names)
        return Sum(len(names), weight, MaskStream(pairs))

    def _tell_changed(self, round_: int, changed: Changed) -> None:
        """Say on this machine, and on the job's console, who left and who joined a round that is masked again."""
        found = [
            f"{word} {', '.join(sorted(map(told, names)))}"
            for word, names in (("without", changed.left), ("with", changed.joined))
            if names
        ]
        text = (
            f"round {round_} is masked again, {' and '.join(found)}: the server has other members for it than before "
            "(on_missing: redo); what those in only one of the two sums have sent, the two together tell"
        )
        logger.warning("%s", text)
        say("", f"WARNING: silo {told(self.hello.silo)}: {text}")

    def _require_genuine(self, round_: int, hello: Hello) -> None:
        """Refuse a hello that the silo which it names has not signed; of this silo's own, any but the one it sent."""
        if hello.silo == self.hello.silo:
            if hello != self.hello:
                raise _refused(round_, f"what {told(hello.silo)} says of itself was changed on the way")
            return
        if hello in self._secrets:
            return
        if hello.silo not in self._identity.roster:
            raise _refused(round_, f"{told(hello.silo)} is not on the roster")
        if not is_genuine(hello, self._identity, self._purpose):
            raise _refused(
                round_,
                f"the hello of {told(hello.silo)} is not signed by its key on the roster, for this recipe and this run",
            )
        try:
            self._secrets[hello] = shared_secret(self._private, hello.key)
        except ValueError as error:
            raise _refused(round_, f"the key of {told(hello.silo)} cannot be used: {error}") from error


def _largest(values: Iterable[Tensor]) -> float:
    """Return the largest absolute value; NaN where there is one."""
    found = [value.abs().max() for value in values if value.numel()]
    return float(torch.stack(found).max()) if found else 0.0


def _change(held: Tensor, trained: Tensor) -> Tensor:
    """Return by how much parameters changed, float64: as exact as they are, and made when it is needed."""
    return trained.double() - held.double()


def _masked(agreed: Sum, point: FixedPoint, values: Iterable[tuple[str, Tensor]], factor: float) -> Tensors:
    """Return what travels: zeros first, then the values times a factor, masked."""
    found = Tensors()
    for name, value in chain([(ZEROS, torch.zeros(ZEROS_COUNT))], values):
        numbers = point.encode(value, factor)
        agreed.masks.lay_over(numbers)
        found[name] = point.as_tensor(numbers, value.shape)
    return found


def _digest(held: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of the parameters that were sent, hexadecimal."""
    digest = hashlib.sha256()
    for name, tensor in held.items():
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\0".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _refused(round_: int, why: str) -> MaskingRefusedError:
    return MaskingRefusedError(
        f"the update of round {round_} is not sent, as the list of its members is not right: {why}"
    )


def member_of(trainer: FedClipTrainer, images: int, fewest: int) -> SumMember | None:
    """Return what takes part in sums for a silo's trainer, with this machine's keys; None where nothing is masked.

    Parameters
    ----------
    images
        How many images the silo trains on.
    fewest
        Fewest members of a sum that the machine's policy asks for.

    Raises
    ------
    SiloKeysError
        This machine has no key for the silo, or keys and roster cannot be used.
    """
    settings, silo = trainer.settings, trainer.silo
    if not settings.secure_sums:
        return None
    purpose = Purpose(trainer.task.recipe_digest, trainer.folder.path.name)
    rounds = MaskedRounds(trainer.folder.personal(silo) / MASKED_ROUNDS, settings.redo)
    by_images, fewest = settings.weighting == "samples", max(fewest, settings.fewest_updates)
    return SumMember(load_identity(keys_folder(), silo), purpose, images, rounds, fewest, by_images)
