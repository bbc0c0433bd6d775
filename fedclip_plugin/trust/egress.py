"""What stands between a silo and the outside: its policy is asked, and its log is written, before anything is sent."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from fedclip_plugin.errors import PolicyError
from fedclip_plugin.text import counted, size, told
from fedclip_plugin.trust.egress_log import VARIABLE, EgressLog, log_place
from fedclip_plugin.trust.left_before import LeftBefore
from fedclip_plugin.trust.outgoing import Outgoing
from fedclip_plugin.trust.policy_check import (
    Asked,
    Violation,
    message_violations,
    recipe_violations,
    refusal,
    rest_violations,
)
from fedclip_plugin.trust.silo_policy import PolicyFile, find_policy, load_policy, places_told

logger = logging.getLogger(__name__)


class Egress:
    """The policy and the log of a silo's rank.

    Parameters
    ----------
    file
        The policy; None where the machine has none.
    log
        The log; None where none is kept.
    run
        Name of the run, or of the study of which it is a part.

    Attributes
    ----------
    refused
        Why nothing but the word that this silo cannot take part may leave; None where messages may.
    """

    def __init__(
        self, file: PolicyFile | None, log: EgressLog | None, run: str, refused: PolicyError | None = None
    ) -> None:
        self._file, self.log, self.run, self.refused = file, log, run, refused
        self._left = LeftBefore() if log is None else log.before
        self._asked: Asked | None = None

    @property
    def policy_sha256(self) -> str:
        """SHA-256 of the policy's file; empty without one."""
        return "" if self._file is None else self._file.sha256

    @property
    def min_silos(self) -> int:
        """That of the policy: fewest silos of an average; 1 without one."""
        return 1 if self._file is None else self._file.policy.min_silos

    def check_recipe(self, asked: Asked) -> None:
        """Hold a recipe against the policy, before its first message.

        Raises
        ------
        PolicyError
            Every violation; from then on this lets out nothing but the word that the silo cannot take part.
        """
        self._asked, self._left.recipe = asked, asked.recipe.digest()
        if self.log is not None:
            self.log.note_recipe(self._left.recipe)
        if self.refused is None and self._file is not None:
            violations = recipe_violations(self._file.policy, asked, self._left)
            if violations:
                self._refuse(self._file, f"the recipe of run {asked.run}", "recipe", violations)
        if self.refused is not None:
            raise self.refused

    def require_rest(self, done: int, own: int) -> None:
        """Refuse to go on with the recipe that was checked, where the policy would end that later.

        Parameters
        ----------
        done
            The rounds that are complete.
        own
            The last of them that the silo was not left out of.

        Raises
        ------
        PolicyError
            The log of the earlier starts is missing, and what they sent would not count; or with it, what is still to
            be trained is more than the policy allows.
        """
        if self._file is None or self.log is None or self._asked is None:
            return
        if own and self._left.recipe not in self._left.rounds_known:
            self.refused = PolicyError(
                f"the log of the earlier starts is missing: the silo has {counted(own, 'complete round')}, and the "
                f"egress log {self.log.path} tells of none, so that what they sent would not count against "
                f"{self._file.path}; restore that log, let {VARIABLE} name the folder where it is, or begin a new run "
                "with another --run"
            )
            raise self.refused
        if violations := rest_violations(self._file.policy, self._asked, done, self._left):
            raise self._refuse(self._file, f"what is left to train of run {self.run}", "recipe", violations)

    def leaving(self, message: Outgoing) -> None:
        """Let a message pass: hold it against the policy, and write it into the log; the caller sends it next.

        Raises
        ------
        PolicyError
            The policy refuses it, or the log cannot be written: it must not be sent.
        """
        if self.refused is not None and not message.only_fault:
            raise self.refused
        if self._file is not None and not message.only_fault:
            violations = message_violations(self._file.policy, message, self._left)
            if violations:
                raise self._refuse(self._file, f"a message ({message.kind})", message.kind, violations, message.round)
        if self.log is not None:
            self.log.note(message)
        self._left.add(message.kind, message.size, message.epsilon, message.delta, message.account)
        if self.log is not None and message.round is not None:
            text = "%s of round %d leaves; last hash of the egress log %s"
            logger.info(text, message.kind, message.round, self.log.last_hash)

    def close(self) -> str:
        """End the log in order, and return a sentence about it that is worth keeping elsewhere; empty without one."""
        if self.log is None:
            return ""
        self.log.close()
        many = counted(self.log.messages, "message")
        return f"egress log {self.log.path}: {many}, {size(self.log.sent)}, last hash {self.log.last_hash}"

    def _refuse(
        self, file: PolicyFile, told: str, what: str, violations: Sequence[Violation], round_: int | None = None
    ) -> PolicyError:
        """Return the error that names violations; nothing may leave from now on, and the log has it as ``what``."""
        self.refused = refusal(file, told, violations)
        if self.log is not None:
            self.log.note_refused(what, [violation.policy_key for violation in violations], round_)
        return self.refused


def sends_through_egress() -> bool:
    """Return whether a silo's rank on this machine sends through a policy or a log, also one that cannot be used."""
    try:
        return VARIABLE in os.environ or find_policy() is not None
    except PolicyError:
        return True


def open_egress(logs: Path, run: str, silo: str, rank: int, recipe_digest: str) -> Egress | None:
    """Return what a silo's rank sends through; None where the machine has no policy and keeps no log.

    A log is kept where there is a policy, or where the variable names a folder for it. A policy that cannot be used
    gives an :class:`Egress` that has refused already.

    Parameters
    ----------
    logs
        The folder of the rank's own log.

    Raises
    ------
    PolicyError
        The log cannot be written: nothing may leave at all.
    """
    file, refused = None, None
    try:
        place = find_policy()
        file = None if place is None else load_policy(place)
    except PolicyError as error:
        refused = error
    named = os.environ.get(VARIABLE)
    if file is None and refused is None:
        logger.info("no silo policy (%s): the recipe alone says what leaves this machine", places_told())
        if named is None:
            return None
    opening = {"run": run, "silo": silo, "recipe": recipe_digest, "policy": file.sha256 if file else None}
    log = EgressLog(log_place(logs, run, rank, named), opening)
    if file is not None:
        logger.info("silo policy %s (SHA-256 %s); egress log %s", told(str(file.path), 500), file.sha256, log.path)
    else:
        logger.info("egress log %s", log.path)
    return Egress(file, log, run, refused)


def check_here(ask: Callable[[], Asked]) -> None:
    """Hold a recipe against the machine's policy where all silos are in one process, from which nothing leaves.

    What is asked of the machine is worked out only where there is a policy.

    Raises
    ------
    PolicyError
        The policy refuses the recipe, or cannot be used.
    """
    place = find_policy()
    if place is None:
        logger.info("no silo policy (%s)", places_told())
        return
    file, asked = load_policy(place), ask()
    Egress(file, None, asked.run).check_recipe(asked)
    logger.info("silo policy %s allows the recipe; all silos are in this process, and no message leaves it", place)
