"""A parser of command lines that also says what was probably meant."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from typing import Any, NoReturn

_CHOICE = re.compile(r"invalid choice: '?(?P<word>.*?)'? \(choose from (?P<choices>.*)\)", re.DOTALL)
_UNKNOWN = re.compile(r"unrecognized arguments: (?P<words>.*)", re.DOTALL)


class CommandParser(argparse.ArgumentParser):
    """argparse's parser, with "did you mean" for words and options, and line breaks kept in what stands below them."""

    def __init__(self, *words: Any, **settings: Any) -> None:
        super().__init__(*words, **{"formatter_class": argparse.RawDescriptionHelpFormatter, **settings})

    def parse_known_args(  # type: ignore[override]  # argparse overloads it by the type of the namespace
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[Any, list[str]]:
        """Parse; what no argument takes is refused by the command that it was given to, which knows its options."""
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return found, unknown

    def error(self, message: str) -> NoReturn:
        """Say what is wrong and what was probably meant, and exit with 2."""
        from fedclip_plugin.recipe.faults import closest

        if choice := _CHOICE.search(message):
            given, known = [choice["word"]], [word.strip(" '") for word in choice["choices"].split(",")]
        elif unknown := _UNKNOWN.search(message):
            given = [word.partition("=")[0] for word in unknown["words"].split() if word.startswith("-")]
            known = list(self._option_string_actions)
        else:
            given, known = [], []
        meant = dict.fromkeys(found for word in given if (found := closest(word, known)))
        super().error(message + (f" (did you mean {' and '.join(meant)}?)" if meant else ""))
