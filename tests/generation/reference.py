"""A transformers model behind Bimo's interface: its whole text is read anew at every step."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from bimo.models.base import Keep
from bimo.text.vocabulary import Vocabulary
from tests.fakes import FakeConfig, FakeModel, FakeState

EOS = 1


def tiny(kind: str, seed: int, size: int = 23) -> Any:
    """A random GPT-2 or Llama in float64, sharp enough that texts differ."""
    import transformers

    torch.manual_seed(seed)
    ids = {"bos_token_id": 0, "eos_token_id": EOS, "pad_token_id": EOS}
    if kind == "gpt2":
        config = transformers.GPT2Config(vocab_size=size, n_positions=64, n_embd=16, n_layer=2, n_head=2, initializer_range=0.3, **ids)
        model = transformers.GPT2LMHeadModel(config)
    else:
        config = transformers.LlamaConfig(
            vocab_size=size, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, max_position_embeddings=64, initializer_range=0.3, **ids,
        )  # fmt: skip
        model = transformers.LlamaForCausalLM(config)
    return model.double().eval()


class Reference(FakeModel):
    """The table is a transformers model."""

    def __init__(self, network: Any) -> None:
        super().__init__(FakeConfig(), Vocabulary(network.config.vocab_size, bos=0, eos=EOS))
        self.network = network

    def advance(self, state: Any, tokens: Tensor, lengths: Tensor | None = None, keep: Keep = "all") -> tuple[Tensor, FakeState]:
        tokens, lengths = self.checked(tokens, lengths)
        rows = [row + tokens[b, :length].tolist() for b, (row, length) in enumerate(zip(state.use(), lengths.tolist(), strict=True))]
        assert keep == "last"
        width = max(map(len, rows))
        padded = torch.tensor([row + [0] * (width - len(row)) for row in rows])
        with torch.no_grad():
            logits = self.network(padded).logits
        state.spent = True
        return logits[torch.arange(len(rows)), torch.tensor([len(row) - 1 for row in rows])][:, None], FakeState(rows)
