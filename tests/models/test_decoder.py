"""Decoders: one meaning whether read at once, step by step or for learning, from GPT-2 to Qwen3."""

from __future__ import annotations

import pytest
import torch

from bimo.core.errors import ContextError
from bimo.core.recipe import AdapterSection
from bimo.models import layers
from bimo.models.adapters import adapt, adapted
from bimo.models.decoder import Decoder, DecoderConfig
from bimo.text.vocabulary import Vocabulary

VOCABULARY = Vocabulary(13, bos=0, eos=1, suppressed=(0,))
GPT2 = {"norm": "layer", "positions": "learned", "activation": "gelu_tanh", "bias": True, "qk_norm": False}
EXTREMES = {
    "gpt2": GPT2,
    "llama": {"qk_norm": False, "kv_heads": 2, "tied": False},
    "qwen3": {"kv_heads": 1, "head_width": 6, "bias": "attention"},
    "own": {"activation": "relu2", "norm": "layer", "bias": "feed_forward"},
    "windowed": {"window": 3, "window_layers": [1], "activation": "gated_tanh", "scale_by_layer": True, "kv_heads": 2},
}


def make(name: str, seed: int = 0, **fields: object) -> Decoder:
    torch.manual_seed(seed)
    shape = {"layers": 2, "heads": 4, "width": 16, "feed_forward": 24, "context": 12, **EXTREMES[name], **fields}
    model = Decoder.build(DecoderConfig(**shape), VOCABULARY).double()
    for parameter in model.parameters():  # biases and gains away from 0 and 1, weights large enough to matter
        torch.nn.init.uniform_(parameter, -0.5, 0.5)
    return model


