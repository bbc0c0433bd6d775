"""The adapter that a run would have ended with, had a silo never been in it; of closed-form methods."""

from __future__ import annotations

from dataclasses import replace

import torch

from fedclip_plugin.errors import RunFolderError
from fedclip_plugin.federated.roles.closed_form_round import ClosedFormRound
from fedclip_plugin.methods import METHODS, adapter_class
from fedclip_plugin.methods.closed_form.adapters import ClosedForm
from fedclip_plugin.runs import RunFolder, SavedAdapter, load_adapter
from fedclip_plugin.runs.state import load_state
from fedclip_plugin.text import told

_AGAIN = "train again without the silo"


def forget(folder: RunFolder, silo: str) -> SavedAdapter:
    """Return the adapter of all silos but one, from what the server has kept; no silo takes part.

    Its tensors are, byte for byte, those of a run that never had the silo. It carries no metrics and no calibration.

    Raises
    ------
    RunFolderError
        When the folder holds no finished run, its method is trained, its recipe did not ask to keep the sums, or the
        silo is not among those whose sums count, or the only one.
    AdapterFileError
        When the final adapter is damaged.
    """
    place = folder.adapters / "final"
    if not place.exists():
        raise RunFolderError(f"{folder.path} holds no finished run: give the folder of one, such as runs/NAME")
    saved = load_adapter(place)
    method = adapter_class(saved.method)
    if not issubclass(method, ClosedForm):
        solved = ", ".join(name for name in METHODS if METHODS[name].rounds is not None)
        raise RunFolderError(
            f"{folder.path} is of method {saved.method}, which is trained: what a silo's images did is in every later "
            f"step, and cannot be taken out exactly; {_AGAIN}, or take one of {solved}"
        )
    if not folder.sums.exists():
        raise RunFolderError(
            f"{folder.path} keeps no sums of single silos: its recipe lacks fedclip_args.forgettable: true, which only "
            f"cross-silo runs may have; {_AGAIN}, which takes one round"
        )
    kept = ClosedFormRound.of_arrays(method, torch.tensor(saved.text_features), load_state(folder.sums))
    if silo not in kept.silos:
        names = ", ".join(map(told, kept.silos))
        raise RunFolderError(f"{told(silo)} gave nothing to {folder.path}; those that did are {names}")
    if len(kept.silos) == 1:
        raise RunFolderError(
            f"{told(silo)} is the only silo of {folder.path}: nothing would be left; remove the folder"
        )
    return _solved(saved, kept, silo)


def _solved(saved: SavedAdapter, kept: ClosedFormRound, silo: str) -> SavedAdapter:
    found = kept.result(without=silo)
    tensors = {name: tensor.numpy() for name, tensor in found.items()}
    return replace(
        saved,
        tensors=tensors,
        class_features=tensors["rows"],
        class_biases=tensors.get("biases"),
        logit_scale=float(found["factor"]),
        metrics={},
        calibration=None,  # it was set with the silo's images too
    )
