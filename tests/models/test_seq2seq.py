"""Encoder–decoders: torch.nn.Transformer's function, one meaning however they are read, a source of its own for every row."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from benchmarks.translation_speed import torch_transformer
from bimo.core import store
from bimo.core.errors import ContextError, ModelError, UserError
from bimo.data.batches import Given
from bimo.models.base import load_model
from bimo.models.layers import Filled
from bimo.models.seq2seq import Seq2Seq, Seq2SeqConfig
from bimo.text.vocabulary import Vocabulary

VOCABULARY = Vocabulary(13, bos=0, eos=1, pad=12, suppressed=(0, 12))
SHAPES = {
    "pre-norm": {},
    "post-norm": {"norm_first": False, "activation": "gelu"},
    "post-norm, normed": {"norm_first": False, "final_norm": True},
    "relative": {"positions": "relative", "distances": 8, "farthest": 6, "norm": "rms", "activation": "geglu", "bias": False},
    "untied": {"positions": "learned", "shared": False, "tied": False, "norm": "rms", "activation": "swiglu", "bias": False},
}
every_shape = pytest.mark.parametrize("name", SHAPES)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def make(name: str = "pre-norm", noise: float = 0.3, **fields: object) -> Seq2Seq:
    torch.manual_seed(0)
    shape = {"encoder_layers": 2, "decoder_layers": 2, "heads": 4, "width": 16, "feed_forward": 24, "context": 12, **SHAPES[name], **fields}
    model = Seq2Seq.build(Seq2SeqConfig(**shape), VOCABULARY).double()  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in model.parameters():  # biases and gains away from 0 and 1, weights large enough to matter
            parameter.add_(torch.randn_like(parameter) * noise)
    return model.eval()


def sources(rows: int, width: int = 7, seed: int = 1) -> Given:
    """Sources of lengths 1 … width, random ids in the padding."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, width + 1, (rows,), generator=generator)
    lengths[0] = width
    return Given(torch.randint(0, 13, (rows, width), generator=generator), lengths)


def one(given: Given, row: int) -> Given:
    """A row's source, alone and without padding."""
    return Given(given.tokens[row : row + 1, : given.lengths[row]], given.lengths[row : row + 1])


def alone(model: Seq2Seq, given: Given, row: int, text: Tensor) -> Tensor:
    """Logits [T, V] of one row read token by token."""
    state, found = model.start(1, one(given, row)), []
    for token in text:
        logits, state = model.advance(state, token.view(1, 1))
        found.append(logits[0, 0])
    return torch.stack(found)


def near(a: Tensor, b: Tensor) -> bool:
    assert (a[..., [0, 12]] == -torch.inf).all()
    return torch.allclose(a[..., 1:12], b[..., 1:12], rtol=0, atol=1e-9)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
@pytest.mark.parametrize("norm_first", [True, False])
@pytest.mark.parametrize("final_norm", [True, False])
def test_it_is_torchs_transformer(norm_first, final_norm, dtype, tolerance):
    fields = {"norm_first": norm_first, "final_norm": final_norm, "activation": "gelu" if norm_first else "relu"}
    model = make(noise=0.1, **fields).to(dtype)
    reference = torch_transformer(model).eval()
    given, tokens = sources(3), torch.randint(0, 13, (3, 6))

    def embedded(tokens: Tensor) -> Tensor:
        return model.embedding(tokens) * 4 + model.waves[: tokens.shape[1]]

    padding = torch.arange(7) >= given.lengths[:, None]
    with torch.no_grad():
        memory, _ = model.encode(given)
        expected = reference.encoder(embedded(given.tokens), src_key_padding_mask=padding)
        assert torch.allclose(memory[~padding], expected[~padding], rtol=0, atol=tolerance)
        causal = torch.ones(6, 6, dtype=torch.bool).triu(1)
        expected = reference(
            embedded(given.tokens), embedded(tokens), tgt_mask=causal, src_key_padding_mask=padding, memory_key_padding_mask=padding
        )
        assert torch.allclose(model.hidden(tokens, given=given)[0], expected, rtol=0, atol=tolerance)


@every_shape
def test_steps_bulk_hidden_and_score_agree(name):
    model, given = make(name), sources(3)
    tokens = torch.randint(0, 12, (3, 9))
    tokens[tokens == 0] = 5
    bulk, _ = model.advance(model.start(3, given), tokens)
    assert near(torch.stack([alone(model, given, row, text) for row, text in enumerate(tokens)]), bulk)
    assert near(model.logits(model.hidden(tokens, given=given)[0]).detach(), bulk)
    state, pieces = model.start(3, given), []
    for piece in tokens.split([1, 3, 5], dim=1):
        logits, state = model.advance(state, piece)
        pieces.append(logits)
    assert near(torch.cat(pieces, 1), bulk)
    nats = -torch.log_softmax(bulk[:, :-1], -1).gather(2, tokens[:, 1:, None])[..., 0]
    score = model.score(tokens, given=given)
    assert score.kind == "conditional"
    assert torch.allclose(score.nats[:, 1:], nats, atol=1e-9)


