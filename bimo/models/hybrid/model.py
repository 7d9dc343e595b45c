"""The hybrid: models over one vocabulary that tell the next token together, and memories of what they have read.

Shapes: B rows, T tokens, K parts, V vocabulary, D width of the hidden states.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self, cast

import torch
from torch import Tensor

from bimo.core import registry
from bimo.core.errors import CapabilityError, ModelError
from bimo.core.recipe import make_recipe
from bimo.core.validation import validated
from bimo.models.base import Keep, Kind, LanguageModel, Learning, ModelConfig, NeuralLanguageModel, State, load_model, model_of
from bimo.models.grounds import Grounds
from bimo.models.hybrid.config import HybridConfig, numbered
from bimo.models.hybrid.grounds import told_by_parts
from bimo.models.hybrid.memory import Memory
from bimo.models.hybrid.weights import Weights, multiplied
from bimo.models.vocabulary import read_vocabulary, write_vocabulary
from bimo.text.vocabulary import Vocabulary


@dataclass(frozen=True)
class Voice:
    """One of the parts: a model, or a memory of the part `of`."""

    name: str
    model: LanguageModel | None = None
    memory: Memory | None = None
    of: int | None = None


class Hybrid(LanguageModel):
    """Several voices, mixed token by token; a state is the tuple of theirs.

    linear: P = Σ wₖ Pₖ (Jelinek & Mercer 1980), with weights that are the same everywhere or come from a gate; product: P ∝ Π Pₖ^wₖ
    (Hinton 2002). It is exact, or conditional where a part is; what the context of a part limits begins anew in `renew`, the rest goes on.
    """

    Config: ClassVar[type[ModelConfig]] = HybridConfig
    learning = Learning.COMPOSITE
    kind: Kind = Kind.EXACT
    kinds: ClassVar[tuple[Kind, ...]] = (Kind.EXACT, Kind.CONDITIONAL)  # of scores that can be mixed so

    def __init__(self, mixture: str, voices: Sequence[Voice], weights: Weights) -> None:
        self.mixture, self.voices, self.weights = mixture, tuple(voices), weights
        self.models = [voice.model for voice in self.voices if voice.model is not None]
        for voice in self.voices:
            _check(voice, self.models[0].vocab_size, self.kinds)
        of_parts = [set(model.vocabulary.suppressed) for model in self.models]
        never = set.union(*of_parts) if mixture == "product" else set.intersection(*of_parts)
        self.vocabulary = replace(self.models[0].vocabulary, suppressed=tuple(sorted(never)), tags=(), tag_of=())
        contexts = [model.context for model in self.models if model.context is not None]
        self.context = min(contexts, default=None)
        self.kind = Kind.CONDITIONAL if any(model.kind is Kind.CONDITIONAL for model in self.models) else Kind.EXACT
        self.whole_documents = any(model.whole_documents for model in self.models)  # type: ignore[misc]  # of this one, not of the class
        rewinds = all("rewind" in v.model.capabilities if v.model else not cast(Memory, v.memory).outlives_context for v in self.voices)
        self.capabilities = frozenset({"rewind"} if rewinds else ())  # type: ignore[misc]

    @property
    def device(self) -> torch.device:
        """Where the first neural part lives."""
        return next((m.device for m in self.models if isinstance(m, NeuralLanguageModel)), torch.device("cpu"))

    @property
    def scoring_passes(self) -> int:
        """All parts'."""
        return sum(model.scoring_passes for model in self.models)

    @property
    def names(self) -> list[str]:
        """What the parts are called."""
        return [voice.name for voice in self.voices]

    # -- making one ---------------------------------------------------------------------------------------------------

    @classmethod
    def build(cls, config: HybridConfig, vocabulary: Vocabulary) -> Any:
        """Parts that have learned nothing (or those of their folders) under equal weights; see `bimo.training.composite`."""
        models: list[LanguageModel | None] = []
        for part in config.parts:
            if part.folder is not None:
                models.append(load_model(part.folder))
            elif part.family is not None:
                recipe = make_recipe(part.recipe())
                models.append(registry.family(part.family).load().build(recipe.model_section(), vocabulary))
            else:
                models.append(None)
        return cls.of(config, models)

    @classmethod
    def of(cls, config: HybridConfig, models: Sequence[LanguageModel | None]) -> Hybrid:
        """The hybrid of these models, None where the config has a memory, under the config's weights or equal ones."""
        voices: list[Voice] = []
        called = numbered([part.name for part in config.parts])
        for name, part, model in zip(called, config.parts, models, strict=True):
            voices.append(Voice(name, model) if part.memory is None else _memory(name, part.memory, part.model, voices))
        given = config.weights if isinstance(config.weights, list) else [1.0] * len(voices)
        scale = 1.0 if config.mixture == "product" and isinstance(config.weights, list) else sum(given)
        return kind_of(config.mixture)(config.mixture, voices, Weights(torch.tensor(given, dtype=torch.float64) / scale))

    def config_dict(self) -> dict[str, Any]:
        """What `config.json` holds: every part's own, and of a memory whose states it keeps."""
        parts = []
        for voice in self.voices:
            if voice.model is not None:
                parts.append({"name": voice.name, "config": voice.model.config_dict()})
            else:
                memory = cast(Memory, voice.memory)
                kind = registry.memory_of(type(memory))
                parts.append({"name": voice.name, "memory": kind, "of": voice.of, "config": memory.config.model_dump()})
        gate = {} if self.weights.gate is None else {"gate_of": self.weights.of}
        return {"model_type": "bimo-hybrid", **write_vocabulary(self.vocabulary), "mixture": self.mixture, "parts": parts, **gate}

    def tensors(self) -> dict[str, Tensor]:
        """Every part's under `parts.k.`, and the weights."""
        found = self.weights.tensors()
        for number, voice in enumerate(self.voices):
            own = voice.model.tensors() if voice.model is not None else cast(Memory, voice.memory).tensors()
            found |= {f"parts.{number}.{name}": tensor for name, tensor in own.items()}
        return found

    @classmethod
    def from_tensors(cls, config: Mapping[str, Any], tensors: dict[str, Tensor]) -> Self:
        """Open what `config_dict` and `tensors` gave, parts of any family."""
        told, mixture = config.get("parts"), config.get("mixture")
        if not isinstance(told, list) or not told or mixture not in ("linear", "product", "documents"):
            raise ModelError(
                f"config.json: a hybrid has parts and a mixture (linear, product or documents), found {mixture!r} of {type(told).__name__}"
            )
        left = dict(tensors)
        weights = Weights.take(left, len(told), config.get("gate_of"))
        voices: list[Voice] = []
        for number, part in enumerate(told):
            prefix = f"parts.{number}."
            own = {name.removeprefix(prefix): left.pop(name) for name in list(left) if name.startswith(prefix)}
            if "memory" in part:
                voice = _memory(str(part["name"]), part["memory"], part["config"], voices, part.get("of"))
                known = cast(Memory, voice.memory).take(own).tensors()
                left |= {f"{prefix}{name}": tensor for name, tensor in own.items() if name not in known}
            else:
                voice = Voice(str(part["name"]), model_of(part["config"], own))
            voices.append(voice)
        if left:
            raise ModelError(f"model.safetensors: unknown tensors {', '.join(sorted(left)[:5])}; the file does not fit config.json")
        model = cast(Self, kind_of(mixture)(mixture, voices, weights))
        if read_vocabulary(config) != model.vocabulary:
            raise ModelError("config.json: the hybrid's special tokens are not those of its parts")
        if weights.gate is not None:
            weights.check(model.hidden_width(weights.of))
        return model

    def parameter_count(self) -> int:
        """Every part's, and the weights between them; a memory's entries were not learned."""
        return sum(model.parameter_count() for model in self.models) + self.weights.count()

    def hidden_width(self, part: int | None) -> int:
        """D of a part that has hidden states."""
        return width_of(self.voices, part)

    def with_states(self) -> list[int]:
        """Which parts have hidden states."""
        return with_states(self.voices)

    # -- the interface ------------------------------------------------------------------------------------------------

    def start(self, batch: int, given: Any = None) -> State:
        """Every part's state; given: for those parts that take something."""
        if given is not None and self.kind is not Kind.CONDITIONAL:
            raise CapabilityError("no part of this hybrid takes a source text (given); write it into the prompt")
        return tuple(
            v.model.start(batch, self.given_to(v.model, given)) if v.model is not None
            else cast(Memory, v.memory).start(batch, self.device)
            for v in self.voices
        )  # fmt: skip

    @torch.no_grad()
    def advance(self, state: State, tokens: Tensor, lengths: Tensor | None = None, keep: Keep = "all") -> tuple[Tensor, State]:
        """Logits are log-probabilities; see `LanguageModel.advance`."""
        tokens, lengths = self.checked(tokens, lengths)
        told, hidden, state = self.distributions(state, tokens, lengths, keep)
        if self.mixture == "product":
            return multiplied(told, self.weights.values), state
        return self.weights.mixed(told, hidden), state

    @torch.no_grad()
    def distributions(self, state: State, tokens: Tensor, lengths: Tensor, keep: Keep = "all") -> tuple[list[Tensor], Tensor | None, State]:
        """Log-probabilities [B, T, V] (or [B, 1, V]) of each part, NaN where a memory holds nothing; what the gate reads; the state."""
        told, left, read = [], [], {}
        each = torch.arange(len(tokens), device=tokens.device)
        for number, (voice, own) in enumerate(zip(self.voices, state, strict=True)):
            if voice.memory is not None:
                logs, own = voice.memory.told(own, read[voice.of], tokens, lengths, keep=keep)
            elif self._looked_at(number):
                model = cast(NeuralLanguageModel, voice.model)
                read[number], own = model.extend(own, tokens, lengths)
                hidden = read[number] if keep == "all" else read[number][each, lengths - 1][:, None]
                logs = model.logits(hidden).float().log_softmax(-1)
            else:
                logits, own = cast(LanguageModel, voice.model).advance(own, tokens, lengths, keep)
                logs = logits.to(self.device).log_softmax(-1)
            told.append(logs)
            left.append(own)
        gated = None if self.weights.gate is None else read[self.weights.of]
        if gated is not None and keep == "last":
            gated = gated[each, lengths - 1][:, None]
        return told, gated, tuple(left)

    def _looked_at(self, number: int) -> bool:
        """Whether a memory or the gate looks at the hidden states of this part."""
        return self.weights.of == number or any(voice.of == number for voice in self.voices)

    @torch.no_grad()
    def each(self, state: State, tokens: Tensor, lengths: Tensor, targets: Tensor) -> tuple[Tensor, Tensor | None, State]:
        """Log-probabilities of `targets` [B, T] by each part, float64 [B, T, K], without [B, T, V] where it can; the gate's; the state."""
        told, left, read = [], [], {}
        whole = torch.cat([tokens[:, :1], targets], 1)
        for number, (voice, own) in enumerate(zip(self.voices, state, strict=True)):
            if voice.memory is not None:
                logs, own = voice.memory.told(own, read[voice.of], tokens, lengths, targets)
            elif self._looked_at(number):
                model = cast(NeuralLanguageModel, voice.model)
                read[number], own = model.extend(own, tokens, lengths)
                logs = -model.nats_of(read[number], lengths, targets)
            else:
                score = cast(LanguageModel, voice.model).score(whole, lengths + 1, state=own)
                logs, own = -score.nats[:, 1:], score.state
            told.append(logs.double().to(self.device))
            left.append(own)
        return torch.stack(told, -1), None if self.weights.gate is None else read[self.weights.of], tuple(left)

    def _nats(self, state: State, tokens: Tensor, lengths: Tensor, targets: Tensor) -> tuple[Tensor, State]:
        if self.mixture == "product":
            return super()._nats(state, tokens, lengths, targets)
        told, hidden, state = self.each(state, tokens, lengths, targets)
        return -self.weights.of_targets(told, hidden), state

    def _slice(self, batch: int) -> int:
        return super()._slice(batch) if self.mixture == "product" else max(1, (1 << 14) // max(1, batch))

    def shares(self, tokens: Tensor, lengths: Tensor | None = None, given: Any = None, state: State = None) -> tuple[Tensor, Tensor, State]:
        """Who said what: of each scored token, log wₖ and log Pₖ, float64 [B, T, K] each; and the state as in `score`.

        A part's share of a token is wₖ Pₖ / Σ wⱼ Pⱼ. Of a product, wₖ are the exponents' logarithms.
        """

        def tell(state: State, tokens: Tensor, lengths: Tensor, targets: Tensor) -> tuple[Tensor, State]:
            told, hidden, state = self.each(state, tokens, lengths, targets)
            if self.mixture == "product":
                weights = self.weights.values.log().to(told.device).expand(told.shape)
            else:
                weights = self.weights.logs(told.isnan(), hidden)
            return torch.cat([weights, told.nan_to_num(nan=float("-inf"))], -1), state

        told, _, state = self._told(tell, tokens, lengths, given, state)
        weights, logs = told.chunk(2, -1)
        return weights, logs, state

    def grounds(self, tokens: Tensor, lengths: Tensor | None = None, given: Any = None, state: State = None) -> list[list[Grounds]]:
        """What each part said, and what that rests on; see `LanguageModel.grounds`."""
        return told_by_parts(self, *self.checked(tokens, lengths), given, state)

    def given_to(self, model: LanguageModel, given: Any) -> Any:
        """What of `given` a part takes: all, or nothing."""
        return given if model.kind is Kind.CONDITIONAL else None

    def states_of(self, state: State) -> tuple[State, ...]:
        """The parts' states, in order."""
        return state

    def learned_from(self, tokens: Tensor, lengths: Tensor, given: Any, state: State) -> tuple[Tensor, Tensor | None, State]:
        """What weights are learned from: log Pₖ of each scored token, float64 [B, T, K]; the gate's hidden states [B, T, D]; the state."""
        parts = len(self.voices)

        def tell(state: State, tokens: Tensor, lengths: Tensor, targets: Tensor) -> tuple[Tensor, State]:
            told, hidden, state = self.each(state, tokens, lengths, targets)
            return (told if hidden is None else torch.cat([told, hidden.double()], -1)), state

        told, _, state = self._told(tell, tokens, lengths, given, state)
        return told[..., :parts], told[..., parts:] if self.weights.gate is not None else None, state

    def select(self, state: State, rows: Tensor) -> State:
        """A copy of every part's rows."""
        return tuple(_states(v).select(own, rows.to(v.model.device if v.model is not None else self.device))
                     for v, own in zip(self.voices, state, strict=True))  # fmt: skip

    def join(self, states: Sequence[State]) -> State:
        """Every part's rows, in order."""
        return tuple(_states(v).join(own) for v, own in zip(self.voices, zip(*states, strict=True), strict=True))

    def rewind(self, state: State, lengths: Tensor) -> State:
        """As every part does; a cache cannot."""
        if "rewind" not in self.capabilities:
            return super().rewind(state, lengths)
        return tuple(own if v.model is None else v.model.rewind(own, lengths) for v, own in zip(self.voices, state, strict=True))

    @property
    def outlives_context(self) -> bool:
        """Whether a part has no limit: it goes on where another part's context is full."""
        return self.context is not None and any(_goes_on(voice) for voice in self.voices)

    def renew(self, state: State, tokens: Tensor, lengths: Tensor | None = None, given: Any = None) -> State:
        """Parts with a context have read `tokens` alone; those without go on, and so does a cache."""
        return tuple(
            own if v.model is None or v.model.context is None
            else v.model.renew(own, tokens, lengths, self.given_to(v.model, given))
            for v, own in zip(self.voices, state, strict=True)
        )  # fmt: skip

    def state_bytes(self, state: State) -> int:
        """All parts'."""
        return sum(_states(voice).state_bytes(own) for voice, own in zip(self.voices, state, strict=True))


def width_of(voices: Sequence[Voice], part: int | None) -> int:
    """D of a part that has hidden states."""
    model = voices[part].model if part is not None and 0 <= part < len(voices) else None
    if model is None or not model.extends:
        raise ModelError("a memory or a gate needs a part with hidden states: a neural model that continues a text")
    return cast(NeuralLanguageModel, model).head()[0].shape[1]


def with_states(voices: Sequence[Voice]) -> list[int]:
    """Which parts have hidden states: a gate reads the first of them, a memory the last before it."""
    return [i for i, voice in enumerate(voices) if voice.model is not None and voice.model.extends]


def _memory(name: str, kind: str, config: Mapping[str, Any], before: Sequence[Voice], of: int | None = None) -> Voice:
    made = registry.load_memory(kind)
    of = max(with_states(before), default=None) if of is None else of
    if of is None:
        raise CapabilityError(f"{kind}: no part before it has hidden states to remember; put a neural part first, as in lstm+{kind}")
    width = width_of(before, of)  # before it is looked at: a damaged file may name any part
    vocabulary = cast(LanguageModel, before[of].model).vocabulary
    return Voice(name, memory=made(validated(made.Config, config, f"model.parts.{kind}"), vocabulary, width), of=of)


def _states(voice: Voice) -> Any:
    """Who keeps a part's state."""
    return voice.model if voice.model is not None else voice.memory


def _goes_on(voice: Voice) -> bool:
    model = voice.model
    return cast(Memory, voice.memory).outlives_context if model is None else model.context is None or model.outlives_context


def kind_of(mixture: str) -> type[Hybrid]:
    """The class of hybrids that are mixed so."""
    from bimo.models.hybrid.documents import ByDocument

    return ByDocument if mixture == "documents" else Hybrid


def _check(voice: Voice, size: int, kinds: Sequence[Kind]) -> None:
    model = voice.model
    if model is None:
        return
    if model.vocab_size != size:
        raise ModelError(f"{voice.name}: {model.vocab_size:,} ids where another part has {size:,}; parts need one tokenizer")
    if model.kind not in kinds or not model.continues_text:
        why = {
            Kind.BOUND: "its score is a bound on whole documents (mixture=documents takes it)",
            Kind.PSEUDO: "it fills gaps and tells no next token",
            Kind.UNNORMALISED: "its scores do not sum to one",
        }.get(model.kind, "it continues no text")
        raise CapabilityError(f"{voice.name} cannot be mixed {'by documents' if Kind.BOUND in kinds else 'token by token'}: {why}")
