"""Decoders: one meaning whether read at once, step by step or for learning, from GPT-2 to Qwen3."""

from __future__ import annotations

import pytest
import torch

from bimo.models.decoder import Decoder, DecoderConfig
from bimo.text.vocabulary import Vocabulary

VOCABULARY = Vocabulary(13, bos=0, eos=1, suppressed=(0,))
GPT2 = {"norm": "layer", "positions": "learned", "activation": "gelu_tanh", "bias": True, "qk_norm": False}
EXTREMES = {
    "gpt2": GPT2,
    "llama": {"qk_norm": False, "kv_heads": 2, "tied": False},
    "qwen3": {"kv_heads": 1, "head_width": 6, "bias": "attention"},
    "own": {"activation": "relu2", "norm": "layer", "bias": "feed_forward"},
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
