"""Texts explained by every family: costs are those of `score`, pieces join to the text, what stands behind is told as text."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
import torch

from bimo.core.errors import ContextError, UserError
from bimo.explanation.pieces import Pieces
from bimo.explanation.results import Explanation, Reasons
from bimo.explanation.texts import explain_text
from bimo.model import Model
from bimo.models.base import Kind
from bimo.models.bundle import Bundle
from tests.explanation.conftest import POEM, TEXTS, mixed, neural, ngram, of, tokenizer

SHAPES: dict[str, dict[str, Any]] = {
    "lstm": {"layers": 1, "width": 8},
    "decoder": {"layers": 1, "heads": 2, "width": 16, "context": 16},
    "encoder": {"layers": 1, "heads": 2, "width": 16, "context": 64},
    "vae": {"width": 8, "latent": 4},
    "gan": {"width": 8, "discriminator_embedding": 4, "discriminator_width": 3},
    "seq2seq": {"encoder_layers": 1, "decoder_layers": 1, "heads": 2, "width": 16, "context": 64},
}
MIXED = "月光 and ink\n床前"


def bundles() -> dict[str, Bundle]:
    made = {f"ngram-{kind}": ngram(kind) for kind in ("byte", "char", "bpe", "word")}
    made |= {smoothing: ngram(smoothing=smoothing) for smoothing in ("mle", "add-k", "stupid-backoff")}
    made |= {"stream": ngram(documents="stream")}
    made |= {name: neural(name, **shape) for name, shape in SHAPES.items()}
    lstm, counted, decoder = made["lstm"].model, made["ngram-char"].model, made["decoder"].model
    made["hybrid"] = of(made["lstm"], mixed(counted, lstm, "cache", weights=[0.5, 0.3, 0.2]))
    made["hybrid-decoder"] = of(made["lstm"], mixed(counted, decoder, "cache", weights=[0.5, 0.3, 0.2]))
    made["product"] = of(made["lstm"], mixed(counted, lstm, weights=[0.5, 0.9], mixture="product"))
    made["documents"] = of(made["lstm"], mixed(counted, made["vae"].model, mixture="documents"))
    made["nested"] = of(made["lstm"], mixed(made["hybrid"].model, lstm))
    return made


BUNDLES = bundles()
every = pytest.mark.parametrize("name", BUNDLES)


def explained(name: str, text: str = POEM, **options: Any) -> Explanation:
    return explain_text(BUNDLES[name], text, "a source" if name == "seq2seq" else None, **options)


def total(bundle: Bundle, text: str) -> float:
    return Model(bundle).score(text)[0]


@every
@pytest.mark.parametrize("text", [POEM, MIXED, "月"])
def test_costs_are_those_of_score(name: str, text: str) -> None:
    found = explained(name, text)
    assert found.kind == {"seq2seq": "conditional", "vae": "bound", "documents": "bound", "encoder": "pseudo",
                          "stupid-backoff": "unnormalised"}.get(name, "exact")  # fmt: skip
    if name != "seq2seq":
        assert found.nats == pytest.approx(total(BUNDLES[name], text), rel=1e-6) or math.isinf(found.nats)
    for token in found.scored:
        assert token.nats is not None
        assert token.bits == pytest.approx(token.nats / math.log(2))
        if found.kind == Kind.BOUND:
            assert token.probability is None
        else:
            assert token.probability == pytest.approx(math.exp(-token.nats))
    assert [token.nats is None for token in found.tokens] == [True] + [False] * (len(found.tokens) - 1)


@every
def test_the_likeliest_are_what_the_model_says_of_the_next_token(name: str) -> None:
    found = explained(name, top_k=4)
    for token in found.scored:
        assert token.rank is not None
        assert token.rank >= 1
        assert 1 <= len(token.top) <= 4
        assert [t.probability for t in token.top] == sorted((t.probability for t in token.top), reverse=True)
        assert all(likely.text for likely in token.top)
        if found.kind == Kind.BOUND:  # told at the mean of the latent, not of the samples that the bound is made of
            continue
        same = [likely.probability for likely in token.top if likely.id == token.id]
        assert same == pytest.approx([token.probability] * len(same), rel=1e-3)
        if token.rank == 1:
            assert token.top[0].probability == pytest.approx(token.probability, rel=1e-3)
        elif token.probability:
            assert token.top[0].probability >= token.probability * (1 - 1e-4)


@every
def test_none_are_told_where_none_are_asked_for(name: str) -> None:
    found = explained(name, top_k=0)
    assert all(token.rank is None and token.top == () for token in found.tokens)
    assert found.nats == pytest.approx(explained(name).nats) or math.isinf(found.nats)


@pytest.mark.parametrize("kind", ["byte", "char", "bpe"])
@pytest.mark.parametrize("text", [POEM, MIXED, "月", "ink"])
def test_pieces_join_to_the_text_and_no_character_is_broken(kind: str, text: str) -> None:
    found = explained(f"ngram-{kind}", text)
    assert "".join(token.text for token in found.tokens) == text
    for token in found.tokens:
        token.text.encode()
        assert "\ufffd" not in token.text + token.shown
        assert token.shown
    assert [token.shown for token in found.tokens if token.special] == ["<s>", "</s>"]


def test_bytes_of_a_character_are_spelled_and_it_belongs_to_the_last() -> None:
    found = explained("ngram-byte", "a月b")
    assert [(token.text, token.shown) for token in found.tokens[1:-1]] == [
        ("a", "a"), ("", "⟨E6⟩"), ("", "⟨9C⟩"), ("月", "月"), ("b", "b")
    ]  # fmt: skip


def test_words_are_shown_without_the_space_between_them_and_join_with_it() -> None:
    found = explained("ngram-word", "the red ink")
    assert [token.shown for token in found.tokens] == ["<s>", "the", "red", "ink", "</s>"]
    assert "".join(token.text for token in found.tokens) == "the red ink"
    assert {likely.text.strip() == likely.text for token in found.scored for likely in token.top} == {True}


def test_a_stream_ends_at_each_newline() -> None:
    found = explained("stream", "月光\n月")
    assert [(t.text, t.shown, t.special) for t in found.tokens if t.special] == [
        ("", "<s>", True),
        ("\n", "</s>", True),
        ("\n", "</s>", True),
    ]


def test_a_loaded_byte_level_tokenizer_spells_bytes_too() -> None:
    bundle = ngram("bpe")
    other = type(bundle.tokenizer)(bundle.tokenizer._hub, "loaded", {"bos_token": "<s>", "eos_token": "</s>"})
    for id in range(3, other.vocabulary.size):
        assert other.token_bytes(id) == bundle.tokenizer.token_bytes(id)
    pieces = Pieces(Bundle(bundle.model, other))
    ids = other.encode_document("霜上👍").tolist()
    texts, shown = pieces.of(ids)
    assert "".join(texts) == "霜上👍"
    assert shown[-5:] == ["⟨F0⟩", "⟨9F⟩", "⟨91⟩", "👍", "</s>"]


# -- what it rests on -----------------------------------------------------------------------------------------------------


def test_counts_are_a_naive_count_over_the_text() -> None:
    found = explained("ngram-char", "明月光 ink")
    documents = [["<s>", *text, "</s>"] for text in TEXTS]
    for token in found.scored:
        assert token.reasons.counts
        for counted in token.reasons.counts:
            context = ["<s>", *counted.context[3:]] if counted.context.startswith("<s>") else list(counted.context)
            n = len(context)
            assert counted.order == n + 1
            before = [(d[i : i + n], d[i + n]) for d in documents for i in range(len(d) - n) if i + n]
            assert counted.total == sum(c == context for c, _ in before)
            assert counted.count == sum(c == context and w == token.shown for c, w in before)


def test_contexts_of_words_and_bytes_are_told_as_text() -> None:
    words = explained("ngram-word", "the red ink flows").tokens[4]
    assert (words.shown, words.reasons.counts[-1].context) == ("flows", "red ink")
    byte = explained("ngram-byte", "月光").tokens[3]
    assert [counted.context for counted in byte.reasons.counts] == ["⟨E6 9C⟩"]


@pytest.mark.parametrize("name", ["hybrid", "hybrid-decoder", "nested", "documents"])
def test_shares_sum_to_one(name: str) -> None:
    found = explained(name)
    assert found.parts == [part.name for part in found.tokens[1].reasons.parts]
    for token in found.scored:
        shares = [part.share or 0.0 for part in token.reasons.parts]
        assert sum(shares) == pytest.approx(1.0)
        if found.kind != Kind.BOUND:
            said = [part.weight * (part.probability or 0.0) for part in token.reasons.parts]
            assert sum(said) == pytest.approx(token.probability, rel=1e-4)
            assert [s / sum(said) for s in said] == pytest.approx(shares, rel=1e-4, abs=1e-9)


def test_a_cache_names_places_of_the_explanation() -> None:
    for name in ("hybrid", "hybrid-decoder"):  # the latter in windows, over which the cache goes on
        found = explained(name)
        assert (found.windows > 1) == (name == "hybrid-decoder")
        earlier = 0
        for at, token in enumerate(found.tokens[2:], 2):
            recalled = token.reasons.parts[2].reasons.recalled
            assert recalled
            for one in recalled:
                assert one.place is not None
                assert 1 <= one.place < at
                assert found.tokens[one.place].shown == one.text
                earlier += (one.place - 1) // 16 < (at - 1) // 16
        assert earlier


def test_counts_stand_under_parts_however_deep() -> None:
    (token,) = [t for t in explained("nested", "明月").tokens if t.shown == "月"]
    assert token.reasons.parts[0].reasons.parts[0].reasons.counts == explained("ngram-char", "明月").tokens[2].reasons.counts


def test_families_that_tell_nothing_have_no_reasons() -> None:
    assert all(token.reasons == Reasons() for token in explained("lstm").tokens)


# -- windows --------------------------------------------------------------------------------------------------------------


def test_a_text_beyond_the_context_is_scored_in_windows() -> None:
    found = explained("decoder", POEM * 2)
    assert (found.context, found.windows) == (16, math.ceil((len(found.tokens) - 1) / 16))
    assert explained("decoder", "明月").context is None
    assert explained("lstm", POEM * 2).context is None


def test_a_long_stream_is_read_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    from bimo.models import scoring

    for name in ("ngram-char", "lstm", "hybrid", "nested"):
        whole = explained(name, POEM * 4)
        with monkeypatch.context() as patched:
            patched.setattr(scoring, "_BATCH_TOKENS", 64)
            parted = explained(name, POEM * 4)
        assert [t.nats for t in parted.scored] == pytest.approx([t.nats for t in whole.scored], rel=1e-4)
        assert [t.rank for t in parted.scored] == [t.rank for t in whole.scored]
        assert [t.reasons.counts for t in parted.scored] == [t.reasons.counts for t in whole.scored]


# -- data -----------------------------------------------------------------------------------------------------------------


def test_json_holds_all_of_it() -> None:
    found = json.loads(json.dumps(explained("nested", MIXED).to_dict(), allow_nan=False))
    assert list(found) == [
        "model",
        "kind",
        "text",
        "given",
        "parts",
        "context",
        "windows",
        "unknown_tokens",
        "lost_bytes",
        "nats",
        "bits",
        "tokens",
    ]
    first, *scored = found["tokens"]
    assert (first["scored"], first["nats"], first["probability"]) == (False, None, None)
    for token in scored:
        assert list(token) == ["id", "text", "shown", "special", "scored", "nats", "bits", "probability", "rank", "top", "parts"]
        assert list(token["top"][0]) == ["text", "id", "probability"]
        inner = token["parts"][0]["parts"]
        assert [list(part)[:5] for part in inner] == [["name", "weight", "nats", "probability", "share"]] * 3
        assert set(inner[0]["counts"][0]) == {"context", "order", "count", "total", "left", "left_total"}
    assert set(scored[-1]["parts"][0]["parts"][2]["recalled"][0]) == {"text", "share", "place"}
    assert sum(token["nats"] for token in scored) == pytest.approx(found["nats"])


def test_what_is_impossible_is_null_in_json_and_counted_as_scored() -> None:
    found = explained("mle", "月霜")
    token = json.loads(json.dumps(found.to_dict(), allow_nan=False))["tokens"][2]
    assert (token["scored"], token["nats"], token["probability"], found.nats) == (True, None, 0.0, math.inf)


def test_unknown_characters_are_counted() -> None:
    found = explained("ngram-char", "龘月")
    assert (found.unknown_tokens, found.tokens[1].shown) == (1, "<unk>")


# -- mistakes -------------------------------------------------------------------------------------------------------------


def test_what_cannot_be_explained_is_said() -> None:
    with pytest.raises(UserError, match="the text is empty"):
        explained("lstm", "")
    with pytest.raises(UserError, match="top_k: must be 0 or more"):
        explained("lstm", top_k=-1)
    with pytest.raises(UserError, match="without a source"):
        explain_text(BUNDLES["lstm"], POEM, "a source")
    with pytest.raises(UserError, match="needs a source text"):
        explain_text(BUNDLES["seq2seq"], POEM)
    with pytest.raises(ContextError):
        explain_text(BUNDLES["seq2seq"], POEM * 9, "a source")
    with pytest.raises(UserError, match="half a surrogate pair"):
        explained("lstm", "\ud800")


def test_a_text_of_which_nothing_is_scored() -> None:
    bare = type(tokenizer("char"))(tokenizer("char")._hub, "loaded", {})  # no token begins or ends a text
    with pytest.raises(UserError, match="one token"):
        explain_text(Bundle(BUNDLES["ngram-char"].model, bare), "月")
    found = explain_text(Bundle(BUNDLES["ngram-char"].model, bare), "月光")
    assert [(t.text, t.nats is None) for t in found.tokens] == [("月", True), ("光", False)]


def test_reading_changes_nothing_for_the_next() -> None:
    for name in BUNDLES:
        before, again = explained(name), explained(name)
        assert np.array_equal([t.nats for t in before.scored], [t.nats for t in again.scored])
    assert torch.is_grad_enabled()
