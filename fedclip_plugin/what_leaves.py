"""Everything that crosses between the ranks of a job, as a page: ``python -m fedclip_plugin.what_leaves`` prints it.

The page is docs/what_leaves_a_silo.md. It is made from the message types themselves, and a test compares the two;
another test catches a federation's and a study's traffic and finds nothing in it that is not declared here.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel

from fedclip_plugin.federated.messages.added_fields import SiloReport
from fedclip_plugin.federated.messages.closing_messages import (
    BinSums,
    ConfidenceCounts,
    CountConfidences,
    Likelihoods,
    NoMoreQuestions,
    ScoreAdapter,
    ScoreClasses,
)
from fedclip_plugin.federated.messages.message_format import FEDML_MESSAGES
from fedclip_plugin.federated.roles.task import Score
from fedclip_plugin.federated.secure_sums.hello import Hello, RoundMembers
from fedclip_plugin.federated.startup.memory_check import RankMemory
from fedclip_plugin.federated.startup.start_messages import (
    FAULTS,
    Agreed,
    CannotStart,
    Encoded,
    GoOn,
    Opened,
    Present,
    Ready,
    Room,
)
from fedclip_plugin.runs.class_split_record import ClassCounts
from fedclip_plugin.study.running.answer_counts import Counts, Kinds
from fedclip_plugin.study.running.study_messages import Ask, CellPart, Joint, Over, Question, RunCell, Selected

START_FROM_SILO = (Present, Room, Ready, Encoded)
START_FROM_SERVER = (GoOn, Opened, Agreed, CannotStart)
CLOSING_FROM_SILO = (Likelihoods, ConfidenceCounts, ClassCounts)
CLOSING_FROM_SERVER = (ScoreAdapter, CountConfidences, ScoreClasses, NoMoreQuestions)
STUDY_FROM_SILO = (CellPart, Joint)
STUDY_FROM_SERVER = (RunCell, Selected, Ask, Over)
PARTS = (SiloReport, Score, Hello, RoundMembers, BinSums, Counts, Kinds, Question)
"""What messages are made of."""

MESSAGES = (
    *(*START_FROM_SILO, *START_FROM_SERVER),
    *(*CLOSING_FROM_SILO, *CLOSING_FROM_SERVER),
    *(*STUDY_FROM_SILO, *STUDY_FROM_SERVER),
)
WITHIN_A_MACHINE = (RankMemory,)

_HEAD = """# What leaves a silo

*Made by `python -m fedclip_plugin.what_leaves > docs/what_leaves_a_silo.md` from the message types; a test compares
the two, and another one catches the traffic of a federation and of a study and finds nothing else in it.*

In short: **no image, no feature, no answer for a single image, no path, no file name, no host name and no user
name** leaves a silo in a message. What does is the silo's name, its class names, how many images it holds and could
not read, the updates of the adapter, and sums: losses, accuracies, seconds, bytes of memory, and how many images
are of which kind, or answered with which confidence. A silo hears of itself and of the average; of others it hears
at most a silo's name, which the recipe has, and class names: those of the federation, and those that it lacks itself.
With `secure_sums` it also hears, of the silos that train with it, their public keys and how many images they train on.

The methods `ridge`, `ncm` and `gda`, and `start: ridge`, are another matter: a silo sends sums of features, and **the
sum of a class of one image is that image's feature**, unless the recipe has a `min_class_count` (see docs/trust.md).

That is not the same as nothing about the images:

- An **update** of the adapter is made from a silo's images, and may tell something of them to whoever runs the
  server. With `secure_sums` the server gets their sum alone (docs/secure_sums.md); noise is off unless the recipe
  asks for differential privacy (docs/privacy.md). Where one silo trains in a round, the average is its update; where
  two do, each can work out the other's.
- The **sums** of `ridge`, `ncm` and `gda`, and of the first round with `start: ridge`, in the place of an update are,
  by name: `counts` of images of each class, `sums` of their features and `gram`, the upper triangle of the sum of the
  features' outer products, as fractions of `sums.scale` and `gram.scale`. Then a silo is sent `weights` and `biases`
  of solutions, answers with `right` and `losses`, sums over its validation images for each of them, and with
  `personal_statistics` is sent the sums of the other silos together, as `others.counts` and so on.
- A **sum** over few images tells of single ones. A test split of one image has an accuracy of 0 or 1, and of a study
  with many federations some kinds have one image each. The counts of confidences after the last round have narrow
  bins: of few images they tell each confidence, not whose it is. No count names an image or says which it is.
- A **masked** update, or masked sums, with `secure_sums`: the same names without the scales, and for each parameter a
  number of 32 bits, for each sum one of 64, that looks drawn at random. `:zeros` are two zeros, masked, which show
  whether the masks cancel.
- **Names** of class folders and silos go out as they are: give them none that is confidential.

Messages go between a silo and the server only. Each is a header of JSON with the fields below, and the bytes of
tensors: nothing in it can run code (see docs/trust.md). They are not encrypted: a network between the machines must be
yours. More ways out are at the end of this page: what `mpirun` hands on, what MPI itself knows, and what FedML does
in a `main` of your own.
"""

_WORDS = """## What mpirun hands on: stdout and stderr

`mpirun` shows what every rank writes on the console of the machine where it was started.

