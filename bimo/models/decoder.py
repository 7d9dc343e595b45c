"""The Transformer decoder: one file from GPT-2 (learned positions, LayerNorm, GELU, biases) to Llama, Qwen2 and Qwen3.

Shapes: B rows, T tokens, D width, V vocabulary. The block is in `layers`, the keys and values of a state in `cache`, the names
and settings of other programs in `interop/huggingface`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from bimo.core.errors import CapabilityError
from bimo.models import cache
from bimo.models.activations import Activation
from bimo.models.base import Kind, ModelConfig, NeuralLanguageModel
from bimo.models.embedding import NgramEmbedding, TokenEmbedding, last_tokens
from bimo.models.interop import huggingface
from bimo.models.layers import (
    Attention,
    Block,
    FeedForward,
    Norm,
    Sight,
    document_positions,
    inner_width,
    make_norm,
    text_pieces,
)
from bimo.models.rotary import RopeScaling, Rotary
from bimo.text.vocabulary import Vocabulary


class DecoderConfig(ModelConfig):
    """The shape of a decoder. As it stands it is Qwen3's, small.

    >>> DecoderConfig(width=128).inner, DecoderConfig(width=128, activation="gelu_tanh").inner
    (384, 512)
    """

    layers: int = Field(4, ge=1, description="number of blocks")
    heads: int = Field(4, ge=1, description="attention heads")
    kv_heads: int | None = Field(None, ge=1, description="key-value heads, which groups of heads share; as many as heads, if not said")
    head_width: int | None = Field(None, ge=1, description="width of a head; width / heads, if not said")
    width: int = Field(128, ge=1, description="width of the hidden states")
    feed_forward: int | None = Field(
        None,
        ge=1,
        description="inner width of the feed-forward layer; 4 × width, or 8/3 × width (in steps of 64) with swiglu and geglu, if not said",
    )
    context: int = Field(256, ge=1, description="most tokens in sight")
    norm: Norm = Field("rms", description="layer (GPT-2) or rms (Llama, Qwen3)")
    norm_epsilon: float = Field(1e-5, gt=0, description="ε of the norms")
    positions: Literal["learned", "rotary"] = Field("rotary", description="learned (GPT-2) or rotary (Llama, Qwen3)")
    rope_theta: float = Field(10000.0, gt=0, description="base of the rotary angles")
    rope_scaling: RopeScaling | None = Field(None, description="angles slowed for longer texts than the model first learned from")
    activation: Activation = Field(
        "swiglu",
        description="gelu_tanh (GPT-2), gelu, relu, relu2 (squared), swiglu (Llama, Qwen3), geglu, or others of bimo/models/activations.py",
    )
    scale_attention: bool = Field(True, description="attention scores are divided by √(width of a head)")
    scale_by_layer: bool = Field(False, description="attention scores of layer i are divided by i, the first of which is 1")
    window: int | None = Field(None, ge=1, description="sliding window: tokens that a token sees, itself among them; all, if not said")
    window_layers: list[int] | None = Field(None, description="layers with the window, the first of which is 0; all, if not said")
    qk_norm: bool = Field(True, description="normalise queries and keys (Qwen3)")
    bias: bool | Literal["attention", "qkv", "feed_forward"] = Field(
        False, description="biases: everywhere (GPT-2), nowhere, or in one place (qkv: Qwen2's, on queries, keys and values)"
    )
    tied: bool = Field(True, description="the output matrix is the embedding matrix")
    ngrams: int | None = Field(
        None, ge=2, le=8, description="embeddings of the last 2 … so many tokens together, hashed, beside a token's own; none, if not said"
    )
    ngram_buckets: int = Field(20_000, ge=1, description="rows of each table of such embeddings")
    dropout: float = Field(0.0, ge=0, lt=1, description="dropout on the embeddings and before each residual addition")
    embedding_dropout: float | None = Field(None, ge=0, lt=1, description="dropout on the embeddings; as dropout, if not said")
    attention_dropout: float = Field(0.0, ge=0, lt=1, description="dropout on the attention weights")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.head_width is None and self.width % self.heads:
            raise ValueError(f"width {self.width} is no multiple of heads {self.heads}; change one, or set head_width")
        if self.heads % self.groups:
            raise ValueError(f"heads {self.heads} is no multiple of kv_heads {self.groups}; change one of them")
        if self.positions == "rotary" and self.per_head % 2:
            raise ValueError(f"rotary positions need an even width of a head, found {self.per_head}; change width, heads or head_width")
        if self.rope_scaling is not None and (self.positions != "rotary" or self.rope_theta <= 1):
            raise ValueError("rope_scaling needs rotary positions and a rope_theta of more than 1")
        if self.window_layers is not None and (self.window is None or not all(0 <= i < self.layers for i in self.window_layers)):
            raise ValueError(f"window_layers must be numbers below {self.layers}, and need window")
        return self

    @property
    def groups(self) -> int:
        """Key-value heads."""
        return self.kv_heads or self.heads

    @property
    def windowed(self) -> frozenset[int]:
        """The layers whose tokens do not see all of the context."""
        if self.window is None or self.window >= self.context:
            return frozenset()
        return frozenset(range(self.layers) if self.window_layers is None else self.window_layers)

    @property
    def per_head(self) -> int:
        """Width of a head."""
        return self.head_width or self.width // self.heads

    @property
    def inner(self) -> int:
        """Inner width of the feed-forward layer."""
        return inner_width(self.width, self.activation, self.feed_forward)


class Decoder(NeuralLanguageModel):
    """A Transformer decoder; a state is a `KeyValueCache`."""

    Config: ClassVar[type[ModelConfig]] = DecoderConfig
    capabilities = frozenset({"rewind", "gradient_checkpointing"})
    kind = Kind.EXACT

    def __init__(self, config: DecoderConfig, vocabulary: Vocabulary) -> None:
        super().__init__()
        self.config, self.vocabulary = config, vocabulary
        self.context: int | None = config.context
        c = config
        self.embedding = TokenEmbedding(vocabulary, c.width)
        self.places = nn.Embedding(c.context, c.width) if c.positions == "learned" else None
        self.ngrams = NgramEmbedding(c.ngrams, c.ngram_buckets, c.width) if c.ngrams else None
        self.blocks = nn.ModuleList(self._block(layer) for layer in range(c.layers))
        self.norm = make_norm(c.norm, c.width, c.norm_epsilon, c.bias is True)
        self.output = None if c.tied else nn.Linear(c.width, vocabulary.size, bias=False)
        self.rotary = Rotary(c.context, c.per_head, c.rope_theta, c.rope_scaling) if c.positions == "rotary" else None

    def _block(self, layer: int) -> Block:
        c = self.config
        scale = None
        if not c.scale_attention or c.scale_by_layer:
            scale = (c.per_head**-0.5 if c.scale_attention else 1.0) / (layer + 1 if c.scale_by_layer else 1)
        attention = Attention(
            c.width,
            c.heads,
            c.groups,
            c.per_head,
            bias=c.bias in (True, "attention", "qkv"),
            out_bias=c.bias in (True, "attention"),
            qk_norm=c.qk_norm,
            epsilon=c.norm_epsilon,
            dropout=c.attention_dropout,
            scale=scale,
        )
        feed_forward = FeedForward(c.width, c.inner, c.activation, bias=c.bias in (True, "feed_forward"))
        first, second = (make_norm(c.norm, c.width, c.norm_epsilon, c.bias is True) for _ in range(2))
        return Block(attention, feed_forward, (first, second), c.dropout)

    # -- making one ---------------------------------------------------------------------------------------------------

    @classmethod
    def build(cls, config: DecoderConfig, vocabulary: Vocabulary) -> Self:
        """Random weights as GPT-2's: N(0, 0.02²), matrices that write into the residual stream divided by √(2 layers), biases 0."""
        model = cls(config, vocabulary)
        residual = 0.02 / (2 * config.layers) ** 0.5
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name.startswith("ngrams."):
                    parameter.zero_()
                elif parameter.dim() == 2:
                    parameter.normal_(0.0, residual if name.endswith(("out.weight", "outer.weight")) else 0.02)
                elif name.endswith("bias"):
                    parameter.zero_()
        return model

    def config_dict(self) -> dict[str, Any]:
        """GPT-2's, Llama's, Qwen2's or Qwen3's `config.json` where the shape is theirs and no tags are read, ours otherwise."""
        return huggingface.write_config(self.config, self.vocabulary)

    def tensors(self) -> dict[str, Tensor]:
        """Tensors under the names that `config_dict`'s model type has for them; tied ones once."""
        return huggingface.write_tensors(self.config, self.vocabulary, self.state_dict())

    @classmethod
    def from_tensors(cls, config: Mapping[str, Any], tensors: dict[str, Tensor]) -> Self:
        """Open our folders and those that GPT-2, Llama, Qwen2 and Qwen3 come in; ready to use (no dropout)."""
        settings, vocabulary = huggingface.read_config(config, DecoderConfig, tensors)
        with torch.device("meta"):
            model = cls(settings, vocabulary)
        found = huggingface.read_tensors(settings, str(config["model_type"]), tensors, model.state_dict())
        model.load_state_dict(found, assign=True)
        return model.requires_grad_(True).eval()

    def linear_names(self) -> dict[str, tuple[str, ...]]:
        """The maps of the blocks under the names that `config_dict`'s model type has for them."""
        return huggingface.linear_names(self.config, self.vocabulary)

    # -- learning -----------------------------------------------------------------------------------------------------

    @property
    def shares_beginnings(self) -> bool:  # type: ignore[override]
        """Where it reads single tokens alone; an n-gram at a document's beginning would reach into the document before it."""
        return self.ngrams is None

    def hidden(self, tokens: Tensor, carry: Any = None, boundaries: Tensor | None = None, shared: int = 0) -> tuple[Tensor, None]:
        """Hidden states [B, T, D]; attention and positions stay within each document. Nothing is carried: windows stand alone.

        shared: the first so many tokens of a row are a document that each of the others there goes on from.
        """
        T = tokens.shape[1]
        self.check_context(T)
        if boundaries is None or T == 1 or not bool(boundaries[:, 1:].any()):
            positions = torch.arange(T, device=tokens.device)[None, :]
            return self._read(tokens, positions, Sight(), self._last(tokens, positions)), None
        positions, documents = document_positions(boundaries)
        positions[:, shared:] += shared
        windows = bool(self.config.windowed) and int(self.config.window or T) < T
        if not windows and (pieces := text_pieces(boundaries, shared)):
            return self._read(tokens, positions, Sight(pieces=pieces, shared=shared), self._last(tokens, positions)), None
        same = documents[:, :, None] == documents[:, None, :]
        same[:, :, :shared] = True
        mask = same.logical_and_(torch.ones(T, T, dtype=torch.bool, device=tokens.device).tril_())[:, None]
        return self._read(tokens, positions, Sight(mask=mask, causal=False), self._last(tokens, positions)), None

    def _last(self, tokens: Tensor, positions: Tensor) -> Tensor | None:
        """The last tokens at each place of whole windows, where embeddings of them are read."""
        return None if self.ngrams is None else last_tokens(tokens, self.ngrams.order, positions)

    def head(self) -> tuple[Tensor, None]:
        """The output matrix [V, D]; there is no bias."""
        return (self.embedding if self.output is None else self.output).weight, None

    def _read(self, tokens: Tensor, positions: Tensor, sight: Sight, last: Tensor | None) -> Tensor:
        """Hidden states [B, T, D] of tokens [B, T] at positions [B, T] or [1, T]; last: [B, T, n], see `last_tokens`."""
        x = self.embedding(tokens)
        if self.ngrams is not None and last is not None:
            x = x + self.ngrams(last)
        if self.places is not None:
            x = x + self.places(positions)
        elif self.rotary is not None:
            cos, sin = self.rotary.at(positions, sight.cache.sight if isinstance(sight.cache, cache.KeyValueCache) else tokens.shape[1])
            sight = replace(sight, cos=cos.to(x.dtype), sin=sin.to(x.dtype))
        dropout = self.config.dropout if self.config.embedding_dropout is None else self.config.embedding_dropout
        if self.training and dropout and sight.cache is None:
            x = F.dropout(x, dropout)
        again = self.gradient_checkpointing and self.training and torch.is_grad_enabled() and sight.cache is None
        windowed = self.config.windowed
        narrow = self._narrowed(sight, positions) if windowed else sight
        for layer, block in enumerate(self.blocks):
            seen = narrow if layer in windowed else sight
            x = checkpoint(block, x, seen, layer, use_reentrant=False) if again else block(x, seen, layer)
        return self.norm(x)

    def _narrowed(self, sight: Sight, positions: Tensor) -> Sight:
        """What layers with a sliding window see in a pass over tokens at `positions` [B or 1, T]: the last `window` tokens."""
        held = sight.cache if isinstance(sight.cache, cache.KeyValueCache) else None  # its keys lie at their positions
        keys = positions if held is None else torch.arange(held.sight, device=positions.device)[None]
        queries, window = positions[:, :, None], self.config.window or 0
        if keys.shape[1] <= window:
            return sight
        mask = (keys[:, None] <= queries)[:, None] if sight.mask is None else sight.mask
        return replace(sight, mask=mask & (keys[:, None] > queries - window)[:, None], causal=False)

    # -- the interface ------------------------------------------------------------------------------------------------

    def start(self, batch: int, given: Any = None) -> cache.KeyValueCache:
        """An empty cache of `batch` rows."""
        if given is not None:
            raise CapabilityError("a decoder continues a text and takes nothing given; write the source into the prompt")
        c = self.config
        layout = cache.Layout(c.layers, c.groups, c.per_head, c.context, ids=c.ngrams is not None)
        return cache.KeyValueCache.empty(layout, batch, self.device, self.embedding.weight.dtype)

    def extend(self, state: cache.KeyValueCache, tokens: Tensor, lengths: Tensor) -> tuple[Tensor, cache.KeyValueCache]:
        """Hidden states [B, T, D] of tokens read into the cache; never drops out."""
        positions, mask = state.open(tokens.shape[1], lengths, self.check_context)
        last = None if self.ngrams is None else state.last(tokens, positions, self.ngrams.order)
        hidden = self._read(tokens, positions, Sight(mask=mask, causal=mask is None, cache=state), last)
        state.close(lengths)
        return hidden, state

    def select(self, state: cache.KeyValueCache, rows: Tensor) -> cache.KeyValueCache:
        """A copy of the state with the rows int64 [B'] in that order."""
        return state.select(rows)

    def join(self, states: Sequence[cache.KeyValueCache]) -> cache.KeyValueCache:
        """One state of all rows, in order."""
        return cache.join(states)

    def rewind(self, state: cache.KeyValueCache, lengths: Tensor) -> cache.KeyValueCache:
        """Forget what each row read after its first `lengths[b]` tokens."""
        return state.rewind(torch.minimum(lengths.to(state.lengths), state.lengths))

    def state_bytes(self, state: cache.KeyValueCache) -> int:
        """Size of the keys and values, bytes per row."""
        return state.bytes_per_row()
