"""The third way of learning: the parts of a hybrid, each as it learns alone, then what stands between them.

The parts' runs lie in `parts/` of the hybrid's run folder and can be used by themselves; the clock of the whole runs on through them.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from bimo.core import registry, runtime, store
from bimo.core.budget import Budget
from bimo.core.errors import RecipeError
from bimo.core.recipe import Recipe, make_recipe, read_recipe
from bimo.data.corpus import Corpus
from bimo.data.excerpt import excerpt, rows_for
from bimo.data.split import Split
from bimo.models.base import LanguageModel, Learning, NeuralLanguageModel
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
from bimo.training.memories import TRIED, TUNED, remember, tune
from bimo.training.mixing import distributions, gate_weights, linear_weights, logs_by_parts, product_weights
from bimo.training.parts import FOR_ENTRIES, FOR_WEIGHTS, by_gradient, held_out, in_order, learns, part_recipe, refuse_unmixable, share

PARTS = "parts"
_FEW = 50_000  # entries up to which all are looked at
_TO_READING = 8.0  # what learning a product's exponents takes, in readings of the places that they are learned from
_LEAST = 2_000  # tokens of validation text, at least, that weights are learned from


@dataclass
class Learned:
    """A part and what it took. seconds, tokens, capped: of its run; own: whether that run was a part of this one."""

    model: LanguageModel
    context: int | None
    seconds: float = 0.0
    tokens: int = 0
    steps: int = 0
    own: bool = False
    capped: bool = False
    plan: dict[str, Any] = field(default_factory=dict)
    notices: list[str] = field(default_factory=list)

    def took(self, unit: str) -> float:
        """Steps, epochs or tokens that it learned for: as its plan has them, whose steps are told apart from those that were done."""
        return self.steps * float(self.plan.get(unit) or 0.0) / float(self.plan.get("steps") or 1.0)


Learn = Callable[[Recipe, Path, bool], Any]  # a recipe and a folder, going on or not → what `fit` gives


class Composite:
    """One hybrid's learning. learn: `fit`, for the parts; spent: seconds on the clock before it."""

    def __init__(self, recipe: Recipe, corpus: Corpus, folder: Path, learn: Learn, say: Callable[[str], None], spent: float = 0.0) -> None:
        self.recipe, self.corpus, self.folder, self.learn, self.say = recipe, corpus, Path(folder), learn, say
        self.config: HybridConfig = recipe.model_section()
        self.names = numbered([part.name for part in self.config.parts])
        self.cap = Budget.parse(recipe.training.budget).seconds
        self.by_parts = spent  # seconds of the parts that were learned here, and of what came before them
        self.elsewhere = 0.0  # seconds of parts that had learned before
        self.mixing: float | None = None  # when what stands between them was begun
        self.notices: list[str] = []

    # -- time ---------------------------------------------------------------------------------------------------------

    def used(self) -> float:
        """Seconds on the clock."""
        return self.by_parts + (0.0 if self.mixing is None else time.perf_counter() - self.mixing)

    def taken(self, parts: Sequence[Learned | None], seconds: float) -> float:
        """How many times the budget the parts took together; seconds: of all of them, and of what stands between them."""
        budget = Budget.parse(self.recipe.training.budget)
        if budget.seconds is not None:
            return seconds / budget.seconds
        own = float(any(map(by_gradient, self.config.parts)))  # all of it was dealt out to them, but for what is no whole step
        before = (part for part in parts if part is not None and not part.own and part.model.learning is not Learning.COUNTED)
        return own + sum(part.took(budget.unit) for part in before) / budget.amount

    # -- the parts ----------------------------------------------------------------------------------------------------

    def parts(self, resume: bool) -> list[Learned | None]:
        """Every part, learned or opened; None for a memory. What could not be mixed is told before the first one learns."""
        found: list[Learned | None] = [None] * len(self.config.parts)
        for i, (name, part) in enumerate(zip(self.names, self.config.parts, strict=True)):
            file = self.folder / PARTS / name / RECIPE
            if part.family is not None and not (resume and file.exists()):
                own = part_recipe(self.recipe, part)  # before anything is resolved: what the whole leaves open, its parts do
                if "seed" not in part.training and self.config.mixture != "average":  # two parts of one recipe are to be two models
                    own.training.seed += sum(
                        other.family is not None and other.recipe() == part.recipe() for other in self.config.parts[:i]
                    )
                own.save(file)
        for i, part in enumerate(self.config.parts):
            if part.folder is not None:
                found[i] = self._opened(self.names[i], part)
        refuse_unmixable(self.config, {i: part.model for i, part in enumerate(found) if part is not None}, self.corpus)
        order = in_order(self.config)
        for place, i in enumerate(order):
            waiting = sum(by_gradient(self.config.parts[j]) for j in order[place:])
            found[i] = self._learned(self.names[i], self.config.parts[i], waiting, resume)
        return found

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
        return Learned(
            bundle.model, bundle.context, float(told.get("seconds") or 0.0), int(told.get("tokens") or 0), int(told.get("steps") or 0),
            capped=bool(told.get("capped")), plan=told.get("plan") or {}, notices=_ended(name, told),
        )  # fmt: skip

    def _learned(self, name: str, part: Part, waiting: int, resume: bool) -> Learned:
        folder = self.folder / PARTS / name
        recipe = make_recipe(read_recipe(folder / RECIPE))
        self.say(f"part {self.names.index(name) + 1} of {len(self.names)}: {recipe.label}")
        if resume and (folder / "model.safetensors").exists():
            told, bundle = read_run(folder), Bundle.load(folder)
            model, context = bundle.model, bundle.context
        else:
            going = resume and (folder / checkpoint.FILE).exists()
            if not going:
                recipe.training.budget = share(self.recipe, self.used(), waiting)
            fitted = self.learn(recipe, folder, going)
            bundle = Bundle.of(fitted.model, self.corpus, fitted.recipe.training.context)
            bundle.save(folder)
            told = {**read_run(folder), **fitted.record(), "status": "finished", "name": name, "corpus": str(self.corpus.folder.resolve())}
            store.write_json(folder / RUN, told)
            model, context, recipe = fitted.model, bundle.context, fitted.recipe
        self.by_parts += told["seconds"]
        resolved = recipe.model_dump(mode="json", exclude_none=True)
        part.preset, part.model, part.objective = None, resolved["model"], resolved["objective"]
        part.training = {k: v for k, v in resolved["training"].items() if k != "budget"} if by_gradient(part) else {}
        notices = [*(f"{name}: {notice}" for notice in told["notices"]), *_ended(name, told)]
        return Learned(
            model,
            context,
            told["seconds"],
            told["tokens"],
            told.get("steps") or 0,
            own=True,
            capped=bool(told["capped"]),
            plan=told.get("plan") or {},
            notices=notices,
        )

    # -- what stands between them -------------------------------------------------------------------------------------

    def mix(self, parts: Sequence[Learned | None], tell: Callable[[dict[str, Any]], None]) -> LanguageModel:
        """The hybrid of these parts: entries, temperatures and weights learned where the recipe leaves them open.

        tell: is told what came out on validation text.
        """
        config, self.mixing = self.config, time.perf_counter()
        self.elsewhere = sum(part.seconds for part in parts if part is not None and not part.own)
        training = self.recipe.training
        device = runtime.pick_device(training.device)
        for part, learned in zip(config.parts, parts, strict=True):
            if isinstance(learned and learned.model, NeuralLanguageModel):
                cast(NeuralLanguageModel, cast(Learned, learned).model).to(device).eval()
            if part.folder is not None:
                part.called, part.label = part.name, part.title
        models = [None if learned is None else learned.model for learned in parts]
        contexts = [learned.context for learned in parts if learned is not None and learned.context is not None]
        training.context = min(contexts, default=None)
        valid = held_out(self.corpus)
        if config.mixture == "average":
            return self._averaged(cast(list[LanguageModel], models), valid)
        for part in config.parts:
            if part.memory is not None:
                self._settle(part)
        hybrid = Hybrid.of(config, models)
        for voice in hybrid.voices:
            if voice.memory is not None and voice.memory.remembers:
                late = None if self.cap is None else partial(_passed, self.used, self.used() + FOR_ENTRIES * self.cap)
                told = remember(states_of(hybrid, voice), voice.memory, self.corpus.splits["train"], training.context, late)
                self.notices += [f"{voice.name}: {notice}" for notice in told]
        if valid is not None and learns(config, hybrid):
            hybrid = self._weighed(hybrid, valid, tell)
        for part, voice in zip(config.parts, hybrid.voices, strict=True):
            if voice.memory is not None:
                part.model = voice.memory.config.model_dump(mode="json")
        return hybrid

    def _settle(self, part: Part) -> None:
        """How entries are found, where the recipe leaves it open: all are looked at while they are few."""
        fields = registry.load_memory(cast(str, part.memory)).Config.model_fields
        if "search" in fields and part.model.get("search") is None:
            asked = part.model.get("entries")
            entries = min(int(asked or fields["entries"].default), self.corpus.splits["train"].scored_tokens)
            few = entries <= _FEW or not has_faiss()
            if few and entries > _FEW:
                kept = f"all {entries:,} entries are" if asked else f"{_FEW:,} entries, drawn from the whole text, are kept, and all"
                self.notices.append(f"{part.memory}: {kept} looked at, as faiss is not installed (pip install 'bimo[retrieval]')")
                entries = int(asked or _FEW)
                part.model = {**part.model, "entries": entries}
            part.model = {**part.model, "search": "exact" if few else "faiss"}

    def _weighed(self, hybrid: Hybrid, valid: Split, tell: Callable[[dict[str, Any]], None]) -> Hybrid:
        """Temperatures, then weights, on an excerpt of the validation text: as much of it as there is time for."""
        context = self.recipe.training.context
        wanted = max(_LEAST, self.recipe.training.evaluation_tokens // hybrid.scoring_passes)
        reach = max(voice.memory.reach if voice.memory is not None else 0 for voice in hybrid.voices)
        rows = rows_for(wanted, reach)  # what is remembered of the text itself has to be as full as where the weights will be used
        whole = hybrid.whole_documents or self.config.mixture == "documents"
        few = excerpt(valid, max(_LEAST, 64 * rows), rows, whole)
        text = excerpt(valid, min(wanted, self._affordable(hybrid, few)), rows, whole)
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

    def _affordable(self, hybrid: Hybrid, few: Split) -> int:
        """Tokens of validation text that weights can be learned from in what is left of the time, by how long it takes to read a few."""
        if self.cap is None:
            return sys.maxsize
        context, begin = self.recipe.training.context, time.perf_counter()
        if self.config.mixture == "documents":
            for model in hybrid.models:
                token_nats(model, few, context)
        else:
            logs_by_parts(hybrid, few, context)
        each = (time.perf_counter() - begin) / few.tokens
        left = self._left() / each
        if not any(voice.memory is not None and voice.memory.open_field for voice in hybrid.voices):
            return max(_LEAST, int(left / 2))
        return max(_LEAST, int(left / (2 + TRIED)), int((left - TRIED * TUNED) / 2))  # each value is tried on so many tokens at most

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
        most, late = sys.maxsize, None
        if self.cap is not None:
            begin = time.perf_counter()
            tried = len(distributions(hybrid, text, context, 64)[1])
            each = (time.perf_counter() - begin) / tried
            most, late = max(256, int(self._left() / (_TO_READING * each))), partial(_passed, self.used, self.cap)
        told, targets = distributions(hybrid, text, context, most)
        weights = torch.zeros(heard.shape, dtype=torch.float64)
        weights[heard] = product_weights(told[:, heard], targets, late=late)
        return Weights(weights)

    def _left(self) -> float:
        """Seconds of the budget that are left for what stands between the parts."""
        assert self.cap is not None
        return max(0.5 * FOR_WEIGHTS * self.cap, self.cap - self.used() - self.elsewhere)

    def _shared(self, hybrid: Hybrid, text: Split, tell: Callable[[dict[str, Any]], None]) -> Hybrid:
        """The linear mixture under given shares, learned ones, or those of a gate."""
        asked, of = self.config.weights, next(iter(hybrid.with_states()), None)
        if asked == "gate":
            assert of is not None, "a gate without hidden states is refused before anything is learned"
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
        if valid is None:
            self.notices.append("all parts are averaged alike: there is no validation text that could tell which make it better")
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


def _ended(name: str, told: dict[str, Any]) -> list[str]:
    """What is to be known of how a part's run ended, as its run.json has it."""
    notices = [f"{name}: met its cap before its steps were done"] if told.get("capped") else []
    return notices + ([f"{name}: stopped early, at step {told.get('steps')}"] if told.get("stopped_early") else [])


def _passed(used: Callable[[], float], end: float) -> bool:
    return used() > end
