"""From prompts to the tokens that CLIP's text tower takes in."""

from __future__ import annotations

import string
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from fedclip_plugin.backbone.clip_config import ClipConfig
from fedclip_plugin.errors import BackboneError

_FIRST_CLIPS_END = 2
"""End marker by the configuration of the first CLIPs, wrongly; there the tower takes the highest token for it."""


class PromptTokenizer:
    """A CLIP's tokenizer, seen to fit its text tower.

    A prompt is cut off where the tower's positions end, whatever the tokenizer's own files say.

    Shapes: C prompts, L tokens of the longest one.

    Parameters
    ----------
    folder
        A backbone folder (see :func:`~fedclip_plugin.backbone.locate.locate_backbone`).
    config
        What its ``config.json`` says.

    Raises
    ------
    BackboneError
        When it cannot be loaded, reads different words the same, or does not fit the tower.
    """

    def __init__(self, folder: Path, config: ClipConfig) -> None:
        from transformers import AutoTokenizer

        self._config = config
        letters = list(string.ascii_lowercase)
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(
                folder, local_files_only=True, padding_side="right", truncation_side="right"
            )
            ids, mask = self(letters)
        except Exception as error:  # its parsers raise whatever a file makes them raise
            reason = " ".join(str(error).split())
            raise BackboneError(f"the tokenizer of backbone {folder} cannot be used: {reason}") from error
        again = "take tokenizer and config.json from one CLIP"
        if len(ids.unique(dim=0)) < len(letters):
            raise BackboneError(f"the tokenizer of backbone {folder} reads the same in different letters; {again}")
        if int(ids.max()) >= config.vocabulary:
            raise BackboneError(
                f"the tokenizer of backbone {folder} gives token {int(ids.max())}, and the text tower knows "
                f"{config.vocabulary} (vocab_size in config.json); {again}"
            )
        if not self._ends(ids).equal(mask.sum(-1) - 1):
            raise BackboneError(
                f"the tokenizer of backbone {folder} does not end a prompt with the token that the text tower looks "
                f"for, {config.end} (eos_token_id in config.json); {again}"
            )

    def __call__(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Return tokens and mask, as :meth:`FrozenClip.tokenize <fedclip_plugin.backbone.clip.FrozenClip.tokenize>`."""
        tokens = self._tokenizer(
            list(prompts), padding=True, truncation=True, max_length=self._config.positions, return_tensors="pt"
        )
        return tokens["input_ids"], tokens["attention_mask"]

    def _ends(self, ids: Tensor) -> Tensor:
        """Return where transformers' text tower takes the feature of each prompt from, ``[C]``."""
        if self._config.end == _FIRST_CLIPS_END:
            return ids.argmax(-1)
        return (ids == self._config.end).int().argmax(-1)
