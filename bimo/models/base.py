"""The one interface of all families: a machine that remembers a prefix and tells how the text goes on.

Everything else (generation, beams, perplexity, comparison, serving) is derived from these methods and knows no family.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor, nn

from bimo.core import store
from bimo.core.errors import CapabilityError, ContextError, ModelError, UserError, did_you_mean, memory_errors
from bimo.core.registry import Family, Kind, family_of_model_type
from bimo.core.validation import Section
from bimo.models.folders import refuse_no_model
from bimo.models.grounds import NOTHING_TOLD, Grounds
from bimo.models.quantized import four_bit_numbers
from bimo.models.saved import DTYPES, narrowed, read_weights, widen, write_weights
from bimo.text.vocabulary import Vocabulary

State = Any  # opaque: made by a model, handed back to the same model
Keep = Literal["all", "last"]
Tell = Callable[[State, Tensor, Tensor, Tensor], tuple[Tensor, State]]  # see LanguageModel._told


class Learning(StrEnum):
    """The three ways of learning."""

    COUNTED = "counted"
    GRADIENT = "gradient"
    COMPOSITE = "composite"


class ModelConfig(Section):
    """The model section of a recipe: each family derives its own, with a description at every field."""


@dataclass(frozen=True)
class Score:
    """Nats per token.

    nats: float64 [B, T], `nats[b, t]` is for `tokens[b, t]` and 0 where nothing is scored (`tokens[:, 0]`, padding);
    scored: bool [B, T]; state: what the model remembers after all tokens of each row but its last, so that
    the next call continues with that last token first.
    """

    nats: Tensor
    scored: Tensor
    kind: Kind
    state: State

    def per_row(self) -> Tensor:
        """Nats of each row, float64 [B]."""
        return self.nats.sum(dim=1)


def check_numbers(model: LanguageModel | nn.Module, found: Tensor, what: str) -> Tensor:
    """`found`, what a model said; a `ModelError` where NaN or +infinity is among it, which names the weights that hold such a number.

    >>> check_numbers(nn.Linear(1, 1), torch.tensor([float("nan")]), "logits")
    Traceback (most recent call last):
    bimo.core.errors.ModelError: the model's logits hold NaN or infinity, though all its weights are finite: they overflow; ...
    """
    if not found.numel() or bool(found.amax() < float("inf")):  # false of NaN
        return found
    named = model.named_parameters() if isinstance(model, nn.Module) else ()
    broken = next((name for name, weights in named if not bool(torch.isfinite(weights).all())), None)
    cause = (
        f"as the weights {broken} do; the file is damaged or its training diverged, so take another one"
        if broken
        else "though all its weights are finite: they overflow; take another file or an earlier checkpoint"
    )
    raise ModelError(f"the model's {what} hold NaN or infinity, {cause}")


def length_mask(lengths: Tensor, width: int) -> Tensor:
    """bool [B, width], True at the first `lengths[b]` places of row b.

    >>> length_mask(torch.tensor([1, 3]), 3).tolist()
    [[True, False, False], [True, True, True]]
    """
    return torch.arange(width, device=lengths.device)[None, :] < lengths[:, None]


class LanguageModel(ABC):
    """A language model of any family. Shapes: B rows, T tokens, V vocabulary.

    Tokens are int64 [B, T], padded on the right; `lengths` int64 [B] says how many count in each row (all, if None;
    each at least 1). The ids in the padding are arbitrary (any id in range) and change nothing.
    """

    Config: ClassVar[type[ModelConfig]]
    learning: ClassVar[Learning]
    capabilities: ClassVar[frozenset[str]] = frozenset()  # of: features, fill, latent, attention, rewind, gradient_checkpointing
    continues_text: ClassVar[bool] = True  # False: it fills gaps; `advance` is a CapabilityError that names `fill` and `score`
    whole_documents: ClassVar[bool] = False  # rows to score and to learn from are whole documents, which nothing is carried into

    vocabulary: Vocabulary
    kind: Kind
    context: int | None  # most tokens that one state can hold; None: no limit

    @property
    def vocab_size(self) -> int:
        """Number of ids, special ones included."""
        return self.vocabulary.size

    @property
    def device(self) -> torch.device:
        """Where this model's tensors live; inputs go there."""
        return torch.device("cpu")

    @property
    def extends(self) -> bool:
        """Whether it has `extend`: hidden states of a text as it is read, which memories and gates look at."""
        return False

    @property
    def scoring_passes(self) -> int:
        """How often scoring a text reads each of its tokens: 1, or more where each token has a reading of its own."""
        return 1

    # -- making one ---------------------------------------------------------------------------------------------------

    @classmethod
    @abstractmethod
    def build(cls, config: Any, vocabulary: Vocabulary) -> Self:
        """A fresh model (random weights from torch's generator, or nothing counted yet)."""

    @abstractmethod
    def config_dict(self) -> dict[str, Any]:
        """What `config.json` holds; its `model_type` names the family."""

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """What `model.safetensors` holds, by name."""

    @classmethod
    @abstractmethod
    def from_tensors(cls, config: Mapping[str, Any], tensors: dict[str, Tensor]) -> Self:
        """The model of a `config.json` and a `model.safetensors`; a wrong or missing tensor is a `ModelError`."""

    @abstractmethod
    def parameter_count(self) -> int:
        """Numbers that were learned (an n-gram's: its probabilities and back-off weights)."""

    def check_dtype(self, dtype: str | None) -> None:
        """Raise `UserError` where `save` cannot write this model's numbers so."""
        if dtype is not None and not isinstance(self, NeuralLanguageModel):
            raise UserError(f"dtype: the numbers of {type(self).__name__} are written as they are; leave dtype out")
        if dtype is not None and dtype not in DTYPES:
            raise UserError(f"dtype: {dtype!r} is not written to a folder; {did_you_mean(dtype, DTYPES)}")

    def save(self, folder: Path, dtype: str | None = None, most_bytes: int | None = None) -> None:
        """Write `config.json`, then `model.safetensors`, into `folder`, each whole or not at all: a folder with weights is whole.

        dtype: f32, f16 or bf16; as they are, if not given. most_bytes: of one file of weights, of which there may then be several.
        Raises `UserError` for another dtype, and for a model that is not learned by gradient alone: rounded counts sum to 1 no more.
        """
        self.check_dtype(dtype)
        config, tensors = self.config_dict(), self.tensors()
        if dtype is not None:
            config, tensors = narrowed(config, tensors, dtype)
        store.write_json(Path(folder) / "config.json", config)
        write_weights(Path(folder), tensors, most_bytes)

    # -- the interface ------------------------------------------------------------------------------------------------

    @abstractmethod
    def start(self, batch: int, given: Any = None) -> State:
        """The state of `batch` rows that have read nothing; `given`: a source text, a latent, or nothing."""

    @abstractmethod
    def advance(self, state: State, tokens: Tensor, lengths: Tensor | None = None, keep: Keep = "all") -> tuple[Tensor, State]:
        """Read `tokens` [B, T]; return logits [B, T, V] (or [B, 1, V] at each row's end with keep="last") and the new state.

        softmax(logits[b, t]) = P(next token | everything up to tokens[b, t]). Consumes the state: branch with `select`
        first. Beyond the context it raises `ContextError`.
        """

    @abstractmethod
    def select(self, state: State, rows: Tensor) -> State:
        """A copy of the state with the rows int64 [B'] in that order, repetition allowed: beams, branching, leaving."""

    @abstractmethod
    def join(self, states: Sequence[State]) -> State:
        """One state of all rows, in order: rows that arrive."""

    @property
    def outlives_context(self) -> bool:
        """Whether something of a state goes on where the context is full (see `renew`): documents are then read as streams."""
        return False

    def renew(self, state: State, tokens: Tensor, lengths: Tensor | None = None, given: Any = None) -> State:
        """A state with room again, of a model with a context: what that limits has read `tokens` [B, T ≥ 0] alone."""
        fresh = self.start(len(tokens), given)
        return self.advance(fresh, tokens, lengths, keep="last")[1] if tokens.shape[1] else fresh

    def rewind(self, state: State, lengths: Tensor) -> State:
        """Forget what each row read after its first `lengths[b]` tokens."""
        raise CapabilityError(f"{type(self).__name__} cannot rewind; keep a copy made by select() before advancing")

    @abstractmethod
    def state_bytes(self, state: State) -> int:
        """Size of the state, bytes per row."""

    def score(
        self,
        tokens: Tensor,
        lengths: Tensor | None = None,
        given: Any = None,
        state: State = None,
    ) -> Score:
        """Nats of `tokens` [B, T] under the model; see `Score`. `tokens[:, 0]` is fed, never scored."""
        nats, scored, state = self._told(self._nats, tokens, lengths, given, state)
        if bool(torch.isnan(nats).any()):
            check_numbers(self, nats, "scores")
        return Score(nats, scored, self.kind, state)

    def grounds(self, tokens: Tensor, lengths: Tensor | None = None, given: Any = None, state: State = None) -> list[list[Grounds]]:
        """What the score of each of `tokens` [B, T] rests on, [B][T]: counts, recalled places, what parts say; empty, if not overridden.

        Arguments as in `score`, whose state it consumes likewise.
        """
        tokens, _ = self.checked(tokens, lengths)
        return [[NOTHING_TOLD] * tokens.shape[1] for _ in range(len(tokens))]

    def _told(self, tell: Tell, tokens: Tensor, lengths: Tensor | None, given: Any, state: State) -> tuple[Tensor, Tensor, State]:
        """What `tell` says of each scored token, [B, T, …] and 0 elsewhere; which are scored, bool [B, T]; and the state as in `Score`.

        tell(state, tokens, lengths, targets) is asked for some rows and steps at a time, as `_nats` is.
        """
        tokens, lengths = self.checked(tokens, lengths)
        batch, width = tokens.shape
        state = self.start(batch, given) if state is None else state
        told = torch.zeros(batch, width, dtype=torch.float64, device=tokens.device)
        scored = length_mask(lengths, width)
        scored[:, 0] = False
        fed = lengths - 1
        size, start = self._slice(batch), 0
        while start < int(fed.max()):
            stop = min(width - 1, start + size)
            active = ((fed - start).clamp(0, stop - start) > 0).nonzero().squeeze(1)
            if len(active) == batch:
                part, rest = state, None
            else:
                part, rest = self.select(state, active), state
            take = (fed[active] - start).clamp(max=stop - start)
            found, part = tell(part, tokens[active, start:stop], take, tokens[active, start + 1 : stop + 1])
            if start == 0 and found.dim() > 2:
                told = told.new_zeros(batch, width, *found.shape[2:])
            told[active, start + 1 : stop + 1] = found.to(told.dtype)
            state = part if rest is None else self._replace_rows(rest, part, active, batch)
            start = stop
        told[~scored] = 0.0
        return told, scored, state

    def _slice(self, batch: int) -> int:
        """Steps that `score` feeds at once, so that [B, slice, V] stays small."""
        return max(1, (1 << 22) // max(1, batch * self.vocab_size))

    def _nats(self, state: State, tokens: Tensor, lengths: Tensor, targets: Tensor) -> tuple[Tensor, State]:
        """Nats of `targets` [B, T], each after the token before it in `tokens` [B, T], float64; and the new state."""
        logits, state = self.advance(state, tokens, lengths)
        return -torch.log_softmax(logits.double(), dim=-1).gather(2, targets[:, :, None]).squeeze(2), state

    def _replace_rows(self, old: State, new: State, rows: Tensor, batch: int) -> State:
        order = torch.arange(batch, device=rows.device)
        order[rows] = batch + torch.arange(len(rows), device=rows.device)
        return self.select(self.join([old, new]), order)

    # -- shared checks ------------------------------------------------------------------------------------------------

    def checked(self, tokens: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor]:
        """`tokens` and `lengths` as int64 on this model's device, or a clear error."""
        if tokens.dim() != 2 or tokens.shape[1] == 0:
            raise UserError(f"tokens: expected shape [B, T] with T ≥ 1, found {list(tokens.shape)}")
        tokens = tokens.to(self.device, torch.int64)
        if tokens.numel() and (int(tokens.min()) < 0 or int(tokens.max()) >= self.vocab_size):
            raise UserError(
                f"tokens: ids must lie in 0…{self.vocab_size - 1}, found {int(tokens.min())}…{int(tokens.max())}; "
                "was this text encoded with this model's tokenizer?"
            )
        if lengths is None:
            lengths = torch.full((tokens.shape[0],), tokens.shape[1], device=tokens.device)
        lengths = lengths.to(self.device, torch.int64)
        if lengths.shape != tokens.shape[:1] or (len(lengths) and not 1 <= int(lengths.min()) <= int(lengths.max()) <= tokens.shape[1]):
            raise UserError(f"lengths: expected [{tokens.shape[0]}] values in 1…{tokens.shape[1]}, found {lengths.tolist()[:8]}")
        return tokens, lengths

    def check_context(self, length: int) -> None:
        """Raise `ContextError` if a row would hold `length` tokens, more than the context."""
        if self.context is not None and length > self.context:
            raise ContextError(f"{length} tokens do not fit the model's context of {self.context}; feed a shorter text or score in windows")


class NeuralLanguageModel(LanguageModel, nn.Module):
    """A family learned by gradient: `hidden` and `head` are what training sees, `advance` what everyone else sees."""

    learning = Learning.GRADIENT
    objectives: ClassVar[tuple[str, ...]] = ("causal", "distillation")  # names of what it can learn by, its own first
    shares_beginnings = False  # whether `hidden` takes `shared`, how many tokens of each row every document in it begins with
    gradient_checkpointing = False  # whether the layers' insides are computed again in the backward pass, where the family can

    @property
    def device(self) -> torch.device:
        """Where the parameters live."""
        return next(self.parameters()).device

    def extend(self, state: State, tokens: Tensor, lengths: Tensor) -> tuple[Tensor, State]:
        """Read checked tokens [B, T] into the state: hidden states [B, T, D] and the new state, without dropout.

        `advance` and `score` come from it; a family that has none writes `advance` itself.
        """
        raise NotImplementedError(f"{type(self).__name__} has neither extend nor advance")

    @abstractmethod
    def hidden(self, tokens: Tensor, carry: State = None, boundaries: Tensor | None = None) -> tuple[Tensor, State]:
        """Hidden states [B, T, D] of full rows, for learning.

        carry: what the previous window left (None: nothing read; families without carried state ignore and return
        None). boundaries: bool [B, T], True where tokens[b, t] begins a document, which must not see what stands before.
        A family that takes something given has it as a fourth argument, `given`, as in `start`.
        """

    @abstractmethod
    def head(self) -> tuple[Tensor, Tensor | None]:
        """Output matrix [V, D] and bias [V] (or None); logits = hidden @ W.T + b, then suppressed ids are -inf."""

    def linear_names(self) -> dict[str, tuple[str, ...]]:
        """Linear maps of the layers, by our name: what each is called in other programs' files, or each of those that it stacks there.

        Adapters are put beside them; the map to the vocabulary is none of them.
        """
        head = self.head()[0]
        maps = ((name, module) for name, module in self.named_modules() if isinstance(module, nn.Linear))
        return {name: (name,) for name, module in maps if getattr(module, "weight", None) is not head}  # one in four bits has none

    @torch.no_grad()
    def begin_from(self, frequencies: Tensor) -> None:
        """Before learning: the output bias, where there is one, becomes the logarithm of each id's share of the text, `frequencies` [V].

        What is left to learn is what the text before a token says of it. A recurrent net that must learn the shares through
        its hidden states drives them into saturation first (docs/decisions.md).
        """
        _, bias = self.head()
        if bias is not None:
            bias.copy_(frequencies.log())

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits [..., V] of hidden states [..., D], suppressed ids at -inf."""
        weight, bias = self.head()
        logits = nn.functional.linear(hidden, weight, bias)
        if self.vocabulary.suppressed:
            logits[..., list(self.vocabulary.suppressed)] = float("-inf")
        return logits

    @torch.no_grad()
    def advance(self, state: State, tokens: Tensor, lengths: Tensor | None = None, keep: Keep = "all") -> tuple[Tensor, State]:
        """See `LanguageModel.advance`; the logits are those of `extend`'s hidden states, without dropout or gradient."""
        tokens, lengths = self.checked(tokens, lengths)
        hidden, state = self.extend(state, tokens, lengths)
        if keep == "last":
            hidden = hidden[torch.arange(len(lengths), device=lengths.device), lengths - 1][:, None]
        return self.logits(hidden), state

    @property
    def extends(self) -> bool:
        """Whether it has `extend`: hidden states of a text as it is read, which memories and gates look at."""
        return type(self).extend is not NeuralLanguageModel.extend

    def _slice(self, batch: int) -> int:
        return max(1, (1 << 14) // max(1, batch)) if self.extends else super()._slice(batch)

    @torch.no_grad()
    def _nats(self, state: State, tokens: Tensor, lengths: Tensor, targets: Tensor) -> tuple[Tensor, State]:
        """As above, from hidden states: logits are made for a few thousand tokens at a time, [B, T, V] never is."""
        if not self.extends:
            return super()._nats(state, tokens, lengths, targets)
        hidden, state = self.extend(state, tokens, lengths)
        return self.nats_of(hidden, lengths, targets), state

    @torch.no_grad()
    def nats_of(self, hidden: Tensor, lengths: Tensor, targets: Tensor) -> Tensor:
        """Nats, float64 [B, T], of `targets` [B, T] given the hidden states [B, T, D] of `extend`; 0 beyond each row's length."""
        counted = length_mask(lengths, targets.shape[1])
        places, wanted = hidden[counted], targets[counted]  # [N, D], [N]
        found = []
        for start in range(0, len(wanted), size := max(1, (1 << 22) // self.vocab_size)):
            logits = self.logits(places[start : start + size])
            logits = logits.float() if logits.dtype in (torch.bfloat16, torch.float16) else logits
            chosen = logits.gather(1, wanted[start : start + size, None]).squeeze(1)
            found.append(check_numbers(self, logits.logsumexp(dim=1), "logits").double() - chosen.double())
        nats = torch.zeros(targets.shape, dtype=torch.float64, device=targets.device)
        nats[counted] = torch.cat(found)
        return nats

    def parameter_count(self) -> int:
        """Learned numbers, those in four bits too; tied ones count once."""
        return sum(p.numel() for p in self.parameters()) + four_bit_numbers(self)


_LAYERS = ("layers", "encoder_layers", "decoder_layers", "num_hidden_layers", "n_layer")  # in config.json, ours and others'


def load_model(folder: Path | str, as_stored: bool = False) -> LanguageModel:
    """Open a model folder of any family by its `config.json`; as_stored: see `model_of`."""
    folder = Path(folder)
    refuse_no_model(folder)
    if not (folder / "config.json").is_file():
        raise ModelError(f"{folder}: not a model folder (no config.json); train one with bimo train")
    config = store.read_json(folder / "config.json")
    return model_of(config, read_weights(folder), str(folder), as_stored)


def _number(value: Any) -> float:
    """What a config counts, in whatever way it is written: `3`, `3.0`, `"3"`; 0 of what is no number."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return 0.0
    except OverflowError:
        return math.inf


def model_of(config: Any, tensors: dict[str, Tensor], where: str = "a part", as_stored: bool = False) -> LanguageModel:
    """The model of any family of what its `config.json` and its `model.safetensors` hold; where: what an error names.

    as_stored: half precision stays so, as no family computes, for one who will make something else of it; otherwise it becomes float32.
    """
    if not isinstance(config, dict) or not isinstance(config.get("model_type"), str):
        raise ModelError(f"{where}: config.json: no model_type; is this a model folder?")
    row: Family = family_of_model_type(config["model_type"])
    for name, value in config.items():  # before anything is made: each layer has a tensor of its own
        if name in _LAYERS and _number(value) > len(tensors):
            raise ModelError(f"{where}: config.json: {name} is {value}, but model.safetensors holds {len(tensors)} tensors")
    try:
        with memory_errors():
            model = row.load().from_tensors(config, tensors)
            if isinstance(model, NeuralLanguageModel) and not as_stored:
                widen(model)
            return model
    except (KeyError, ValueError, TypeError, AttributeError, ArithmeticError, RuntimeError) as cause:
        raise ModelError(f"{where}: config.json and model.safetensors do not fit together ({cause})") from cause
