"""Writing on, over the fake model: batches, seeds, ends, contexts."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Self

import pytest
import torch

from bimo.core.errors import UserError
from bimo.generation.reader import Reader, held
from bimo.generation.sampling import GenerationConfig
from bimo.generation.search import generate
from tests.fakes import FakeModel

PROMPTS = [[0, 3], [0], [4, 5, 6, 7, 2], [0, 3]]


class Letters:
    """Ids are letters, </s> (1) nothing."""

    def push(self, token: int) -> str:
        return "" if token < 2 else chr(ord("a") + token - 2)

    def flush(self) -> str:
        return ""

    def copy(self) -> Self:
        return type(self)()


def text_of(ids: list[int]) -> str:
    return "".join(Letters().push(token) for token in ids)


@pytest.mark.parametrize("context", [None, 9, 2, 1])
@pytest.mark.parametrize(
    "options",
    [
        {"seed": 5},
        {"temperature": 0},
        {"seed": 5, "num_return_sequences": 3, "top_k": 4},
        {"num_beams": 3, "num_return_sequences": 2},
        {"num_beams": 2, "early_stopping": True, "no_repeat_ngram_size": 2},
    ],
)
def test_a_row_does_not_depend_on_its_batch(options, context):
    model = FakeModel.of(context=context)
    config = GenerationConfig.of(max_new_tokens=14, repetition_penalty=1.1, **options)
    together = generate(model, PROMPTS[:3], config, eos=1)
    alone = [generate(model, [prompt], config, eos=1) for prompt in PROMPTS[:3]]
    assert together.ids == [ids for one in alone for ids in one.ids]
    assert together.finishes == [finish for one in alone for finish in one.finishes]
    assert [row.rereads for row in together.rows] == [row.rereads for one in alone for row in one.rows]
    assert [row.prompt for row in together.rows] == [p for p in range(3) for _ in range(config.num_return_sequences)]
    assert together.prompt_tokens == 8
    assert together.generated_tokens == sum(map(len, together.ids))


def test_seeds():
    model = FakeModel.of()
    config = GenerationConfig.of(max_new_tokens=20, seed=1)
    first = generate(model, PROMPTS, config)
    assert generate(model, PROMPTS, config).ids == first.ids
    assert generate(model, PROMPTS, GenerationConfig.of(max_new_tokens=20, seed=2)).ids != first.ids
    assert first.ids[0] != first.ids[3]  # the same prompt twice is written on twice
    twice = generate(model, [PROMPTS[0]], GenerationConfig.of(max_new_tokens=20, seed=1, num_return_sequences=2))
    assert twice.ids == [first.ids[0], first.ids[3]]
    unseeded = generate(model, PROMPTS, GenerationConfig.of(max_new_tokens=20))
    assert generate(model, PROMPTS, GenerationConfig.of(max_new_tokens=20, seed=unseeded.seed)).ids == unseeded.ids


def test_draws_follow_the_model():
    """2,000 first tokens agree with the distribution (chi-squared, 10 degrees of freedom, p = 0.001)."""
    model = FakeModel.of(spread=2.0)
    drawn = generate(model, [[0, 5]], GenerationConfig.of(max_new_tokens=1, num_return_sequences=2000, seed=0))
    counts = torch.bincount(torch.tensor(drawn.ids).flatten(), minlength=12).double()
    expected = model.table_row([0, 5]).softmax(-1) * 2000
    assert counts[0] == 0
    assert float(((counts - expected)[1:] ** 2 / expected[1:]).sum()) < 29.6


def test_greedy_is_the_likeliest_token():
    model = FakeModel.of()
    (ids,) = generate(model, [[0, 3]], GenerationConfig.of(max_new_tokens=15, temperature=0)).ids
    text = [0, 3]
    for token in ids:
        assert token == int(model.table_row(text).argmax())
        text.append(token)


def test_ends():
    model = FakeModel.of()
    config = GenerationConfig.of(max_new_tokens=30, seed=3, num_return_sequences=20)
    ended = generate(model, [[0, 3]], config, eos=1)
    assert {"eos"} <= set(ended.finishes)
    for row in ended.rows:
        assert 1 not in row.ids[:-1]
        assert (row.finish == "eos") == (row.ids[-1] == 1)
        assert row.finish == "eos" or len(row.ids) == 30
    on = generate(model, [[0, 3]], config)  # stream documents: </s> does not stop
    assert set(on.finishes) == {"length"}
    assert any(1 in ids[:-1] for ids in on.ids)
    either = generate(model, [[0, 3]], config, eos=[1, 7])
    assert all(ids[-1] in (1, 7) and not {1, 7} & set(ids[:-1]) for ids in either.ids if len(ids) < 30)


def test_minimum_length():
    config = GenerationConfig.of(max_new_tokens=12, min_new_tokens=8, seed=3, num_return_sequences=20)
    rows = generate(FakeModel.of(), [[0, 3]], config, eos=1).ids
    assert min(map(len, rows)) >= 9
    assert any(len(ids) < 12 for ids in rows)
    beams = GenerationConfig.of(max_new_tokens=12, min_new_tokens=8, num_beams=4, num_return_sequences=4)
    assert min(map(len, generate(FakeModel.of(), [[0, 3]], beams, eos=1).ids)) >= 9


@pytest.mark.parametrize("how", [{"seed": 1}, {"temperature": 0}, {"num_beams": 3}])
def test_prohibitions_hold(how):
    prompt = [0, 3, 4, 3]
    words = [[5], [3, 6], [7, 8, 9]]
    config = GenerationConfig.of(max_new_tokens=60, no_repeat_ngram_size=3, bad_words_ids=words, **how)
    for ids in generate(FakeModel.of(), [prompt] * 3, config).ids:
        text = prompt + ids
        trigrams = list(zip(text, text[1:], text[2:], strict=False))
        assert len(trigrams) == len(set(trigrams))
        assert not {(5,)} & {(t,) for t in ids}
        assert (3, 6) not in set(pairwise(text))
        assert (7, 8, 9) not in trigrams


@pytest.mark.parametrize("how", [{"seed": 1}, {"temperature": 0}, {"num_beams": 3}])
def test_when_nothing_is_allowed_the_row_is_blocked(how):
    config = GenerationConfig.of(max_new_tokens=60, no_repeat_ngram_size=1, **how)
    made = generate(FakeModel.of(6), [[0], [0, 2]], config, decoder=lambda _: Letters())
    assert made.finishes == ["blocked"] * 2
    assert [sorted(ids) for ids in made.ids] == [[1, 2, 3, 4, 5], [1, 3, 4, 5]]
    assert [row.text for row in made.rows] == [text_of(ids) for ids in made.ids]


@pytest.mark.parametrize("how", [{"seed": 1}, {"temperature": 0}, {"num_beams": 2, "length_penalty": -3.0}])
def test_stop_strings(how):
    model = FakeModel.of()
    free = generate(model, PROMPTS[:3], GenerationConfig.of(max_new_tokens=20, **how), decoder=lambda _: Letters())
    stop = text_of(free.ids[0])[1:3]
    made = generate(model, PROMPTS[:3], GenerationConfig.of(max_new_tokens=20, stop=[stop, "never"], **how), decoder=lambda _: Letters())
    assert made.rows[0].finish == "stop"
    for row in made.rows:
        assert stop not in row.text
        whole = text_of(row.ids)
        assert whole.endswith(stop) if row.finish == "stop" else stop not in whole
        assert whole.startswith(row.text)


def test_beams_with_a_stop_string_read_each_candidate_once():
    class Counting(Letters):
        pushed = 0

        def push(self, token: int) -> str:
            Counting.pushed += 1
            return super().push(token)

    def pushes(length: int) -> int:
        Counting.pushed = 0
        config = GenerationConfig.of(max_new_tokens=length, min_new_tokens=length, num_beams=3, stop="never")
        assert generate(FakeModel.of(), [[0, 3]], config, eos=1, decoder=lambda _: Counting()).finishes == ["length"]
        return Counting.pushed

    assert pushes(40) < 4.5 * pushes(10)


@pytest.mark.parametrize("context", [1, 2, 5, 6])
def test_a_full_context_is_read_again_from_its_last_half(context):
    """Greedy text and counts follow from the rule of `held`, also for a prompt longer than the context."""
    model = FakeModel.of(context=context, order=8)
    for prompt in ([0, 3], [2, 3, 4, 5, 6, 7, 8, 9]):
        (row,) = generate(model, [prompt], GenerationConfig.of(max_new_tokens=17, temperature=0)).rows
        text = list(prompt)
        for token in row.ids:
            assert token == int(model.table_row(text[-held(len(text), context) :]).argmax())
            text.append(token)
        full = [n for n in range(1, len(text)) if held(n, context) <= held(n - 1, context) and n > 1]
        assert row.rereads == len(full) > 0
    assert generate(model, [[0]], GenerationConfig.of(max_new_tokens=1)).rereads == 0


def test_finished_rows_leave_the_batch():
    class Counting(FakeModel):
        fed = 0

        def advance(self, state, tokens, lengths=None, keep="all"):
            Counting.fed += tokens.numel()
            return super().advance(state, tokens, lengths, keep)

    config = GenerationConfig.of(max_new_tokens=30, seed=3, num_return_sequences=20)
    made = generate(Counting.of(), [[0, 3]], config, eos=1)
    assert Counting.fed == 2 + made.generated_tokens - 20  # the prompt once; no row's last token is read


def test_tokens_are_told_as_they_come():
    told: list[tuple[int, int]] = []
    made = generate(FakeModel.of(), PROMPTS, GenerationConfig.of(max_new_tokens=9, seed=1), eos=1, on_token=lambda *pair: told.append(pair))
    assert [[token for row, token in told if row == r] for r in range(4)] == made.ids
    assert [row for row, _ in told[:4]] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("prompts", "options", "more", "told"),
    [
        ([], {}, {}, "prompts: none given"),
        ([[0], []], {}, {}, r"prompts\[1\]: empty"),
        ([[0, 12]], {}, {}, "ids must lie in 0…11"),
        ([[0, -1]], {}, {}, "ids must lie in 0…11"),
        ([[0]], {}, {"eos": 12}, "eos: ids must lie in 0…11, found 12"),
        ([[0]], {"stop": ["a"]}, {}, "stop strings need a decoder"),
        ([[0]], {"bad_words_ids": [[40]]}, {}, "bad_words_ids"),
        ([[0]], {"temperature": 0, "num_return_sequences": 2}, {}, "temperature=0 has one text"),
        ([[0]], {"num_beams": 2}, {"on_token": lambda *_: None}, "cannot stream"),
    ],
)
def test_bad_input(prompts, options, more, told):
    with pytest.raises(UserError, match=told):
        generate(FakeModel.of(), prompts, GenerationConfig.of(max_new_tokens=2, **options), **more)


def test_a_reader_reads_like_the_model():
    model = FakeModel.of(context=4)
    reader = Reader(model, [[0, 2], [0, 3, 4, 5, 6, 7]])
    reader.select(torch.tensor([1, 0, 1]))
    texts = [[0, 3, 4, 5, 6, 7], [0, 2], [0, 3, 4, 5, 6, 7]]
    for turn in range(7):
        tokens = [2 + turn, 3, 4]
        reader.read(torch.tensor(tokens))
        for text, token in zip(texts, tokens, strict=True):
            text.append(token)
        expected = torch.stack([model.table_row(text[-held(len(text), 4) :]) for text in texts])
        assert torch.equal(reader.logits, expected)
        assert [[t for t in row if t >= 0] for row in reader.history.tolist()] == texts


def test_beams_find_the_likeliest_text():
    """With as many beams as there are prefixes, the search is exhaustive."""
    model = FakeModel.of(4, order=5, suppressed=(0,))
    config = GenerationConfig.of(max_new_tokens=4, num_beams=60, num_return_sequences=5, length_penalty=0.0, early_stopping="never")
    made = generate(model, [[0, 2]], config, eos=1)

    found: dict[tuple[int, ...], float] = {}

    def walk(ids: tuple[int, ...], nats: float) -> None:
        if len(ids) == 4 or (ids and ids[-1] == 1):
            found[ids] = nats
            return
        for token, more in enumerate(model.table_row([0, 2, *ids]).log_softmax(-1).tolist()):
            if more > -math.inf:
                walk((*ids, token), nats + more)

    walk((), 0.0)
    best = sorted(found, key=lambda ids: -found[ids])[:5]
    assert [tuple(ids) for ids in made.ids] == best
    assert [row.logprob for row in made.rows] == pytest.approx([found[ids] for ids in best])
    assert [row.score for row in made.rows] == [row.logprob for row in made.rows]
