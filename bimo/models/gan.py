"""Two players: a recurrent generator that writes texts, and a discriminator that judges one whole text at a time.

The generator is an exact causal model and is all that generation and scoring need; the discriminator is there for learning
(SeqGAN: Yu et al. 2017, arXiv 1609.05473). Shapes: B rows, T tokens, V vocabulary, E embedding width, F features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, Self

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from bimo.core.errors import ModelError, UserError
from bimo.models.base import Kind, ModelConfig, NeuralLanguageModel, length_mask
from bimo.models.kernels.recurrent import layer, plain_layer
from bimo.models.recurrent import Recurrent, RecurrentConfig, RecurrentLayer, States
from bimo.models.vocabulary import read_vocabulary, write_vocabulary
from bimo.text.vocabulary import Vocabulary


class GANConfig(RecurrentConfig):
    """The shape of the generator, whose fields are a recurrent model's, and of the discriminator."""

    discriminator: Literal["cnn", "recurrent"] = Field("cnn", description="what judges: convolutions over the text, or a GRU that reads it")
    discriminator_embedding: int = Field(64, ge=1, description="width of the discriminator's embeddings")
    discriminator_width: int = Field(64, ge=1, description="the discriminator's filters of each kernel, or its units")
    kernels: list[Annotated[int, Field(ge=1)]] = Field(
        [1, 2, 3, 4, 5], min_length=1, description="tokens that the discriminator's filters see, a group of filters each"
    )
    discriminator_dropout: float = Field(0.25, ge=0, lt=1, description="dropout on the discriminator's features while it learns")

    @property
    def of_generator(self) -> RecurrentConfig:
        """The generator's part."""
        return RecurrentConfig(**{name: getattr(self, name) for name in RecurrentConfig.model_fields})


class Discriminator(nn.Module):
    """One number for one whole text: the logit of "this was written by people, not by the generator"."""

    def __init__(self, size: int, features: int, config: GANConfig) -> None:
        super().__init__()
        self.dropout = config.discriminator_dropout
        self.embedding = nn.Embedding(size, config.discriminator_embedding)
        self.output = nn.Linear(features, 1)

    def features(self, x: Tensor, inside: Tensor) -> Tensor:
        """Features [B, F] of embeddings [B, T, E], which are 0 where `inside` bool [B, T] is False."""
        raise NotImplementedError

    def forward(self, tokens: Tensor, lengths: Tensor, learning: bool = False) -> Tensor:
        """Logits [B]. tokens: ids int64 [B, T], or a weight for every id, [B, T, V]; with `learning` features are dropped out."""
        inside = length_mask(lengths, tokens.shape[1])
        x = tokens @ self.embedding.weight if tokens.is_floating_point() else self.embedding(tokens)
        found = self.features(x * inside[:, :, None], inside)
        return self.output(F.dropout(found, self.dropout, learning)).squeeze(1)


class ConvolutionalDiscriminator(Discriminator):
    """SeqGAN's: filters of several widths, the strongest answer of each over the text, a highway layer (Kim 2014; Srivastava 2015).

    A filter begins at a token of the text and sees zeros behind its end, so that padding is never an answer.
    """

    def __init__(self, size: int, config: GANConfig) -> None:
        features = len(config.kernels) * config.discriminator_width
        super().__init__(size, features, config)
        self.kernels = config.kernels
        self.filters = nn.ModuleList(nn.Conv1d(config.discriminator_embedding, config.discriminator_width, k) for k in config.kernels)
        self.gate, self.inner = nn.Linear(features, features), nn.Linear(features, features)

    def features(self, x: Tensor, inside: Tensor) -> Tensor:
        """Of embeddings [B, T, E]: [B, kernels · width]."""
        answers = []
        for filters, seen in zip(self.filters, self.kernels, strict=True):
            answer = F.relu(filters(F.pad(x.transpose(1, 2), (0, seen - 1))))  # [B, width, T], none below 0
            answers.append((answer * inside[:, None]).amax(2))
        found = torch.cat(answers, 1)
        gate = torch.sigmoid(self.gate(found))
        return gate * F.relu(self.inner(found)) + (1 - gate) * found


