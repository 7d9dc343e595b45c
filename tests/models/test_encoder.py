"""Encoders: hidden tokens told from both sides, rows and documents apart, pseudo-likelihood by its definition."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from bimo.core import store
from bimo.core.errors import CapabilityError, ContextError, UserError
from bimo.models.base import Kind, load_model
from bimo.models.encoder import Encoder, EncoderConfig
from bimo.text.vocabulary import Vocabulary

VOCABULARY = Vocabulary(13, bos=0, eos=1, pad=2, unk=3, suppressed=(0, 2))
SMALL = {"layers": 2, "heads": 4, "width": 16, "feed_forward": 24, "context": 9}
BERT = {"norm": "layer", "norm_first": False, "embedding_norm": True, "positions": "learned", "token_types": 2,
        "activation": "gelu", "bias": True}  # fmt: skip
SHAPES = {
    "bert": BERT,
    "modern": {"qk_norm": True},
    "own": {"norm": "layer", "norm_first": False, "activation": "relu2", "tied": False},
}
every = pytest.mark.parametrize("name", SHAPES)


def make(name: str = "modern", seed: int = 0, **fields: object) -> Encoder:
    torch.manual_seed(seed)
    model = Encoder.build(EncoderConfig(**{**SMALL, **SHAPES[name], **fields}), VOCABULARY).double()
    for parameter in model.parameters():  # biases and gains away from 0 and 1, weights large enough to matter
        torch.nn.init.uniform_(parameter, -0.5, 0.5)
    return model.eval()


def slowly(model: Encoder, text: Tensor) -> list[float]:
    """Pseudo-likelihood word for word: copy the text, hide one token, read it alone, look up what stood there."""
    found = [0.0]
    for t in range(1, len(text)):
        seen = text.clone()
        seen[t] = model.mask_id
        probabilities = model.fill(seen[None])[0, t].softmax(-1)
        found.append(float(-probabilities[text[t]].log()))
    return found


def rows(seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 13, (4, 9), generator=generator), torch.tensor([9, 1, 6, 2])


# -- what a score is ------------------------------------------------------------------------------------------------------


@every
def test_a_score_is_the_pseudo_likelihood(name):
    model = make(name)
    tokens, lengths = rows()
    result = model.score(tokens, lengths)
    assert result.kind is Kind.PSEUDO
    assert result.state is None
    assert result.nats.dtype == torch.float64
    place = torch.arange(9)
    assert torch.equal(result.scored, (place > 0) & (place < lengths[:, None]))
    for row, length in enumerate(lengths.tolist()):
        expected = torch.tensor(slowly(model, tokens[row, :length]), dtype=torch.float64)
        assert torch.allclose(result.nats[row, :length], expected, rtol=0, atol=1e-9)
    assert (result.nats[~result.scored] == 0).all()
    assert result.nats[0].isinf().sum() == ((tokens[0] == 0) | (tokens[0] == 2))[1:].sum()  # suppressed ids are impossible


@every
def test_what_stands_behind_a_token_counts(name):
    """Not so in any model that reads from left to right."""
    model = make(name)
    tokens = torch.tensor([[0, 5, 6, 7, 8]])
    other = torch.tensor([[0, 5, 6, 7, 9]])
    assert abs(float(model.score(tokens).nats[0, 1] - model.score(other).nats[0, 1])) > 1e-3


@every
def test_padding_and_other_rows_change_nothing(name, monkeypatch):
    model = make(name)
    tokens, lengths = rows()
    expected = model.score(tokens, lengths).nats
    padded = torch.where(torch.arange(9) < lengths[:, None], tokens, torch.randint(0, 13, (4, 9)))
    assert torch.allclose(model.score(padded, lengths).nats, expected, rtol=0, atol=1e-12)
    turned = torch.tensor([2, 0, 3, 1])
    assert torch.allclose(model.score(tokens[turned], lengths[turned]).nats, expected[turned], rtol=0, atol=1e-12)
    monkeypatch.setattr("bimo.models.masked._TOKENS_AT_ONCE", 20)  # two copies of the longest row, ten of the shortest
    assert torch.allclose(model.score(tokens, lengths).nats, expected, rtol=0, atol=1e-12)


def test_scoring_holds_few_tokens_and_logits_at_once(monkeypatch):
    model, most = make(), []
    read = model._rows
    monkeypatch.setattr("bimo.models.masked._TOKENS_AT_ONCE", 40)
    monkeypatch.setattr(model, "_rows", lambda t, n, still: (most.append(t.numel()), read(t, n, still))[1])
    model.score(torch.randint(3, 13, (20, 9)))
    assert max(most) <= 40
    assert sum(most) == 20 * 8 * 9
    most.clear()
    monkeypatch.setattr("bimo.models.masked._LOGITS_AT_ONCE", 13)
    model.score(torch.randint(3, 13, (2, 9)))
    assert set(most) == {9}


def test_nothing_drops_out_of_scores_and_fillings():
    model = make(dropout=0.5, attention_dropout=0.5)
    tokens, lengths = rows()
    expected = model.score(tokens, lengths).nats, model.fill(tokens, lengths)
    model.train()
    assert torch.equal(model.score(tokens, lengths).nats, expected[0])
    assert torch.equal(model.fill(tokens, lengths), expected[1])
    assert model.training
    for read in (model.features, model.sentence_embeddings, lambda t: model.hidden(t)[0]):
        assert not torch.allclose(read(tokens), read(tokens))


def test_scoring_passes_are_the_places():
    assert make().scoring_passes == 9


# -- rows and documents ---------------------------------------------------------------------------------------------------


@every
def test_documents_of_a_row_do_not_see_each_other(name):
    model = make(name)
    tokens = torch.randint(0, 13, (2, 9))
    boundaries = torch.zeros(2, 9, dtype=torch.bool)
    boundaries[0, 0] = boundaries[1, 4] = boundaries[1, 8] = True
    logits = model.logits(model.hidden(tokens, None, boundaries)[0]).detach()
    assert torch.allclose(logits[0:1], model.fill(tokens[0:1]), rtol=0, atol=1e-9)
    for part in (slice(0, 4), slice(4, 8), slice(8, 9)):
        assert torch.allclose(logits[1:2, part], model.fill(tokens[1:2, part]), rtol=0, atol=1e-9)


@every
def test_fill_features_and_sentences_of_ragged_rows(name):
    model = make(name)
    tokens, lengths = rows()
    logits, features = model.fill(tokens, lengths), model.features(tokens, lengths).detach()
    means, firsts = model.sentence_embeddings(tokens, lengths), model.sentence_embeddings(tokens, lengths, pooling="first")
    lasts = model.sentence_embeddings(tokens, lengths, pooling="last")
    assert (logits.shape, features.shape, means.shape) == ((4, 9, 13), (4, 9, 16), (4, 16))
    assert (logits[..., [0, 2]] == -torch.inf).all()
    for row, n in enumerate(lengths.tolist()):
        text = tokens[row : row + 1, :n]
        alone = model.features(text)[0]
        assert torch.allclose(logits[row, :n], model.fill(text)[0], rtol=0, atol=1e-9)
        assert torch.allclose(features[row, :n], alone, rtol=0, atol=1e-9)
        assert torch.allclose(means[row], alone.mean(0), rtol=0, atol=1e-9)
        assert torch.allclose(firsts[row], alone[0], rtol=0, atol=1e-9)
        assert torch.allclose(lasts[row], alone[-1], rtol=0, atol=1e-9)


@every
def test_head_of_hidden_is_fill(name):
    model = make(name)
    tokens, _ = rows()
    weight, bias = model.head()
    assert bias is not None
    logits = model.hidden(tokens)[0] @ weight.T + bias
    assert torch.allclose(logits[..., 3:], model.fill(tokens)[..., 3:], rtol=0, atol=1e-9)
    assert model.hidden(tokens, "whatever")[1] is None


@every
def test_gradient_reaches_every_parameter(name):
    model = make(name)
    boundaries = torch.zeros(2, 6, dtype=torch.bool)
    boundaries[1, 3] = True
    model.logits(model.hidden(torch.randint(0, 13, (2, 6)), None, boundaries)[0])[..., 3:].square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in model.parameters())


# -- folders, shapes, errors ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fields", [{}, {"fills": False}, {"mask_token_id": 3}])
@every
def test_saving_and_loading_is_identity(name, fields, tmp_path):
    model = make(name, **fields).float()
    model.save(tmp_path)
    config = store.read_json(tmp_path / "config.json")
    opened = Encoder.from_tensors(config, store.read_tensors(tmp_path / "model.safetensors"))
    assert opened.config == model.config
    assert opened.config_dict() == config
    assert opened.vocabulary == model.vocabulary
    assert (opened.context, opened.mask_id) == (8, fields.get("mask_token_id", 2))
    assert opened.parameter_count() == model.parameter_count()
    assert not opened.training
    tokens, lengths = rows()
    assert torch.equal(opened.features(tokens, lengths), model.features(tokens, lengths))
    if model.filler is not None:
        assert torch.equal(opened.score(tokens, lengths).nats, model.score(tokens, lengths).nats)


def test_a_folder_opens_as_its_family(tmp_path):
    model = make().float()
    model.save(tmp_path)
    assert isinstance(load_model(tmp_path), Encoder)


def test_as_many_tokens_as_places_are_in_sight():
    model = make()
    full, more = torch.randint(0, 13, (2, 9)), torch.randint(0, 13, (2, 10))
    model.score(full), model.fill(full), model.features(full), model.hidden(full)
    for read in (model.score, model.fill, model.features, model.sentence_embeddings, model.hidden):
        with pytest.raises(ContextError, match=r"10 tokens.*context of 9"):
            read(more)


def test_it_continues_no_text():
    model = make()
    tokens = torch.zeros(1, 2, dtype=torch.int64)
    attempts = (
        lambda: model.start(1),
        lambda: model.advance(None, tokens),
        lambda: model.select(None, tokens[0]),
        lambda: model.join([None]),
        lambda: model.rewind(None, tokens[0]),
        lambda: model.state_bytes(None),
    )
    for attempt in attempts:
        with pytest.raises(CapabilityError, match=r"fill.*score"):
            attempt()
    for wrong in ({"state": object()}, {"given": tokens}):
        with pytest.raises(CapabilityError, match="continues no state and takes nothing given"):
            model.score(tokens, **wrong)


def test_without_a_head_there_are_features_alone():
    model = make("bert", fills=False)
    tokens, lengths = rows()
    assert model.sentence_embeddings(tokens, lengths).shape == (4, 16)
    for attempt in (model.fill, model.score, model.hidden):
        with pytest.raises(CapabilityError, match="no head"):
            attempt(tokens)
    assert (model.capabilities, Encoder.capabilities) == ({"features"}, {"features", "fill"})
    model.mask_id = None
    with pytest.raises(CapabilityError, match="no head"):
        model.score(tokens)


def test_without_a_mask_symbol_nothing_is_scored():
    model = Encoder.build(EncoderConfig(**SMALL), Vocabulary(13, bos=0, eos=0))
    model.fill(torch.zeros(1, 2, dtype=torch.int64))
    with pytest.raises(CapabilityError, match="mask_token_id"):
        model.score(torch.zeros(1, 2, dtype=torch.int64))


@pytest.mark.parametrize("method", ["score", "fill", "features", "sentence_embeddings"])
def test_bad_input_is_a_clear_error(method):
    read = getattr(make(), method)
    good = torch.zeros(2, 3, dtype=torch.int64)
    for tokens, lengths, field in ((good + 13, None, "tokens"), (good - 1, None, "tokens"), (good[:, :0], None, "tokens"),
                                   (good, torch.tensor([1]), "lengths"), (good, torch.tensor([0, 3]), "lengths")):  # fmt: skip
        with pytest.raises(UserError, match=field):
            read(tokens, lengths)


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"width": 10, "heads": 4}, "no multiple"),
        ({"width": 12, "heads": 4}, "even"),
        ({"depth": 3}, "depth"),
        ({"activation": "swish"}, "activation"),
    ],
)
def test_impossible_shapes_are_refused(fields, word):
    with pytest.raises(ValueError, match=word):
        EncoderConfig(**fields)


def test_build_is_reproducible_and_scaled():
    def build(**fields: object) -> Encoder:
        torch.manual_seed(3)
        return Encoder.build(EncoderConfig(width=64, layers=8, **fields), VOCABULARY)

    one, two, bert = build(), build(), build(**BERT)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert float(one.blocks[0].attention.out.weight.detach().std()) == pytest.approx(0.02 / 4, rel=0.05)
    assert float(bert.blocks[0].attention.out.weight.detach().std()) == pytest.approx(0.02, rel=0.05)
    assert one.head()[0] is one.embedding.weight
    assert one.mask_id == VOCABULARY.pad