@every_shape
def test_every_row_reads_its_own_source(name):
    model, given = make(name), sources(3)
    tokens = torch.full((3, 2), 4)
    logits, _ = model.advance(model.start(3, given), tokens)
    assert not torch.allclose(logits[0, 0, 1:12], logits[1, 0, 1:12], atol=1e-3)
    swapped, _ = model.advance(model.start(3, given[torch.tensor([1, 0, 2])]), tokens)
    assert near(swapped, logits[[1, 0, 2]])


@torch.no_grad()
def test_with_relative_positions_it_is_t5():
    """T5 1.1 on random weights: queries take up its unscaled scores, embeddings its unscaled embeddings."""
    transformers = pytest.importorskip("transformers")
    ours = make("relative", tied=False, context=40).double()
    c = ours.config
    theirs = transformers.T5ForConditionalGeneration(
        transformers.T5Config(
            vocab_size=13, d_model=c.width, d_kv=c.width // c.heads, d_ff=c.inner, num_layers=2, num_heads=c.heads, num_decoder_layers=2,
            relative_attention_num_buckets=c.distances, relative_attention_max_distance=c.farthest, dropout_rate=0.0,
            layer_norm_epsilon=c.norm_epsilon, feed_forward_proj="gated-gelu", tie_word_embeddings=False, pad_token_id=12,
            decoder_start_token_id=0,
        )
    ).double().eval()  # fmt: skip
    per_head = (c.width // c.heads) ** 0.5
    theirs.shared.weight.copy_(ours.embedding.weight * c.width**0.5)
    theirs.lm_head.weight = torch.nn.Parameter(ours.output.weight.clone())  # some releases tie it whatever the config says …
    theirs.config.scale_decoder_outputs = False  # … and then scale what it reads

    def attention(layer, query, key, value, out) -> None:
        for part, weight in zip((layer.q, layer.k, layer.v, layer.o), (query / per_head, key, value, out.weight), strict=True):
            part.weight.copy_(weight)

    stacks = [(ours.encoder, theirs.encoder, ours.source_distances, ours.encoder_norm)]
    for blocks, stack, distances, last in [*stacks, (ours.decoder, theirs.decoder, ours.distances, ours.decoder_norm)]:
        stack.block[0].layer[0].SelfAttention.relative_attention_bias.weight.copy_(distances.table.weight)
        stack.final_layer_norm.weight.copy_(last.weight)
        for block, layer in zip(blocks, stack.block, strict=True):
            norms = [block.attention_norm, block.feed_forward_norm]
            attention(layer.layer[0].SelfAttention, *block.attention.qkv.weight.chunk(3), block.attention.out)
            if hasattr(block, "cross"):
                norms.insert(1, block.cross_norm)
                attention(layer.layer[1].EncDecAttention, block.cross.query.weight, *block.cross.key_value.weight.chunk(2), block.cross.out)
            for part, norm in zip(layer.layer, norms, strict=True):
                part.layer_norm.weight.copy_(norm.weight)
            inner = layer.layer[-1].DenseReluDense
            gate, value = block.feed_forward.inner.weight.chunk(2)
            for part, weight in ((inner.wi_0, gate), (inner.wi_1, value), (inner.wo, block.feed_forward.outer.weight)):
                part.weight.copy_(weight)
    given, tokens = sources(3, width=20), torch.randint(0, 12, (3, 15))
    inside = (torch.arange(20) < given.lengths[:, None]).long()
    expected = theirs(input_ids=given.tokens, attention_mask=inside, decoder_input_ids=tokens).logits
    hidden, _ = ours.hidden(tokens, given=given)
    found = ours.logits(hidden)
    assert torch.allclose(found[..., 1:12], expected[..., 1:12], rtol=0, atol=1e-5)  # RMSNorm rounds to float32 in both
    state, parts = ours.start(3, given), []
    for piece in tokens.split((4, 1, 10), dim=1):
        logits, state = ours.advance(state, piece)
        parts.append(logits)
    assert near(torch.cat(parts, 1), found)


def test_relative_positions_learn_in_bf16():
    model = make("relative").float().train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        hidden, _ = model.hidden(torch.randint(0, 13, (4, 6)), given=sources(4))
    hidden.float().square().sum().backward()
    for distances in (model.distances, model.source_distances):
        assert distances.table.weight.grad is not None
        assert bool(distances.table.weight.grad.isfinite().all())
        assert bool((distances.table.weight.grad != 0).any())


@pytest.mark.parametrize("fields", [{"distances": 6}, {"distances": 32, "farthest": 16}])
def test_relative_positions_that_cannot_be_are_refused(fields):
    with pytest.raises(ValueError, match="multiple of 4"):
        Seq2SeqConfig(positions="relative", **fields)  # type: ignore[arg-type]


@every_shape
def test_leaving_the_padding_of_sources_out_changes_neither_states_nor_gradients(name, monkeypatch):
    """The mutant: places that forget the last token of a row."""
    model, given, tokens = make(name, dropout=0.0).train(), sources(4), torch.randint(0, 13, (4, 6))
    weights = torch.randn(4, 6, 16, dtype=torch.float64)

    def learned() -> list[Tensor]:
        model.zero_grad(set_to_none=True)
        hidden, _ = model.hidden(tokens, given=given)
        (hidden * weights).sum().backward()
        return [hidden.detach(), *(p.grad for p in model.parameters() if p.grad is not None)]

    def same(a: list[Tensor], b: list[Tensor]) -> bool:
        return len(a) == len(b) and all(torch.allclose(x, y, rtol=0, atol=1e-9) for x, y in zip(a, b, strict=True))

    assert Filled.of(given.lengths, 7) is not None
    packed = learned()
    with monkeypatch.context() as patch:
        patch.setattr(Filled, "of", lambda lengths, width: None)
        plain = learned()
    assert same(packed, plain)
    shorter = Filled.of(given.lengths.clamp(max=6), 7)
    monkeypatch.setattr(Filled, "of", lambda lengths, width: shorter)
    assert not same(learned(), plain)


@every_shape
def test_padding_of_sources_and_texts_is_harmless(name):
    model, given = make(name), sources(4)
    wider = Given(torch.cat([given.tokens, torch.randint(0, 13, (4, 9))], 1), given.lengths)  # wider than the context
    other = Given(torch.where(torch.arange(7) < given.lengths[:, None], given.tokens, 3), given.lengths)
    tokens, lengths = torch.randint(0, 13, (4, 6)), torch.tensor([1, 6, 4, 2])
    more, counts = torch.randint(0, 13, (4, 3)), torch.tensor([3, 1, 2, 3])
    for padded in (given, wider, other):
        logits, state = model.advance(model.start(4, padded), tokens, lengths)
        second, _ = model.advance(state, more, counts)
        hidden = model.logits(model.hidden(tokens, given=padded)[0]).detach()
        for row in range(4):
            n, m = int(lengths[row]), int(counts[row])
            whole = alone(model, given, row, torch.cat([tokens[row, :n], more[row, :m]]))
            assert near(logits[row, :n], whole[:n])
            assert near(hidden[row, :n], whole[:n])
            assert near(second[row, :m], whole[n:])


@every_shape
def test_select_join_and_rewind_keep_each_rows_source(name):
    model, given = make(name), sources(3)
    tokens, lengths = torch.randint(0, 13, (3, 6)), torch.tensor([2, 6, 4])
    texts = [row[:length] for row, length in zip(tokens, lengths, strict=True)]
    _, state = model.advance(model.start(3, given), tokens, lengths)

    def follows(state: object, rows: list[int], parts: list[Tensor], sources: Given = given) -> None:
        token = torch.randint(0, 13, (len(rows), 1))
        logits, _ = model.advance(state, token)
        for place, (row, part) in enumerate(zip(rows, parts, strict=True)):
            assert near(logits[place, 0], alone(model, sources, row, torch.cat([part, token[place]]))[-1])

    follows(model.select(state, torch.tensor([2, 0, 2])), [2, 0, 2], [texts[2], texts[0], texts[2]])
    fresh = sources(2, width=4, seed=5)
    both = Given(torch.cat([given.tokens, torch.nn.functional.pad(fresh.tokens, (0, 3))]), torch.cat([given.lengths, fresh.lengths]))
    joined = model.join([model.select(state, torch.tensor([1])), model.start(2, fresh), model.select(state, torch.tensor([0]))])
    follows(model.select(joined, torch.arange(4)), [1, 3, 4, 0], [texts[1], texts[0][:0], texts[0][:0], texts[0]], both)
    back = model.rewind(model.select(joined, torch.tensor([0, 3])), torch.tensor([3, 1]))
    follows(back, [1, 0], [texts[1][:3], texts[0][:1]])
    follows(state, [0, 1, 2], texts)  # the trunk was left alone


def test_the_state_is_keys_and_values_of_source_and_text():
    model = make()
    _, state = model.advance(model.start(2, sources(2)), torch.full((2, 3), 4))
    numbers = 2 * 2 * 16  # layers, keys and values, width
    assert model.state_bytes(state) == numbers * 8 * 7 + 8 + numbers * 8 * 32 + 8


def test_dropout_acts_in_learning_alone():
    model, given, tokens = make(dropout=0.5, attention_dropout=0.5).train(), sources(2), torch.randint(0, 13, (2, 5))
    assert not torch.allclose(model.hidden(tokens, given=given)[0], model.hidden(tokens, given=given)[0])
    learning, _ = model.advance(model.start(2, given), tokens)
    model.eval()
    assert near(learning, model.advance(model.start(2, given), tokens)[0])
    assert near(learning, model.logits(model.hidden(tokens, given=given)[0]).detach())


@every_shape
def test_gradient_reaches_every_parameter(name):
    model = make(name).train()
    hidden, _ = model.hidden(torch.randint(0, 13, (2, 6)), given=sources(2))
    model.logits(hidden)[..., 1:12].square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) and bool(p.grad.any()) for p in model.parameters())


