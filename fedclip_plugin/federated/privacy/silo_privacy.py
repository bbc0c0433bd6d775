"""A silo's budget: what its images' privacy costs a round, what is spent, and whether another round fits."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

from fedclip_plugin.errors import DataError, FederationError, RunFolderError
from fedclip_plugin.federated.privacy.accountant import Mechanism
from fedclip_plugin.federated.privacy.ledger import Ledger
from fedclip_plugin.federated.privacy.privacy_settings import PrivacySettings
from fedclip_plugin.federated.privacy.secret_random import SecretRandom
from fedclip_plugin.federated.roles.settings import TrainingSettings
from fedclip_plugin.recipe.schema.fedclip import DP_ROUNDING
from fedclip_plugin.recipe.schema.types import MOST_NOISE

LEDGER = "privacy.json"


class SiloPrivacy:
    """Differential privacy of one silo's training images, over the rounds of a run.

    The guarantee takes the number of training images as known: Poisson samples and the divisor rest on it.

    Parameters
    ----------
    place
        The silo's ledger; its images' number, and the batches and epochs of a round, say how often an image is drawn.
    batch_size
        Expected images of a step; None for sums, in which every image is once.
    rounds
        In how many rounds the silo is to train by the recipe.
    random
        Makes the source of noise and samples, anew for each round; tests give another.

    Attributes
    ----------
    settings
        What the recipe says.
    expected
        Images of a step, on average.
    """

    def __init__(
        self,
        settings: PrivacySettings,
        place: Path,
        images: int,
        batch_size: int | None,
        epochs: int,
        rounds: int,
        random: Callable[[], SecretRandom] = SecretRandom,
    ) -> None:
        self.settings, self.random = settings, random
        self._place, self._images, self._planned = place, images, max(1, rounds)
        self._rate, self._steps = sampling(images, batch_size, epochs)
        self.expected = self._rate * images
        self._ledger: Ledger | None = None

    def begin(self, done: int) -> None:
        """Begin, or go on after ``done`` rounds with what was spent.

        Raises
        ------
        RunFolderError
            When what was spent is lost, or was spent on other images, or in another way.
        FederationError
            When not even one round fits, whatever the noise.
        """
        found, settings = Ledger.load(self._place), self.settings
        if found is None and done:
            raise RunFolderError(
                f"{self._place} is missing: {done} rounds have spent of the images' privacy, and nobody knows how "
                "much; restore it from a copy, or begin a new run with another --run"
            )
        if found is None:
            noise = settings.multiplier(self._rate, self._steps, self._planned)
            found = Ledger(noise, self._rate, self._steps, settings.delta, settings.clip)
        noise = settings.noise_multiplier or found.noise_multiplier
        if found != Ledger(noise, self._rate, self._steps, settings.delta, settings.clip, found.rounds, found.account):
            raise RunFolderError(
                f"{self._place} is of other images, or of a recipe with other batches or noise: what was spent there "
                "cannot be added to; restore the images, or begin a new run with another --run"
            )
        self._ledger = found
        if not found.rounds and not self.may_train:
            raise FederationError(_too_much(self._after(1), settings))
        found.save(self._place)

    @property
    def mechanism(self) -> Mechanism:
        """What the silo does in a round."""
        return self._known.mechanism

    @property
    def account(self) -> str:
        """The name of the ledger in which that is counted."""
        return self._known.account

    @property
    def epsilon(self) -> float:
        """What all rounds so far have spent, for the recipe's delta: an upper bound."""
        return self._after(self._known.rounds)

    @property
    def may_train(self) -> bool:
        """Whether another round stays within the target; True without one."""
        target = self.settings.target_epsilon
        return target is None or self._after(self._known.rounds + 1) <= target * DP_ROUNDING

    def spend(self) -> None:
        """Count another round, on disk, before anything of it is computed.

        Raises
        ------
        FederationError
            When it would exceed the target: nothing is trained, and nothing sent.
        """
        if not self.may_train:
            raise FederationError(
                f"another round would spend epsilon {self._after(self._known.rounds + 1):.4g} of the images' privacy, "
                f"more than dp_target_epsilon {self.settings.target_epsilon:g}: the silo trains no more; end the run "
                "with train_args.comm_round at its last complete round"
            )
        self._ledger = self._known.with_one_more()
        self._ledger.save(self._place)

    @property
    def _known(self) -> Ledger:
        assert self._ledger is not None, "begin comes first"
        return self._ledger

    def _after(self, rounds: int) -> float:
        return self.mechanism.epsilon(rounds, self._known.delta, self._planned)


