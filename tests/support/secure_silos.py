"""Silos that take part in secure sums, with keys of their own on this machine."""

import yaml

from fedclip_plugin.federated.secure_sums.hello import Purpose, RoundMembers
from fedclip_plugin.federated.secure_sums.masked_rounds import MASKED_ROUNDS, MaskedRounds
from fedclip_plugin.federated.secure_sums.member import SumMember
from fedclip_plugin.trust.silo_keys import load_identity, new_key

PURPOSE = Purpose("d" * 64, "demo")


def write_keys(folder, silos):
    """Make a key for each silo and the roster of all, and return the folder."""
    lines = {silo: new_key(folder, silo).raw.hex() for silo in silos}
    (folder / "roster.yaml").write_text(yaml.safe_dump(lines, allow_unicode=True), encoding="utf-8")
    return folder


def members_of(folder, silos, images=None, redo=False, by_images=False, purpose=PURPOSE, fewest=3, done=0):
    """Return a member of each silo, whose keys are in a folder."""
    found = []
    for number, silo in enumerate(silos):
        rounds = MaskedRounds(folder / "personal" / silo / MASKED_ROUNDS, redo)
        count = 20 if images is None else images[number]
        found.append(SumMember(load_identity(folder, silo), purpose, count, rounds, fewest, by_images))
        found[-1].begin(done)
    return found


def list_of(members, attempt=1):
    """Return the server's list of members."""
    return RoundMembers(attempt, tuple(member.hello for member in members))
