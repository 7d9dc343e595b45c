"""The third way of learning: the parts of a hybrid, each as it learns alone, then what stands between them.

The parts' runs lie in `parts/` of the hybrid's run folder and can be used by themselves; the clock of the whole runs on through them.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

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
from bimo.models.hybrid.model import Voice
from bimo.models.hybrid.neighbours import has_faiss
from bimo.models.hybrid.weights import Weights
from bimo.models.scoring import document_nats, token_nats
from bimo.training import checkpoint
from bimo.training.averaging import averaged, souped
from bimo.training.checkpoint import RECIPE, RUN, read_run
from bimo.training.memories import remember, tune
from bimo.training.mixing import distributions, gate_weights, linear_weights, logs_by_parts, product_weights

PARTS = "parts"
_FOR_WEIGHTS = 0.04  # of the time: what is kept for the weights between the parts
_FOR_ENTRIES = 0.15  # and for reading the training text once more, where a memory remembers it
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
        remembers = any(p.memory is not None and registry.load_memory(p.memory).remembers for p in self.config.parts)
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
        told = read_run(folder)
        if "seconds" not in told:
            self.notices.append(f"{name}: how long {folder} took to learn is not known, and does not count")
        return Learned(bundle.model, bundle.context, float(told.get("seconds") or 0.0), int(told.get("tokens") or 0))

    def _learned(self, name: str, part: Part, waiting: int, resume: bool) -> Learned:
        folder = self.folder / PARTS / name
        self.say(f"{name}: part {self.names.index(name) + 1} of {len(self.names)}")
        recipe = make_recipe(read_recipe(folder / RECIPE))
        if resume and (folder / "model.safetensors").exists():
            told, bundle = read_run(folder), Bundle.load(folder)
            model, context = bundle.model, bundle.context
        else:
            going = resume and (folder / checkpoint.FILE).exists()
            if not going:
                recipe.training.budget = self._share(waiting)
            fitted = self.learn(recipe, folder, going)
            bundle = Bundle.of(fitted.model, self.corpus, fitted.recipe.training.context)
            bundle.save(folder)
            told = {**read_run(folder), **fitted.record(), "status": "finished", "name": name, "corpus": str(self.corpus.folder.resolve())}
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
        valid = self.corpus.splits.get("valid")
        held_out = valid if valid is not None and valid.scored_tokens else None
        if config.mixture == "average":
            return self._averaged(cast(list[LanguageModel], models), held_out)
        for part in config.parts:
            if part.memory is not None:
                self._settle(part)
        hybrid = Hybrid.of(config, models)
        for voice in hybrid.voices:
            if voice.memory is not None and voice.memory.remembers:
                late = None if self.cap is None else partial(_passed, self.used, self.used() + _FOR_ENTRIES * self.cap)
                told = remember(states_of(hybrid, voice), voice.memory, self.corpus.splits["train"], self.recipe.training.context, late)
                self.notices += [f"{voice.name}: {notice}" for notice in told]
        learns = config.weights in ("learned", "gate") or any(v.memory is not None and v.memory.open_field for v in hybrid.voices)
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
                    f"{part.memory}: all entries are looked at, as faiss is not installed (pip install 'bimo[retrieval]' finds them sooner)"
                )
            part.model = {**part.model, "search": "exact" if few else "faiss"}

    def _weighed(self, hybrid: Hybrid, valid: Split, tell: Callable[[dict[str, Any]], None]) -> Hybrid:
        """Temperatures, then weights, on an excerpt of the validation text."""
        budget = max(2_000, self.recipe.training.evaluation_tokens // hybrid.scoring_passes)
    def _exponents(self, hybrid: Hybrid, text: Split) -> Weights:
        """Of a product; a part that rules out a token which came has exponent 0."""
        context = self.recipe.training.context
        heard = ~logs_by_parts(hybrid, text, context)[0].isneginf().any(0)
        if not bool(heard.any()):
            self.notices.append(
                "every part gives some token of the validation text no chance, so that their product does: the exponents are equal, "
                "not learned; mixture=linear mixes such parts"
            )
            return Weights(torch.full(heard.shape, 1 / len(heard), dtype=torch.float64))
        self.notices += [
            f"{name}: gives some token of the validation text no chance, which a product cannot make good: its exponent is 0"
            for name, speaks in zip(hybrid.names, heard.tolist(), strict=True)
            if not speaks
        ]
        told, targets = distributions(hybrid, text, context)
        weights = torch.zeros(heard.shape, dtype=torch.float64)
        weights[heard] = product_weights(told[:, heard], targets)
        return Weights(weights)

        text = excerpt(valid, budget, whole=hybrid.whole_documents or self.config.mixture == "documents")
        context = self.recipe.training.context
        for voice in hybrid.voices:
            if voice.memory is not None:
                tune(states_of(hybrid, voice), voice.memory, text, context)
        if self.config.mixture == "linear":
            return self._shared(hybrid, text, tell)
        weights = hybrid.weights
        if not isinstance(self.config.weights, list):
            if self.config.mixture == "documents":
                nats = [document_nats(model, text, context) for model in hybrid.models]
                weights = Weights(linear_weights(-torch.from_numpy(np.stack(nats, 1))))
            else:
                weights = self._exponents(hybrid, text)
        hybrid = type(hybrid)(hybrid.mixture, hybrid.voices, weights)
        tell({"valid_loss": float(token_nats(hybrid, text, context).sum()) / text.scored_tokens})
        return hybrid

    def _shared(self, hybrid: Hybrid, text: Split, tell: Callable[[dict[str, Any]], None]) -> Hybrid:
        """The linear mixture under given shares, learned ones, or those of a gate."""
        asked, of = self.config.weights, next(iter(hybrid.with_states()), None)
        if asked == "gate":
            if of is None:
                raise RecipeError("model.weights: a gate reads hidden states, and no part has any; take weights=learned")
            parts = len(hybrid.voices)
            still = torch.zeros(parts, hybrid.hidden_width(of)), torch.zeros(parts)
            hybrid = Hybrid(hybrid.mixture, hybrid.voices, replace(hybrid.weights, gate=still, of=of))
        logs, hidden = logs_by_parts(hybrid, text, self.recipe.training.context)
        weights = hybrid.weights
        if asked == "learned":
            weights = Weights(linear_weights(logs))
        elif asked == "gate" and of is not None and hidden is not None:
            gate = gate_weights(logs, hidden, of)
            weights = gate.weights
            if gate.gated >= gate.fixed:
                weights = Weights(weights.values)
                self.notices.append(
                    f"a gate tells held-out text no better than fixed weights do ({gate.gated:.4f} and {gate.fixed:.4f} nats a token); "
                    "the weights are fixed"
                )
        own = -logs.nan_to_num(nan=0.0, neginf=-math.inf).mean(0)  # infinite for a part that gives one of the tokens no chance
        alone = {name: float(own[k]) for k, name in enumerate(hybrid.names) if hybrid.voices[k].model}
        tell({"valid_loss": float(-weights.of_targets(logs, hidden).mean()), "parts": alone})
        return Hybrid(hybrid.mixture, hybrid.voices, weights)

    def _averaged(self, models: list[LanguageModel], valid: Split | None) -> LanguageModel:
        """The model of the mean weights; where they are learned, of those parts only that make it better on validation text."""
        if isinstance(self.config.weights, list):
            return averaged(models, self.config.weights)
        if self.config.weights == "gate" or valid is None:
            return averaged(models, [1.0] * len(models))
        first = models[0]
        text = excerpt(valid, self.recipe.training.evaluation_tokens // first.scoring_passes, whole=first.whole_documents)
        made, number = souped(models, text, self.recipe.training.context)
        if number < len(models):
            self.notices.append(f"{number} of {len(models)} parts are averaged; the others made it no better on validation text")
        return made


def states_of(hybrid: Hybrid, voice: Voice) -> NeuralLanguageModel:
    """The part whose hidden states a memory looks at."""
    return cast(NeuralLanguageModel, hybrid.voices[cast(int, voice.of)].model)


def part_recipe(recipe: Recipe, part: Part) -> Recipe:
    """The recipe of a part that is a family: what it says itself, and the whole's text and training where it says nothing."""
    asked = {k: v for k, v in recipe.training.model_dump(mode="json", exclude_unset=True).items() if v is not None}
    text = recipe.text.model_dump(mode="json", exclude_none=True)
    return make_recipe({"text": text, "training": {**asked, "budget": recipe.training.budget}}, part.recipe())


def _passed(used: Callable[[], float], end: float) -> bool:
    return used() > end
