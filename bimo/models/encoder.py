"""The Transformer encoder, which fills gaps: one file from BERT to modern ones (norms first, rotary positions, no biases).

Shapes: B rows, T tokens, D width, V vocabulary. The block is in `layers`, the names and settings of transformers' BERT in `interop/bert`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal, NoReturn, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from bimo.core.errors import CapabilityError, ContextError
from bimo.models.base import Keep, Kind, ModelConfig, NeuralLanguageModel, Score, State, length_mask
from bimo.models.interop import bert
from bimo.models.layers import (
    Activation,
    Attention,
    Block,
    FeedForward,
    Norm,
    Pooling,
    Sight,
    activate,
    document_positions,
    make_norm,
    pool,
    rotary_tables,
)
from bimo.text.vocabulary import Vocabulary

_TOKENS_AT_ONCE = 1 << 14  # tokens that a pass of `score` reads
_LOGITS_AT_ONCE = 1 << 22  # logits that it holds


class EncoderConfig(ModelConfig):
    """The shape of an encoder. As it stands it is a modern one, small.

    >>> EncoderConfig(width=128).inner, EncoderConfig(width=128, activation="gelu").inner
    (384, 512)
    """

    layers: int = Field(4, ge=1, description="number of blocks")
    heads: int = Field(4, ge=1, description="attention heads")
    width: int = Field(128, ge=1, description="width of the hidden states")
    feed_forward: int | None = Field(
        None, ge=1, description="inner width of the feed-forward layer; 4 × width, or 8/3 × width (in steps of 64) with swiglu, if not said"
    )
    context: int = Field(128, ge=2, description="most tokens in sight")
    norm: Norm = Field("rms", description="layer (BERT) or rms")
    norm_first: bool = Field(True, description="normalise before attention and feed-forward; after their addition (BERT), if not")
    norm_epsilon: float = Field(1e-5, gt=0, description="ε of the norms")
    embedding_norm: bool = Field(False, description="normalise the sum of the embeddings (BERT)")
    positions: Literal["learned", "rotary"] = Field("rotary", description="learned (BERT) or rotary")
    rope_theta: float = Field(10000.0, gt=0, description="base of the rotary angles")
    token_types: int = Field(0, ge=0, description="kinds of segment that have an embedding (BERT: 2); texts are of the first")
    activation: Activation = Field("swiglu", description="gelu (BERT), gelu_tanh, relu, relu2 (squared) or swiglu")
    qk_norm: bool = Field(False, description="normalise queries and keys")
    bias: bool = Field(False, description="biases (BERT)")
    fills: bool = Field(True, description="a head that tells hidden tokens; without it (sentence encoders) features alone")
    tied: bool = Field(True, description="the output matrix is the embedding matrix")
    dropout: float = Field(0.0, ge=0, lt=1, description="dropout on the embeddings and before each residual addition")
    attention_dropout: float = Field(0.0, ge=0, lt=1, description="dropout on the attention weights")
    mask_token_id: int | None = Field(None, ge=0, description="id that stands where a token is hidden; that of padding if not said")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is no multiple of heads {self.heads}; change one of them")
        if self.positions == "rotary" and self.per_head % 2:
            raise ValueError(f"rotary positions need an even width of a head, found {self.per_head}; change width or heads")
        return self

    @property
    def per_head(self) -> int:
        """Width of a head."""
        return self.width // self.heads

    @property
    def inner(self) -> int:
        """Inner width of the feed-forward layer."""
        if self.feed_forward is not None:
            return self.feed_forward
        return -(-self.width * 8 // 3 // 64) * 64 if self.activation == "swiglu" else 4 * self.width


class Head(nn.Module):
    """What stands between the features and the output matrix: a dense layer, its activation and a norm, and the output's bias.

    Source: Devlin et al. 2019, as their program has it ("transform").
    """

    def __init__(self, config: EncoderConfig, vocab_size: int) -> None:
        super().__init__()
        c = config
        self.dense = nn.Linear(c.width, c.width, bias=c.bias)
        self.activation: Activation = "gelu" if c.activation == "swiglu" else c.activation
        self.norm = make_norm(c.norm, c.width, c.norm_epsilon, c.bias)
        self.output = None if c.tied else nn.Linear(c.width, vocab_size, bias=False)
        self.bias = nn.Parameter(torch.zeros(vocab_size))

    def forward(self, x: Tensor) -> Tensor:
        """x [..., D] → [..., D]."""
        return self.norm(activate(self.dense(x), self.activation))


class Encoder(NeuralLanguageModel):
    """A Transformer encoder: every token sees all of its document, so it tells hidden tokens and continues no text."""

    Config: ClassVar[type[ModelConfig]] = EncoderConfig
    kind = Kind.PSEUDO
    capabilities = frozenset({"fill", "features"})
    continues_text = False
    objectives = ("masked", "contrastive")

    def __init__(self, config: EncoderConfig, vocabulary: Vocabulary) -> None:
        super().__init__()
        self.config, self.vocabulary = config, vocabulary
        self.context: int | None = config.context - 1  # fed tokens; one more is scored, and stands in sight as well
        self.mask_id = config.mask_token_id
        c = config
        self.cos: Tensor
        self.sin: Tensor
        self.embedding = nn.Embedding(vocabulary.size, c.width)
        self.places = nn.Embedding(c.context, c.width) if c.positions == "learned" else None
        self.types = nn.Embedding(c.token_types, c.width) if c.token_types else None
        self.embedding_norm = make_norm(c.norm, c.width, c.norm_epsilon, c.bias) if c.embedding_norm else None
        self.blocks = nn.ModuleList(self._block() for _ in range(c.layers))
        self.norm = make_norm(c.norm, c.width, c.norm_epsilon, c.bias) if c.norm_first else None
        self.filler = Head(c, vocabulary.size) if c.fills else None
        if c.positions == "rotary":
            cos, sin = rotary_tables(c.context, c.per_head, c.rope_theta)
            self.register_buffer("cos", cos, persistent=False)
            self.register_buffer("sin", sin, persistent=False)

    def _block(self) -> Block:
        c = self.config
        attention = Attention(
            c.width, c.heads, c.heads, c.per_head, bias=c.bias, qk_norm=c.qk_norm, epsilon=c.norm_epsilon, dropout=c.attention_dropout
        )
        feed_forward = FeedForward(c.width, c.inner, c.activation, bias=c.bias)
        first, second = (make_norm(c.norm, c.width, c.norm_epsilon, c.bias) for _ in range(2))
        return Block(attention, feed_forward, (first, second), c.dropout, c.norm_first)

    # -- making one ---------------------------------------------------------------------------------------------------

    @classmethod
    def build(cls, config: EncoderConfig, vocabulary: Vocabulary) -> Self:
        """Random weights as BERT's, N(0, 0.02²), biases 0; norms first: matrices that write into the residual stream / √(2 layers).

        The mask symbol is the id of padding where the config names none: it never stands in a text.
        """
        if config.mask_token_id is None:
            config = config.model_copy(update={"mask_token_id": vocabulary.pad})
        model = cls(config, vocabulary)
        residual = 0.02 / (2 * config.layers) ** 0.5 if config.norm_first else 0.02
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if parameter.dim() == 2:
                    parameter.normal_(0.0, residual if name.endswith(("out.weight", "outer.weight")) else 0.02)
                elif name.endswith("bias"):
                    parameter.zero_()
        return model

    def config_dict(self) -> dict[str, Any]:
        """BERT's `config.json` where the shape is BERT's, ours otherwise."""
        return bert.write_config(self.config, self.vocabulary)

    def tensors(self) -> dict[str, Tensor]:
        """Tensors under the names that `config_dict`'s model type has for them; tied ones once."""
        return bert.write_tensors(self.config, self.state_dict())

    @classmethod
    def from_tensors(cls, config: Mapping[str, Any], tensors: dict[str, Tensor]) -> Self:
        """Open our folders and those that BERT comes in, with its head for hidden tokens or without; ready to use (no dropout)."""
        settings, vocabulary = bert.read_config(config, tensors, EncoderConfig)
        with torch.device("meta"):
            model = cls(settings, vocabulary)
        found = bert.read_tensors(settings, str(config["model_type"]), tensors, model.state_dict())
        model.load_state_dict(found, assign=True)
        if settings.positions == "rotary":
            model.cos, model.sin = rotary_tables(settings.context, settings.per_head, settings.rope_theta)
        return model.requires_grad_(True).eval()

    # -- reading ------------------------------------------------------------------------------------------------------

    def _read(self, tokens: Tensor, positions: Tensor, mask: Tensor | None, still: bool = False) -> Tensor:
        """Features [B, T, D] of tokens [B, T] at positions [B, T] or [1, T]; mask: bool [B, 1, 1 or T, T], what each one sees."""
        x = self.embedding(tokens)
        cos = sin = None
        if self.places is not None:
            x = x + self.places(positions)
        else:
            one = positions.shape[0] == 1
            cos, sin = (table[positions[0] if one else positions].to(x.dtype) for table in (self.cos, self.sin))
        if self.types is not None:
            x = x + self.types.weight[0]
        if self.embedding_norm is not None:
            x = self.embedding_norm(x)
        sight = Sight(cos, sin, mask, causal=False, still=still)
        if self.training and self.config.dropout and sight.drops:
            x = F.dropout(x, self.config.dropout)
        for layer, block in enumerate(self.blocks):
            x = block(x, sight, layer)
        return x if self.norm is None else self.norm(x)

    def _rows(self, tokens: Tensor, lengths: Tensor, still: bool) -> Tensor:
        """Features [B, T, D] of rows of these lengths; what stands in the padding is seen by none."""
        T = tokens.shape[1]
        self._check_places(T)
        mask = None if bool((lengths == T).all()) else length_mask(lengths, T)[:, None, None]
        return self._read(tokens, torch.arange(T, device=tokens.device)[None], mask, still)

    def _check_places(self, length: int) -> None:
        if length > self.config.context:
            raise ContextError(
                f"{length} tokens do not fit the model's context of {self.config.context}; feed a shorter text or score in windows"
            )

    def _needs_head(self) -> Head:
        if self.filler is None:
            raise CapabilityError("this encoder has no head for hidden tokens and can neither fill nor score; it gives features")
        return self.filler

    # -- learning -----------------------------------------------------------------------------------------------------

    def hidden(self, tokens: Tensor, carry: Any = None, boundaries: Tensor | None = None) -> tuple[Tensor, None]:
        """Hidden states [B, T, D] that `head` makes logits of, for the tokens themselves where they are hidden.

        Each token sees all of its document; positions begin anew with each. Nothing is carried: windows stand alone.
        """
        head, T = self._needs_head(), tokens.shape[1]
        self._check_places(T)
        if boundaries is None or T == 1 or not bool(boundaries[:, 1:].any()):
            return head(self._read(tokens, torch.arange(T, device=tokens.device)[None], None)), None
        positions, documents = document_positions(boundaries)
        return head(self._read(tokens, positions, (documents[:, :, None] == documents[:, None, :])[:, None])), None

    def head(self) -> tuple[Tensor, Tensor | None]:
        """The output matrix [V, D] and its bias [V]; the embedding matrix alone where there is no head to fill with."""
        if self.filler is None:
            return self.embedding.weight, None
        return (self.embedding if self.filler.output is None else self.filler.output).weight, self.filler.bias

    def features(self, tokens: Tensor, lengths: Tensor | None = None) -> Tensor:
        """What the blocks make of each token, [B, T, D]; it can be differentiated, and drops out while the model is learning."""
        tokens, lengths = self.checked(tokens, lengths)
        return self._rows(tokens, lengths, still=False)

    def sentence_embeddings(self, tokens: Tensor, lengths: Tensor | None = None, pooling: Pooling = "mean") -> Tensor:
        """One vector a row, [B, D]: the mean of its features, special tokens among them, or the first or last of them."""
        tokens, lengths = self.checked(tokens, lengths)
        return pool(self._rows(tokens, lengths, still=False), lengths, pooling)

    # -- filling and scoring ------------------------------------------------------------------------------------------

    @torch.no_grad()
    def fill(self, tokens: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Logits [B, T, V] of what stands at each place, without dropout; `mask_id` in the tokens hides what is asked for."""
        head = self._needs_head()
        tokens, lengths = self.checked(tokens, lengths)
        return self.logits(head(self._rows(tokens, lengths, still=True)))

    @property
    def scoring_passes(self) -> int:
        """A text of n tokens is read n - 1 times, each with another one hidden; at most as often as there are places."""
        return self.config.context

    @torch.no_grad()
    def score(self, tokens: Tensor, lengths: Tensor | None = None, given: Any = None, state: State = None) -> Score:
        """Pseudo-likelihood: nats of each token where it is hidden and all others of its row are seen.

        Source: Salazar et al. 2020, "Masked language model scoring". `tokens[:, 0]` is seen, never scored; nothing is continued, so
        the state is None. Rows are hidden and read a few thousand tokens at a time, those of like length together.
        """
        self._needs_head()
        if state is not None or given is not None:
            raise CapabilityError("an encoder scores each row as a whole: it continues no state and takes nothing given")
        if self.mask_id is None:
            raise CapabilityError("config.json: no mask_token_id, and scoring hides each token in turn; write the id of [MASK] there")
        tokens, lengths = self.checked(tokens, lengths)
        self._check_places(tokens.shape[1])
        scored = length_mask(lengths, tokens.shape[1])
        scored[:, 0] = False
        nats = torch.zeros(tokens.shape, dtype=torch.float64, device=tokens.device)
        for rows, places in self._passes(scored, lengths):
            nats[rows, places] = self._hidden_nats(tokens[rows], lengths[rows], places, self.mask_id)
        return Score(nats, scored, self.kind, None)

    def _passes(self, scored: Tensor, lengths: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Rows and places, int64 [N] each, of the tokens that one pass hides, one in each copy of a row."""
        rows, places = scored.nonzero(as_tuple=True)
        order = lengths[rows].argsort(descending=True, stable=True)
        start = 0
        while start < len(order):
            longest = int(lengths[rows[order[start]]])
            size = max(1, min(_TOKENS_AT_ONCE // longest, _LOGITS_AT_ONCE // self.vocab_size))
            chosen = order[start : start + size]
            yield rows[chosen], places[chosen]
            start += size

    def _hidden_nats(self, tokens: Tensor, lengths: Tensor, places: Tensor, mask_id: int) -> Tensor:
        """Nats, float64 [N], of tokens[n, places[n]], each hidden in its row."""
        width = int(lengths.max())
        each = torch.arange(len(tokens), device=tokens.device)
        wanted, seen = tokens[each, places], tokens[:, :width].clone()
        seen[each, places] = mask_id
        found = self._needs_head()(self._rows(seen, lengths, still=True)[each, places])
        logits = self.logits(found)
        logits = logits.float() if logits.dtype in (torch.bfloat16, torch.float16) else logits
        return logits.logsumexp(dim=1).double() - logits.gather(1, wanted[:, None]).squeeze(1).double()

    # -- what it cannot do --------------------------------------------------------------------------------------------

    def start(self, batch: int, given: Any = None) -> State:
        """An encoder remembers no prefix: a `CapabilityError`, as are the other methods of a state."""
        _continues_nothing()

    def advance(self, state: State, tokens: Tensor, lengths: Tensor | None = None, keep: Keep = "all") -> tuple[Tensor, State]:
        """See `start`."""
        _continues_nothing()

    def select(self, state: State, rows: Tensor) -> State:
        """See `start`."""
        _continues_nothing()

    def join(self, states: Sequence[State]) -> State:
        """See `start`."""
        _continues_nothing()

    def rewind(self, state: State, lengths: Tensor) -> State:
        """See `start`."""
        _continues_nothing()

    def state_bytes(self, state: State) -> int:
        """See `start`."""
        _continues_nothing()


def _continues_nothing() -> NoReturn:
    raise CapabilityError("an encoder does not continue text: it tells what stands in a gap (fill) and how likely a text is (score)")
