"""Every figure shows the numbers that it was given, and is the same bytes each time."""

import io

import matplotlib
import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib.font_manager import fontManager
from PIL import Image

from fedclip_edge.reliability import reliability
from fedclip_plugin.report.plots.bars import Bar, BarPanel, accuracy_bars
from fedclip_plugin.report.plots.confusion import confusion_matrices
from fedclip_plugin.report.plots.costs import Series, cost_curves
from fedclip_plugin.report.plots.distributions import ClientBox, client_boxes
from fedclip_plugin.report.plots.fonts import missing_letters
from fedclip_plugin.report.plots.forest import Difference, forest
from fedclip_plugin.report.plots.loss import loss_curves
from fedclip_plugin.report.plots.panels import AccuracyCurve, accuracy_panels
from fedclip_plugin.report.plots.partition_map import partition_map
from fedclip_plugin.report.plots.phases import phase_stack, seconds_text
from fedclip_plugin.report.plots.points import Point, cost_points
from fedclip_plugin.report.plots.reliability import reliability_diagrams
from fedclip_plugin.report.plots.samples import Sample, sample_grid
from fedclip_plugin.report.plots.style import INK, looks, png, svg

ROUNDS = np.arange(4)
ACCURACY = np.array([0.5, np.nan, 0.7, 0.6])
CONFIDENCE, CORRECT = np.array([0.95, 0.9, 0.55, 0.3]), np.array([True, False, True, False])


def panels():
    spread = np.full(4, 0.02)
    return accuracy_panels(
        [AccuracyCurve("art", ROUNDS, ACCURACY, 0.55, 2, spread), AccuracyCurve("photo", ROUNDS, ACCURACY)],
        "accuracy",
        "deviation",
    )


def losses():
    return loss_curves(ROUNDS, {"art": np.array([2.0, np.nan, 1.0, 0.5])}, np.array([2.0, 1.5, 1.0, 0.5]))


def costs():
    return cost_curves(np.array([0, 1e6, 2e6, 3e6]), np.array([0, 0.1, 0.2, 30]), [Series("sketch", ACCURACY, 0.55)])


def phases():
    return phase_stack(ROUNDS[1:], {"train": np.array([1.0, 2.0, 9.0]), "exchange": np.array([0.5, 0.5, 0.5])})


def bars():
    return accuracy_bars([BarPanel("art", [Bar("FedCLIP", 0.7, 0.01), Bar("full", None), Bar("LoRA", 0.6)], 0.65)])


def differences():
    rows = [
        Difference("FedCLIP", 0.02, 0.01, 0.03, True),
        Difference("LoRA", -0.01, -0.03, 0.01),
        Difference("full", None),
    ]
    return forest([("art", rows)])


def points():
    return cost_points([Point("FedCLIP", 0.7, 1e6, 2.0), Point("local", 0.6, 0.0, 1.0)], 0.65)


def matrices():
    return confusion_matrices({"zero-shot": np.array([[3, 1], [0, 4]])}, ["dog", "cat"])


def diagrams():
    return reliability_diagrams({"zero-shot": reliability(CONFIDENCE, CORRECT)})


def boxes():
    clients = np.linspace(0.4, 1, 12)
    return client_boxes([ClientBox.of("zero-shot CLIP", clients), ClientBox("FedCLIP", 0.3, 0.6, 0.7, 0.8, 1.0, 0.69)])


def grid():
    pixels = np.zeros((8, 8, 3), np.uint8)
    return sample_grid([Sample(pixels, "dog", "dog", 0.9), Sample(pixels, "dog", "horse", 0.4)])


def clients():
    return partition_map(np.array([[3, 0], [0, 4], [1, 12]]), ["art_1", "art_2", "photo_1"], ["dog", "cat"])


FIGURES = [panels, losses, costs, phases, bars, differences, points, matrices, diagrams, boxes, grid, clients]


@pytest.mark.parametrize("draw", FIGURES)
def test_a_figure_is_the_same_bytes_each_time_whatever_the_users_own_settings_are(draw, monkeypatch):
    before = draw()
    files = svg(before), png(before)
    monkeypatch.setitem(matplotlib.rcParams, "font.size", 30)
    monkeypatch.setitem(matplotlib.rcParams, "lines.linewidth", 9)
    after = draw()
    assert (svg(after), png(after)) == files
    assert files[0].startswith(b"<?xml")
    assert b"<text" not in files[0], "text is drawn as outlines: no font is needed"
    pixels = np.asarray(Image.open(io.BytesIO(files[1])).convert("L"))
    rim = np.concatenate([pixels[:2].ravel(), pixels[-2:].ravel(), pixels[:, :2].ravel(), pixels[:, -2:].ravel()])
    assert (rim == 255).all(), "something is cut off at the edge"


def test_six_series_differ_without_colour():
    assert len({(look.dashes, look.marker, look.hatch) for look in looks(6)}) == 6
    assert len({look.hatch for look in looks(6)}) == len({look.marker for look in looks(6)}) == 6


