"""Names in plots: in lines, apart, inside the frame, at any number of models."""

from __future__ import annotations

import itertools
import random
import xml.etree.ElementTree as ET

from bimo.evaluation import display
from bimo.evaluation.report import plots
from bimo.evaluation.report.labels import LINE, Placer, spread, wrapped
from bimo.evaluation.report.plots import Axis, Series, line_plot, mark, scatter_plot

SECONDS, BITS = Axis("seconds", display.seconds, from_zero=True), Axis("bits per byte", display.bits)
NAMES = [
    "5-gram", "RNN", "LSTM", "GRU", "Transformer", "VAE", "GAN", "5-gram + Transformer", "Transformer + cache",
    "5-gram + Transformer + LSTM + cache", "5-gram + Transformer + kNN", "GRU + cache",
]  # fmt: skip


def boxes(svg: str) -> list[tuple[str, float, float, float, float]]:
    """Name, left, top, right, bottom of each label, at six units a column."""
    found = []
    for text in ET.fromstring(svg).iter("text"):
        if not text.get("class", "").startswith("label"):
            continue
        said = [text.text or "", *(t.text or "" for t in text.iter("tspan"))]
        wide, x, y = 6 * max(map(display.width, said)), float(text.get("x", 0)), float(text.get("y", 0))
        left = x - {"end": wide, "middle": wide / 2}.get(text.get("text-anchor", ""), 0)
        found.append((" ".join(said), left, y - LINE + 3, left + wide, y + 3 + LINE * (len(said) - 1)))
    return found


def apart(found: list[tuple[str, float, float, float, float]]) -> bool:
    return not any(
        a[1] < b[3] - 0.5 and a[3] > b[1] + 0.5 and a[2] < b[4] - 0.5 and a[4] > b[2] + 0.5 for a, b in itertools.combinations(found, 2)
    )


def test_names_are_parted_between_parts_and_cut_only_where_a_part_is_too_long():
    assert wrapped("LSTM", 15) == ["LSTM"]
    assert [" ".join(wrapped(name, 15)) for name in NAMES] == NAMES
    assert all(display.width(line) <= 15 for name in NAMES for line in wrapped(name, 15))
    assert wrapped("a-very-long-name-of-a-recipe + GRU", 15) == ["a-very-long-… +", "GRU"]
    assert wrapped("", 15) == [""]


def test_twelve_long_names_at_line_ends_are_whole_and_apart():
    series = [Series(name, i, [(0, 4), (10, 2.5 + i * 1e-3)]) for i, name in enumerate(NAMES)]
    svg = line_plot(series, SECONDS, BITS, "x")
    found = boxes(svg)
    assert sorted(name for name, *_ in found) == sorted(NAMES)
    assert apart(found)
    wide, high = map(float, ET.fromstring(svg).get("viewBox", "").split()[2:])
    assert all(left >= 0 and right <= wide and top >= 0 and bottom <= high for _, left, top, right, bottom in found)


def test_names_in_a_crowded_scatter_cover_neither_one_another_nor_leave_the_frame():
    generator = random.Random(1)
    for spread_out in (0.001, 0.02, 0.3):
        points = [(name, i, 290 + generator.gauss(0, 5), 2.2 + generator.gauss(0, spread_out)) for i, name in enumerate(NAMES)]
        found = boxes(scatter_plot(points, SECONDS, BITS, -1, "x"))
        assert apart(found)
        assert len(found) >= 5
        assert all(left >= 0 and right <= plots.NARROW + 2 for _, left, _, right, _ in found)


def test_three_models_are_always_named():
    generator = random.Random(2)
    for _ in range(50):
        points = [(name, i, generator.choice([30, 30.1, 29]), generator.choice([2.2, 2.21, 2.6])) for i, name in enumerate(NAMES[2:5])]
        assert len(boxes(scatter_plot(points, SECONDS, BITS, -1, "x"))) == 3


def test_the_best_are_named_first():
    points = [(name, i, 290.0 + i / 1e3, 2.2 + i / 1e4) for i, name in enumerate(NAMES)]
    assert NAMES[0] in {name for name, *_ in boxes(scatter_plot(points, SECONDS, BITS, -1, "x"))}


def test_spread_keeps_order_and_room():
    generator = random.Random(3)
    for _ in range(30):
        heights = [generator.choice([16, 29, 42]) for _ in range(8)]
        placed = spread([generator.uniform(0, 300) for _ in heights], heights, 0, 300)
        order = sorted(range(8), key=placed.__getitem__)
        ends = [(placed[i] - heights[i] / 2, placed[i] + heights[i] / 2) for i in order]
        assert all(low >= before - 1e-9 for (_, before), (low, _) in itertools.pairwise(ends))
        assert ends[-1][1] <= 300 + 1e-9


def test_a_placer_gives_up_where_there_is_no_room():
    placer = Placer((0, 0, 40, 20))
    assert placer.place("a name of many columns", 20, 10) is None


def test_sixteen_models_have_sixteen_marks():
    marks = [mark(0, 0, slot) for slot in range(plots.SLOTS)]
    assert len(set(marks)) == plots.SLOTS == 16
    inks = {plots.ink(slot) for slot in range(plots.SLOTS)}
    assert len(inks) == 16
    assert sum("hollow" in ink for ink in inks) == 8
    assert mark(0, 0, 16) == mark(0, 0, 0)