def near(a: torch.Tensor, b: torch.Tensor) -> bool:
    assert (a[..., 0] == -torch.inf).all()
    return torch.allclose(a[..., 1:], b[..., 1:], rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", EXTREMES)
def test_steps_bulk_and_hidden_agree(name):
    model = make(name)
    tokens = torch.randint(0, 13, (3, 9))
    bulk, _ = model.advance(model.start(3), tokens)
    state, steps = model.start(3), []
    for t in range(9):
        logits, state = model.advance(state, tokens[:, t : t + 1])
        steps.append(logits)
    assert near(torch.cat(steps, 1), bulk)
    assert near(model.logits(model.hidden(tokens)[0]).detach(), bulk)


@pytest.mark.parametrize("name", EXTREMES)
def test_packed_documents_do_not_see_each_other(name):
    model = make(name)
    tokens = torch.randint(0, 13, (2, 9))
    boundaries = torch.zeros(2, 9, dtype=torch.bool)
    boundaries[0, 0] = boundaries[1, 4] = boundaries[1, 8] = True
    logits = model.logits(model.hidden(tokens, None, boundaries)[0]).detach()
    assert near(logits[0:1], model.advance(model.start(1), tokens[0:1])[0])
    for part in (slice(0, 4), slice(4, 8), slice(8, 9)):
        assert near(logits[1:2, part], model.advance(model.start(1), tokens[1:2, part])[0])


@pytest.mark.parametrize("name", EXTREMES)
@pytest.mark.parametrize("by_pieces", [False, True])
def test_documents_that_go_on_from_a_shared_beginning(name, by_pieces, monkeypatch):
    """What they cost, and its gradients, are those of whole documents side by side."""
    monkeypatch.setattr(layers, "_SHORT", 1 if by_pieces else 99)
    model = make(name)
    assert model.shares_beginnings
    beginning, documents = torch.randint(0, 13, (3,)), [torch.randint(0, 13, (n,)) for n in (2, 1, 3)]
    row = torch.cat([beginning, *documents])[None]
    boundaries = torch.zeros(1, 9, dtype=torch.bool)
    boundaries[0, [0, 3, 5, 6]] = True
    assert bool(layers.text_pieces(boundaries)) is by_pieces
    found = model.hidden(row, None, boundaries, shared=3)[0]
    found[:, 3:].square().sum().backward()
    gradients = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    model.zero_grad()
    wanted = [model.hidden(torch.cat([beginning, document])[None])[0][:, 3:] for document in documents]
    assert torch.allclose(found[:, 3:], torch.cat(wanted, 1), rtol=0, atol=1e-9)
    sum(part.square().sum() for part in wanted).backward()
    again = [p.grad for p in model.parameters() if p.grad is not None]
    assert all(torch.allclose(a, b, atol=1e-7) for a, b in zip(gradients, again, strict=True))


@pytest.mark.parametrize("name", EXTREMES)
def test_ragged_rows_and_padding(name):
    model = make(name)
    tokens, lengths = torch.randint(0, 13, (3, 7)), torch.tensor([1, 7, 4])
    more, counts = torch.randint(0, 13, (3, 5)), torch.tensor([5, 2, 1])
    logits, state = model.advance(model.start(3), tokens, lengths)
    second, state = model.advance(state, more, counts)
    third, state = model.advance(state, more[:, :1])
    for row in range(3):
        text = torch.cat([tokens[row, : lengths[row]], more[row, : counts[row]], more[row, :1]])[None]
        whole = model.advance(model.start(1), text)[0][0]
        n, m = int(lengths[row]), int(counts[row])
        assert near(logits[row, :n], whole[:n])
        assert near(second[row, :m], whole[n : n + m])
        assert near(third[row], whole[-1:])
    last, _ = model.advance(model.start(3), tokens, lengths, keep="last")
    assert near(last[:, 0], logits[torch.arange(3), lengths - 1])


@pytest.mark.parametrize("name", EXTREMES)
def test_select_join_and_rewind(name):
    model = make(name)
    tokens, lengths = torch.randint(0, 13, (3, 6)), torch.tensor([2, 6, 4])
    _, state = model.advance(model.start(3), tokens, lengths)
    next_token = torch.tensor([[5], [7], [5]])
    copy = model.select(state, torch.tensor([2, 0, 2]))
    rejoined = model.join([model.select(state, torch.tensor([0, 1])), model.select(state, torch.tensor([2]))])
    straight, state = model.advance(state, next_token)
    assert near(model.advance(rejoined, next_token)[0], straight)
    assert near(model.advance(copy, next_token)[0], model_rows(model, tokens, lengths, [(2, 5), (0, 7), (2, 5)]))
    back = model.rewind(state, lengths)
    assert near(model.advance(back, next_token)[0], straight)
    assert model.state_bytes(state) == 2 * 2 * 32 * model.config.groups * model.config.per_head * 8 + 8


def model_rows(model: Decoder, tokens: torch.Tensor, lengths: torch.Tensor, pairs: list[tuple[int, int]]) -> torch.Tensor:
    """Logits after row r's text and the token n, for each pair (r, n), each read alone."""
    texts = [torch.cat([tokens[r, : lengths[r]], torch.tensor([n])])[None] for r, n in pairs]
    return torch.cat([model.advance(model.start(1), text, keep="last")[0] for text in texts])


def test_the_context_is_a_limit():
    for name in ("gpt2", "qwen3"):
        model = make(name)
        tokens = torch.randint(0, 13, (2, 12))
        _, state = model.advance(model.start(2), tokens)
        with pytest.raises(ContextError, match="13 tokens"):
            model.advance(state, tokens[:, :1])
        with pytest.raises(ContextError, match="13 tokens"):
            model.hidden(torch.zeros(1, 13, dtype=torch.int64))
        _, state = model.advance(model.start(2), tokens[:, :3])
        logits, _ = model.advance(state, torch.randint(0, 13, (2, 11)), torch.tensor([9, 1]))  # padding may stand beyond
        assert not logits.isnan().any()


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"width": 10, "heads": 4}, "no multiple"),
        ({"heads": 4, "kv_heads": 3}, "kv_heads"),
        ({"width": 12, "heads": 4}, "even"),
        ({"depth": 3}, "depth"),
        ({"activation": "swish"}, "activation"),
    ],
)
def test_impossible_shapes_are_refused(fields, word):
    with pytest.raises(ValueError, match=word):
        DecoderConfig(**fields)