class RecurrentDiscriminator(Discriminator):
    """A GRU that reads the text; what it remembers at the end is judged."""

    def __init__(self, size: int, config: GANConfig) -> None:
        super().__init__(size, config.discriminator_width, config)
        self.reader = RecurrentLayer("gru", config.discriminator_embedding, config.discriminator_width)
        for parameter in self.reader.parameters():
            nn.init.uniform_(parameter, -(config.discriminator_width**-0.5), config.discriminator_width**-0.5)

    def features(self, x: Tensor, inside: Tensor) -> Tensor:
        """Of embeddings [B, T, E]: the state [B, width] at each row's end."""
        part, rows = self.reader, torch.arange(len(x), device=x.device)
        weights = (part.weight_input, part.weight_hidden, part.bias_input, part.bias_hidden)
        first = part.weight_hidden.new_zeros(len(x), part.weight_hidden.shape[1])
        states, _ = layer("gru", x.transpose(0, 1), first, None, *weights, None, every=False)
        return states[inside.sum(1) - 1, rows]


_DISCRIMINATORS: dict[str, Any] = {"cnn": ConvolutionalDiscriminator, "recurrent": RecurrentDiscriminator}


class GAN(NeuralLanguageModel):
    """A generator, which everyone but the adversarial objective takes for the whole model, and its discriminator.

    `parameter_count` counts the generator, which is what writing and scoring need; `config.json` tells the discriminator's.
    Buffers are the game's memory over the steps: they are in checkpoints, not in the model folder.
    """

    Config: ClassVar[type[ModelConfig]] = GANConfig
    kind = Kind.EXACT
    objectives = ("adversarial", "causal", "distillation")

    reward_mean: Tensor  # moving averages, divided by `reward_weight`: of the rewards …
    reward_square: Tensor  # … and of their squares
    reward_weight: Tensor
    variety: Tensor  # distinct pairs of tokens in drawn texts as a share of the text's own, moving average
    stopped: Tensor  # the step at which the game was stopped; -1: it was not

    def __init__(self, generator: Recurrent, discriminator: Discriminator, config: GANConfig) -> None:
        super().__init__()
        self.config, self.vocabulary, self.context = config, generator.vocabulary, None
        self.generator, self.discriminator = generator, discriminator
        for name, value in (("reward_mean", 0.0), ("reward_square", 0.0), ("reward_weight", 0.0), ("variety", 1.0), ("stopped", -1)):
            self.register_buffer(name, torch.tensor(value))

    # -- making one ---------------------------------------------------------------------------------------------------

    @classmethod
    def build(cls, config: GANConfig, vocabulary: Vocabulary) -> Self:
        """Random weights for both players."""
        generator = Recurrent.build(config.of_generator, vocabulary)
        return cls(generator, _DISCRIMINATORS[config.discriminator](vocabulary.size, config), config)

    def config_dict(self) -> dict[str, Any]:
        """What `config.json` holds."""
        judges = sum(p.numel() for p in self.discriminator.parameters())
        vocabulary = write_vocabulary(self.vocabulary)
        return {"model_type": "bimo-gan", **vocabulary, **self.config.model_dump(), "discriminator_parameters": judges}

    def tensors(self) -> dict[str, Tensor]:
        """What both players are made of, by name, after "generator." and "discriminator."."""
        players = {"generator.": self.generator, "discriminator.": self.discriminator}
        return {prefix + name: tensor for prefix, player in players.items() for name, tensor in player.state_dict().items()}

    @classmethod
    def from_tensors(cls, config: Mapping[str, Any], tensors: dict[str, Tensor]) -> Self:
        """Open what `config_dict` and `tensors` gave; ready to use (no dropout)."""
        fields = GANConfig(**{name: config[name] for name in GANConfig.model_fields if name in config})
        if left := [name for name in tensors if not name.startswith(("generator.", "discriminator."))]:
            raise ModelError(f"model.safetensors: unknown tensors {', '.join(sorted(left)[:5])}; the file does not fit config.json")
        own = {**write_vocabulary(read_vocabulary(config)), **fields.of_generator.model_dump()}
        generator = Recurrent.from_tensors(own, _part(tensors, "generator."))
        with torch.device("meta"):
            discriminator = _DISCRIMINATORS[fields.discriminator](generator.vocab_size, fields)
        try:
            discriminator.load_state_dict(_part(tensors, "discriminator."), assign=True)
        except RuntimeError as cause:
            said = " ".join(line.strip() for line in str(cause).splitlines()[1:])
            raise ModelError(f"model.safetensors: the discriminator does not fit config.json ({said})") from None
        return cls(generator, discriminator, fields).requires_grad_(True).eval()

    def parameter_count(self) -> int:
        """The generator's: what writing and scoring need."""
        return self.generator.parameter_count()

    # -- the generator is the language model --------------------------------------------------------------------------

    def hidden(self, tokens: Tensor, carry: States | None = None, boundaries: Tensor | None = None) -> tuple[Tensor, States]:
        """The generator's hidden states [B, T, D] and its carry."""
        return self.generator.hidden(tokens, carry, boundaries)

    def head(self) -> tuple[Tensor, Tensor]:
        """The generator's output matrix [V, D] and bias [V]."""
        return self.generator.head()

    def start(self, batch: int, given: Any = None) -> States:
        """The generator's state of nothing read."""
        return self.generator.start(batch, given)

    def extend(self, state: States, tokens: Tensor, lengths: Tensor) -> tuple[Tensor, States]:
        """The generator's hidden states [B, T, D] and states at each row's end."""
        return self.generator.extend(state, tokens, lengths)

    def select(self, state: States, rows: Tensor) -> States:
        """A copy of the state with the rows int64 [B'] in that order."""
        return self.generator.select(state, rows)

    def join(self, states: Sequence[States]) -> States:
        """One state of all rows, in order."""
        return self.generator.join(states)

    def state_bytes(self, state: States) -> int:
        """Size of the generator's state, bytes per row."""
        return self.generator.state_bytes(state)

    # -- the game -----------------------------------------------------------------------------------------------------

    def judge(self, tokens: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Logits [B] of "a person wrote this", one a whole text from `<s>` on, tokens [B, T]; σ(logit) is D(x). Never drops out."""
        tokens, lengths = self.checked(tokens, lengths)
        return self.discriminator(tokens, lengths)

    def draw_relaxed(self, rows: int, limit: int, temperature: float) -> tuple[Tensor, Tensor, Tensor]:
        """Texts that the discriminator's gradient can flow through, by the straight-through Gumbel-softmax (Jang et al. 2017).

        Each next token is y = softmax((logits + Gumbel noise) / temperature), hard (one-hot) in value and soft in gradient, and is
        both judged and read on by the generator (Kusner & Hernández-Lobato 2016). Returns weights [B, T, V] from `<s>` on, their
        ids int64 [B, T] (0 behind a row's end) and lengths [B], T ≤ limit + 1. Draws from torch's generator.
        """
        bos, eos, size = self.vocabulary.bos, self.vocabulary.eos, self.vocab_size
        if bos is None:
            raise UserError("a text is drawn from <s> on, which this vocabulary does not have")
        state, last = self.start(rows), torch.full((rows,), bos, device=self.device)
        weights = [F.one_hot(last, size).to(self.head()[0].dtype)]
        ids, lengths = [last], torch.ones_like(last)
        writing = torch.ones_like(last, dtype=torch.bool)
        while len(ids) <= limit and bool(writing.any()):
            with torch.autocast(self.device.type, enabled=False):
                hidden, state = self._read_relaxed(weights[-1], last, state)
                logits = self.logits(hidden)
            noise = -torch.empty_like(logits).exponential_().clamp(min=torch.finfo(logits.dtype).tiny).log()
            soft = ((logits + noise) / temperature).softmax(1)
            last = soft.argmax(1)
            weights.append(F.one_hot(last, size) + soft - soft.detach())
            ids.append(torch.where(writing, last, 0))
            lengths = lengths + writing
            writing = writing if eos is None else writing & (last != eos)
        return torch.stack(weights, 1), torch.stack(ids, 1), lengths

    def _read_relaxed(self, weights: Tensor, ids: Tensor, state: States) -> tuple[Tensor, States]:
        """The generator reads one token of each row, weights [B, V]: hidden states [B, D] and the new state, gradients kept.

        ids [B]: the tokens themselves. The rows of n-grams are those of the ids; no gradient flows through which rows they are.
        """
        own = self.generator
        memory, read, recent = own.parted(state)
        x, values = own.at(weights @ own.embedding.every(), None if read is None else read[0]), []
        last = None if recent is None else own.last_read(ids[:, None], recent, None)[:, 0]
        if own.ngrams is not None and last is not None:
            x = x + own.ngrams(last)
        for number, part in enumerate(own.layers):
            assert isinstance(part, RecurrentLayer)
            h, c = memory[0][number], memory[1][number] if len(memory) == 2 else None
            bias = None if part.bias_hidden is None else torch.cat([part.bias_hidden.new_zeros(2 * h.shape[1]), part.bias_hidden])
            found = plain_layer(own.config.cell, x[None], h, c, part.weight_input, part.weight_hidden, part.bias_input, bias, None)
            x = found[0][0]
            values.append([v[0] for v in found if v is not None])
        beside = (() if read is None else (read + 1,)) + (() if last is None else (last[:, 1:].t(),))
        states = (*(torch.stack(part) for part in zip(*values, strict=True)), *beside)
        return (x if own.projection is None else own.projection(x)), states


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
