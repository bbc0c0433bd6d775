"""From prompts to the tokens that a backbone's text tower takes in."""

from __future__ import annotations

import string
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fedclip_plugin.backbone.checkpoint import SENTENCES, reading
from fedclip_plugin.backbone.configs.backbone_config import BackboneConfig
from fedclip_plugin.backbone.open_clip_model import OpenClipTokenizer
from fedclip_plugin.errors import BackboneError

_FIRST_CLIPS_END = 2
"""End marker by the configuration of the first CLIPs, wrongly; there the tower takes the highest token for it."""


class PromptTokenizer:
    """A backbone's tokenizer, seen to fit its text tower.

    A prompt is cut off where the tower's positions end, whatever the tokenizer's own files say. SigLIPs were trained on
    lower case, padded to all positions, without a mask; so they read here.

    Raises
    ------
    BackboneError
        When the tokenizer cannot be read, or is not that of the text tower.
    """

    def __init__(self, folder: Path, config: BackboneConfig) -> None:
        self._config, self._siglip = config, config.family == "siglip"
        letters = list(string.ascii_lowercase)
        with reading(f"the tokenizer of backbone {folder} cannot be used"):
            self._tokenizer: Any = _tokenizer_of(folder, config)
            ids, mask = self(letters)
        again = "take tokenizer and config.json from one CLIP"
        if len(ids.unique(dim=0)) < len(letters):
            raise BackboneError(f"the tokenizer of backbone {folder} reads the same in different letters; {again}")
        if int(ids.max()) >= config.vocabulary:
            raise BackboneError(
                f"the tokenizer of backbone {folder} gives token {int(ids.max())}, and the text tower knows "
                f"{config.vocabulary} (vocab_size in config.json); {again}"
            )
        if config.end is not None and not self._ends(ids).equal(mask.sum(-1) - 1):
            raise BackboneError(
                f"the tokenizer of backbone {folder} does not end a prompt with the token that the text tower looks "
                f"for, {config.end} (eos_token_id in config.json); {again}"
            )

    def __call__(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Return tokens and mask, as :meth:`~fedclip_plugin.backbone.clip.FrozenClip.tokenize`, on the CPU."""
        if isinstance(self._tokenizer, OpenClipTokenizer):
            return self._tokenizer(prompts)
        tokens = self._tokenizer(
            [prompt.lower() for prompt in prompts] if self._siglip else list(prompts),
            padding="max_length" if self._siglip else True,
            truncation=True,
            max_length=self._config.positions,
            return_attention_mask=True,
            return_tensors="pt",
        )
        ids: Tensor = tokens["input_ids"]
        return ids, torch.ones_like(ids) if self._siglip else tokens["attention_mask"]

    def _ends(self, ids: Tensor) -> Tensor:
        """Return where transformers' text tower takes the feature of each prompt from, ``[C]``."""
        end = self._config.end
        assert end is not None, "others take it from the last place"
        return ids.argmax(-1) if end == _FIRST_CLIPS_END else ids.eq(end).int().argmax(-1)


def _tokenizer_of(folder: Path, config: BackboneConfig) -> Any:
    """Return a folder's tokenizer; a BackboneError when it needs what is not installed."""
    import transformers

    if config.family == "open_clip":
        return OpenClipTokenizer(folder)
    kind: Any = transformers.AutoTokenizer
    if config.family == "siglip":
        # The first SigLIPs' own class would take a second one's place.
        kind = transformers.SiglipTokenizer if (folder / SENTENCES).is_file() else transformers.PreTrainedTokenizerFast
    if kind is transformers.SiglipTokenizer and find_spec("sentencepiece") is None:
        raise BackboneError(
            f"the tokenizer of backbone {folder} ({SENTENCES}) needs sentencepiece, which is not installed: "
            "pip install 'fedclip-plugin[siglip]'"
        )
    return kind.from_pretrained(folder, local_files_only=True, padding_side="right", truncation_side="right")
