"""Recurrent language models: Elman's RNN, LSTM and GRU, any depth, with every dropout that made them strong.

Shapes: B rows, T tokens, L layers, H units, E embedding width, V vocabulary. The time loop is in `kernels/recurrent`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self, cast

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from bimo.core.errors import CapabilityError
from bimo.models.base import Kind, ModelConfig, NeuralLanguageModel
from bimo.models.embedding import NONE, NgramEmbedding, TokenEmbedding, last_tokens
from bimo.models.kernels.recurrent import GATES, Cell, layer
from bimo.models.layers import document_positions
from bimo.models.saved import load_tensors
from bimo.models.vocabulary import read_vocabulary, write_vocabulary
from bimo.text.vocabulary import Vocabulary

States = tuple[Tensor, ...]  # (h,) or, with LSTM, (h, c): [L, B, H] each; then what positions and n-grams need: see Recurrent.parted


class RecurrentConfig(ModelConfig):
    """The shape of a recurrent model and its dropouts."""

    cell: Cell = Field("lstm", description="rnn, lstm or gru")
    layers: int = Field(2, ge=1, description="depth")
    width: int = Field(256, ge=1, description="units of a layer")
    embedding: int | None = Field(None, ge=1, description="width of the embeddings; as the units, if not said")
    positions: int | None = Field(
        None, ge=1, description="embeddings of how far into its document a token is; what stands further shares the last; none, if not said"
    )
    ngrams: int | None = Field(
        None, ge=2, le=8, description="embeddings of the last 2 … so many tokens together, hashed, beside a token's own; none, if not said"
    )
    ngram_buckets: int = Field(20_000, ge=1, description="rows of each table of such embeddings")
    tied: bool = Field(True, description="the output matrix is the embedding matrix (a projection joins them where the widths differ)")
    forget_bias: float = Field(1.0, description="what the LSTM's forget gate starts with")
    input_dropout: float = Field(0.0, ge=0, lt=1, description="dropout on what the first layer reads")
    layer_dropout: float = Field(0.0, ge=0, lt=1, description="dropout between layers")
    output_dropout: float = Field(0.0, ge=0, lt=1, description="dropout on what the last layer gives")
    recurrent_dropout: float = Field(0.0, ge=0, lt=1, description="dropout on the recurrent weights, drawn once per window (Merity 2017)")
    embedding_dropout: float = Field(0.0, ge=0, lt=1, description="dropout of whole words from the embeddings (Gal 2016)")
    variational: bool = Field(False, description="input, layer and output dropout keep one mask over the steps of a window (Gal 2016)")

    @model_validator(mode="before")
    @classmethod
    def _lower(cls, data: Any) -> Any:
        if isinstance(data, dict) and isinstance(data.get("cell"), str):
            data = {**data, "cell": data["cell"].lower()}
        return data

    @property
    def input_width(self) -> int:
        """Width of the embeddings."""
        return self.embedding or self.width


class RecurrentLayer(nn.Module):
    """The weights of one layer, as torch's but with one bias where a second would add to the same sum."""

    def __init__(self, cell: Cell, inputs: int, width: int) -> None:
        super().__init__()
        gates = GATES[cell] * width
        self.weight_input = nn.Parameter(torch.empty(gates, inputs))
        self.weight_hidden = nn.Parameter(torch.empty(gates, width))
        self.bias_input = nn.Parameter(torch.empty(gates))
        self.bias_hidden = nn.Parameter(torch.empty(width)) if cell == "gru" else None  # inside r ⊙ (W_n h + b)


