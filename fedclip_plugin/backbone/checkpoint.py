"""Whether a backbone folder is whole: weights, tokenizer and processor that fit each other; no torch."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fedclip_edge.terminal import printable
from fedclip_plugin.backbone.configs.backbone_config import LFS, BackboneConfig, Shape, read_json
from fedclip_plugin.backbone.configs.clip_config import read_clip_config
from fedclip_plugin.backbone.configs.open_clip_config import OPEN_CLIP_WEIGHTS
from fedclip_plugin.errors import BackboneError
from fedclip_plugin.recipe.faults import listed

PROCESSORS = ("preprocessor_config.json", "processor_config.json")
WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")

SENTENCES = "spiece.model"
"""Where the first SigLIPs keep their tokenizer, which sentencepiece reads."""

_FLOATS = ("F16", "BF16", "F32", "F64")
_BUFFER = re.compile(r"(^|\.)position_ids$")
"""What older checkpoints carry beside the weights, and transformers passes over: the numbers 0, 1, 2 ..."""

_WRAPPERS = ("state_dict", "model_state_dict", "model")
_NAMED = 3
_LETTERS = 26
"""Tokens without which not even letters can be told apart."""


def require_checkpoint(folder: Path) -> None:
    """Refuse a folder that would load as something else than the backbone that it says it is, as far as headers tell.

    Of safetensors only the headers are read; weights in torch's own files are looked at when they are loaded.
    """
    config = read_clip_config(folder)
    if config.family == "open_clip":
        weight_files(folder)
        return  # open_clip itself loads no file that lacks a weight or has another
    stored = _stored_shapes(weight_files(folder))
    if stored is not None:
        wanted = config.weights()
        unfit = [name for name, shape in wanted.items() if stored.get(name, shape) != shape]
        sizes = {name: f"{list(stored[name])}, {list(wanted[name])} by config.json" for name in unfit}
        require_weights(folder, config, wanted.keys() - stored.keys(), stored.keys() - wanted.keys(), sizes)
    _require_vocabulary(folder, config)
    side = _processor_side(folder, config)
    if side is not None:
        require_side(folder, side, config)


def require_weights(
    folder: Path,
    kind: BackboneConfig,
    missing: Collection[str],
    foreign: Collection[str],
    unfit: Mapping[str, str] | None = None,
) -> None:
    """Refuse weights that are not those of a model of its kind: name a few, and say how to mend what is often met.

    Foreign are names that no such model has; unfit ones come with what is wrong with their size.
    """
    if not (missing or foreign or unfit):
        return
    told = [f"it lacks {listed(sorted(missing), _NAMED)}, which would be random"] * bool(missing)
    told += [f"it holds {listed(sorted(foreign), _NAMED)}, which no {kind.title} has"] * bool(foreign)
    told += [f"{printable(name)} is {sizes}" for name, sizes in list((unfit or {}).items())[:_NAMED]]
    reason = _usual_reason(kind, missing, foreign) or _again(kind)
    raise BackboneError(f"backbone {folder} does not hold the weights of a {kind.title}: {'; '.join(told)}; {reason}")


def require_side(folder: Path, found: tuple[int, ...], config: BackboneConfig) -> None:
    """Refuse a processor that makes images of another height and width (``found``) than the image tower takes in."""
    if found != (config.side, config.side):
        raise BackboneError(
            f"backbone {folder}: its processor makes images of {' x '.join(map(str, found))} pixels, and its image "
            f"tower takes {config.side} x {config.side} (image_size in config.json); take both files from one "
            f"{config.title}"
        )


@contextmanager
def reading(failure: str) -> Iterator[None]:
    """Turn whatever the parsers of others raise in the block into one error that begins with ``failure``."""
    try:
        yield
    except BackboneError:  # it says enough
        raise
    except Exception as error:  # they raise whatever a file makes them raise
        raise BackboneError(f"{failure}: {' '.join(str(error).split())}") from error


def weight_files(folder: Path) -> list[Path]:
    """Return the files that hold the weights, as transformers or open_clip would choose; refuse what is none."""
    names = OPEN_CLIP_WEIGHTS if read_clip_config(folder).family == "open_clip" else WEIGHTS
    index = next((folder / name for name in names if (folder / name).is_file()), None)
    if index is None:
        raise BackboneError(f"{folder} holds no weights ({', '.join(names)}); fetch the backbone again")
    _require_no_placeholder(index)
    if not index.name.endswith(".index.json"):
        return [index]
    shards = read_json(index).get("weight_map")
    if not isinstance(shards, dict) or not all(isinstance(shard, str) for shard in shards.values()):
        raise BackboneError(f"{index} does not say which file holds which weight; fetch the backbone again")
    files = [folder / shard for shard in sorted(set(shards.values()))]
    absent = [file.name for file in files if not file.is_file()]
    if absent:
        some = listed(sorted(absent), _NAMED)
        raise BackboneError(f"{folder} lacks {some}, named in {index.name}; fetch the backbone again")
    for file in files:
        _require_no_placeholder(file)
    return [index, *files]


def _require_no_placeholder(path: Path) -> None:
    """Refuse a text file in place of weights."""
    if path.suffix == ".json":
        return
    try:
        with path.open("rb") as stream:
            head = stream.read(64)
    except OSError as error:
        raise BackboneError(f"{path} cannot be read: {error.strerror}; look at its permissions") from error
    text = head.decode("utf-8", "replace").partition("\n")[0].strip()
    if text.isprintable() and "\ufffd" not in text:
        mend = "run 'git lfs pull' there" if text.startswith(LFS) else "fetch the backbone again"
        raise BackboneError(f"{path} is a placeholder, not weights: a text file that begins {text!r}; {mend}")


def _stored_shapes(files: list[Path]) -> dict[str, Shape] | None:
    """Return the shape of every weight in safetensors, by transformers' name for it; None of torch's own files."""
    from safetensors import SafetensorError, safe_open

    shapes: dict[str, Shape] = {}
    for path in (file for file in files if file.suffix != ".json"):
        if path.suffix != ".safetensors":
            return None
        try:
            with safe_open(path, framework="numpy") as stream:
                slices = {name: stream.get_slice(name) for name in stream.keys()}  # noqa: SIM118
                kinds = {name: part.get_dtype() for name, part in slices.items()}
                shapes |= {name.removeprefix("clip."): tuple(part.get_shape()) for name, part in slices.items()}
        except (SafetensorError, OSError) as error:
            raise BackboneError(f"{path} is truncated or damaged ({error}); fetch the backbone again") from error
        other = [f"{printable(name)} as {kind}" for name, kind in kinds.items() if kind not in _FLOATS]
        other = [text for text in other if not _BUFFER.search(text.partition(" as ")[0])]
        if other:
            some = listed(sorted(other), _NAMED)
            raise BackboneError(f"{path} stores {some}; give the backbone in floating point, not quantised")
    return {name: shape for name, shape in shapes.items() if not _BUFFER.search(name)}


def _require_vocabulary(folder: Path, config: BackboneConfig) -> None:
    """Refuse a folder without a tokenizer, for which transformers would make one that reads the same in all words."""
    whole = folder / "tokenizer.json"
    parts: tuple[Path, ...] = (folder / "vocab.json", folder / "merges.txt")
    if config.family == "siglip":
        if (folder / SENTENCES).is_file():
            return  # its size shows when it is loaded
        parts = (folder / SENTENCES,)
    if whole.is_file():
        model = read_json(whole).get("model")
        vocabulary = model.get("vocab") if isinstance(model, dict) else None
    elif all(part.is_file() for part in parts):
        whole, vocabulary = parts[0], read_json(parts[0])
    else:
        raise BackboneError(
            f"backbone {folder} has no tokenizer (tokenizer.json, or {' and '.join(part.name for part in parts)}), "
            f"without which all words are the same to it; save that of its {config.title} there with "
            f"{config.transformers}Processor.save_pretrained"
        )
    if not isinstance(vocabulary, dict | list) or len(vocabulary) < _LETTERS:
        raise BackboneError(
            f"{whole} knows no letters and words: it is not the tokenizer of a {config.title}; {_again(config)}"
        )
    if len(vocabulary) > config.vocabulary:
        raise BackboneError(
            f"{whole} has {len(vocabulary):,} tokens, and the text tower knows {config.vocabulary:,} (vocab_size in "
            f"config.json): it is the tokenizer of another model; take both files from one {config.title}"
        )


def _processor_side(folder: Path, config: BackboneConfig) -> tuple[int, ...] | None:
    """Return height and width of what the processor makes, as transformers reads its settings; None if unclear."""
    settings: Any = None
    if (folder / PROCESSORS[1]).is_file():
        settings = read_json(folder / PROCESSORS[1]).get("image_processor")
    if settings is None and (folder / PROCESSORS[0]).is_file():
        settings = read_json(folder / PROCESSORS[0])
    if not isinstance(settings, dict):
        raise BackboneError(
            f"{folder} holds no {' or '.join(PROCESSORS)} with the settings of an image processor, so the image size "
            f"and normalisation are unknown; save the processor into the folder with {config.transformers}Processor."
            "save_pretrained"
        )
    cropped = settings.get("do_center_crop", config.family == "clip")
    size = settings.get("crop_size", 224) if cropped else settings.get("size")
    height, width = (size.get("height"), size.get("width")) if isinstance(size, dict) else (size, size)
    return (height, width) if isinstance(height, int) and isinstance(width, int) else None


def _again(kind: BackboneConfig) -> str:
    name = kind.transformers
    return f"fetch the backbone again, or save it with {name}Model.save_pretrained and {name}Processor.save_pretrained"


def _usual_reason(kind: BackboneConfig, missing: Collection[str], foreign: Collection[str]) -> str:
    """Return how to mend a checkpoint of which nothing but the names is wrong; empty when it is something else."""
    wrapper = next((name for name in _WRAPPERS if name in foreign), None)
    if wrapper:
        return f"they lie one level down, under {wrapper!r}: save that entry as the file"
    prefix = next((name.removesuffix("logit_scale") for name in foreign if name.endswith("logit_scale")), "")
    if prefix and {prefix + name for name in missing} <= set(foreign):
        return f"all names begin with {prefix!r}, as wrappers such as DataParallel save them: save the model inside"
    towers = {"text" if name.startswith("text") else "image" for name in missing if not name.startswith("logit_")}
    if len(towers) == 1 and not foreign and len(missing) > _NAMED:
        return f"that is its {towers.pop()} tower: save the whole {kind.transformers}Model, not one tower"
    return ""