@every_shape
def test_saving_and_loading_is_identity(name, tmp_path):
    model, given, tokens = make(name).float(), sources(2), torch.randint(0, 13, (2, 5))
    model.save(tmp_path)
    twin = load_model(tmp_path)
    assert isinstance(twin, Seq2Seq)
    assert twin.config == model.config
    assert twin.parameter_count() == model.parameter_count()
    assert torch.equal(twin.advance(twin.start(2, given), tokens)[0], model.advance(model.start(2, given), tokens)[0])
    assert torch.equal(twin.score(tokens, given=given).nats, model.score(tokens, given=given).nats)
    config, tensors = store.read_json(tmp_path / "config.json"), model.tensors()
    tensors.pop("embedding.weight")
    with pytest.raises(ModelError, match=r"embedding.weight is missing"):
        Seq2Seq.from_tensors(config, tensors)


def test_what_is_given_is_checked():
    model, given = make(), sources(2)
    with pytest.raises(UserError, match=r"given: .*needs a source.*--given"):
        model.start(1)
    with pytest.raises(UserError, match=r"given: .*objective.name=denoising"):
        model.hidden(torch.zeros(1, 2, dtype=torch.int64))
    with pytest.raises(UserError, match="2 source texts for 3 rows"):
        model.start(3, given)
    with pytest.raises(UserError, match="found Tensor"):
        model.start(2, given.tokens)
    with pytest.raises(UserError, match="given: tokens: ids must lie in"):
        model.start(2, Given(given.tokens + 13, given.lengths))
    long = Given(torch.zeros(1, 13, dtype=torch.int64), torch.tensor([13]))
    for read in (lambda: model.start(1, long), lambda: model.hidden(torch.zeros(1, 2, dtype=torch.int64), given=long)):
        with pytest.raises(ContextError, match="source of 13 tokens"):
            read()