def test_panels_leave_out_rounds_that_were_not_measured_and_mark_the_selected_one():
    first, second = panels().axes
    lines = {line.get_label(): line for line in first.get_lines()}
    assert lines["accuracy"].get_xdata().tolist() == [0, 2, 3]
    assert lines["accuracy"].get_ydata().tolist() == pytest.approx([50, 70, 60])
    assert lines["zero-shot"].get_ydata() == pytest.approx([55, 55])
    assert lines["zero-shot"].get_linestyle() != "-"
    assert (lines["selected"].get_xdata().tolist(), lines["selected"].get_ydata().tolist()) == ([2], [70])
    band = first.collections[0].get_paths()[0].vertices
    assert band[:, 1].min() == pytest.approx(48)
    assert band[:, 1].max() == pytest.approx(72)
    assert [line.get_label() for line in second.get_lines()] == ["accuracy"]
    assert (first.get_title(loc="left"), second.get_title(loc="left")) == ("art", "photo")
    assert first.get_ylim() == second.get_ylim()


def test_panels_of_unlike_length_have_their_own_rounds():
    long = AccuracyCurve("long", np.arange(9), np.full(9, 0.5))
    short, wide = accuracy_panels([AccuracyCurve("short", ROUNDS, ACCURACY), long], "accuracy").axes
    assert short.get_xlim()[1] < 4 < 8 < wide.get_xlim()[1]


def test_losses_are_drawn_by_silo_with_a_heavier_mean():
    figure = losses()
    lines = {line.get_label(): line for line in figure.axes[0].get_lines()}
    assert lines["art"].get_xdata().tolist() == [0, 2, 3]
    assert lines["mean"].get_ydata().tolist() == [2.0, 1.5, 1.0, 0.5]
    assert lines["mean"].get_linewidth() > lines["art"].get_linewidth()
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["art", "mean"]


def test_costs_are_logarithmic_and_leave_out_what_cost_nothing():
    left, right = costs().axes
    assert left.get_xscale() == right.get_xscale() == "log"
    assert left.get_lines()[0].get_xdata().tolist() == [2e6, 3e6]
    assert right.get_lines()[0].get_xdata().tolist() == [0.2, 30]
    assert left.get_lines()[0].get_ydata().tolist() == pytest.approx([70, 60])
    assert left.get_lines()[1].get_ydata() == pytest.approx([55, 55])
    assert "2 MB" in [label.get_text() for label in left.get_xticklabels()]


def test_phases_are_stacked_and_their_means_told():
    left, right = phases().axes
    train, exchange = (patch.get_data() for patch in left.patches)
    assert train.values.tolist() == [1, 2, 9]
    assert train.edges.tolist() == [0.5, 1.5, 2.5, 3.5]
    assert exchange.baseline.tolist() == [1, 2, 9]
    assert exchange.values.tolist() == [1.5, 2.5, 9.5]
    assert [bar.get_width() for bar in right.patches] == [4.0, 0.5]
    assert [text.get_text() for text in right.texts] == ["4.00 s", "0.50 s"]
    assert len({bar.get_hatch() for bar in right.patches}) == 2


@pytest.mark.parametrize(("seconds", "text"), [(0.0123, "12.3 ms"), (0.5, "0.50 s"), (4321.4, "4,321 s")])
def test_durations_have_a_unit_that_suits_them(seconds, text):
    assert seconds_text(seconds) == text


def test_bars_start_at_zero_and_say_what_is_missing():
    (axes,) = bars().axes
    assert [(bar.get_x(), bar.get_width()) for bar in axes.patches] == [(0, pytest.approx(70)), (0, pytest.approx(60))]
    assert [text.get_text() for text in axes.texts] == ["70.0 ± 1.0", "no result yet", "60.0"]
    assert axes.get_lines()[-1].get_xdata() == pytest.approx([65, 65])
    assert [label.get_text() for label in axes.get_yticklabels()] == ["FedCLIP", "full", "LoRA"]
    whisker = axes.collections[0].get_segments()[0]
    assert whisker[:, 0].tolist() == pytest.approx([69, 71])


def test_a_difference_inside_the_noise_is_hollow():
    (axes,) = differences().axes
    zero, gain, gain_mark, none, none_mark = axes.get_lines()
    assert zero.get_xdata() == [0, 0]
    assert gain.get_xdata() == pytest.approx([1, 3])
    assert none.get_xdata() == pytest.approx([-3, 1])
    assert gain_mark.get_xdata()[0] == pytest.approx(2)
    assert (gain_mark.get_markerfacecolor(), none_mark.get_markerfacecolor()) == (INK, "white")
    assert [text.get_text().strip() for text in axes.texts] == ["no result yet"]


def test_a_case_that_sends_nothing_is_left_out_of_the_bytes_only():
    figure = points()
    left, right = figure.axes
    assert [line.get_xdata()[0] for line in left.get_lines()[:-1]] == [1e6]
    assert [line.get_xdata()[0] for line in right.get_lines()[:-1]] == [2.0, 1.0]
    assert right.get_lines()[1].get_ydata()[0] == pytest.approx(60)
    assert left.get_lines()[-1].get_ydata()[0] == pytest.approx(65)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["1  FedCLIP", "2  local", "zero-shot CLIP"]
    assert [(text.get_text(), text.xy) for text in right.texts] == [
        ("1", (2.0, pytest.approx(70))),
        ("2", (1.0, pytest.approx(60))),
    ]


