"""Recomputes every number of docs/principles/programs.md by the script beside it, and runs the page's commands."""

from __future__ import annotations

import json
import math
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

import bimo
from bimo.core.errors import RecipeError
from bimo.core.recipe import parse_overrides
from bimo.generation.sampling import GenerationConfig
from tests.principles.pages import FOLDER, missing, page, script
from tests.shown import check_bimo, commands

numbers = script("draw_programs")
poems = script("poems")
PAGE = page("programs")


def shown(share: float) -> str:
    return f"{share * 100:.1f} %"


def about(said: str, value: float, tolerance: float) -> None:
    """The page says "about <said>", and so it is."""
    assert f"about {said}" in PAGE
    assert value == pytest.approx(float(said), abs=tolerance)


def test_the_commands_parse(tmp_path: Path) -> None:
    found = [words for words in commands(FOLDER / "programs.md") if words[0] == "bimo"]
    assert [words[1] for words in found] == ["generate", "evaluate", "finetune", "evaluate", "generate", "train", "generate"]
    for words in found:
        check_bimo(words, tmp_path)


def test_the_names_of_the_generator() -> None:
    asked = GenerationConfig.of(max_new_tokens=50, temperature=0, num_return_sequences=1, no_repeat_ngram_size=2)
    assert asked.no_repeat_ngram_size == 2
    with pytest.raises(RecipeError, match="max_length"):
        GenerationConfig.of(max_length=50)


def test_the_likeliest_word_again_and_again(data_folder: Path) -> None:
    train, test = numbers.penn(data_folder)
    model = numbers.counted(train, 3)
    for no_repeat, said in ((0, "only {} of its {} pairs of words are distinct"), (2, "makes it {} of {} by force")):
        text = numbers.greedy(model, "the company", 50, no_repeat)
        pairs = list(pairwise(text))
        assert said.format(len(set(pairs)), len(pairs)) in PAGE
        if not no_repeat:
            assert " ".join(text).startswith("the company 's <unk> <unk> <unk> <unk>")
    short, long = (f"{numbers.repeating(test, width):.0%}".replace("%", " %") for width in (50, 256))
    said = f"a pair comes twice in {short} of Penn Treebank's stretches of 50 words, and in {long} of those of 256."
    assert missing(PAGE, [said, f"| {short} of real stretches of 50 words break it |"]) == []


@pytest.mark.parametrize("shift", [1, 0, 2])
def test_a_decoder_on_each_kind_of_pairs(shift: int) -> None:
    found = numbers.learned("decoder", shift)
    loss, nats = {1: ("0.10", "0.1"), 0: ("0.004", "12"), 2: ("0.09", "12")}[shift]
    row = rf"\| about {loss} \| {shown(found.accuracy)} \| about {nats} \| {shown(found.next_accuracy)} \| (\S+?)…"
    written = re.search(row, PAGE)
    assert written, row
    assert found.text.startswith(written[1])
    about(loss, found.nats, 0.02)
    about(nats, found.next_nats, {1: 0.03, 0: 3, 2: 3}[shift])


def test_251_of_260() -> None:
    found, targets = numbers.learned("decoder", 1), poems.ROWS[:, 1:].numel()
    assert f"{shown(found.next_accuracy)} is all that can be had, {round(found.next_accuracy * targets)} of {targets}" in PAGE
    assert len({poem[0] for poem in poems.POEMS}) == len(poems.POEMS) == 10


def test_one_sentence() -> None:
    own, others = numbers.one_sentence()
    assert "about 0.004 nats for itself, about 7 for the nine others" in PAGE
    assert own == pytest.approx(0.004, abs=0.01)
    assert others == pytest.approx(7, abs=1.5)
    vocabulary = poems.TOKENIZER.vocabulary
    possible = vocabulary.size - len(vocabulary.suppressed)
    assert f"guessing among {possible} ids has {math.log(possible):.2f}." in PAGE


def test_a_body_has_no_logits() -> None:
    model = poems.fresh("decoder", **numbers.SHAPES["decoder"])
    hidden, _ = model.hidden(poems.ROWS[:, :-1])
    logits = model.logits(hidden)
    assert f"hidden states {list(hidden.shape)}, where logits would be {list(logits.shape)};" in PAGE
    assert f"| {hidden.shape[2]} numbers for {logits.shape[2]} characters:" in PAGE


