"""Recomputes every number of docs/principles/perplexity.md by the code that the page names."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from bimo.evaluation.metrics import bits_per_byte, bootstrap_interval, perplexity

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "principles"
PAGE = (FOLDER / "perplexity.md").read_text(encoding="utf-8")
PROBABILITIES = [1 / 2, 1 / 4, 1 / 8, 1 / 2]
NATS = -sum(math.log(p) for p in PROBABILITIES)
BYTES = len(b"the cat sat\n")


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ("4.8520", NATS),
        ("**3.3636**", perplexity(NATS, 4)),
        ("**0.5833**", bits_per_byte(NATS, BYTES)),
        ("**2.2449**", perplexity(NATS, 6)),
        ("2^1.2130 = 2.3182", 2 ** (NATS / 4)),
        ("over three tokens: 5.0397", perplexity(NATS, 3)),
        ("6 bits over three, 4.0000", perplexity(NATS - math.log(2), 3)),
        ("(2 + 4 + 8 + 2) / 4 = 4.0000", sum(1 / p for p in PROBABILITIES) / 4),
        ("the mean says 55.0", (100 + 10) / 2),
        ("the text has 10.2", perplexity(math.log(100) + 99 * math.log(10), 100)),
        ("**2.0** bits a byte", bits_per_byte(30 * math.log(2), len("春眠不觉晓".encode()))),
        ("**1.3083**", bits_per_byte(82_430 * math.log(141.19), 449_945)),
    ],
)
def test_the_page_prints_what_the_code_gives(said, found):
    assert said in PAGE
    number = re.findall(r"\d+\.\d+", said)[-1]
    assert f"{found:.{len(number.split('.')[1])}f}" == number


def test_the_two_figures_are_one_sum():
    assert bits_per_byte(NATS, BYTES) == pytest.approx(math.log2(perplexity(NATS, 4)) * 4 / BYTES)
    assert BYTES == 12
    assert 2 ** -(NATS / math.log(2)) == pytest.approx(1 / 128)


def test_the_picture_shows_the_example():
    picture = ET.parse(FOLDER / "perplexity.svg").getroot()
    space = "{http://www.w3.org/2000/svg}"
    bars = [e for e in picture.iter(f"{space}rect") if e.get("class") == "bits"]
    assert [2.0 ** -int(e.get("data-bits")) for e in bars] == PROBABILITIES
    heights = [float(e.get("height")) for e in bars]
    assert [h / heights[0] for h in heights] == [1, 2, 3, 1]
    assert "mean 1.75" in "".join(picture.itertext())


def test_the_page_names_files_that_exist():
    for target in re.findall(r"\]\(([^)#]+)\)", PAGE):
        assert (FOLDER / target).exists(), target
    for path in re.findall(r"`((?:bimo|tests)/[^`]+)`", PAGE):
        assert (FOLDER.parents[1] / path).exists(), path


def test_penn_treebank_is_as_large_as_the_page_says(data_folder):
    text = (data_folder / "lm-ptb" / "ptb.test.txt").read_bytes()
    assert len(text) == 449_945
    assert len(text.split()) + text.count(b"\n") == 82_430


def test_the_interval_that_the_page_describes_holds_the_figure():
    interval = bootstrap_interval([NATS] * 5 + [NATS * 1.1] * 5, [BYTES] * 10)
    assert interval.low < interval.estimate < interval.high
    assert interval.estimate == pytest.approx(bits_per_byte(NATS, BYTES) * 1.05)