def test_build_is_reproducible_and_scaled():
    torch.manual_seed(3)
    one = Decoder.build(DecoderConfig(width=64, layers=8), VOCABULARY)
    torch.manual_seed(3)
    two = Decoder.build(DecoderConfig(width=64, layers=8), VOCABULARY)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert float(one.blocks[0].attention.qkv.weight.detach().std()) == pytest.approx(0.02, rel=0.05)
    assert float(one.blocks[0].attention.out.weight.detach().std()) == pytest.approx(0.02 / 4, rel=0.05)
    assert one.head()[0] is one.embedding.weight


@pytest.mark.parametrize("field", ["dropout", "attention_dropout"])
def test_dropout_acts_in_training_alone(field):
    model = make("qwen3", **{field: 0.5}).train()
    tokens = torch.randint(0, 13, (2, 8))
    assert not torch.allclose(model.hidden(tokens)[0], model.hidden(tokens)[0])
    logits, _ = model.advance(model.start(2), tokens)
    assert near(logits, model.logits(model.eval().hidden(tokens)[0]).detach())


def test_gradient_reaches_every_parameter():
    for name in EXTREMES:
        model = make(name)
        boundaries = torch.zeros(2, 6, dtype=torch.bool)
        boundaries[1, 3] = True
        model.logits(model.hidden(torch.randint(0, 13, (2, 6)), None, boundaries)[0])[..., 1:].square().sum().backward()
        assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in model.parameters())


def test_score_needs_no_logits_of_all_tokens(monkeypatch):
    for model in (make("llama"), make("gpt2")):
        tokens, lengths = torch.randint(1, 13, (3, 8)), torch.tensor([8, 1, 5])
        found = model.score(tokens, lengths)
        log_probs = torch.log_softmax(model.advance(model.start(3), tokens, lengths)[0], -1)
        wanted = torch.zeros(3, 8, dtype=torch.float64)
        for row, length in enumerate(lengths.tolist()):
            for t in range(1, length):
                wanted[row, t] = -log_probs[row, t - 1, tokens[row, t]]
        assert torch.allclose(found.nats, wanted, atol=1e-9)
        assert found.state.lengths.tolist() == [7, 0, 4]
        monkeypatch.setattr(model, "_slice", lambda batch: 3)
        assert torch.allclose(model.score(tokens, lengths).nats, wanted, atol=1e-9)
        half = model.score(tokens[:, :4], torch.tensor([4, 1, 4]))
        rest = model.score(tokens[[0], 3:], None, None, model.select(half.state, torch.tensor([0])))
        assert torch.allclose(rest.nats[0, 1:], wanted[0, 4:], atol=1e-9)


@pytest.mark.parametrize("dropout", [0.0, 0.4])
@pytest.mark.parametrize("adapters", [False, True])
def test_activations_made_again_give_the_same_gradients(adapters: bool, dropout: float) -> None:
    """With dropout, what is made again must drop the same."""
    torch.manual_seed(0)
    vocabulary = Vocabulary(11, bos=0, eos=1)
    model = Decoder.build(DecoderConfig(layers=3, width=8, heads=2, context=9, dropout=dropout), vocabulary).double().train()
    if adapters:
        adapt(model, AdapterSection(rank=2))
        for layer in dict(adapted(model)).values():
            for up in layer.up.values():
                torch.nn.init.normal_(up)
    tokens = torch.randint(2, 11, (2, 9))
    boundaries = torch.zeros(2, 9, dtype=torch.bool)
    boundaries[:, 0] = boundaries[0, 4] = True
    runs: list[int] = []
    for number, block in enumerate(model.blocks):
        block.register_forward_pre_hook(lambda *_, number=number: runs.append(number))

    def gradients() -> list[torch.Tensor]:
        runs.clear()
        torch.manual_seed(1)
        model.zero_grad(set_to_none=True)
        model.hidden(tokens, None, boundaries)[0].square().sum().backward()
        return [p.grad for p in model.parameters() if p.grad is not None]

    plain = gradients()
    assert runs == [0, 1, 2]
    model.gradient_checkpointing = True
    again = gradients()
    assert sorted(runs) == [0, 0, 1, 1, 2, 2]
    assert plain
    for one, other in zip(plain, again, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)