def test_a_matrix_shows_counts_and_shades_shares_of_the_row():
    (axes,) = matrices().axes
    np.testing.assert_allclose(axes.images[0].get_array(), [[0.75, 0.25], [0, 1]])
    assert [text.get_text() for text in axes.texts] == ["3", "1", "4"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["dog", "cat"]


def test_a_matrix_of_many_classes_names_some_and_counts_none():
    counts = np.eye(100, dtype=int)
    (axes,) = confusion_matrices({"a": counts}, [f"class {number}" for number in range(100)]).axes
    assert len(axes.get_yticklabels()) <= 40
    assert len(axes.texts) == 0


def test_a_reliability_diagram_shows_accuracy_and_gap_of_each_bin():
    upper, lower = diagrams().axes
    found = reliability(CONFIDENCE, CORRECT)
    full = found.counts > 0
    bars, gaps = upper.patches[: full.sum()], upper.patches[full.sum() :]
    assert [bar.get_height() for bar in bars] == found.accuracy[full].tolist()
    assert [gap.get_height() for gap in gaps] == pytest.approx(np.abs(found.accuracy - found.confidence)[full].tolist())
    assert [bar.get_height() for bar in lower.patches] == (found.counts / 4).tolist()
    assert "ECE" in upper.get_title(loc="left")


def test_wrong_samples_are_marked_without_colour():
    right, wrong = grid().axes[:2]
    assert right.get_title() == "✓ dog 0.90"
    assert wrong.get_title() == "✗ horse 0.40"
    assert wrong.get_xlabel() == "is dog"
    assert wrong.spines["left"].get_linewidth() > 2 * right.spines["left"].get_linewidth()


# ---------------------------------------------------------------- names in any script


HAN = "直剪"


@pytest.fixture
def fonts(monkeypatch):
    """No font but matplotlib's own: what the machine has is up to the test."""
    own = [entry for entry in fontManager.ttflist if entry.name.startswith(("DejaVu", "Last Resort"))]
    monkeypatch.setattr(fontManager, "ttflist", own)
    found = []
    monkeypatch.setattr("matplotlib.font_manager.findSystemFonts", lambda: found)
    return found


def font_of(path, letters):
    """Write a font in which each letter is a square."""
    names = [".notdef", *(f"letter{ord(letter)}" for letter in letters)]
    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    for corner in ((0, 700), (700, 700), (700, 0)):
        pen.lineTo(corner)
    pen.closePath()
    square = pen.glyph()
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder(names)
    builder.setupCharacterMap({ord(letter): f"letter{ord(letter)}" for letter in letters})
    builder.setupGlyf(dict.fromkeys(names, square))
    builder.setupHorizontalMetrics(dict.fromkeys(names, (800, 0)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": path.stem, "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(path)
    return str(path)


def named(name):
    return confusion_matrices({name: np.array([[3, 1], [0, 2]])}, [name, "dog"])


def test_letters_come_from_a_font_that_has_them(fonts, tmp_path, recwarn, caplog):
    fonts += [font_of(tmp_path / "One Han.ttf", HAN[0]), font_of(tmp_path / "Two Han.ttf", HAN), "/no/font.ttf"]
    figure = named(HAN)
    assert not missing_letters(figure)
    assert figure.axes[0].title.get_fontfamily() == ["DejaVu Sans", "Two Han"]
    assert svg(figure) == svg(named(HAN)) and png(figure)
    assert named("cat").axes[0].title.get_fontfamily() == ["DejaVu Sans"]
    assert not recwarn.list and not caplog.records


def test_letters_that_no_font_has_are_told_and_not_warned_of(fonts, recwarn):
    figure = named(f"{HAN} é\n\x1b")
    assert missing_letters(figure) == set(HAN)
    assert svg(figure) and png(figure)
    assert not recwarn.list


@pytest.mark.parametrize("name", ["a$b$", "$\\frac", "$$", "a_b^c", "<b>&amp;"])
def test_no_name_is_a_formula(name):
    figure = named(name)
    assert svg(figure) and figure.axes[0].get_xticklabels()[0].get_text() == name


def test_a_partition_is_a_cell_a_client_and_class():
    axes, bar = clients().axes
    assert axes.get_images()[0].get_array().tolist() == [[3, 0], [0, 4], [1, 12]]
    assert {text.get_text() for text in axes.texts} == {"3", "4", "1", "12"}, "an empty cell is white"
    assert [label.get_text() for label in axes.get_yticklabels()] == ["art_1", "art_2", "photo_1"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["dog", "cat"]
    assert bar.get_ylabel() == "images"


def test_of_many_clients_some_are_named_and_no_cell_has_a_number():
    counts = np.ones((10_000, 100), np.int64)
    axes = partition_map(counts, [f"silo_{number}" for number in range(10_000)], [f"c{k}" for k in range(100)]).axes[0]
    assert len(axes.get_yticklabels()) == 40
    assert not axes.texts
    assert axes.figure.get_figheight() < 12
