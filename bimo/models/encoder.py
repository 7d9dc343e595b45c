"""The Transformer encoder, which fills gaps: one file from BERT to modern ones (norms first, rotary positions, no biases).

Shapes: B rows, T tokens, D width, V vocabulary. The block is in `layers`, the names and settings of transformers' BERT in `interop/bert`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from bimo.core.errors import ContextError, ModelError
from bimo.models.activations import GATED, Activation, activate
from bimo.models.base import ModelConfig, length_mask
from bimo.models.embedding import TokenEmbedding
from bimo.models.interop import bert
from bimo.models.layers import (
    Attention,
    Block,
    FeedForward,
    Norm,
    Pooling,
    Sight,
    document_positions,
    inner_width,
    make_norm,
    pool,
)
from bimo.models.masked import MaskedModel
from bimo.models.rotary import Rotary
from bimo.text.vocabulary import Vocabulary


class EncoderConfig(ModelConfig):
    """The shape of an encoder. As it stands it is a modern one, small.

    >>> EncoderConfig(width=128).inner, EncoderConfig(width=128, activation="gelu").inner
    (384, 512)
    """

    layers: int = Field(4, ge=1, description="number of blocks")
    heads: int = Field(4, ge=1, description="attention heads")
    width: int = Field(128, ge=1, description="width of the hidden states")
    feed_forward: int | None = Field(
        None,
        ge=1,
        description="inner width of the feed-forward layer; 4 × width, or 8/3 × width (in steps of 64) with swiglu and geglu, if not said",
    )
    context: int = Field(128, ge=2, description="most tokens in sight")
    norm: Norm = Field("rms", description="layer (BERT) or rms")
    norm_first: bool = Field(True, description="normalise before attention and feed-forward; after their addition (BERT), if not")
    norm_epsilon: float = Field(1e-5, gt=0, description="ε of the norms")
    embedding_norm: bool = Field(False, description="normalise the sum of the embeddings (BERT)")
    positions: Literal["learned", "rotary"] = Field("rotary", description="learned (BERT) or rotary")
    rope_theta: float = Field(10000.0, gt=0, description="base of the rotary angles")
    token_types: int = Field(0, ge=0, description="kinds of segment that have an embedding (BERT: 2); texts are of the first")
    activation: Activation = Field(
        "swiglu", description="gelu (BERT), gelu_tanh, relu, relu2 (squared), swiglu, geglu, or others of bimo/models/activations.py"
    )
    qk_norm: bool = Field(False, description="normalise queries and keys")
    bias: bool = Field(False, description="biases (BERT)")
    fills: bool = Field(True, description="a head that tells hidden tokens; without it (sentence encoders) features alone")
    tied: bool = Field(True, description="the output matrix is the embedding matrix")
    causal: bool = Field(False, description="each token sees itself and those before it alone (BERT's is_decoder)")
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
        return inner_width(self.width, self.activation, self.feed_forward)


class Head(nn.Module):
    """What stands between the features and the output matrix: a dense layer, its activation and a norm, and the output's bias.

    Source: Devlin et al. 2019, as their program has it ("transform").
    """

    def __init__(self, config: EncoderConfig, vocab_size: int) -> None:
        super().__init__()
        c = config
        self.dense = nn.Linear(c.width, c.width, bias=c.bias)
        self.activation = "gelu" if c.activation in GATED else c.activation
        self.norm = make_norm(c.norm, c.width, c.norm_epsilon, c.bias)
        self.output = None if c.tied else nn.Linear(c.width, vocab_size, bias=False)
        self.bias = nn.Parameter(torch.zeros(vocab_size))

    def forward(self, x: Tensor) -> Tensor:
        """x [..., D] → [..., D]."""
        return self.norm(activate(self.dense(x), self.activation))


class Encoder(MaskedModel):
    """A Transformer encoder: every token sees all of its document, so it tells hidden tokens and continues no text."""

    Config: ClassVar[type[ModelConfig]] = EncoderConfig
    capabilities = frozenset({"fill", "features"})
    objectives = ("masked", "contrastive", "distillation")

    def __init__(self, config: EncoderConfig, vocabulary: Vocabulary) -> None:
        super().__init__()
        self.config, self.vocabulary = config, vocabulary
        self.context: int | None = config.context - 1  # fed tokens; one more is scored, and stands in sight as well
        if config.mask_token_id is not None and config.mask_token_id >= vocabulary.size:
            raise ModelError(f"config.json: mask_token_id must be an id below {vocabulary.size}, found {config.mask_token_id}")
        self.mask_id = config.mask_token_id
        if not config.fills:
            self.capabilities = frozenset({"features"})  # type: ignore[misc]  # of this one, not of the class
        c = config
        self.embedding = TokenEmbedding(vocabulary, c.width)
        self.places = nn.Embedding(c.context, c.width) if c.positions == "learned" else None
        self.types = nn.Embedding(c.token_types, c.width) if c.token_types else None
        self.embedding_norm = make_norm(c.norm, c.width, c.norm_epsilon, c.bias) if c.embedding_norm else None
        self.blocks = nn.ModuleList(self._block() for _ in range(c.layers))
        self.norm = make_norm(c.norm, c.width, c.norm_epsilon, c.bias) if c.norm_first else None
        self.filler = Head(c, vocabulary.size) if c.fills else None
        self.rotary = Rotary(c.context, c.per_head, c.rope_theta) if c.positions == "rotary" else None

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
        """BERT's `config.json` where the shape is BERT's and no tags are read, ours otherwise."""
        return bert.write_config(self.config, self.vocabulary)

    def tensors(self) -> dict[str, Tensor]:
        """Tensors under the names that `config_dict`'s model type has for them; tied ones once."""
        return bert.write_tensors(self.config, self.vocabulary, self.state_dict())

    @classmethod
    def from_tensors(cls, config: Mapping[str, Any], tensors: dict[str, Tensor]) -> Self:
        """Open our folders and those that BERT comes in, with its head for hidden tokens or without; ready to use (no dropout)."""
        settings, vocabulary = bert.read_config(config, tensors, EncoderConfig)
        with torch.device("meta"):
            model = cls(settings, vocabulary)
        found = bert.read_tensors(settings, str(config["model_type"]), tensors, model.state_dict())
        model.load_state_dict(found, assign=True)
        return model.requires_grad_(True).eval()

    def linear_names(self) -> dict[str, tuple[str, ...]]:
        """The maps of the blocks and of the head under the names that `config_dict`'s model type has for them."""
        return bert.linear_names(self.config, self.vocabulary) or super().linear_names()

    # -- reading ------------------------------------------------------------------------------------------------------

    def _read(self, tokens: Tensor, positions: Tensor, mask: Tensor | None, still: bool = False) -> Tensor:
        """Features [B, T, D] of tokens [B, T] at positions [B, T] or [1, T]; mask: bool [B, 1, 1 or T, T], what each one sees."""
        x = self.embedding(tokens)
        cos = sin = None
        if self.places is not None:
            x = x + self.places(positions)
        elif self.rotary is not None:
            cos, sin = (angles.to(x.dtype) for angles in self.rotary.at(positions, tokens.shape[1]))
        if self.types is not None:
            x = x + self.types.weight[0]
        if self.embedding_norm is not None:
            x = self.embedding_norm(x)
        if self.config.causal:
            before = torch.ones(tokens.shape[1], tokens.shape[1], dtype=torch.bool, device=tokens.device).tril_()
            mask = before[None, None] if mask is None else mask & before
        sight = Sight(cos, sin, mask, causal=False, still=still)
        if self.training and self.config.dropout and sight.drops:
            x = F.dropout(x, self.config.dropout)
        for layer, block in enumerate(self.blocks):
            x = block(x, sight, layer)
        return x if self.norm is None else self.norm(x)

    def _rows(self, tokens: Tensor, lengths: Tensor, still: bool) -> Tensor:
        """Features [B, T, D] of rows of these lengths; what stands in the padding is seen by none."""
        T = tokens.shape[1]
        self.check_places(T)
        mask = None if bool((lengths == T).all()) else length_mask(lengths, T)[:, None, None]
        return self._read(tokens, torch.arange(T, device=tokens.device)[None], mask, still)

    def check_places(self, length: int) -> None:
        """Raise `ContextError` if a row holds more tokens than there are places."""
        if length > self.config.context:
            raise ContextError(
                f"{length} tokens do not fit the model's context of {self.config.context}; feed a shorter text or score in windows"
            )

    def _needs_head(self) -> Head:
        self.check_fills()
        assert self.filler is not None
        return self.filler

    # -- learning -----------------------------------------------------------------------------------------------------

    def hidden(
        self, tokens: Tensor, carry: Any = None, boundaries: Tensor | None = None, places: Tensor | None = None
    ) -> tuple[Tensor, None]:
        """Hidden states [B, T, D] that `head` makes logits of, for the tokens themselves where they are hidden.

        Each token sees all of its document; positions begin anew with each. Nothing is carried: windows stand alone. places:
        int64 [N], which of the B · T are wanted, [N, D].
        """
        head, T = self._needs_head(), tokens.shape[1]
        self.check_places(T)
        positions, mask = torch.arange(T, device=tokens.device)[None], None
        if boundaries is not None and T > 1 and bool(boundaries[:, 1:].any()):
            positions, documents = document_positions(boundaries)
            mask = (documents[:, :, None] == documents[:, None, :])[:, None]
        x = self._read(tokens, positions, mask)
        return head(x if places is None else x.flatten(0, 1).index_select(0, places)), None

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

    # -- filling -------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def fill(self, tokens: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Logits [B, T, V] of what stands at each place, without dropout; `mask_id` in the tokens hides what is asked for."""
        head = self._needs_head()
        tokens, lengths = self.checked(tokens, lengths)
        return self.logits(head(self._rows(tokens, lengths, still=True)))

    def told(self, tokens: Tensor, lengths: Tensor, places: Tensor) -> Tensor:
        """Logits [N, V] of what stands at tokens[n, places[n]], for checked tokens [N, T]; nothing drops out."""
        head, each = self._needs_head(), torch.arange(len(tokens), device=tokens.device)
        return self.logits(head(self._rows(tokens, lengths, still=True)[each, places]))
