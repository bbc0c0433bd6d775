"""A small byte-level BPE in CLIP's format, learnt from the captions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import torch
from tokenizers import pre_tokenizers
from transformers import CLIPTokenizer

CONTEXT = 24
"""Longest text in tokens, both markers included."""

_START, _END, _WORD_END = "<|startoftext|>", "<|endoftext|>", "</w>"

Pair = tuple[str, str]
Pieces = tuple[str, ...]


def _words(tokenizer: CLIPTokenizer, texts: Sequence[str]) -> Counter[str]:
    backend = tokenizer.backend_tokenizer
    words: Counter[str] = Counter()
    for text, count in Counter(texts).items():
        for word, _ in backend.pre_tokenizer.pre_tokenize_str(backend.normalizer.normalize_str(text)):
            words[word] += count
    return words


def _joined(pieces: Pieces, pair: Pair) -> Pieces:
    merged: list[str] = []
    for piece in pieces:
        if merged and (merged[-1], piece) == pair:
            merged[-1] += piece
        else:
            merged.append(piece)
    return tuple(merged)


def learn_merges(words: Counter[str], limit: int) -> list[Pair]:
    """Learn byte-pair merges, the most frequent pair first and of equals the first by name.

    Written out here because the trainer of ``tokenizers`` breaks ties differently in every process.
    """
    pieces = {(*word[:-1], word[-1] + _WORD_END): count for word, count in sorted(words.items())}
    merges: list[Pair] = []
    while len(merges) < limit:
        pairs: Counter[Pair] = Counter()
        for word, count in pieces.items():
            for pair in pairwise(word):
                pairs[pair] += count
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        pieces = {_joined(word, best): count for word, count in pieces.items()}
    return merges


def train_tokenizer(captions: Sequence[str], merge_limit: int = 300) -> CLIPTokenizer:
    """Learn a tokenizer of at most ``514 + merge_limit`` entries from captions.

    Every byte is in the vocabulary, alone and as the end of a word, so no text is unknown.
    """
    merges = learn_merges(_words(CLIPTokenizer(vocab={_START: 0, _END: 1}, merges=[]), captions), merge_limit)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    entries = [
        _START,
        _END,
        *alphabet,
        *(byte + _WORD_END for byte in alphabet),
        *("".join(pair) for pair in merges),
    ]
    vocabulary = {entry: number for number, entry in enumerate(dict.fromkeys(entries))}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=CONTEXT)


def tokenized(tokenizer: CLIPTokenizer, texts: Sequence[str]) -> torch.Tensor:
    """Encode texts as ids, padded with the end marker; int64 [len(texts), CONTEXT]."""
    batch = tokenizer(list(texts), padding="max_length", truncation=True, max_length=CONTEXT, return_tensors="pt")
    ids: torch.Tensor = batch["input_ids"]
    return ids
