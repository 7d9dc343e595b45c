"""The third way of learning: the parts of a hybrid, each as it learns alone, then what stands between them.

The parts' runs lie in `parts/` of the hybrid's run folder and can be used by themselves; the clock of the whole runs on through them.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from bimo.core import registry, store
from bimo.core.budget import Budget
from bimo.core.errors import RecipeError
from bimo.core.recipe import Recipe, make_recipe, read_recipe
from bimo.data.corpus import Corpus
from bimo.data.excerpt import excerpt
from bimo.data.split import Split
from bimo.models.base import LanguageModel, NeuralLanguageModel
from bimo.models.bundle import Bundle
from bimo.models.hybrid import Hybrid, HybridConfig, Part
from bimo.models.hybrid.config import numbered
from bimo.models.hybrid.memory import Memory
from bimo.models.hybrid.model import Voice
from bimo.models.hybrid.neighbours import Neighbours, has_faiss
from bimo.models.hybrid.weights import Weights
from bimo.models.scoring import document_nats, place, readings, token_nats
from bimo.training import checkpoint
from bimo.training.mixing import gate_weights, linear_weights, product_weights

PARTS = "parts"
RECIPE, RUN = "recipe.yaml", "run.json"
_FOR_WEIGHTS = 0.04  # of the time: what is kept for the weights between the parts
_FOR_ENTRIES = 0.15  # and for reading the training text once more, where a memory remembers it
_PRODUCT = 1 << 26  # most log-probabilities that a product's exponents are learned from at once
_TUNED = 16_000  # tokens that a memory's temperature is tried on
_FEW = 50_000  # entries up to which all are looked at


@dataclass
class Learned:
    """A part and what it took. seconds, tokens: of its run; own: whether that run was a part of this one."""

    model: LanguageModel
    context: int | None
    seconds: float = 0.0
    tokens: int = 0
    own: bool = False
    plan: dict[str, Any] = field(default_factory=dict)
    notices: list[str] = field(default_factory=list)


Learn = Callable[[Recipe, Path, bool], Any]  # a recipe and a folder, going on or not → what `fit` gives


class Composite:
    """One hybrid's learning. learn: `fit`, for the parts; spent: seconds on the clock before it."""

    def __init__(self, recipe: Recipe, corpus: Corpus, folder: Path, learn: Learn, say: Callable[[str], None], spent: float = 0.0) -> None:
        self.recipe, self.corpus, self.folder, self.learn, self.say = recipe, corpus, Path(folder), learn, say
        self.config: HybridConfig = recipe.model_section()
        self.names = numbered([part.name for part in self.config.parts])
        self.cap = Budget.parse(recipe.training.budget).seconds
        self.by_parts = spent  # seconds of the parts that were learned here, and of what came before them
        self.mixing: float | None = None  # when what stands between them was begun
        self.notices: list[str] = []

    # -- time ---------------------------------------------------------------------------------------------------------

    def used(self) -> float:
        """Seconds on the clock."""
        return self.by_parts + (0.0 if self.mixing is None else time.perf_counter() - self.mixing)

    def left(self) -> float:
        """Seconds until the cap."""
        return math.inf if self.cap is None else self.cap - self.used()

    def _share(self, waiting: int) -> str:
        """The budget of the next part that learns by gradient, of so many that wait."""
        if self.cap is None:
            return self.recipe.training.budget
        remembers = any(p.memory is not None and not registry.load_memory(p.memory).outlives_context for p in self.config.parts)
        kept = (_FOR_WEIGHTS + _FOR_ENTRIES * remembers) * self.cap
        return f"{max(1.0, (self.left() - kept) / waiting):.1f}s"

    # -- the parts ----------------------------------------------------------------------------------------------------

    def parts(self, resume: bool) -> list[Learned | None]:
        """Every part, learned or opened; None for a memory. Those that count come first, since what they need is not known ahead."""
        found: list[Learned | None] = [None] * len(self.config.parts)
        for name, part in zip(self.names, self.config.parts, strict=True):
            file = self.folder / PARTS / name / RECIPE
            if part.family is not None and not (resume and file.exists()):
                part_recipe(self.recipe, part).save(file)  # before anything is resolved: what the whole leaves open, its parts do
        order = sorted(range(len(found)), key=lambda i: self._gradient(self.config.parts[i]))
        for i in order:
            part = self.config.parts[i]
            if part.folder is not None:
                found[i] = self._opened(self.names[i], part)
        for i in order:
            part = self.config.parts[i]
            if part.family is not None:
                waiting = sum(self._gradient(p) for j, p in enumerate(self.config.parts) if found[j] is None)
                found[i] = self._learned(self.names[i], part, max(1, waiting), resume)
        return found

    @staticmethod
    def _gradient(part: Part) -> bool:
        return part.family is not None and registry.family(part.family).learning != "counted"

    def _opened(self, name: str, part: Part) -> Learned:
        folder = Path(part.folder or "")
        bundle = Bundle.load(folder)
        if bundle.tokenizer.fingerprint != self.corpus.tokenizer.fingerprint:
            raise RecipeError(
                f"model.parts: {folder} has another tokenizer than the text; train the parts on one prepared folder, and the hybrid too"
            )
        told = store.read_json(folder / RUN) if (folder / RUN).exists() else {}
        if "seconds" not in told:
            self.notices.append(f"{name}: how long {folder} took to learn is not known, and does not count")
        return Learned(bundle.model, bundle.context, float(told.get("seconds") or 0.0), int(told.get("tokens") or 0))

    def _learned(self, name: str, part: Part, waiting: int, resume: bool) -> Learned:
        folder = self.folder / PARTS / name
        self.say(f"{name}: part {self.names.index(name) + 1} of {len(self.names)}")
        if resume and (folder / "model.safetensors").exists():
            told = _told(folder)
            bundle = Bundle.load(folder)
            model, context = bundle.model, bundle.context
            recipe = make_recipe(read_recipe(folder / RECIPE))
        else:
            recipe = make_recipe(read_recipe(folder / RECIPE))
            going = resume and (folder / checkpoint.FILE).exists()
            if not going:
                recipe.training.budget = self._share(waiting)
            fitted = self.learn(recipe, folder, going)
            bundle = Bundle.of(fitted.model, self.corpus, fitted.recipe.training.context)
            bundle.save(folder)
            told = {**_told(folder), **fitted.record(), "status": "finished", "name": name, "corpus": str(self.corpus.folder.resolve())}
            store.write_json(folder / RUN, told)
            model, context, recipe = fitted.model, bundle.context, fitted.recipe
        self.by_parts += told["seconds"]
        resolved = recipe.model_dump(mode="json", exclude_none=True)
        part.preset, part.model, part.objective = None, resolved["model"], resolved["objective"]
        part.training = {k: v for k, v in resolved["training"].items() if k != "budget"} if self._gradient(part) else {}
        return Learned(
            model, context, told["seconds"], told["tokens"], True, told.get("plan") or {}, [f"{name}: {n}" for n in told["notices"]]
        )

    # -- what stands between them -------------------------------------------------------------------------------------

    def mix(self, parts: Sequence[Learned | None], tell: Callable[[dict[str, Any]], None]) -> LanguageModel:
        """The hybrid of these parts: entries, temperatures and weights learned where the recipe leaves them open.

        tell: is told what came out on validation text.
        """
        config, self.mixing = self.config, time.perf_counter()
        for part, learned in zip(config.parts, parts, strict=True):
            if isinstance(learned and learned.model, NeuralLanguageModel):
                cast(NeuralLanguageModel, cast(Learned, learned).model).eval()
            if part.folder is not None:
                part.called, part.label = part.name, part.title
        models = [None if learned is None else learned.model for learned in parts]
        contexts = [learned.context for learned in parts if learned is not None and learned.context is not None]
        self.recipe.training.context = min(contexts, default=None)
        if config.mixture == "average":
            return self._averaged(cast(list[LanguageModel], models))
        for part in config.parts:
            if part.memory is not None:
                self._settle(part)
        hybrid = Hybrid.of(config, models)
        valid = self.corpus.splits.get("valid")
        held_out = valid if valid is not None and valid.scored_tokens else None
        for voice in hybrid.voices:
            if isinstance(voice.memory, Neighbours):
                self._remember(hybrid, voice.memory, cast(int, voice.of))
        learns = config.weights in ("learned", "gate") or any(_open_field(v.memory) for v in hybrid.voices if v.memory)
        if learns and held_out is None:
            raise RecipeError("model.weights: there is no validation text to learn them from; give --valid, or a number for each part")
        if learns and held_out is not None:
            hybrid = self._weighed(hybrid, held_out, tell)
        for part, voice in zip(config.parts, hybrid.voices, strict=True):
            if voice.memory is not None:
                part.model = voice.memory.config.model_dump(mode="json")
        return hybrid

    def _settle(self, part: Part) -> None:
        """How entries are found, where the recipe leaves it open: all are looked at while they are few."""
        fields = registry.load_memory(cast(str, part.memory)).Config.model_fields
        if "search" in fields and part.model.get("search") is None:
            entries = min(int(part.model.get("entries", fields["entries"].default)), self.corpus.splits["train"].scored_tokens)
            few = entries <= _FEW or not has_faiss()
            if few and entries > _FEW:
                self.notices.append(
                    "knn: all entries are looked at, since faiss is not installed (pip install 'bimo[retrieval]' finds them sooner)"
                )
            part.model = {**part.model, "search": "exact" if few else "faiss"}

    @torch.no_grad()
    def _remember(self, hybrid: Hybrid, memory: Neighbours, of: int) -> None:
        """Read the training text once more and keep each token under the hidden state before it, as long as there is time."""
        model = cast(NeuralLanguageModel, hybrid.voices[of].model)
        train = self.corpus.splits["train"]
        wanted = min(memory.config.entries, train.scored_tokens)
        text = excerpt(train, wanted) if wanted < train.scored_tokens else train
        end = self.used() + _FOR_ENTRIES * self.cap if self.cap is not None else math.inf
        keys, values, count = [], [], 0
        for states, tokens in _states(model, text, self.recipe.training.context):
            keys.append(states.to(torch.float16))
            values.append(tokens.to(torch.int32))
            count += len(tokens)
            if count >= wanted or self.used() > end:
                break
        if count < min(wanted, text.scored_tokens):
            self.notices.append(f"knn: {count:,} of {wanted:,} tokens of the training text are remembered; there was no time for more")
        memory.keep(torch.cat(keys), torch.cat(values))

    def _weighed(self, hybrid: Hybrid, valid: Split, tell: Callable[[dict[str, Any]], None]) -> Hybrid:
        """Temperatures, then weights, on an excerpt of the validation text."""
        budget = max(2_000, self.recipe.training.evaluation_tokens // hybrid.scoring_passes)
        text = excerpt(valid, budget, whole=hybrid.whole_documents or self.config.mixture == "documents")
        for voice in hybrid.voices:
            if voice.memory is not None:
                tune(cast(NeuralLanguageModel, hybrid.voices[cast(int, voice.of)].model), voice.memory, text, self.recipe.training.context)
        config, of = self.config, _gate_part(hybrid)
        if config.weights == "gate":
            if of is None:
                raise RecipeError("model.weights: a gate reads hidden states, and no part has any; take weights=learned")
            hybrid = Hybrid(hybrid.mixture, hybrid.voices, replace(hybrid.weights, gate=_open_gate(hybrid, of), of=of))
        if isinstance(config.weights, list):
            weights = hybrid.weights
        elif config.mixture == "documents":
            nats = [document_nats(model, text, self.recipe.training.context) for model in hybrid.models]
            weights = Weights(linear_weights(-torch.from_numpy(np.stack(nats, 1))))
        elif config.mixture == "product":
            weights = Weights(product_weights(*_distributions(hybrid, text, self.recipe.training.context)))
        else:
            logs, hidden = told_by_parts(hybrid, text, self.recipe.training.context)
            if hidden is None:
                weights = Weights(linear_weights(logs))
            else:
                gate = gate_weights(logs, hidden, cast(int, of))
                weights = gate.weights
                if gate.gated >= gate.fixed:
                    weights = Weights(weights.values)
                    self.notices.append(
                        f"a gate tells held-out text no better than fixed weights do ({gate.gated:.4f} and {gate.fixed:.4f} nats a token); "
                        "the weights are fixed"
                    )
        hybrid = type(hybrid)(hybrid.mixture, hybrid.voices, weights)
        if config.mixture != "linear":
            tell({"valid_loss": _nats(hybrid, text, self.recipe.training.context) / text.scored_tokens})
            return hybrid
        logs, hidden = told_by_parts(hybrid, text, self.recipe.training.context)
        alone = {name: float(-logs[:, k].nan_to_num(nan=0.0).mean()) for k, name in enumerate(hybrid.names) if hybrid.voices[k].model}
        tell({"valid_loss": float(-hybrid.weights.of_targets(logs, hidden).mean()), "parts": alone})
        return hybrid

    def _averaged(self, models: list[LanguageModel]) -> LanguageModel:
        """The model of the mean weights; where they are learned, of those parts only that make it better on validation text.

        The better part first, the next one added where that helps (Wortsman et al. 2022, greedy soup).
        """
        first = models[0]
        if not all(isinstance(m, NeuralLanguageModel) for m in models):
            raise RecipeError("model.mixture: only weights that were learned by gradient can be averaged")
        states = [cast(NeuralLanguageModel, m).state_dict() for m in models]
        shapes = [{name: tensor.shape for name, tensor in state.items()} for state in states]
        if any(type(m) is not type(first) for m in models) or any(s != shapes[0] for s in shapes):
            raise RecipeError("model.mixture: models of different shapes cannot be averaged; take linear or product")
        config, valid = self.config, self.corpus.splits.get("valid")
        if isinstance(config.weights, list):
            total = sum(config.weights)
            return _mean(first, states, [w / total for w in config.weights])
        if config.weights == "gate" or valid is None or not valid.scored_tokens:
            return _mean(first, states, [1 / len(states)] * len(states))
        text = excerpt(valid, self.recipe.training.evaluation_tokens // first.scoring_passes, whole=first.whole_documents)
        nats = [_nats(model, text, self.recipe.training.context) for model in models]
        order = sorted(range(len(models)), key=nats.__getitem__)
        chosen, best, made = order[:1], nats[order[0]], models[order[0]]
        for i in order[1:]:
            tried = _mean(first, [states[j] for j in [*chosen, i]], [1 / (len(chosen) + 1)] * (len(chosen) + 1))
            if (found := _nats(tried, text, self.recipe.training.context)) < best:
                chosen, best, made = [*chosen, i], found, tried
        if len(chosen) < len(models):
            self.notices.append(f"{len(chosen)} of {len(models)} parts are averaged; the others made it no better on validation text")
        return made


def part_recipe(recipe: Recipe, part: Part) -> Recipe:
    """The recipe of a part that is a family: what it says itself, and the whole's text and training where it says nothing."""
    asked = {k: v for k, v in recipe.training.model_dump(mode="json", exclude_unset=True).items() if v is not None}
    text = recipe.text.model_dump(mode="json", exclude_none=True)
    return make_recipe({"text": text, "training": {**asked, "budget": recipe.training.budget}}, part.recipe())


def tune(model: NeuralLanguageModel, memory: Memory, text: Split, context: int | None) -> Hybrid:
    """The model beside its memory, whose temperature, where its config leaves it open, is the best of some on a part of `text`."""
    pair = Hybrid("linear", [Voice("model", model), Voice("memory", memory=memory, of=0)], Weights(torch.ones(2, dtype=torch.float64) / 2))
    name, best, chosen = _open_field(memory), math.inf, None
    if name is None:
        return pair
    few = excerpt(text, _TUNED, rows=4)
    for value in _values(memory, model, few, context):
        setattr(memory.config, name, value)
        logs, _ = told_by_parts(pair, few, context)
        nats = float(-Weights(linear_weights(logs)).of_targets(logs, None).mean())
        if nats < best:
            best, chosen = nats, value
    setattr(memory.config, name, chosen)
    return pair


def told_by_parts(hybrid: Hybrid, text: Split, context: int | None) -> tuple[Tensor, Tensor | None]:
    """Log-probabilities float64 [N, K] of every scored token of `text`, in its order, by each part; hidden states [N, D] for a gate."""
    logs, hidden = np.zeros((text.tokens, len(hybrid.voices))), None
    scored = np.zeros(text.tokens, bool)
    with torch.no_grad():
        for batch, begin in readings(hybrid, text, context):
            told, states, state = hybrid.learned_from(batch.tokens, batch.lengths, begin.given, begin.state)
            begin.went_on(state)
            place(logs, batch, told)
            place(scored, batch, torch.ones(batch.tokens.shape, dtype=torch.bool))
            if states is not None:
                hidden = np.zeros((text.tokens, states.shape[-1]), np.float32) if hidden is None else hidden
                place(hidden, batch, states)
    return torch.from_numpy(logs[scored]), None if hidden is None else torch.from_numpy(hidden[scored])


@torch.no_grad()
def _distributions(hybrid: Hybrid, text: Split, context: int | None) -> tuple[Tensor, Tensor]:
    """What each part says of every next token at some places of `text`, [N, K, V], and the tokens that came, [N]."""
    most = max(64, _PRODUCT // (len(hybrid.voices) * hybrid.vocab_size))
    found, targets = [], []
    for batch, begin in readings(hybrid, excerpt(text, most, whole=hybrid.whole_documents), context):
        state = hybrid.start(len(batch.tokens), begin.given) if begin.state is None else begin.state
        told, _, state = hybrid.distributions(state, batch.tokens[:, :-1].to(hybrid.device), (batch.lengths - 1).to(hybrid.device))
        begin.went_on(state)
        counted = batch.scored()[:, 1:]
        found.append(torch.stack([logs.cpu()[counted] for logs in told], 1))
        targets.append(batch.tokens[:, 1:][counted])
    return torch.cat(found), torch.cat(targets)


def _states(model: NeuralLanguageModel, text: Split, context: int | None) -> Iterator[tuple[Tensor, Tensor]]:
    """Hidden states [n, D] of `text`, read as it is scored, and the tokens [n] that followed them."""
    for batch, begin in readings(model, text, context if model.context is not None else None):
        fed = batch.lengths - 1
        state = model.start(len(fed), begin.given) if begin.state is None else begin.state
        hidden, state = model.extend(state, batch.tokens[:, :-1].to(model.device), fed.to(model.device))
        begin.went_on(state)
        counted = batch.scored()[:, 1:]
        yield hidden.cpu()[counted], batch.tokens[:, 1:][counted]


def _values(memory: Memory, model: NeuralLanguageModel, text: Split, context: int | None) -> list[float]:
    """Temperatures to try, by how large the hidden states' products, or distances, are."""
    with torch.no_grad():
        states = next(iter(_states(model, text, context)))[0][:512].float()
    if isinstance(memory, Neighbours):
        typical = float(memory.nearest(states)[0].clamp(max=1e30).mean())
        return [typical * factor for factor in (0.03, 0.06, 0.12, 0.25, 0.5, 1.0, 2.0)]
    spread = float((states @ states.t()).flatten().std())
    return [factor / max(spread, 1e-9) for factor in (0.0, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0)]


def _open_field(memory: Memory | None) -> str | None:
    """The field of a memory that is learned on validation text, where the recipe leaves it open."""
    names = [name for name in ("flatness", "temperature") if memory is not None and name in type(memory.config).model_fields]
    return next((name for name in names if getattr(cast(Memory, memory).config, name) is None), None)


def _gate_part(hybrid: Hybrid) -> int | None:
    """Which part a gate reads: the first that has hidden states."""
    voices = enumerate(hybrid.voices)
    return next((i for i, v in voices if isinstance(v.model, NeuralLanguageModel) and v.model.extends), None)


def _open_gate(hybrid: Hybrid, of: int) -> tuple[Tensor, Tensor]:
    parts = len(hybrid.voices)
    return torch.zeros(parts, hybrid.hidden_width(of)), torch.zeros(parts)


def _nats(model: LanguageModel, text: Split, context: int | None) -> float:
    return float(token_nats(model, text, context).sum())


def _mean(first: LanguageModel, states: Sequence[dict[str, Tensor]], shares: Sequence[float]) -> LanguageModel:
    """A model like `first` whose weights are the mean of these, under these shares."""
    mean = {}
    for name, tensor in states[0].items():
        if tensor.is_floating_point():
            mean[name] = sum(share * state[name].double() for share, state in zip(shares, states, strict=True)).to(tensor.dtype)  # type: ignore[union-attr]
        else:
            mean[name] = tensor
    made = copy.deepcopy(cast(NeuralLanguageModel, first))
    made.load_state_dict(mean)
    return made.eval()


def _told(folder: Path) -> dict[str, Any]:
    return store.read_json(folder / RUN) if (folder / RUN).exists() else {}
