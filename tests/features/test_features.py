"""Encode once: the cache gives back what was encoded, and only what is still true."""

import errno
import logging
import os
import threading

import numpy as np
import pytest
import torch
from PIL import Image

from fedclip_plugin.data import UnreadableImageError, scan_folder
from fedclip_plugin.data.read_image import read_image
from fedclip_plugin.errors import DataError
from fedclip_plugin.features import FeatureSet, FeatureSource

CPU = torch.device("cpu")


def draw(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def root(tmp_path):
    for number in range(6):
        draw(tmp_path / "images" / ("cat" if number % 2 else "dog") / f"{number}.png", number)
    return tmp_path / "images"


def source(tmp_path, precision="fp32"):
    return FeatureSource("clip-tiny", CPU, precision, tmp_path / "cache", batch_size=4, workers=2)


def encode(tmp_path, root, skip=False, **options):
    seen = []
    encoder = source(tmp_path, **options)
    return encoder.images(scan_folder(root, "silo", None), skip, seen.append), sum(seen), encoder


def test_images_are_encoded_once(tmp_path, root):
    first, counted, _ = encode(tmp_path, root)
    second, again, encoder = encode(tmp_path, root)
    assert (counted, first.encoded, again, second.encoded, encoder.loaded) == (6, 6, 0, 0, False)
    assert torch.equal(first.data.features, second.data.features)
    assert torch.equal(second.data.labels, torch.tensor([0, 0, 0, 1, 1, 1]))
    assert source(tmp_path).count_missing(scan_folder(root, "silo", None)) == 0


def test_only_what_is_new_or_changed_is_encoded(tmp_path, root):
    before, _, _ = encode(tmp_path, root)
    draw(root / "dog" / "new.png", 77)
    draw(root / "dog" / "0.png", 78)
    after, counted, _ = encode(tmp_path, root)
    assert (counted, len(after.data)) == (2, 7)
    assert torch.equal(after.data.features[:3], before.data.features[:3])
    assert not torch.equal(after.data.features[3], before.data.features[3])


def test_batches_and_order_do_not_change_features_much(tmp_path, root):
    together, _, _ = encode(tmp_path, root)
    alone = FeatureSource("clip-tiny", CPU, "fp32", tmp_path / "other", batch_size=1, workers=1)
    single = alone.images(scan_folder(root, "silo", None), False, lambda count: None)
    torch.testing.assert_close(together.data.features, single.data.features, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("harm", ["cut", "flip", "empty"])
def test_a_corrupt_cache_is_computed_again_with_a_warning(tmp_path, root, harm, caplog):
    first, _, _ = encode(tmp_path, root)
    (file,) = (tmp_path / "cache").glob("*/fp32/*/*.safetensors")
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes({"cut": content[:-9], "flip": content, "empty": b""}[harm])
    with caplog.at_level(logging.WARNING):
        second, counted, _ = encode(tmp_path, root)
    assert counted == 6
    assert "computing it again" in caplog.text
    assert torch.equal(first.data.features, second.data.features)


def test_two_ranks_may_write_at_once(tmp_path, root):
    threads = [threading.Thread(target=encode, args=(tmp_path, root)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    result, counted, _ = encode(tmp_path, root)
    assert (counted, len(result.data)) == (0, 6)
    assert not list((tmp_path / "cache").rglob("*.tmp"))


def test_bad_images_are_refused_or_skipped_and_named(tmp_path, root):
    (root / "dog" / "bad.png").write_bytes(b"not an image")
    with pytest.raises(DataError, match=r"1 of 7 images cannot be read.*bad\.png.*on_bad_image"):
        encode(tmp_path, root)
    result, _, _ = encode(tmp_path, root, skip=True)
    assert len(result.data) == len(result.kept) == 6
    assert [fault.path.name for fault in result.faults] == ["bad.png"]
    again, counted, encoder = encode(tmp_path, root, skip=True)
    assert (again.encoded, len(again.faults), encoder.loaded, counted) == (0, 1, False, 0)


def test_what_was_encoded_is_kept_when_the_rest_fails(tmp_path, root, monkeypatch):
    (root / "dog" / "bad.png").write_bytes(b"not an image")
    with pytest.raises(DataError):
        encode(tmp_path, root)
    (root / "dog" / "bad.png").unlink()
    assert source(tmp_path).count_missing(scan_folder(root, "silo", None)) == 0
    monkeypatch.setattr("fedclip_plugin.features.feature_source._CHUNK", 2)
    for number in range(10, 15):
        draw(root / "dog" / f"{number}.png", number)
    result, counted, _ = encode(tmp_path, root)
    assert (counted, result.encoded, len(result.data)) == (5, 5, 11)


def test_a_disks_fault_is_not_held_against_the_file(tmp_path, root, monkeypatch):
    from fedclip_plugin.data.decoding import decode as module

    def fail(path, **options):
        if path.name == "0.png":
            raise UnreadableImageError(path, "Input/output error") from OSError(5, "Input/output error")
        return read_image(path)

    monkeypatch.setattr(module, "read_image", fail)
    result, _, _ = encode(tmp_path, root, skip=True)
    assert [fault.path.name for fault in result.faults] == ["0.png"]
    monkeypatch.setattr(module, "read_image", read_image)
    result, counted, _ = encode(tmp_path, root, skip=True)
    assert (counted, result.faults) == (1, [])


def test_a_folder_of_bad_images_only_is_refused(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / "images" / name).mkdir(parents=True)
        (tmp_path / "images" / name / "x.png").write_bytes(b"nothing")
    with pytest.raises(DataError, match="none of the 2 images"):
        encode(tmp_path, tmp_path / "images", skip=True)


def test_prompts_are_encoded_once_and_underscores_are_spaces(tmp_path):
    first = source(tmp_path).text(("polar_bear", "dog"), "a picture of a {}")
    warm = source(tmp_path)
    second = warm.text(("polar bear", "dog"), "a picture of a {}")
    assert not warm.loaded
    assert torch.equal(first.features, second.features)
    assert first.logit_scale == second.logit_scale > 1
    torch.testing.assert_close(first.features.norm(dim=-1), torch.ones(2))


def test_automatic_precision_is_chosen_once(tmp_path, root):
    encode(tmp_path, root, precision="auto")
    (note,) = (tmp_path / "cache").glob("*/precision-cpu.txt")
    assert note.read_text() in ("fp32", "bf16")
    _, counted, encoder = encode(tmp_path, root, precision="auto")
    assert (counted, encoder.loaded) == (0, False)


def test_a_feature_set_selects_and_is_one_batch():
    data = FeatureSet(torch.arange(6.0).reshape(3, 2), torch.tensor([0, 1, 2]))
    chosen = data.subset(np.array([2, 0]))
    assert chosen.labels.tolist() == [2, 0]
    ((features, labels),) = list(data)
    assert (len(data), features.shape, labels.shape) == (3, (3, 2), (3,))


def test_what_is_no_plain_file_is_a_bad_image_and_is_not_waited_for(tmp_path, root):
    os.mkfifo(root / "dog" / "pipe.png")
    (root / "dog" / "gone.png").symlink_to("/gone/away.png")
    (root / "cat" / "folder.png").mkdir()
    with pytest.raises(DataError, match=r"3 of 9 images cannot be read, the first: .*folder\.png \(it is a folder"):
        encode(tmp_path, root)
    for _ in range(2):
        result, _, _ = encode(tmp_path, root, skip=True)
        assert [fault.path.name for fault in result.faults] == ["folder.png", "gone.png", "pipe.png"]
    (root / "dog" / "gone.png").unlink()
    draw(root / "dog" / "gone.png", 40)
    result, _, _ = encode(tmp_path, root, skip=True)
    assert (len(result.data), len(result.faults), result.encoded) == (7, 2, 1)


def test_names_need_not_be_utf8(tmp_path, root):
    place = tmp_path / "im\udce4ges"
    root.rename(place)
    (place / "dog" / "0.png").rename(place / "dog" / "h\udcfcnd\n.png")
    (place / "dog" / "b\udce4d.png").write_bytes(b"nothing")
    encode(tmp_path, place, skip=True)
    again, counted, _ = encode(tmp_path, place, skip=True)
    assert (len(again.data), counted) == (6, 0)
    assert r"im\udce4ges/dog/b\udce4d.png" in str(again.faults[0])


def test_a_cache_that_cannot_be_written_is_named_with_what_to_do(tmp_path, root, monkeypatch):
    def fail(path, content):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("fedclip_plugin.features.cache_parts.write_file", fail)
    with pytest.raises(
        DataError, match=r"the feature cache .*cache/v2.* cannot be written \(No space left.*: make room"
    ):
        encode(tmp_path, root)
