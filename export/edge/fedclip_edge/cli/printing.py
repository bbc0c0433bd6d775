"""What ``fedclip-edge`` prints for people, and for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fedclip_edge.bundle import Manifest
from fedclip_edge.bundle.acceptance import utc
from fedclip_edge.calibration import Calibration
from fedclip_edge.runtime.bench import BATCH, HEIGHT, WIDTH, Bench
from fedclip_edge.runtime.install import Change
from fedclip_edge.runtime.prediction import Prediction
from fedclip_edge.runtime.self_test import SelfTest
from fedclip_edge.terminal import align, printable


def print_json(value: Mapping[str, Any]) -> None:
    """Print one JSON object, in ASCII, which every terminal and every pipe can carry."""
    print(json.dumps(value, indent=1))


def print_notes(texts: Iterable[str]) -> None:
    """Print what an operator should know, on stderr."""
    for text in texts:
        print(f"note: {printable(text)}", file=sys.stderr, flush=True)


def answer_line(name: str, width: int, prediction: Prediction) -> str:
    """Return an image's name, padded to `width`, and its labels with probabilities; ``unknown`` before them if so."""
    answer = [] if prediction.known else [prediction.label]
    ranked = (f"{label} {value:.3f}" for label, value in prediction.top)
    return printable("  ".join([name.ljust(width), *answer, *ranked]))


def change_text(change: Change) -> str:
    """Return what an update or a rollback did, in one line."""
    if change.given_up:
        return f"{change.given_up} is damaged and was given up; round {change.round} goes on"
    parts = [
        f"round {change.old_round} -> {change.round}: {'all parts' if change.encoder_replaced else 'head'} replaced"
    ]
    parts += [f"new label{_s(change.labels_added)} {', '.join(change.labels_added)}"] if change.labels_added else []
    gone = change.labels_removed
    parts += [f"label{_s(gone)} {', '.join(gone)} gone"] if gone else []
    return printable("; ".join(parts))


def manifest_lines(
    folder: Path, kind: str, manifest: Manifest, key_id: str | None, tested: SelfTest | None
) -> list[str]:
    """Return what was verified, one aligned line per fact; `tested` is None without onnxruntime."""
    carried = [f"{name} {_size(entry.size)}" for name, entry in manifest.files.items() if not entry.installed]
    facts = {
        "round": f"{manifest.round} of {manifest.product}, sequence {manifest.sequence}",
        "signature": f"by key {key_id}" if key_id else "not checked: no key is held (give one with --key)",
        "valid": _validity(manifest),
        "encoder": f"{manifest.backbone['name']}, {manifest.precision}, {manifest.feature_dim} features",
        **({"unknown": _calibrated(manifest.calibration)} if manifest.calibration else {}),
        **({"privacy": _private(manifest.privacy)} if manifest.privacy else {}),
        "labels": f"{len(manifest.labels)}: {', '.join(manifest.labels)}",
        "files": ", ".join(carried),
        "self-test": _tested(tested) if tested is not None else _untested(key_id),
    }
    lines = [f"{folder}: {kind} accepted", *(f"  {name:9}  {text}" for name, text in facts.items())]
    return [printable(line) for line in lines]


def bench_table(result: Bench) -> str:
    """Return latencies as an aligned table, with the time to open and to change the head below."""
    rows = [["ms", "1 image", f"{BATCH} images", "gain of batch"]]
    for name, stage in result.stages.items():
        label = f"{name} {WIDTH} x {HEIGHT}" if name == "preprocess" else name
        rows.append([label, f"{stage.one:.2f}", f"{stage.batch:.2f}", f"{stage.gain:.2f} x"])
    rates = [f"{result.images_per_second(batch):.0f}" for batch in (False, True)]
    rows.append(["images per second", *rates, ""])
    return "\n".join(
        [
            align(rows),
            f"open {result.open_ms:.0f} ms (verify, three sessions, self-test); "
            f"new head {result.swap_ms:.1f} ms (session, self-test)",
            "all is measured in a run of its own, so it is not quite the sum of the stages",
        ]
    )


def _calibrated(calibration: Calibration) -> str:
    rate = f"{100 * calibration.false_reject_rate:g} % of {calibration.images} known images"
    return f"below a probability of {calibration.threshold:.3g} ({rate}), at temperature {calibration.temperature:.3g}"


def _private(spent: Mapping[str, float]) -> str:
    return f"of each training image: epsilon {spent['epsilon']:.3g}, delta {spent['delta']:g}"


def _tested(tested: SelfTest) -> str:
    head = f"head within {tested.head:.1g} of the golden logits"
    if tested.chain is None:
        return head
    return f"{head}; images within {tested.chain:.1g}, centred cosine {tested.cosine:.4f}"


def _untested(key_id: str | None) -> str:
    return f"onnxruntime is not installed: files {'and signature ' if key_id else ''}checked, answers not tested"


def _validity(manifest: Manifest) -> str:
    since = f"from {utc(manifest.not_before)} " if manifest.not_before is not None else ""
    until = f"until {utc(manifest.expires)}" if manifest.expires is not None else "without limit"
    return since + until


def _size(count: int) -> str:
    return f"{count / 1e6:.2f} MB" if count >= 100_000 else f"{count / 1e3:.1f} kB"


def _s(names: Sequence[str]) -> str:
    return "s" if len(names) > 1 else ""
