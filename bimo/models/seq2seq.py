"""The Transformer encoder–decoder (Vaswani 2017): a source is read once, both ways; the text is written looking back at it.

Shapes: B rows, S tokens of a source, T tokens of a text, D width, H heads, E width of a head, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, Self, cast

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from bimo.core.errors import ContextError, UserError
from bimo.data.batches import Given
from bimo.models import cache
from bimo.models.activations import Activation
from bimo.models.base import Kind, ModelConfig, NeuralLanguageModel, length_mask
from bimo.models.distances import Distances
from bimo.models.embedding import TokenEmbedding
from bimo.models.layers import (
    Attention,
    Block,
    CrossAttention,
    CrossBlock,
    FeedForward,
    Filled,
    KeyValueStore,
    Norm,
    Sight,
    document_positions,
    inner_width,
    make_norm,
    sinusoids,
)
from bimo.models.saved import load_tensors
from bimo.models.vocabulary import read_vocabulary, write_vocabulary
from bimo.text.vocabulary import Vocabulary


class Seq2SeqConfig(ModelConfig):
    """The shape of an encoder–decoder. As it stands it is Vaswani's, small, with the norms first.

    >>> Seq2SeqConfig(width=64).inner, Seq2SeqConfig(norm_first=False).last_norm
    (256, False)
    """

    encoder_layers: int = Field(3, ge=1, description="blocks that read the source")
    decoder_layers: int = Field(3, ge=1, description="blocks that write the text")
    heads: int = Field(4, ge=1, description="attention heads")
    width: int = Field(128, ge=2, description="width of the hidden states")
    feed_forward: int | None = Field(
        None,
        ge=1,
        description="inner width of the feed-forward layers; 4 × width, or 8/3 × width (in steps of 64) with swiglu and geglu, if not said",
    )
    context: int = Field(256, ge=2, description="most tokens of a source, and of a text")
    norm_first: bool = Field(
        True, description="normalise what each layer reads (pre-norm); false: the sum after it (post-norm, Vaswani 2017)"
    )
    final_norm: bool | None = Field(None, description="one more norm after the last block; with norm_first alone, if not said")
    norm: Norm = Field("layer", description="layer or rms")
    norm_epsilon: float = Field(1e-5, gt=0, description="ε of the norms")
    positions: Literal["sinusoidal", "learned", "relative"] = Field(
        "sinusoidal", description="sinusoidal, learned (beginning there), or relative: scores that are learned by distance (T5)"
    )
    distances: int = Field(32, ge=4, description="ranges of distances that relative positions tell apart")
    farthest: int = Field(128, ge=2, description="distance from which on relative positions are all alike")
    activation: Activation = Field(
        "relu", description="relu (Vaswani), gelu_tanh, gelu, relu2 (squared), swiglu, geglu (T5), or others of bimo/models/activations.py"
    )
    bias: bool = Field(True, description="biases in the layers")
    shared: bool = Field(True, description="source and text have one embedding matrix")
    tied: bool = Field(True, description="the output matrix is the text's embedding matrix")
    dropout: float = Field(0.1, ge=0, lt=1, description="dropout on the embeddings and before each residual addition")
    attention_dropout: float = Field(0.0, ge=0, lt=1, description="dropout on the attention weights")
    sourceless: bool = Field(
        False, description="a text may come without a source: all of it is then missing, as denoising teaches (which sets this)"
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is no multiple of heads {self.heads}; change one of them")
        if self.positions == "relative" and (self.distances % 4 or self.farthest <= self.distances // 2):
            raise ValueError(
                f"distances {self.distances} must be a multiple of 4 and less than twice farthest {self.farthest}; change one of them"
            )
        if self.width % 2:
            raise ValueError(f"positions need an even width, found {self.width}")
        return self

    @property
    def inner(self) -> int:
        """Inner width of the feed-forward layers."""
        return inner_width(self.width, self.activation, self.feed_forward)

    @property
    def last_norm(self) -> bool:
        """Whether a norm stands after the last block of each stack."""
        return self.norm_first if self.final_norm is None else self.final_norm


@dataclass
class Seq2SeqState:
    """What is remembered of each row: keys and values of its source, made once, and of the text read since."""

    source: cache.KeyValueCache
    text: cache.KeyValueCache


class Seq2Seq(NeuralLanguageModel):
    """An encoder–decoder; `given` is a source text for each row (`bimo.data.batches.Given`)."""

    Config: ClassVar[type[ModelConfig]] = Seq2SeqConfig
    capabilities = frozenset({"rewind"})
    objectives: ClassVar[tuple[str, ...]] = ("causal", "denoising", "distillation")
    whole_documents: ClassVar[bool] = True
    kind = Kind.CONDITIONAL

    def __init__(self, config: Seq2SeqConfig, vocabulary: Vocabulary) -> None:
        super().__init__()
        self.config, self.vocabulary = config, vocabulary
        self.context: int | None = config.context
        c = config
        self.waves: Tensor
        self.embedding = TokenEmbedding(vocabulary, c.width)
        self.source_embedding = None if c.shared else TokenEmbedding(vocabulary, c.width)
        if c.positions == "learned":
            self.places, self.source_places = nn.Embedding(c.context, c.width), nn.Embedding(c.context, c.width)
        elif c.positions == "relative":
            self.distances = Distances(c.distances, c.heads, c.farthest, both_ways=False)
            self.source_distances = Distances(c.distances, c.heads, c.farthest, both_ways=True)
        else:
            self.register_buffer("waves", sinusoids(c.context, c.width), persistent=False)
        self.encoder = nn.ModuleList(
            Block(self._attention(), self._feed_forward(), (self._norm(), self._norm()), c.dropout, c.norm_first)
            for _ in range(c.encoder_layers)
        )
        self.decoder = nn.ModuleList(
            CrossBlock(
                self._attention(),
                CrossAttention(c.width, c.heads, bias=c.bias, dropout=c.attention_dropout),
                self._feed_forward(),
                (self._norm(), self._norm(), self._norm()),
                c.dropout,
                c.norm_first,
            )
            for _ in range(c.decoder_layers)
        )
        self.encoder_norm = self._norm() if c.last_norm else nn.Identity()
        self.decoder_norm = self._norm() if c.last_norm else nn.Identity()
        self.output = None if c.tied else nn.Linear(c.width, vocabulary.size, bias=False)

    def _attention(self) -> Attention:
        c = self.config
        return Attention(c.width, c.heads, c.heads, c.width // c.heads, bias=c.bias, dropout=c.attention_dropout)

    def _feed_forward(self) -> FeedForward:
        return FeedForward(self.config.width, self.config.inner, self.config.activation, bias=self.config.bias)

    def _norm(self) -> nn.Module:
        return make_norm(self.config.norm, self.config.width, self.config.norm_epsilon, self.config.bias)

    # -- making one ---------------------------------------------------------------------------------------------------

    @classmethod
    def build(cls, config: Seq2SeqConfig, vocabulary: Vocabulary) -> Self:
        """Random weights: U(±√(6/(inputs + outputs))) (Glorot 2010), embeddings and output N(0, 1/D), biases and distances 0, sinusoids."""
        model = cls(config, vocabulary)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name.endswith("places.weight"):
                    parameter.copy_(sinusoids(config.context, config.width))
                elif name.endswith("distances.table.weight"):
                    parameter.zero_()
                elif "embedding" in name or name == "output.weight":
                    parameter.normal_(0.0, config.width**-0.5)
                elif parameter.dim() == 2:
                    nn.init.xavier_uniform_(parameter)
                elif name.endswith("bias"):
                    parameter.zero_()
        return model

    def config_dict(self) -> dict[str, Any]:
        """What `config.json` holds."""
        return {"model_type": "bimo-seq2seq", **write_vocabulary(self.vocabulary), **self.config.model_dump()}

    def tensors(self) -> dict[str, Tensor]:
        """The parameters by name; tied ones once."""
        return dict(self.state_dict())

    @classmethod
    def from_tensors(cls, config: Mapping[str, Any], tensors: dict[str, Tensor]) -> Self:
        """Open what `config_dict` and `tensors` gave; ready to use (no dropout)."""
        settings = Seq2SeqConfig(**{name: config[name] for name in Seq2SeqConfig.model_fields if name in config})
        with torch.device("meta"):
            model = cls(settings, read_vocabulary(config))
        return load_tensors(model, tensors)

    # -- learning -----------------------------------------------------------------------------------------------------

    def hidden(
        self, tokens: Tensor, carry: Any = None, boundaries: Tensor | None = None, given: Given | None = None
    ) -> tuple[Tensor, None]:
        """Hidden states [B, T, D] of whole documents and what each is given; nothing is carried.

        Where `boundaries` say that a row holds several documents, all of them are given the row's source.
        """
        T = tokens.shape[1]
        self.check_context(T)
        given = self._or_nothing(given, len(tokens))
        memory, mask, filled = self._read(given)
        places = positions = torch.arange(T, device=tokens.device)[None, :]
        own = None
        if boundaries is not None and T > 1 and bool(boundaries[:, 1:].any()):
            positions, documents = document_positions(boundaries)
            own = (documents[:, :, None] == documents[:, None, :]).tril()[:, None]
        sight = self._sight(places, T, own)
        layers = [cast(CrossBlock, block).cross.read(memory, filled) for block in self.decoder]
        return self._decode(tokens, positions, sight, layers, Sight(mask=mask, causal=False)), None

    def head(self) -> tuple[Tensor, None]:
        """The output matrix [V, D]; there is no bias."""
        return (self.embedding if self.output is None else self.output).weight, None

    def encode(self, given: Given, still: bool = False) -> tuple[Tensor, Tensor | None]:
        """What the encoder makes of sources, [B, S, D], and which of it counts, bool [B, 1, 1, S] (None: all)."""
        memory, mask, filled = self._read(given, still)
        return (memory if filled is None else filled.lay(memory)), mask

    def _read(self, given: Given, still: bool = False) -> tuple[Tensor, Tensor | None, Filled | None]:
        """As `encode`, but of the filled places alone, [N, D], where that pays; which they are."""
        longest = int(given.lengths.max())
        if longest > self.config.context:
            raise ContextError(
                f"given: a source of {longest} tokens does not fit the model's context of {self.config.context}; "
                "shorten it, or train with a larger model.context"
            )
        tokens = given.tokens[:, :longest]
        mask = None if int(given.lengths.min()) == longest else length_mask(given.lengths, longest)[:, None, None]
        places = torch.arange(longest, device=tokens.device)[None, :]
        filled = Filled.of(given.lengths, longest)
        sight = Sight(mask=mask, causal=False, still=still, filled=filled)
        if self.config.positions == "relative":
            nearness = self.source_distances(places, places[0])
            sight = replace(sight, mask=nearness if mask is None else nearness.masked_fill(~mask, float("-inf")))
        x = self._embed(self.source_embedding or self.embedding, "source_places", tokens, places, sight)
        x = x if filled is None else filled.take(x)
        for block in self.encoder:
            x = block(x, sight)
        return self.encoder_norm(x), mask, filled

    def _decode(
        self, tokens: Tensor, positions: Tensor, sight: Sight, sources: Sequence[tuple[Tensor, Tensor]], source_sight: Sight
    ) -> Tensor:
        """Hidden states [B, T, D]; sources: each block's keys and values [B, H, S, E]."""
        x = self._embed(self.embedding, "places", tokens, positions, sight)
        for layer, block in enumerate(self.decoder):
            x = block(x, sight, sources[layer], source_sight, layer)
        return self.decoder_norm(x)

    def _sight(self, places: Tensor, keys: int, mask: Tensor | None, cache: KeyValueStore | None = None) -> Sight:
        """What the text's tokens at `places` int64 [B or 1, T] see of so many keys.

        mask: bool [B, 1, T, S], or None where each sees all before it and, in a single step, all.
        """
        if self.config.positions != "relative":
            return Sight(mask=mask, causal=mask is None, cache=cache)
        at = torch.arange(keys, device=places.device)
        seen = (at <= places[:, :, None])[:, None] if mask is None else mask
        nearness = self.distances(places, at).masked_fill(~seen, float("-inf"))
        return Sight(mask=nearness, causal=False, cache=cache)

    def _embed(self, embedding: nn.Embedding, places: str, tokens: Tensor, positions: Tensor, sight: Sight) -> Tensor:
        """√D times the embeddings, and the positions (Vaswani 2017, §3.4 and 3.5), learned ones of that name: [B, T, D]."""
        x, scale = embedding(tokens), self.config.width**0.5
        if self.config.positions == "relative":
            x = x * scale
        else:
            table = self.waves if self.config.positions == "sinusoidal" else self.get_submodule(places).weight
            x = torch.add(F.embedding(positions, cast(Tensor, table)), x, alpha=scale)
        return F.dropout(x, self.config.dropout) if self.config.dropout and self.training and sight.drops else x

    # -- the interface ------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def start(self, batch: int, given: Any = None) -> Seq2SeqState:
        """Read the sources, a row each; nothing of the texts was read yet."""
        given = self._checked_sources(self._or_nothing(given, batch), batch)
        memory, _ = self.encode(given, still=True)
        layers = [cast(CrossBlock, block).cross.read(memory) for block in self.decoder]
        c = self.config
        layout = cache.Layout(c.decoder_layers, c.heads, c.width // c.heads, c.context)
        keys, values = (torch.stack(part) for part in zip(*layers, strict=True))  # [N, B, H, S, E]
        source = cache.KeyValueCache(layout, keys, values, given.lengths)
        return Seq2SeqState(source, cache.KeyValueCache.empty(layout, batch, self.device, keys.dtype))

    def _or_nothing(self, given: Any, batch: int) -> Given:
        """What is given; where nothing is and the model knows texts without a source, a source of which all is missing."""
        if given is not None:
            return given
        pad = self.vocabulary.pad
        if not self.config.sourceless or pad is None:
            raise UserError(
                "given: an encoder–decoder needs a source text for each row, and none is given; write with --given TEXT, "
                "learn from and score pairs (SOURCE::TARGET), or learn from plain text by objective.name=denoising"
            )
        nothing = [id for id in (self.vocabulary.bos, pad, self.vocabulary.eos) if id is not None]
        tokens = torch.tensor([nothing], device=self.device)
        return Given(tokens.expand(batch, -1), torch.full((batch,), len(nothing), device=self.device))

    def _checked_sources(self, given: Given, batch: int) -> Given:
        if not isinstance(given, Given):
            raise UserError(f"given: expected source texts (bimo.data.batches.Given), found {type(given).__name__}")
        if len(given) != batch:
            raise UserError(f"given: {len(given)} source texts for {batch} rows; give one for each")
        try:
            return Given(*self.checked(given.tokens, given.lengths))
        except UserError as error:
            raise UserError(f"given: {error}") from None

    def extend(self, state: Seq2SeqState, tokens: Tensor, lengths: Tensor) -> tuple[Tensor, Seq2SeqState]:
        """Hidden states [B, T, D] of tokens read into the state; never drops out."""
        source, text = state.source, state.text
        fresh = text.longest == 0
        positions, mask = text.open(tokens.shape[1], lengths, self.check_context)
        sight = self._sight(positions, tokens.shape[1] if fresh else text.sight, mask, text)
        even = source.shortest == source.longest
        source_sight = Sight(mask=None if even else length_mask(source.lengths, source.longest)[:, None, None], causal=False, still=True)
        S = source.longest
        layers = [(source.keys[n, :, :, :S], source.values[n, :, :, :S]) for n in range(len(self.decoder))]
        hidden = self._decode(tokens, positions, sight, layers, source_sight)
        text.close(lengths)
        return hidden, state

    def select(self, state: Seq2SeqState, rows: Tensor) -> Seq2SeqState:
        """A copy of the state with the rows int64 [B'] in that order."""
        return Seq2SeqState(state.source.select(rows), state.text.select(rows))

    def join(self, states: Sequence[Seq2SeqState]) -> Seq2SeqState:
        """One state of all rows, in order; their sources may be of different lengths."""
        return Seq2SeqState(cache.join([s.source for s in states]), cache.join([s.text for s in states]))

    def rewind(self, state: Seq2SeqState, lengths: Tensor) -> Seq2SeqState:
        """Forget what each row read of its text after the first `lengths[b]` tokens; the source stays read."""
        return Seq2SeqState(state.source, state.text.rewind(torch.minimum(lengths.to(state.text.lengths), state.text.lengths)))

    def state_bytes(self, state: Seq2SeqState) -> int:
        """Size of the keys and values of source and text, bytes per row."""
        return state.source.bytes_per_row() + state.text.bytes_per_row()