def silo_privacy(
    settings: TrainingSettings, personal: Path, images: int, index: int, silos: int, solved: bool
) -> SiloPrivacy | None:
    """Return the privacy of a silo's training images, as a recipe has it; None without.

    Parameters
    ----------
    personal
        The silo's own folder of the run.
    index, silos
        Which of how many silos it is.
    solved
        Whether the method is solved from sums.
    """
    if settings.privacy is None:
        return None
    batch_size, rounds = _planned(settings, index, silos, solved)
    return SiloPrivacy(settings.privacy, personal / LEDGER, images, batch_size, settings.epochs, rounds)


def is_spent(settings: TrainingSettings, personal: Path, index: int, silos: int, solved: bool) -> bool:
    """Return whether a silo trains no more, by what its ledger says; parameters as of :func:`silo_privacy`.

    A job that was killed may have spent a round that never closed: no record of the server's tells of it. A
    RunFolderError when the ledger is damaged.
    """
    if settings.privacy is None or settings.privacy.target_epsilon is None:
        return False
    known = Ledger.load(personal / LEDGER)
    if known is None or not known.rounds:
        return False
    _, planned = _planned(settings, index, silos, solved)
    return (
        known.mechanism.epsilon(known.rounds + 1, known.delta, planned) > settings.privacy.target_epsilon * DP_ROUNDING
    )


def _planned(settings: TrainingSettings, index: int, silos: int, solved: bool) -> tuple[int | None, int]:
    """Return the batch size, None for sums, and in how many rounds a silo is to train, taken for one at least."""
    return (None, 1) if solved else (settings.batch_size, max(1, settings.rounds_of(index, silos)))


def sampling(images: int, batch_size: int | None, epochs: int) -> tuple[float, int]:
    """Return with which probability an image is in a step, and the steps of a round."""
    if batch_size is None:
        return 1.0, 1
    return min(1.0, batch_size / images), epochs * math.ceil(images / batch_size)


def require_budget(settings: TrainingSettings, images: int, index: int, silos: int, solved: bool) -> None:
    """Refuse images for which the recipe's numbers guarantee nothing, or forbid every round, with a DataError.

    Parameters as of :func:`silo_privacy`; without differential privacy there is nothing to refuse.
    """
    own = settings.privacy
    if own is None:
        return
    if own.delta * images >= 1:
        raise DataError(
            f"fedclip_args.dp_delta {own.delta:g} is 1 by {1 / own.delta:,.0f}, and the silo trains on "
            f"{images:,} images: so much may be revealed of one of them outright; give less than {1 / images:.3g}"
        )
    if own.target_epsilon is None:
        return
    batch_size, planned = _planned(settings, index, silos, solved)
    rate, steps = sampling(images, batch_size, settings.epochs)
    noise = own.multiplier(rate, steps, planned)
    once = Mechanism(noise, rate, steps).epsilon(1, own.delta, planned)
    if once > own.target_epsilon * DP_ROUNDING:
        raise DataError(_too_much(once, own))


def _too_much(once: float, settings: PrivacySettings) -> str:
    remedy = "raise dp_noise_multiplier or the target, or leave dp_noise_multiplier out"
    most = ""
    if settings.noise_multiplier is None:
        most, remedy = f" with the most noise that there is, a multiplier of {MOST_NOISE:,.0f}", "raise the target"
    return (
        f"one round would spend epsilon {once:.4g}{most}, more than fedclip_args.dp_target_epsilon "
        f"{settings.target_epsilon:g}: {remedy}"
    )
