"""The rendered folders: whole or absent, safe when several processes render at once."""

import multiprocessing
import os

import numpy as np
import pytest
from PIL import Image

from fedclip_miniature import CLASSES, DOMAINS, dataset, ensure_miniature, render_image
from fedclip_plugin.errors import DataError


def test_layout_and_content(tmp_path):
    root = ensure_miniature(tmp_path, 2, 0.5)
    assert root == tmp_path / "miniature-2-0.5-v1"
    assert sorted(path.name for path in root.iterdir()) == sorted(DOMAINS)
    for domain in DOMAINS:
        for class_name in CLASSES:
            files = sorted(path.name for path in (root / domain / class_name).iterdir())
            assert files == ["0000.png", "0001.png"]
    stored = np.asarray(Image.open(root / "sketch" / "house" / "0001.png"))
    assert np.array_equal(stored, render_image("sketch", "house", 1, 0.5))


def test_only_the_domains_asked_for_are_drawn(tmp_path):
    root = ensure_miniature(tmp_path, 1, domains=["photo"])
    assert [path.name for path in root.iterdir()] == ["photo"]


def test_a_complete_domain_is_not_drawn_again(tmp_path, monkeypatch):
    ensure_miniature(tmp_path, 1, domains=["photo"])
    monkeypatch.setattr(dataset, "render_image", lambda *_: pytest.fail("drawn again"))
    assert ensure_miniature(tmp_path, 1, domains=["photo"]).is_dir()


def test_a_failure_leaves_nothing_behind(tmp_path, monkeypatch):
    def fail(*_):
        raise RuntimeError("disk on fire")

    monkeypatch.setattr(dataset, "render_image", fail)
    with pytest.raises(RuntimeError, match="disk on fire"):
        ensure_miniature(tmp_path, 1, domains=["photo"])
    monkeypatch.undo()
    root = ensure_miniature(tmp_path, 1, domains=["photo"])
    assert [path.name for path in root.iterdir()] == ["photo"]


def test_what_the_disk_says_is_told_with_the_folder_and_old_leftovers_go(tmp_path, monkeypatch):
    root = tmp_path / "miniature-1-1-v1"
    old, new = (root / f".photo.{name}.tmp" for name in ("old", "new"))
    for folder in (old, new):
        folder.mkdir(parents=True)
    os.utime(old, (0, 0))

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(DataError, match=rf"^{root} cannot be written: No space left on device; free some space there$"):
        ensure_miniature(tmp_path, 1, domains=["photo"])
    assert list(root.iterdir()) == [new], "another process may be drawing there"


def test_losing_the_race_for_a_domain_is_no_error(tmp_path, monkeypatch):
    original = dataset.render_image

    def overtaken(domain, class_name, *rest):
        monkeypatch.undo()
        ensure_miniature(tmp_path, 1, domains=[domain])
        return original(domain, class_name, *rest)

    monkeypatch.setattr(dataset, "render_image", overtaken)
    root = ensure_miniature(tmp_path, 1, domains=["cartoon"])
    assert [path.name for path in root.iterdir()] == ["cartoon"]
    assert len(list((root / "cartoon").glob("*/*.png"))) == len(CLASSES)


def test_several_processes_at_once(tmp_path):
    tasks = [(tmp_path, 2, 1.0, domains) for domains in (None, ["sketch", "photo"], ["sketch"])]
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        roots = pool.starmap(ensure_miniature, tasks, chunksize=1)
    assert len(set(roots)) == 1
    assert sorted(path.name for path in roots[0].iterdir()) == sorted(DOMAINS)
    assert len(list(roots[0].glob("*/*/*.png"))) == 2 * len(CLASSES) * len(DOMAINS)


@pytest.mark.parametrize(
    ("count", "domains", "told"), [(0, None, "at least 1"), (1, ["clipart"], "art_painting, cartoon")]
)
def test_wrong_arguments_are_refused(tmp_path, count, domains, told):
    with pytest.raises(DataError, match=told):
        ensure_miniature(tmp_path, count, domains=domains)
