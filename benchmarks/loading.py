"""From image files to pixels: the product against transformers' processor, threads against processes, and a GPU."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.setup.ratios import Figure, of_samples
from fedclip_edge.machine import cores
from fedclip_plugin.backbone.clip import FrozenClip
from fedclip_plugin.backbone.precision import candidate, computing_in
from fedclip_plugin.backbone.preprocessing import Normalization
from fedclip_plugin.data import open_rgb
from fedclip_plugin.data.decoding.center_crop import CenterCrop
from fedclip_plugin.data.decoding.decode import Decoded, ImageViews, decode
from fedclip_plugin.data.decoding.decode_process import AT_ONCE
from fedclip_plugin.data.decoding.process_pool import ProcessPool
from fedclip_plugin.errors import DataError
from fedclip_plugin.features.encoding import encode_files

_TIME_GOAL = 0.5  # of the processor time that transformers' processor takes
_GPU_GOAL = 5000.0  # images a second, on one H200 with 16 cores
_VIT_B32 = ImageViews(CenterCrop(224, 224, 3))


def compare_loading(paths: Sequence[Path], repeats: int) -> list[Figure]:
    """Compare what makes pixels of files, by one thread: the product and transformers' processor, taken in turn.

    Raises a DataError when they do not give equal bits.
    """
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    theirs, room = CLIPImageProcessorPil(), list[Tensor]()
    mean, std = torch.tensor(theirs.image_mean), torch.tensor(theirs.image_std)
    normalization = Normalization(theirs.rescale_factor, mean, std)

    def _processor() -> Tensor:
        pixels = [theirs(open_rgb(path), return_tensors="np")["pixel_values"][0] for path in paths]
        return torch.from_numpy(np.stack(pixels))

    def _own() -> Tensor:
        room[:] = [normalization.of_images([_levels(decode(_VIT_B32, path)) for path in paths], *room)]
        return room[0]

    if not torch.equal(_own(), _processor()):
        raise DataError("the product's pixels are not those of transformers' processor, whose settings it repeats")
    whole = replace(_VIT_B32, whole=1 << 20)
    ways = (_processor, _own, lambda: [decode(whole, path) for path in paths])
    times = [[_busy(way) for way in ways] for _ in range(repeats + 3)]
    theirs_ms, own_ms, whole_ms = ([1000 * t / len(paths) for t in column] for column in zip(*times, strict=True))
    note = f"{len(paths)} files of 227 x 227, processor time of one thread"
    return [
        of_samples("load an image, transformers' processor", theirs_ms, "ms", note=note),
        of_samples("load an image", own_ms, "ms", note="equal bits"),
        of_samples("load an image: ours / theirs", [own / other for other, own, _ in times], "x", at_most=_TIME_GOAL),
        of_samples("load an image that a GPU resizes", whole_ms, "ms", note="on the CPU: decoding and the digest"),
        *_with_views(paths, repeats),
        *_in_parallel(paths, repeats),
    ]


def _with_views(paths: Sequence[Path], repeats: int) -> list[Figure]:
    """Compare loading images with four augmented views: each file decoded once, and once for each view."""
    every = replace(_VIT_B32, views=(0, 1, 2, 3, 4))
    each = [replace(every, views=(view,)) for view in every.views]
    times = [
        [_busy(lambda: [decode(see, path) for see in sees for path in paths]) for sees in (each, [every])]  # noqa: B023
        for _ in range(repeats + 1)
    ]
    return [
        of_samples("load an image and 4 views", [1000 * own / len(paths) for _, own in times], "ms"),
        of_samples("load it and 4 views: decoded once / five times", [own / other for other, own in times], "x"),
    ]


def _in_parallel(paths: Sequence[Path], repeats: int) -> list[Figure]:
    """Compare decoding and cropping in as many threads, and in as many processes, as there are cores."""
    count, rates, own = cores(), {"threads": list[float](), "processes": list[float]()}, list[float]()
    with ProcessPool(_VIT_B32, count) as processes, ThreadPoolExecutor(count) as threads:
        parts = [paths[start : start + AT_ONCE] for start in range(0, len(paths), AT_ONCE)]
        ways: dict[str, Callable[[Sequence[Path]], list[Decoded]]]
        ways = {"threads": lambda part: [decode(_VIT_B32, path) for path in part], "processes": processes.decode}
        list(threads.map(processes.decode, parts))  # they have started when it ends
        for _ in range(repeats + 1):
            for way, decode_all in ways.items():
                began, busy = time.perf_counter(), time.process_time()
                list(threads.map(decode_all, parts))
                rates[way].append(len(paths) / (time.perf_counter() - began))
            own.append(1000 * (time.process_time() - busy) / len(paths))  # of the processes, taken last
    ratios = [b / a for a, b in zip(rates["threads"], rates["processes"], strict=True)]
    return [
        *(of_samples(f"load images in {count} {way}", rate, "images/s") for way, rate in rates.items()),
        of_samples("load images: processes / threads", ratios, "x"),
        of_samples("load images in processes: in this one", own, "ms", note="an image; bounds any number of processes"),
    ]


def compare_on_gpu(clip: FrozenClip, paths: Sequence[Path], repeats: int) -> list[Figure]:
    """Compare encoding many files, by all cores and a GPU, with the forward pass alone; in what ``auto`` would try."""
    batch, precision = 256, candidate(clip.device)
    pixels = clip.pixels([_levels(decode(clip.see(), path)) for path in paths[:batch]])
    by_pil = [clip.preprocess(open_rgb(path)) for path in paths[:batch]]
    differing = int((pixels.cpu() != torch.from_numpy(np.stack(by_pil))).sum())
    rates, forward = list[float](), list[float]()
    with computing_in(clip, precision):
        clip.encode_pixels(pixels)
        for _ in range(repeats + 1):
            began = time.perf_counter()
            encode_files(clip, paths, 0, cores())
            rates.append(len(paths) / (time.perf_counter() - began))
            began = time.perf_counter()
            for _ in range(0, len(paths), batch):
                clip.encode_pixels(pixels)
            forward.append(len(paths) / (time.perf_counter() - began))
    note = f"{len(paths)} files of 227 x 227, {cores()} cores, starting processes included"
    return [
        of_samples(f"GPU, {precision}: encode JPEG files", rates, "images/s", at_least=_GPU_GOAL, note=note),
        Figure("GPU: pixels that differ from PIL's", differing, "-", at_most=0, note=f"of {len(by_pil)} images"),
        of_samples(f"GPU, {precision}: forward pass alone", forward, "images/s", note=f"batches of {batch}"),
    ]


def _levels(decoded: Decoded) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    if isinstance(decoded, Exception):
        raise decoded
    return decoded[0][0]


def _busy(act: Callable[[], object]) -> float:
    """Return the processor seconds of one call, over all threads."""
    began = time.process_time()
    act()
    return time.process_time() - began