@pytest.mark.parametrize("shift", [1, 0])
def test_an_lstm_on_each_kind_of_pairs(shift: int) -> None:
    found = numbers.learned("lstm", shift)
    written = re.search(rf"\| {shown(found.accuracy)} \| {shown(found.next_accuracy)} \| (\S+?)… \|", PAGE)
    assert written, found
    assert found.text.startswith(written[1])


def test_words_by_spaces_and_integer_labels() -> None:
    lines = [word for poem in poems.POEMS for word in poem.split()]
    assert f'have {len(set(lines))} "words", one a line, each met once' in PAGE
    assert len(set(lines)) == len(lines)
    assert f"By characters: {len(set(''.join(poems.POEMS)))}, the line's end among them" in PAGE
    p = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)
    assert f"word 2 costs {numbers.integer_label_loss(p, 2):.4f} nats instead of {-math.log(0.5):.4f}, word 0 nothing" in PAGE
    assert numbers.integer_label_loss(p, 0) == 0


def test_a_sound_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page's own command, once as it stands and once with keep=last."""
    words = next(words for words in commands(FOLDER / "programs.md") if words[1] == "train")
    monkeypatch.chdir(FOLDER.parents[1])
    overrides = [word for word in words if "=" in word]
    assert parse_overrides(overrides)["model"] == {"width": 64}
    asked: dict[str, Any] = {"family": "lstm", "documents": "paragraph", "budget": "300steps"}
    for name, value in asked.items():
        assert words[words.index(f"--{name}") + 1] == value
    steady = ["training.threads=1", "training.precision=fp32"]
    run = bimo.train(words[2], **asked, out=tmp_path / "best", overrides=[*overrides, *steady])
    told = [json.loads(line) for line in (tmp_path / "best" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    held_out = [line["valid_loss"] for line in told if "valid_loss" in line]
    assert "step 30 of 300, the best on validation text" in run.row.notices[0]
    about("0.9", [line["loss"] for line in told if "loss" in line][-1], 0.2)
    about("6.7", held_out[0], 0.4)
    about("9", held_out[-1], 0.8)
    bimo.train(words[2], **asked, out=tmp_path / "last", overrides=[*overrides, *steady, "training.keep=last"])
    recited = bimo.load(tmp_path / "last").generate("春眠", temperature=0, max_new_tokens=24)
    assert recited.startswith("不觉晓，处处闻啼鸟。")
    assert "(*春眠* → *不觉晓，处处闻啼鸟。*)" in PAGE


def test_stop_words(data_folder: Path) -> None:
    train, test = numbers.penn(data_folder)
    size = len((data_folder / "lm-ptb/ptb.test.txt").read_bytes())
    found = []
    for lines, heard in ((train, test), (numbers.without_stop_words(train), numbers.without_stop_words(test))):
        nats, _ = numbers.counted(lines, 3).nats(heard)
        tokens = len(nats) - len(heard)
        found.append((tokens, math.exp(nats.sum() / tokens), numbers.bits(nats.sum(), size)))
    (all_tokens, whole, bits), (left, cut, cut_bits) = found
    gone = f"{1 - left / all_tokens:.0%}".replace("%", " %")
    said = [
        f"Without the {len(numbers.STOP)} commonest English words",
        f"has perplexity {cut:.2f} instead of {whole:.2f};",
        f"over the bytes of the text as it was, {cut_bits:.4f} bits instead of {bits:.4f}.",
        f"{gone} of the tokens are not predicted at all",
        f"{gone} of the text is gone",
    ]
    assert missing(PAGE, said) == []


def test_tags(data_folder: Path) -> None:
    plain, own, before = (numbers.with_tags(data_folder, tags) for tags in ("none", "before", "after"))
    said = [
        f"| the word before | {plain[0]:.4f} | | {plain[0]:.4f} |",
        f"| and its tag | {before[0]:.4f} | {before[1]:.4f} | {sum(before):.4f} |",
        f"| and the tag of the word that is to be predicted | {own[0]:.4f} | {own[1]:.4f} | {sum(own):.4f} |",
        f"helps by {plain[0] - before[0]:.2f} nats.",
        f'"helps" by {plain[0] - own[0]:.2f}, perplexity {math.exp(own[0]):.0f} for {math.exp(plain[0]):.0f}: a leak.',
        f"to say it costs {own[1]:.2f} nats",
        f"| a leak of {plain[0] - own[0]:.2f} nats |",
    ]
    assert missing(PAGE, said) == []


def test_the_picture_is_what_the_script_draws() -> None:
    assert numbers.PICTURE.read_text(encoding="utf-8") == numbers.draw()
