"""The shape of a variational autoencoder of sentences."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from bimo.models.base import ModelConfig
from bimo.models.kernels.recurrent import Cell
from bimo.models.latent import MOST_SAMPLES

Pooling = Literal["max", "mean", "last"]


class VAEConfig(ModelConfig):
    """The shape of an encoder and a decoder of one kind, and of the latent between them."""

    body: Literal["recurrent", "transformer"] = Field("recurrent", description="what reads and what writes")
    latent: int = Field(32, ge=1, description="width of the latent")
    layers: int = Field(1, ge=1, description="depth of the decoder")
    encoder_layers: int = Field(1, ge=1, description="depth of the encoder")
    width: int = Field(256, ge=1, description="units of a layer")
    pooling: Pooling = Field("max", description="how the encoder's states become one: max, mean, or the last (Long et al. 2020)")
    dropout: float = Field(0.0, ge=0, lt=1, description="dropout on what the decoder's layers read and give; the encoder has none")
    score_samples: int = Field(
        1, ge=1, le=MOST_SAMPLES, description="importance samples of a score: 1 is the ELBO, more tighten it (Burda et al. 2016)"
    )
    tied: bool = Field(True, description="the output matrix is the embedding matrix (a projection joins them where the widths differ)")
    cell: Cell = Field("lstm", description="recurrent: rnn, lstm or gru")
    embedding: int | None = Field(None, ge=1, description="recurrent: width of the embeddings; as the units, if not said")
    heads: int = Field(4, ge=1, description="transformer: attention heads")
    context: int = Field(256, ge=1, description="transformer: most tokens in sight")

    @model_validator(mode="before")
    @classmethod
    def _lower(cls, data: Any) -> Any:
        if isinstance(data, dict) and isinstance(data.get("cell"), str):
            data = {**data, "cell": data["cell"].lower()}
        return data

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.body == "transformer":
            if self.embedding not in (None, self.width):
                raise ValueError(f"embedding {self.embedding} is not width {self.width}, as a transformer needs; leave it out")
            if self.width % (2 * self.heads):
                raise ValueError(f"width {self.width} is no multiple of twice heads {self.heads}; change one of them")
        return self

    @property
    def input_width(self) -> int:
        """Width of the embeddings."""
        return self.embedding or self.width