class Recurrent(NeuralLanguageModel):
    """An RNN, LSTM or GRU; a state is the tuple of its h (and c), [L, B, H] each, and of what positions and n-grams need (`parted`)."""

    Config: ClassVar[type[ModelConfig]] = RecurrentConfig
    kind = Kind.EXACT

    def __init__(self, config: RecurrentConfig, vocabulary: Vocabulary) -> None:
        super().__init__()
        self.config, self.vocabulary = config, vocabulary
        self.context: int | None = None
        c = config
        self.embedding = TokenEmbedding(vocabulary, c.input_width)
        self.places = nn.Embedding(c.positions, c.input_width) if c.positions else None
        self.ngrams = NgramEmbedding(c.ngrams, c.ngram_buckets, c.input_width) if c.ngrams else None
        widths = [c.input_width] + [c.width] * (c.layers - 1)
        self.layers = nn.ModuleList(RecurrentLayer(c.cell, width, c.width) for width in widths)
        joined = c.tied and c.input_width != c.width
        self.projection = nn.Linear(c.width, c.input_width, bias=False) if joined else None
        self.output = None if c.tied else nn.Linear(c.width, vocabulary.size, bias=False)
        self.output_bias = nn.Parameter(torch.empty(vocabulary.size))

    # -- making one ---------------------------------------------------------------------------------------------------

    @classmethod
    def build(cls, config: RecurrentConfig, vocabulary: Vocabulary) -> Self:
        """Random weights: U(±1/√H) in the layers, U(±0.1) in embeddings and output, biases 0 but the forget gate's."""
        model = cls(config, vocabulary)
        bound = config.width**-0.5
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name.startswith("ngrams."):
                    parameter.zero_()
                elif parameter.dim() == 2:
                    limit = bound if name.startswith(("layers.", "projection.")) else 0.1
                    parameter.uniform_(-limit, limit)
                else:
                    parameter.zero_()
                    if name.endswith("bias_input") and config.cell == "lstm":
                        parameter[config.width : 2 * config.width] = config.forget_bias
        return model

    def config_dict(self) -> dict[str, Any]:
        """What `config.json` holds."""
        return {"model_type": f"bimo-{self.config.cell}", **write_vocabulary(self.vocabulary), **self.config.model_dump()}

    def tensors(self) -> dict[str, Tensor]:
        """The parameters by name; tied ones once."""
        return dict(self.state_dict())

    @classmethod
    def from_tensors(cls, config: Mapping[str, Any], tensors: dict[str, Tensor]) -> Self:
        """Open what `config_dict` and `tensors` gave; ready to use (no dropout)."""
        fields = {name: config[name] for name in RecurrentConfig.model_fields if name in config}
        with torch.device("meta"):
            model = cls(RecurrentConfig(**fields), read_vocabulary(config))
        return load_tensors(model, tensors)

    # -- learning -----------------------------------------------------------------------------------------------------

    def hidden(self, tokens: Tensor, carry: States | None = None, boundaries: Tensor | None = None) -> tuple[Tensor, States]:
        """Hidden states [B, T, D] and the carry for the next window, cut off from this one's gradient.

        Where `boundaries` [B, T] is True the state is zero before that token is read, in any row, at any step.
        """
        memory, read, recent = self.parted(self.start(len(tokens)) if carry is None else carry)
        boundaries = None if boundaries is None or not bool(boundaries.any()) else boundaries
        positions = None if read is None else _positions(read[0], tokens.shape[1], boundaries)
        last = None if recent is None else self.last_read(tokens, recent, boundaries)
        keep = None if boundaries is None else ~boundaries.t()  # [T, B]
        output, finals = self._run(tokens, positions, last, memory, keep, self.training, every=False)
        beside = (() if positions is None else (positions[None, :, -1] + 1,)) + (() if last is None else (last[:, -1, 1:].t(),))
        return output.transpose(0, 1), (*(torch.stack([f[-1] for f in final]).detach() for final in finals), *beside)

    def head(self) -> tuple[Tensor, Tensor]:
        """Output matrix [V, D] and bias [V]."""
        return (self.embedding if self.output is None else self.output).weight, self.output_bias

    def parted(self, states: States) -> tuple[States, Tensor | None, Tensor | None]:
        """h (and c); where positions need it, how many tokens of its document each row has read, [1, B]; where n-grams do, its last
        tokens, [order − 1, B]."""
        rest = list(states)
        recent = rest.pop() if self.ngrams is not None else None
        read = rest.pop() if self.places is not None else None
        return tuple(rest), read, recent

    def last_read(self, tokens: Tensor, recent: Tensor, boundaries: Tensor | None) -> Tensor:
        """The last tokens at each place, int64 [B, T, order], of rows whose tokens before are `recent` [order − 1, B]."""
        assert self.ngrams is not None
        far = torch.full((len(tokens), tokens.shape[1]), self.ngrams.order, device=tokens.device)
        if boundaries is not None:
            since, document = document_positions(boundaries)
            far = torch.where(document > 0, since, far)
        return last_tokens(tokens, self.ngrams.order, far, recent.t())

    def at(self, x: Tensor, positions: Tensor | None) -> Tensor:
        """Embeddings [..., E] of tokens at these positions, int64 [...], as the first layer reads them."""
        if self.places is None or positions is None:
            return x
        return x + self.places(positions.clamp(max=self.places.num_embeddings - 1))

    def _run(
        self,
        tokens: Tensor,
        positions: Tensor | None,
        last: Tensor | None,
        states: States,
        keep: Tensor | None,
        training: bool,
        every: bool,
    ) -> tuple[Tensor, list[list[Tensor]]]:
        """Outputs [T, B, D] and, for h (and c), the list over layers of all their values [T, B, H], or of the last alone."""
        c = self.config
        x = self.at(self._embed(tokens.t(), training), None if positions is None else positions.t())
        x = x if self.ngrams is None or last is None else x + self.ngrams(last.transpose(0, 1))
        mask = None if keep is None else keep[:, :, None].to(x.dtype)
        values: list[list[Tensor]] = [[] for _ in states]
        for number, part in enumerate(cast(list[RecurrentLayer], list(self.layers))):
            x = self._drop(x, c.input_dropout if number == 0 else c.layer_dropout, training)
            weight = F.dropout(part.weight_hidden, c.recurrent_dropout, training)
            first = [s[number] for s in states]
            h, cells = layer(
                c.cell,
                x,
                first[0],
                first[1] if len(first) == 2 else None,
                part.weight_input,
                weight,
                part.bias_input,
                part.bias_hidden,
                mask,
                every,
            )
            x = h
            values[0].append(h)
            if cells is not None:
                values[1].append(cells)
        x = self._drop(x, c.output_dropout, training)
        return (x if self.projection is None else self.projection(x)), values

    def _embed(self, tokens: Tensor, training: bool) -> Tensor:
        """Embeddings [T, B, E]; with embedding dropout a word is left out of the whole window, or kept and made larger."""
        share = self.config.embedding_dropout
        x = self.embedding(tokens)
        if training and share:
            kept = torch.rand(self.vocab_size, device=x.device) >= share
            x = x * (kept / (1 - share)).to(x.dtype)[tokens][:, :, None]
        return x

    def _drop(self, x: Tensor, share: float, training: bool) -> Tensor:
        if not training or not share:
            return x
        if not self.config.variational:
            return F.dropout(x, share)
        return x * F.dropout(x.new_ones(x.shape[1:]), share)

    # -- the interface ------------------------------------------------------------------------------------------------

    def start(self, batch: int, given: Any = None) -> States:
        """Zeros: nothing read yet."""
        if given is not None:
            raise CapabilityError("a recurrent model continues a text and takes nothing given; write the source into the prompt")
        shape = (self.config.layers, batch, self.config.width)
        memory = tuple(self.output_bias.new_zeros(shape).detach() for _ in range(2 if self.config.cell == "lstm" else 1))
        read = () if self.places is None else (torch.zeros(1, batch, dtype=torch.int64, device=self.device),)
        recent = () if self.ngrams is None else (torch.full((self.ngrams.order - 1, batch), NONE, device=self.device),)
        return (*memory, *read, *recent)

    def extend(self, state: States, tokens: Tensor, lengths: Tensor) -> tuple[Tensor, States]:
        """Hidden states [B, T, D] and the states at each row's end; never drops out."""
        memory, read, recent = self.parted(state)
        positions = None if read is None else _positions(read[0], tokens.shape[1])
        last = None if recent is None else self.last_read(tokens, recent, None)
        output, found = self._run(tokens, positions, last, memory, None, training=False, every=True)
        rows, ends = torch.arange(len(lengths), device=lengths.device), lengths - 1
        beside = (() if read is None else (read + lengths,)) + (() if last is None else (last[rows, ends, 1:].t(),))
        return output.transpose(0, 1), (*(torch.stack([values[ends, rows] for values in part]) for part in found), *beside)

    def select(self, state: States, rows: Tensor) -> States:
        """A copy of the state with the rows int64 [B'] in that order."""
        return tuple(s.index_select(1, rows.to(s.device)) for s in state)

    def join(self, states: Sequence[States]) -> States:
        """One state of all rows, in order."""
        return tuple(torch.cat(parts, dim=1) for parts in zip(*states, strict=True))

    def state_bytes(self, state: States) -> int:
        """Size of h (and c) and of the count of tokens, bytes per row."""
        return sum(s.nbytes for s in state) // max(1, state[0].shape[1])


def _positions(read: Tensor, width: int, boundaries: Tensor | None = None) -> Tensor:
    """Places in their documents, int64 [B, T], of the next `width` tokens of rows that have read so many, int64 [B].

    >>> _positions(torch.tensor([5]), 4, torch.tensor([[False, False, True, False]])).tolist()
    [[5, 6, 0, 1]]
    """
    places = read[:, None] + torch.arange(width, device=read.device)
    if boundaries is None:
        return places
    since, document = document_positions(boundaries)
    return torch.where(document > 0, since, places)