- **All ranks on one machine:** nothing leaves it by that, so a silo says what is wrong in full, with file names.
  The server adds which ranks cannot start, and the kind of the fault.
- **Several machines:** from the moment that a silo knows its run folder, its stdout and stderr go to its own
  `logs/rank_N.log`, on its own machine: warnings with file names, tracebacks, what libraries print. The console
  hears from it only: its name, rank and round, the name of the exception's type, and that its log says more. What
  is wrong with the recipe itself before that is not shown of a silo at all; `fedclip validate` there shows it.
- Whether there are several machines is what `mpirun` tells each rank of the number of ranks beside it. Where it
  tells nothing, a silo takes it that there are.
- A `main` of your own: the same from `fedclip_plugin.build` on. What it prints before is yours.

## What MPI itself knows

`mpirun` reaches the hosts of the hostfile by name, and its daemons know each other's names and addresses. It also
hands its own environment variables to the ranks. That is between the machines' operators and Open MPI; this product
adds nothing.

## A `main` of your own, with FedML's runner

The start is the same: the cards and verdicts above. Then FedML's own managers talk, in whole Python objects that can
run code where they are read: the messages have the same types, without what begins with `fedclip_`, but with the name
of a silo's operating system (`client_os`, such as `Linux`).
`fedml.init`, which such a `main` calls, asks a server of FedML's maker for a configuration over the internet. The
`fedclip` command does neither.

## What stays where it is

Images, features, the feature cache, logs, `personal/` (the adapter of a silo alone) and, of a study, `answers/` in
each federation's run folder: which test images were labelled correctly. A silo works out counts from them when the
server asks. The server has the images of the target domain itself, and keeps its own `answers/` in the same way.
Where no one machine has all answers of a silo for a case (a domain that moved between machines, or files that were
removed), there is no interval for it, and the table says so.
"""


def page() -> str:
    """Return the page as Markdown."""
    out, back = [[each for each in FEDML_MESSAGES if each.from_silo is side] for side in (True, False)]
    parts = [
        _HEAD,
        "## From a silo to the server\n\n### Before the first round\n",
        *map(_told, START_FROM_SILO),
        f"Kinds of faults: {', '.join(f'`{kind}` ({text})' for kind, text in FAULTS.items())}.\n",
        "### During training: FedML's messages\n",
        *(_section(f"{each.title} (type {each.number})", "", each.fields()) for each in out),
        "### After the last round\n",
        "For the best and for the last adapter: the first two to calibrate it, not with `calibrate: false`; the third "
        "with `class_split: base_new`, for zero-shot CLIP too.\n",
        *map(_told, CLOSING_FROM_SILO),
        "### In a study\n",
        "After each federation; the federations themselves are as above.\n",
        *map(_told, STUDY_FROM_SILO),
        "## From the server to a silo\n\n### Verdicts before the first round\n",
        *map(_told, START_FROM_SERVER),
        "### FedML's messages\n",
        *(_section(f"{each.title} (type {each.number})", "", each.fields()) for each in back),
        "### Questions after the last round\n",
        *map(_told, CLOSING_FROM_SERVER),
        "### Orders of a study\n",
        *map(_told, STUDY_FROM_SERVER),
        "## What these are made of\n",
        *map(_told, PARTS),
        "## Between ranks on one machine\n",
        *map(_told, WITHIN_A_MACHINE),
        _WORDS,
    ]
    return "\n".join(parts)


def fields_of(kind: type[Any]) -> list[str]:
    """Return the names of the fields of a message type."""
    if issubclass(kind, BaseModel):
        return list(kind.model_fields)
    return [field.name for field in dataclasses.fields(kind)]


def _told(kind: type[Any]) -> str:
    described: dict[str, str] = {}
    for cls in reversed(kind.__mro__):
        described |= _attributes(inspect.getdoc(cls) or "") if cls.__module__.startswith("fedclip_plugin") else {}
    names = fields_of(kind)
    if missing := [name for name in names if not any(name in keys.split(", ") for keys in described)]:
        raise ValueError(f"the docstring of {kind.__name__} does not say what {', '.join(missing)} is")
    used = {keys: text for keys, text in described.items() if any(name in keys.split(", ") for name in names)}
    return _section(f"`{kind.__name__}`", (inspect.getdoc(kind) or "").partition("\n\n")[0], used)


def _section(title: str, text: str, fields: Mapping[str, str]) -> str:
    rows: Iterable[str] = [f"| `{keys.replace(', ', '`, `')}` | {told} |" for keys, told in fields.items()]
    table = ["| field | what it is |", "| --- | --- |", *rows, ""] if fields else []
    return "\n".join([f"**{title}**" + (f": {' '.join(text.split())}" if text else ""), "", *table])


def _attributes(doc: str) -> dict[str, str]:
    """Return the names of a numpy docstring's attributes, as they stand there, and their descriptions."""
    _, _, tail = doc.partition("Attributes\n----------\n")
    found = re.findall(r"^(\S[^\n]*)\n((?:[ ]{4}[^\n]*\n?)+)", tail.partition("\n\n")[0], re.MULTILINE)
    return {keys: " ".join(text.split()).replace("``", "`") for keys, text in found}


if __name__ == "__main__":
    print(page(), end="")
