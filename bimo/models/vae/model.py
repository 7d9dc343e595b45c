"""The model: q(z | x), p(x | z), and the bound on −log p(x) that both give.

Shapes: B rows, T tokens, D width before the output matrix, Z width of the latent, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from bimo.core.errors import CapabilityError, UserError
from bimo.models.base import Kind, ModelConfig, NeuralLanguageModel, Score
from bimo.models.embedding import TokenEmbedding
from bimo.models.latent import drawn, fixed_noise, importance_bound, kl_to_prior, log_ratio
from bimo.models.layers import document_positions
from bimo.models.saved import load_tensors
from bimo.models.scoring import tokens_together
from bimo.models.vae.bodies import (
    RecurrentDecoder,
    RecurrentEncoder,
    TransformerDecoder,
    TransformerEncoder,
    pooled,
)
from bimo.models.vae.config import VAEConfig
from bimo.models.vocabulary import read_vocabulary, write_vocabulary
from bimo.text.vocabulary import Vocabulary


@dataclass(frozen=True)
class Memory:
    """A state: the latent of each row [B, Z], and what the decoder remembers of the tokens."""

    z: Tensor
    inner: Any


class Whole:
    """What a bound leaves behind: it is of whole documents, and nothing goes on from it."""


class VAE(NeuralLanguageModel):
    """A variational autoencoder of documents; a state is a `Memory`.

    Given a latent it is a language model like any other: `advance` is exact, and `score` conditional. Given none, `start` draws one
    from the prior N(0, I), and `score` is a bound: −log p(x) is at most the reconstruction's nats plus KL(q(z|x) ‖ p(z)) on average.
    """

    Config: ClassVar[type[ModelConfig]] = VAEConfig
    objectives: ClassVar[tuple[str, ...]] = ("elbo",)
    capabilities = frozenset({"latent"})
    whole_documents = True
    kind = Kind.BOUND

    def __init__(self, config: VAEConfig, vocabulary: Vocabulary) -> None:
        super().__init__()
        self.config, self.vocabulary = config, vocabulary
        recurrent = config.body == "recurrent"
        self.context: int | None = None if recurrent else config.context
        self.embedding = TokenEmbedding(vocabulary, config.input_width)  # of what is read and of what is written
        self.encoder = RecurrentEncoder(config) if recurrent else TransformerEncoder(config)
        self.posterior = nn.Linear(config.width, 2 * config.latent)
        self.decoder = RecurrentDecoder(config) if recurrent else TransformerDecoder(config)
        joined = config.tied and config.input_width != config.width
        self.projection = nn.Linear(config.width, config.input_width, bias=False) if joined else None
        self.output = None if config.tied else nn.Linear(config.width, vocabulary.size, bias=False)
        self.output_bias = nn.Parameter(torch.empty(vocabulary.size))

    @property
    def latent_width(self) -> int:
        """Z."""
        return self.config.latent

    @property
    def score_samples(self) -> int:
        """Importance samples of a bound."""
        return self.config.score_samples

    @score_samples.setter
    def score_samples(self, samples: int) -> None:
        self.config.score_samples = samples

    @property
    def scoring_passes(self) -> int:
        """The encoder's, and one for each sample."""
        return 1 + self.score_samples

    # -- making one ---------------------------------------------------------------------------------------------------

    @classmethod
    def build(cls, config: VAEConfig, vocabulary: Vocabulary) -> Self:
        """Random weights as those of the recurrent families, or of the decoder, have them; the posterior begins near the prior."""
        model = cls(config, vocabulary)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if parameter.dim() < 2:
                    if not name.endswith("norm.weight"):
                        parameter.zero_()
                elif config.body == "recurrent":
                    limit = 0.1 if name.startswith(("embedding.", "output.")) else config.width**-0.5
                    parameter.uniform_(-limit, limit)
                else:
                    parameter.normal_(0.0, 0.02 / _shrunk(name, config))
            if config.body == "recurrent" and config.cell == "lstm":
                for name, parameter in model.named_parameters():
                    if name.endswith("bias_input"):
                        parameter[config.width : 2 * config.width] = 1.0  # the forget gate's
        return model

    def config_dict(self) -> dict[str, Any]:
        """What `config.json` holds."""
        return {"model_type": "bimo-vae", **write_vocabulary(self.vocabulary), **self.config.model_dump()}

    def tensors(self) -> dict[str, Tensor]:
        """The parameters by name; tied ones once."""
        return dict(self.state_dict())

    @classmethod
    def from_tensors(cls, config: Mapping[str, Any], tensors: dict[str, Tensor]) -> Self:
        """Open what `config_dict` and `tensors` gave; ready to use (no dropout)."""
        fields = {name: config[name] for name in VAEConfig.model_fields if name in config}
        with torch.device("meta"):
            model = cls(VAEConfig(**fields), read_vocabulary(config))
        return load_tensors(model, tensors)

    # -- learning -----------------------------------------------------------------------------------------------------

    def encode(self, tokens: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Mean and logarithm of the variance of q(z | x), [B, Z] each, of whole documents [B, T]; there is no dropout in it."""
        tokens, lengths = self.checked(tokens, lengths)
        tokens = tokens[:, : int(lengths.max())] if len(lengths) else tokens
        self.check_context(tokens.shape[1] - 1)  # a document's last token is never fed to the decoder
        found = self.posterior(pooled(self.encoder(self.embedding(tokens), lengths), lengths, self.config.pooling))
        mean, log_variance = found.to(self.output_bias.dtype).chunk(2, dim=1)
        return mean, log_variance

    def hidden(
        self, tokens: Tensor, carry: Any = None, boundaries: Tensor | None = None, given: Tensor | None = None
    ) -> tuple[Tensor, None]:
        """Hidden states [B, T, D] given the latents [B, Z]; nothing is carried. Documents that begin inside a row have the row's latent."""
        z = self._latents(len(tokens), given)
        self.check_context(tokens.shape[1])
        if boundaries is None or tokens.shape[1] == 1 or not bool(boundaries[:, 1:].any()):
            return self._projected(self.decoder.learn(self.embedding(tokens), z)), None
        begins = boundaries.clone()
        begins[:, 0] = True
        places, documents = document_positions(begins)  # each document becomes a row of its own
        documents = documents - 1 + (documents[:, -1].cumsum(0) - documents[:, -1])[:, None]
        apart = tokens.new_zeros(int(documents.max()) + 1, int(places.max()) + 1)
        apart[documents, places] = tokens
        rows = torch.arange(len(tokens), device=tokens.device).repeat_interleave(begins.sum(1))
        return self._projected(self.decoder.learn(self.embedding(apart), z[rows])[documents, places]), None

    def head(self) -> tuple[Tensor, Tensor]:
        """Output matrix [V, D] and bias [V]."""
        return (self.embedding if self.output is None else self.output).weight, self.output_bias

    def _projected(self, hidden: Tensor) -> Tensor:
        return hidden if self.projection is None else self.projection(hidden)

    def _latents(self, batch: int, given: Any) -> Tensor:
        """`given` as latents [B, Z] on this model's device, or as many drawn from the prior."""
        like = self.output_bias
        if given is None:
            return torch.randn(batch, self.latent_width, dtype=like.dtype).to(like.device)
        if not isinstance(given, Tensor) or not given.is_floating_point() or given.shape != (batch, self.latent_width):
            found = f"a tensor {list(given.shape)} of {given.dtype}" if isinstance(given, Tensor) else f"a {type(given).__name__}"
            raise UserError(f"given: expected latents [{batch}, {self.latent_width}] of floats (encode makes them of texts), found {found}")
        return given.to(like.device, like.dtype)

    # -- the interface ------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def start(self, batch: int, given: Any = None) -> Memory:
        """Nothing read yet, given the latents [B, Z]; drawn from N(0, I) by torch's generator where there are none."""
        z = self._latents(batch, given)
        return Memory(z, self.decoder.begin(z))

    def extend(self, state: Any, tokens: Tensor, lengths: Tensor) -> tuple[Tensor, Memory]:
        """Hidden states [B, T, D] given the state's latents, and the new state; never drops out."""
        state = _memory(state)
        hidden, inner = self.decoder.extend(self.embedding(tokens), state.z, state.inner, lengths, self.check_context)
        return self._projected(hidden), Memory(state.z, inner)

    def select(self, state: Any, rows: Tensor) -> Memory:
        """A copy of the state with the rows int64 [B'] in that order."""
        state, rows = _memory(state), rows.to(self.device)
        return Memory(state.z[rows], self.decoder.select(state.inner, rows))

    def join(self, states: Sequence[Any]) -> Memory:
        """One state of all rows, in order."""
        parts = [_memory(state) for state in states]
        return Memory(torch.cat([part.z for part in parts]), self.decoder.join([part.inner for part in parts]))

    def state_bytes(self, state: Any) -> int:
        """Size of the latent and of the decoder's state, bytes per row."""
        state = _memory(state)
        return state.z.nbytes // max(1, len(state.z)) + self.decoder.bytes_of(state.inner)

    @torch.no_grad()
    def score(self, tokens: Tensor, lengths: Tensor | None = None, given: Any = None, state: Any = None) -> Score:
        """Given latents [B, Z], or a state that has some: −log p(x|z) of each token, `conditional`. Otherwise a `bound` of whole documents.

        The bound's noise depends on each row's own tokens alone (`fixed_noise`). With `score_samples` of 1 it is the ELBO with one
        sample and the KL in closed form, with more the importance-weighted bound. The KL, or what the bound has beyond the
        reconstruction, is booked on each row's last token. Nothing goes on from a bound: its state is refused.
        """
        if state is None and given is None:
            tokens, lengths = self.checked(tokens, lengths)
            return self._bound(tokens, lengths)
        if state is not None and given is not None and not torch.equal(_memory(state).z, self._latents(len(tokens), given)):
            raise UserError("given, state: the state has other latents than those given; leave given out")
        return replace(super().score(tokens, lengths, given, state), kind=Kind.CONDITIONAL)

    def _bound(self, tokens: Tensor, lengths: Tensor) -> Score:
        samples = self.score_samples
        mean, log_variance = self.encode(tokens, lengths)  # [B, Z]
        noise = fixed_noise(tokens, lengths, samples, self.latent_width).to(mean).transpose(0, 1)  # [K, B, Z]
        z = drawn(mean, log_variance, noise)
        nats, scored = self._reconstructions(tokens, lengths, z)  # [K, B, T]
        if samples == 1:
            booked = nats[0]
            booked[torch.arange(len(lengths), device=lengths.device), lengths - 1] += kl_to_prior(mean, log_variance).sum(1).double()
        else:
            booked = importance_bound(nats, log_ratio(z, noise, log_variance).double(), lengths - 1)
        return Score(torch.where(scored, booked, 0.0), scored, Kind.BOUND, Whole())

    def _reconstructions(self, tokens: Tensor, lengths: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """Nats of each token, float64 [K, B, T], given the latents [K, B, Z]; and which tokens are scored, bool [B, T]."""
        samples, (rows, width) = len(z), tokens.shape
        together = max(1, min(samples, tokens_together(self) // max(1, rows * width)))
        found, scored = [], torch.zeros_like(tokens, dtype=torch.bool)
        for part in z.split(together):
            several = super().score(tokens.repeat(len(part), 1), lengths.repeat(len(part)), part.flatten(0, 1))
            found.append(several.nats.view(len(part), rows, width))
            scored = several.scored[:rows]
        return torch.cat(found), scored


def _memory(state: Any) -> Memory:
    if isinstance(state, Whole):
        raise CapabilityError(
            "a bound is of a whole document, and nothing goes on from it: score whole documents, or give a latent (start, score: given=z)"
        )
    return state


def _shrunk(name: str, config: VAEConfig) -> float:
    """By what a Transformer's matrix begins smaller than 0.02: those that write into the residual stream, and the latent's."""
    if name.endswith(("out.weight", "outer.weight")):
        return (2 * (config.encoder_layers if name.startswith("encoder.") else config.layers)) ** 0.5
    return config.latent**0.5 if name.startswith(("decoder.first.", "decoder.added.")) else 1.0
