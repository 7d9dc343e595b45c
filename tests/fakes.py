"""A model without weights, so that what stands above models is tested in milliseconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from bimo.core.errors import UserError
from bimo.models.base import Keep, Kind, LanguageModel, Learning, ModelConfig, NeuralLanguageModel
from bimo.text.vocabulary import Vocabulary

WIDTH = 6  # of the hidden states


class FakeConfig(ModelConfig):
    """What a table model depends on."""

    order: int = Field(3, ge=1, description="the next token depends on this many last tokens")
    context: int | None = Field(None, ge=1, description="most tokens that a state holds")
    seed: int = Field(0, description="of the table")
    spread: float = Field(4.0, description="of the logits: the larger, the surer")


class FakeState:
    """Ragged: each row's whole text. A state that was advanced is spent."""

    def __init__(self, rows: list[list[int]]) -> None:
        self.rows, self.spent = rows, False

    def use(self) -> list[list[int]]:
        """The rows of a state that was not consumed."""
        assert not self.spent, "this state was consumed by advance; branch with select first"
        return self.rows


def mix(values: Tensor) -> Tensor:
    """A hash of int64 numbers (splitmix64)."""
    values = values + -7046029254386353131
    for shift, factor in ((30, -4658895280553007687), (27, -7723592293110705685)):
        values = (values ^ (values >> shift)) * factor
    return values ^ (values >> 31)


class FakeModel(LanguageModel):
    """P(next | text) is a hash of the text's last `order` tokens, in float64."""

    Config = FakeConfig
    learning: ClassVar[Learning] = Learning.COUNTED
    capabilities: ClassVar[frozenset[str]] = frozenset({"rewind"})
    kind = Kind.EXACT

    def __init__(self, config: FakeConfig, vocabulary: Vocabulary) -> None:
        super().__init__()
        self.config, self.vocabulary, self.context = config, vocabulary, config.context

    @classmethod
    def build(cls, config: Any, vocabulary: Vocabulary) -> Any:
        return cls(config, vocabulary)

    @classmethod
    def of(cls, size: int = 12, *, suppressed: tuple[int, ...] = (0,), **config: Any) -> Any:
        """A model of `size` ids: 0 is <s>, 1 is </s>."""
        return cls(FakeConfig(**config), Vocabulary(size, bos=0, eos=1, suppressed=suppressed))

    def config_dict(self) -> dict[str, Any]:
        vocabulary = self.vocabulary
        return {
            "model_type": "fake",
            **self.config.model_dump(),
            "vocab_size": vocabulary.size,
            "bos_token_id": vocabulary.bos,
            "eos_token_id": vocabulary.eos,
            "pad_token_id": vocabulary.pad,
            "unk_token_id": vocabulary.unk,
            "suppress_tokens": list(vocabulary.suppressed),
        }

    def tensors(self) -> dict[str, Tensor]:
        return {"seed": torch.tensor([self.config.seed])}

    @classmethod
    def from_tensors(cls, config: Mapping[str, Any], tensors: dict[str, Tensor]) -> Any:
        own = {name: config[name] for name in FakeConfig.model_fields} | {"seed": int(tensors["seed"])}
        vocabulary = Vocabulary(
            config["vocab_size"],
            *(config[f"{name}_token_id"] for name in ("bos", "eos", "pad", "unk")),
            suppressed=tuple(config["suppress_tokens"]),
        )
        return cls(FakeConfig(**own), vocabulary)

    def parameter_count(self) -> int:
        return 1

    def table_row(self, text: Sequence[int]) -> Tensor:
        """Logits [V] after `text`, suppressed ids at -inf."""
        key = torch.tensor(self.config.seed)
        for token in text[-self.config.order :]:
            key = mix(key * 31 + token + 1)
        logits = self.table(key[None])[0]
        logits[list(self.vocabulary.suppressed)] = float("-inf")
        return logits

    def table(self, keys: Tensor) -> Tensor:
        """Logits [N, V] of hashes [N]."""
        bits = mix(keys[:, None] + torch.arange(self.vocab_size))
        return ((bits >> 11).double() / 2**52) * self.config.spread  # in ±spread

    def start(self, batch: int, given: Any = None) -> FakeState:
        return FakeState([[] for _ in range(batch)])

    def advance(self, state: Any, tokens: Tensor, lengths: Tensor | None = None, keep: Keep = "all") -> tuple[Tensor, FakeState]:
        tokens, lengths = self.checked(tokens, lengths)
        rows = [list(row) for row in state.use()]
        if len(rows) != len(tokens):
            raise UserError(f"tokens: {len(tokens)} rows for a state of {len(rows)}")
        logits = torch.zeros(len(rows), tokens.shape[1], self.vocab_size, dtype=torch.float64)
        for b, (row, length) in enumerate(zip(rows, lengths.tolist(), strict=True)):
            self.check_context(len(row) + length)
            for t in range(length):
                row.append(int(tokens[b, t]))
                logits[b, t] = self.table_row(row)
        state.spent = True
        if keep == "last":
            logits = logits[torch.arange(len(rows)), lengths - 1][:, None]
        return logits, FakeState(rows)

    def select(self, state: Any, rows: Tensor) -> FakeState:
        old = state.use()
        return FakeState([list(old[row]) for row in rows.tolist()])

    def join(self, states: Sequence[Any]) -> FakeState:
        return FakeState([list(row) for state in states for row in state.use()])

    def rewind(self, state: Any, lengths: Tensor) -> FakeState:
        return FakeState([row[:length] for row, length in zip(state.use(), lengths.tolist(), strict=True)])

    def state_bytes(self, state: Any) -> int:
        return 8 * max(1, *map(len, state.rows), 1)