def test_a_text_without_a_source_is_one_that_is_wholly_missing():
    model, tokens = make(sourceless=True), torch.tensor([[0, 4, 5], [0, 7, 1]])
    missing = Given(torch.tensor([[0, 12, 1], [0, 12, 1]]), torch.tensor([3, 3]))
    assert near(model.advance(model.start(2), tokens)[0], model.advance(model.start(2, missing), tokens)[0])
    assert near(model.logits(model.hidden(tokens)[0]).detach(), model.advance(model.start(2, missing), tokens)[0])


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"width": 10, "heads": 4}, "no multiple"),
        ({"width": 9, "heads": 3}, "even"),
        ({"layers": 3}, "layers"),
        ({"norm": "batch"}, "norm"),
    ],
)
def test_impossible_shapes_are_refused(fields, word):
    with pytest.raises(ValueError, match=word):
        Seq2SeqConfig(**fields)


def test_build_is_reproducible_and_scaled():
    torch.manual_seed(3)
    model = Seq2Seq.build(Seq2SeqConfig(width=64, positions="learned"), VOCABULARY)  # type: ignore[call-arg]
    torch.manual_seed(3)
    again = Seq2Seq.build(Seq2SeqConfig(width=64, positions="learned"), VOCABULARY)  # type: ignore[call-arg]
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
    assert float(model.embedding.weight.detach().std()) == pytest.approx(1 / 8, rel=0.1)
    inner = dict(model.named_parameters())["decoder.0.feed_forward.inner.weight"]
    assert float(inner.detach().abs().max()) == pytest.approx((6 / 320) ** 0.5, rel=0.01)
    assert model.places.weight[0, :2].tolist() == [0, 1]
    assert model.head()[0] is model.embedding.weight
