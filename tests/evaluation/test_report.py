"""The report: whole, offline, in two languages, and safe whatever the text holds."""

from __future__ import annotations

import math
import re
from html.parser import HTMLParser
from string import Formatter

import pytest

from bimo.core.errors import RecipeError
from bimo.evaluation.report import frame, render_report, write_report
from bimo.evaluation.report.verdict import verdict
from bimo.evaluation.report.wording import WORDS
from bimo.evaluation.results import Comparison, Point, Row, Sample, Skipped, TextFacts, TokenizerFacts
from tests.evaluation.example import comparison, large, row

VOID = {"meta", "br", "input", "link", "img", "hr"}
HOSTILE = "</pre><script>alert('x')</script><img src=http://evil.example/x onerror=alert(1)>\x1b[31m\x00\u202eabc\ud800 {{ 7*7 }} "


class Page(HTMLParser):
    """Checks that tags close in order, and collects tags, attributes and visible text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not {"style", "script"} & set(self.open):
            self.text.append(data)

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.text).split())


def many() -> Comparison:
    rows = [
        *comparison().rows,
        row("m", "Masked", 1.2, 30, 5, kind="pseudo"),
        row("z", "MLE", 2.9, 1, 6, bits_per_byte=math.inf, unit_nats=None, impossible_tokens=12, capped=True, notices=["a notice"]),
        Row(family="x", label="Broken", error="the loss became NaN at step 12"),
    ]
    return comparison(rows)


def test_the_page_opens_with_the_answer_and_holds_all_evidence():
    page = Page(render_report(many()))
    said = page.words
    heading = said.index("the 5-gram wins: 2.22 bits per byte")
    assert heading < said.index("The figures") < said.index("How they learned") < said.index("What they write") < said.index("The recipes")
    parts = ["What quality costs", "The plan beside the truth", "logo.png", "not text: an image", "bimo quickstart --budget 30s"]
    parts += ["a notice", "the loss became NaN at step 12", "12 tokens of probability zero", "capped", "Budgeted:", "torch 2.13.0"]
    parts += ["seed 0", "family: lstm", "Not ranked", "pseudo-likelihood", "∞", "24.0 GB"]
    for part in parts:
        assert part in said, part
    assert sum(1 for tag, a in page.tags if tag == "svg" and a.get("class") == "plot") == 5


def test_nothing_comes_from_outside():
    html = render_report(many())
    for tag, attributes in Page(html).tags:
        assert tag not in {"link", "img", "iframe", "object", "embed", "base", "form"}
        assert not {"src", "href", "srcset", "action"} & set(attributes)
        assert not any(name.startswith("on") for name in attributes)
    assert "default-src 'none'" in html
    assert not re.search(r"url\(|@import|https?://", html)


def test_the_one_script_is_the_one_the_policy_allows():
    import base64
    import hashlib

    html = render_report(comparison())
    allowed = re.search(r"script-src 'sha256-([^']+)'", html)[1]
    script = re.search(r"<script>(.*?)</script>", html, re.S)[1]
    assert base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() == allowed


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_hostile_text_is_shown_as_text_everywhere(lang):
    hostile = row("x", HOSTILE + "A" * 300, 2.7, 30, 3, recipe=HOSTILE, notices=[HOSTILE], measures={HOSTILE: 1.0})
    hostile.samples = [Sample(prompt=HOSTILE, continuation=HOSTILE + "x" * 5000, settings=HOSTILE)]
    c = comparison([hostile, Row(family="x", label=HOSTILE, error=HOSTILE), row("n", "N", 2.5, 3, 1)], command=HOSTILE, notices=[HOSTILE])
    c.text.name = c.text.documents = c.text.language = HOSTILE
    c.text.skipped, c.text.notices = [Skipped(name=HOSTILE, why=HOSTILE)] * 20, [HOSTILE]
    c.machine.cpu = c.machine.date = c.machine.bimo = HOSTILE
    html = render_report(c, lang)
    html.encode()
    page = Page(html)
    assert [tag for tag, _ in page.tags].count("script") == 1
    assert "img" not in {tag for tag, _ in page.tags}
    assert "<script>alert('x')</script>" in page.words
    assert not re.search("[\x00-\x08\x0b-\x1f\u202e]", html)
    assert "49" not in re.findall(r"\{\{ 7\*7 \}\}|49 ", page.words)
    assert re.search("3,6[0-9][0-9]", page.words)  # characters of the sample that are not shown are counted


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_a_single_run_reads_as_one(lang):
    page = Page(render_report(comparison([comparison().rows[1]]), lang))
    said = page.words
    assert verdict(comparison([comparison().rows[1]]), lang).replace("\u00a0", " ") in said.replace("\u00a0", " ")
    assert WORDS["title_one"][lang == "zh"] in said
    assert WORDS["learning_one"][lang == "zh"] in said
    assert WORDS["bars_note"][lang == "zh"] not in said
    assert WORDS["tradeoffs"][lang == "zh"] not in said
    assert "141.0" in said


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_the_least_that_can_be_known_still_gives_a_page(lang):
    text = TextFacts(name="t", tokenizer=TokenizerFacts(kind="byte", vocab_size=258))
    bare = Row(family="x", label="X")
    failed, scored = bare.model_copy(update={"error": "no"}), bare.model_copy(update={"bits_per_byte": 2.0})
    infinite = bare.model_copy(update={"bits_per_byte": math.inf, "curve": [Point(seconds=1.0, train_loss=math.nan)]})
    for rows in ([], [bare], [failed], [scored], [infinite], [scored, scored.model_copy()], [bare, failed, scored, infinite]):
        Page(render_report(Comparison(text=text, rows=rows), lang))


def test_chinese_pages_are_chinese():
    html = render_report(many(), "zh")
    assert '<html lang="zh-CN">' in html
    said = Page(html).words
    for key in ("bars", "figures", "learning", "tradeoffs", "samples", "plan", "text", "recipes", "again"):
        assert WORDS[key][1] in said
        assert WORDS[key][0] not in said


def test_every_word_is_there_in_both_languages_with_the_same_fields():
    for key, both in WORDS.items():
        assert len(both) == 2, key
        english, chinese = both
        assert bool(english) or key == "", key
        fields = [{name for _, name, _, _ in Formatter().parse(text) if name} for text in both]
        assert fields[0] == fields[1], key
        if english.strip() and key not in {"the", "comma", "colon", "percent", "and"}:
            assert re.search("[\u4e00-\u9fff]", chinese), f"{key}: no Chinese"
        assert not re.search("[\u4e00-\u9fff]", english.replace("笔墨", "")), f"{key}: Chinese in the English"


def test_every_word_is_used_and_every_used_word_exists():
    folder = frame.TEMPLATES
    above = [folder.parents[1] / "hybrids.py", folder.parents[1] / "passage.py", folder.parents[2] / "console.py"]
    sources = [p for p in (*folder.parent.glob("*.py"), *above) if not p.name.startswith("wording")]
    code = "\n".join(p.read_text(encoding="utf-8") for p in (*sources, *folder.glob("*.jinja")))
    used = set(re.findall(r"\bt\(\"([a-z_0-9]+)\"", code)) | set(re.findall(r"\"((?:col|axis|by|over)_[a-z_]+)\"", code))
    assert used - set(WORDS) == set()
    built = ("short_", "kind_", "mode_", "budget_", "apart_", "language_", "split_")
    quoted = set(re.findall(r'"[a-z_0-9]+"', code))
    unused = {key for key in WORDS if not {f'"{key}"', f'"{key.removesuffix("_1")}"'} & quoted and not key.startswith(built)}
    assert unused == set()


def test_dark_light_print_and_phone_are_styled():
    html = render_report(comparison())
    for part in (
        "prefers-color-scheme: dark",
        '[data-theme="dark"]',
        "@media print",
        "@media (max-width",
        "tabular-nums",
        'name="viewport"',
    ):
        assert part in html


def test_it_is_written_whole_and_small(tmp_path):
    path = write_report(comparison(), tmp_path / "deep" / "report.html", "zh")
    assert path.read_text(encoding="utf-8") == render_report(comparison(), "zh")
    assert path.stat().st_size < 100_000
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]


def test_long_curves_are_thinned_and_keep_their_end():
    long = row("x", "Long", 2.5, 30, 1)
    long.curve = [Point(seconds=i / 100, tokens=i, train_loss=5.0 - i / 5000, valid_bits_per_byte=3 - i / 50_000) for i in range(20_000)]
    html = render_report(comparison([long, row("y", "Y", 2.9, 30, 2)]))
    assert len(html) < 150_000
    assert "200 s · 2.600" in html or "3 min 20 s · 2.600" in html


def test_unknown_language_is_an_error():
    with pytest.raises(RecipeError, match="unknown language"):
        render_report(comparison(), "fr")


def test_ten_rows_with_long_names_are_told_apart_and_told_in_full():
    page = Page(render_report(large()))
    labels = [made.label for made in large().rows]
    legends = [i for i, (tag, a) in enumerate(page.tags) if tag == "ul" and a.get("class") == "legend sans"]
    assert len(legends) == 2, "below the plots whose names may not all have room"
    assert all(page.words.count(label) >= 8 for label in labels)
    assert page.words.index("With more time than the budget") < page.words.index("Not ranked") < page.words.index("The figures")
    heads = ["Bits per byte", "The figures", "Which hybrid gains what", "How they learned", "What quality costs", "Token by token"]
    places = [page.words.index(head) for head in [*heads, "What they write"]]
    assert places == sorted(places)
    assert len(render_report(large())) < 200_000
    few = Page(render_report(comparison()))
    assert not any(a.get("class") == "legend sans" for _, a in few.tags)


def test_what_took_more_time_stands_in_the_plots_of_costs():
    html = render_report(large())
    titles = re.findall(r"<title>(.*?)</title>", html, re.S)
    label = "5-gram + Transformer + LSTM + cache"
    assert f"{label}\n9 min 43 s · 1.898" in titles
    assert not any(title.startswith("VAE\n") for title in titles), "a bound is drawn beside no exact score"


def test_one_prompt_for_all_stands_once():
    c = large()
    page = Page(render_report(c))
    assert page.words.count("Whenever a suite") == 1
    assert page.words.count("temperature 0.8, seed 0") == 1
    assert not any(tag == "u" for tag, _ in page.tags)
    c.rows[0].samples[0].prompt = "Another"
    page = Page(render_report(c))
    assert sum(tag == "u" for tag, _ in page.tags) == len(c.rows)
    c.rows[0].samples[0].continuation = "\n"
    assert "(nothing: it ended the text at once)" in Page(render_report(c)).words


def test_variety_is_a_table_that_says_of_how_many_texts():
    c = large()
    said = Page(render_report(c)).words
    assert "distinct words distinct pairs repeated 4-grams self-BLEU" in said
    assert "5-gram 0.41 0.83 0.06 0.20" in said
    assert "Self-BLEU is of 12 short texts each." in said
    c.rows[1].self_bleu_texts, c.rows[2].measures["self_bleu"] = 4, None
    said = Page(render_report(c)).words
    assert "0.23 (4)" in said
    assert "0.06 –" in said
    assert "among more texts it is higher" in said