class FakeNeural(FakeModel, NeuralLanguageModel):
    """The same with hidden states: a hash of the last tokens is the hidden state, a random matrix the head."""

    learning: ClassVar[Learning] = Learning.GRADIENT

    def __init__(self, config: FakeConfig, vocabulary: Vocabulary) -> None:
        super().__init__(config, vocabulary)
        generator = torch.Generator().manual_seed(config.seed)
        self.weight = torch.nn.Parameter(torch.randn(vocabulary.size, WIDTH, dtype=torch.float64, generator=generator))

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    def tensors(self) -> dict[str, Tensor]:
        return {"weight": self.weight.detach(), "seed": torch.tensor([self.config.seed])}

    @classmethod
    def from_tensors(cls, config: Mapping[str, Any], tensors: dict[str, Tensor]) -> Any:
        model = super().from_tensors(config, {"seed": tensors["seed"]})
        model.weight.data = tensors["weight"]
        return model

    def _hidden_row(self, keys: Tensor) -> Tensor:
        return (mix(keys[:, None] + torch.arange(WIDTH)) >> 11).double() / 2**52

    def table(self, keys: Tensor) -> Tensor:
        return (self._hidden_row(keys) @ self.weight.T).detach()

    def extend(self, state: Any, tokens: Tensor, lengths: Tensor) -> tuple[Tensor, FakeState]:
        old = [list(row) for row in state.use()]
        for row, length in zip(old, lengths.tolist(), strict=True):
            self.check_context(len(row) + length)
        hidden, _ = self.hidden(tokens, old)
        state.spent = True
        return hidden, FakeState(
            [row + tokens[b, :length].tolist() for b, (row, length) in enumerate(zip(old, lengths.tolist(), strict=True))]
        )

    def hidden(self, tokens: Tensor, carry: Any = None, boundaries: Tensor | None = None) -> tuple[Tensor, Any]:
        texts = [list(row) for row in carry] if carry is not None else [[] for _ in tokens]
        hidden = torch.zeros(*tokens.shape, WIDTH, dtype=torch.float64)
        for b, text in enumerate(texts):
            for t, token in enumerate(tokens[b].tolist()):
                if boundaries is not None and boundaries[b, t]:
                    text.clear()
                text.append(token)
                key = torch.tensor(self.config.seed)
                for last in text[-self.config.order :]:
                    key = mix(key * 31 + last + 1)
                hidden[b, t] = self._hidden_row(key[None])[0]
        return hidden, texts

    def head(self) -> tuple[Tensor, Tensor | None]:
        return self.weight, None
