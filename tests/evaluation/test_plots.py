"""Plots are well-formed SVG that says what the data say, in colours that people can tell apart."""

from __future__ import annotations

import itertools
import math
import re
import xml.etree.ElementTree as ET

import pytest

from bimo.evaluation import display
from bimo.evaluation.metrics import Interval
from bimo.evaluation.report import plots
from bimo.evaluation.report.plots import Axis, Series, bar, line_plot, pareto, scatter_plot
from bimo.evaluation.report.ticks import log_ticks, ticks

SECONDS, BITS = Axis("seconds", display.seconds, from_zero=True), Axis("bits per byte", display.bits)
PAPER = {"light": "#faf8f3", "dark": "#15140f"}


def parsed(svg: str) -> ET.Element:
    return ET.fromstring(svg)


def texts(svg: str) -> list[str]:
    return [e.text or "" for e in parsed(svg).iter("text")]


def test_lines_carry_names_axes_and_tooltips():
    svg = line_plot([Series("LSTM", 1, [(0, 4), (10, 3), (20, 2.5)]), Series("5-gram", 0, [(1, 2.6)], held=True)], SECONDS, BITS, "loss")
    said = texts(svg)
    assert {"LSTM", "5-gram", "seconds", "bits per byte", "0 s", "20 s"} <= set(said)
    titles = [e.text for e in parsed(svg).iter("title")]
    assert "LSTM\n20.0 s · 2.500" in titles
    assert 'class="line held s0"' in svg


def test_lower_loss_is_drawn_lower_and_later_to_the_right():
    svg = line_plot([Series("A", 0, [(0, 3), (10, 2.9), (20, 2.8)])], SECONDS, BITS, "loss")
    path = next(p.get("d") for p in parsed(svg).iter("path") if p.get("class") == "line s0")
    points = [tuple(map(float, p.split(","))) for p in path[1:].split("L")]
    assert points == sorted(points)
    assert [y for _, y in points] == sorted(y for _, y in points)  # SVG's y grows downward


def test_high_beginnings_are_cut_where_they_cross_and_nothing_leaves_the_frame():
    series = [Series("A", 0, [(0, 50), (10, 2.2), (20, 2.1)]), Series("B", 1, [(0, 60), (10, 2.4), (20, 2.3)])]
    top, cut = plots.clip_height(series)
    assert cut
    assert 2.4 < top < 10
    svg = line_plot(series, SECONDS, BITS, "loss")
    for path in parsed(svg).iter("path"):
        if path.get("class", "").startswith("line"):
            for x, y in re.findall(r"(-?[\d.]+),(-?[\d.]+)", path.get("d")):
                assert 0 <= float(x) <= plots.WIDTH
                assert plots._TOP - 0.1 <= float(y) <= plots.HEIGHT - plots._BOTTOM + 0.1


@pytest.mark.parametrize("points", [[], [(math.nan, 1)], [(1, math.inf)]])
def test_nothing_to_draw_draws_nothing(points):
    assert line_plot([Series("A", 0, points)], SECONDS, BITS, "x") == ""
    assert scatter_plot([("A", 0, *p) for p in points], SECONDS, BITS, -1, "x") == ""


@pytest.mark.parametrize("value", [0.0, 1e-9, 3.0, 1e12])
def test_one_point_and_flat_data_draw(value):
    parsed(line_plot([Series("A", 0, [(value, 2.0)])], SECONDS, BITS, "x"))
    parsed(line_plot([Series("A", 0, [(0, value), (1, value)])], SECONDS, BITS, "x"))
    parsed(scatter_plot([("A", 0, value, value), ("B", 1, value, value)], SECONDS, BITS, -1, "x"))


def test_labels_at_line_ends_never_overlap():
    series = [Series(f"M{i}", i, [(0, 3), (10, 2.5 + i * 1e-4)]) for i in range(8)]
    labels = [e for e in parsed(line_plot(series, SECONDS, BITS, "x")).iter("text") if e.get("class", "").startswith("label")]
    heights = sorted(float(e.get("y")) for e in labels)
    assert len(heights) == 8
    assert min(b - a for a, b in itertools.pairwise(heights)) >= 14


def test_hostile_labels_stay_text():
    label = '</text><script>alert(1)</script>"\x00\u202e\ud800'
    for svg in (
        line_plot([Series(label, 0, [(0, 3), (1, 2)])], SECONDS, BITS, label),
        scatter_plot([(label, 0, 1, 2)], SECONDS, BITS, -1, label),
    ):
        svg.encode()
        assert not list(parsed(svg).iter("script"))


def test_bars_are_in_proportion_with_the_interval_inside():
    svg = parsed(bar(2.0, 4.0, 3, Interval(2.0, 1.8, 2.2)))
    assert svg.find("rect").get("width") == "50.00%"
    whisker = next(e for e in svg.iter("line") if e.get("class") == "whisker")
    assert (whisker.get("x1"), whisker.get("x2")) == ("45.00%", "55.00%")


def test_scatter_joins_the_models_that_none_beats():
    points = [("A", 0, 1.0, 3.0), ("B", 1, 2.0, 2.0), ("C", 2, 3.0, 2.5)]
    svg = scatter_plot(points, SECONDS, BITS, -1, "x")
    front = next(p.get("d") for p in parsed(svg).iter("path") if p.get("class") == "front")
    assert front.count(",") == 2
    assert pareto([(1, 3), (2, 2), (3, 1)], +1) == [(3, 1)]


def test_ticks_are_round_and_inside():
    for low, high in [(0, 30), (2.31, 2.32), (0.001, 900), (1e6, 5e6)]:
        found = ticks(low, high)
        assert 2 <= len(found) <= 8
        assert all(low - 1e-9 <= v <= high + 1e-9 for v in found)
    assert log_ticks(1, 1e6) == [10.0**p for p in range(7)]
    assert ticks(3, 3) == [3]


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def seen_without_green(colour: str) -> list[float]:
    """Full deuteranopia in linear RGB (Viénot, Brettel and Mollon 1999), roughly."""
    r, g, b = ((int(colour[i : i + 2], 16) / 255) ** 2.2 for i in (1, 3, 5))
    mixed = 0.29275 * r + 0.70725 * g
    return [v ** (1 / 2.2) for v in (mixed, mixed, max(0.0, -0.02234 * r + 0.02234 * g + b))]


@pytest.mark.parametrize("ground", ["light", "dark"])
def test_inks_stand_off_the_paper_and_the_first_six_apart_without_red_green_vision(ground):
    paper = luminance(PAPER[ground])
    for colour in plots.PALETTE[ground]:
        light, dark = sorted((luminance(colour), paper), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 3.0, colour
    for a, b in itertools.combinations(plots.PALETTE[ground][:6], 2):
        assert math.dist(seen_without_green(a), seen_without_green(b)) > 0.12, (a, b)
    assert len(set(plots._MARKS)) == plots.COLOURS == len(set(plots.PALETTE[ground]))
