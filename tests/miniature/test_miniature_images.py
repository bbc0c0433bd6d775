"""The drawings: deterministic, of the right shape, different where they should differ."""

import numpy as np
import pytest
from PIL import Image

from fedclip_miniature import CLASSES, DOMAINS, OBJECTS, render_image
from fedclip_miniature.canvas import CANVAS, area, edges, labels, thickened
from fedclip_miniature.contact_sheet import draw_sheet, main
from fedclip_miniature.dataset import FEDERATED_STYLES
from fedclip_miniature.drawing import Pose, draw
from fedclip_miniature.palette import random_palette
from fedclip_miniature.scenery import SETTINGS, scenery
from fedclip_miniature.shapes import capsule, ellipse, part, rectangle, spline
from fedclip_miniature.styles.pretraining import PRETRAINING_STYLES
from fedclip_plugin.errors import DataError


@pytest.mark.parametrize("domain", DOMAINS)
@pytest.mark.parametrize("class_name", CLASSES)
def test_an_image_is_the_same_every_time(domain, class_name):
    first, again = (render_image(domain, class_name, 3) for _ in range(2))
    assert first.shape == (64, 64, 3)
    assert first.dtype == np.uint8
    assert np.array_equal(first, again)
    assert first.std() > 8


def test_index_seed_and_difficulty_change_the_image():
    base = render_image("photo", "dog", 0)
    for other in (
        render_image("photo", "dog", 1),
        render_image("photo", "dog", 0, seed=8),
        render_image("photo", "dog", 0, difficulty=0.5),
        render_image("photo", "horse", 0),
    ):
        assert not np.array_equal(base, other)


@pytest.mark.parametrize("difficulty", [0.0, 3.0])
@pytest.mark.parametrize("domain", DOMAINS)
def test_the_ends_of_the_difficulty_scale_render(domain, difficulty):
    assert render_image(domain, "giraffe", 0, difficulty).shape == (64, 64, 3)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("clipart", "dog", 0), "art_painting, cartoon, photo, sketch"),
        (("photo", "cat", 0), "dog, elephant, giraffe"),
        (("photo", "dog", -1), "counted from 0"),
        (("photo", "dog", 0, 9.0), "between 0 and 3"),
    ],
)
def test_a_wrong_argument_is_refused_with_the_rule(arguments, told):
    with pytest.raises(DataError, match=told):
        render_image(*arguments)


@pytest.mark.parametrize("name", OBJECTS)
def test_every_object_stays_inside_the_canvas(name):
    rng = np.random.default_rng(5)
    pose = Pose(turn=0.4, smallest=0.6, largest=1.0, warp=1.0)
    for _ in range(4):
        drawing = draw(name, random_palette(rng), "plain", pose, 1.5, rng)
        left, top, right, bottom = drawing.box
        assert min(left, top) >= -1e-6
        assert max(right, bottom) <= CANVAS + 1e-6
        assert drawing.mask.mean() > 0.02


def test_the_unseen_domains_are_not_in_the_pretraining_corpus():
    unseen = {"art_painting", "cartoon", "sketch"}
    assert unseen < set(FEDERATED_STYLES)
    assert not unseen & set(PRETRAINING_STYLES)
    renderers = {style.__name__ for _, style in PRETRAINING_STYLES.values()}
    assert not renderers & {FEDERATED_STYLES[domain].style.__name__ for domain in unseen}


def test_the_shares_of_the_pretraining_styles_add_up():
    assert sum(share for share, _ in PRETRAINING_STYLES.values()) == pytest.approx(1.0)


@pytest.mark.parametrize("setting", SETTINGS)
def test_every_setting_draws_a_background(setting):
    scene = scenery(setting, 100.0, np.random.default_rng(1))
    assert scene.shape == (CANVAS, CANVAS, 3)
    assert scene.mean() > 15


def test_the_sheet_has_a_row_per_domain_and_a_column_per_class(tmp_path):
    path = draw_sheet(tmp_path / "deep" / "sheet.png", per_cell=1, tile=64)
    width, height = Image.open(path).size
    assert width == 116 + len(CLASSES) * (64 + 12)
    assert height == 30 + len(DOMAINS) * (64 + 12)


def test_areas_of_shapes():
    assert area(rectangle(0, 0, 4, 3)) == pytest.approx(12)
    assert area(ellipse(1, 1, 2, 3, 0.7, corners=400)) == pytest.approx(6 * np.pi, rel=1e-3)
    assert area(capsule((0, 0), (10, 0), 1)) == pytest.approx(20 + np.pi, rel=0.05)


def test_a_spline_passes_through_its_points():
    points = [(0.0, 0.0), (1.0, 2.0), (3.0, 1.0)]
    for closed in (True, False):
        curve = spline(points, closed)
        for point in points:
            assert np.abs(curve - point).sum(axis=1).min() < 1e-9


def test_small_parts_get_no_outline_of_their_own():
    parts = [part("main", rectangle(20, 20, 100, 100)), part("dark", ellipse(60, 60, 3, 3))]
    assert set(np.unique(labels(parts))) == {0, 1, 2}
    assert set(np.unique(labels(parts, smallest=60))) == {0, 1}


def test_thickened_lines_are_as_wide_as_asked():
    label = np.zeros((CANVAS, CANVAS), dtype=np.uint8)
    label[:, 64:] = 1
    for width in (1, 2, 3, 5):
        assert thickened(edges(label), width)[64].sum() == width


def test_a_sheet_whose_name_has_no_format_is_refused_before_it_is_drawn(capsys):
    for name in ("sheet", "sheet.xyz"):
        with pytest.raises(SystemExit, match="2"):
            main(["--out", name])
        assert f"{name}: the name of a picture must end in .png" in capsys.readouterr().err
