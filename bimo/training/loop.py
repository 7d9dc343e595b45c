"""The one loop of every family that learns by gradient: budgets, checkpoints, evaluation and resume are the same for all."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from bimo.core import runtime, store
from bimo.core.budget import Budget
from bimo.core.errors import CheckpointError, DivergedError, Interrupted
from bimo.core.recipe import TrainingSection
from bimo.models.base import NeuralLanguageModel
from bimo.training.averaging import RunningMean
from bimo.training.checkpoint import Checkpoint, Progress, generator_states, learned_state, load_weights, set_generator_states
from bimo.training.objectives.base import Loss, Objective, training_step
from bimo.training.optimizers import schedule_factor, set_learning_rate
from bimo.training.plan import flops_per_token
from bimo.training.progress import Metrics, Reporter

_COUNTED = ("nats", "tokens", "read", "since")  # in the running sums; what else is there an objective tells
_AGAIN = (0.1, 0.3, 0.6, 0.8)  # of a budget of time: where the steps are planned again, at the speed that they were made at
_FEWEST = 8  # steps that a speed is told by
_FILLED = 0.97  # of the budget, by steps that are planned again
_FAR = 2.0  # times the loss that a run began with, from which on it has diverged
Look = Callable[[NeuralLanguageModel], float]  # nats per token on validation text


@dataclass
class Hooks:
    """What the loop calls without knowing what it is: a look at the validation text, a sample of its writing, the model before step 1."""

    validate: Look | None = None
    sample: Callable[[NeuralLanguageModel], str] | None = None
    start: Callable[[NeuralLanguageModel], None] | None = None


@dataclass
class Outcome:
    """How the loop ended. seconds: learning time, evaluation left out."""

    progress: Progress
    capped: bool
    stopped_early: bool


class Loop:
    """A run from its step 0, or from its checkpoint, to its last step."""

    def __init__(
        self,
        model: NeuralLanguageModel,
        objective: Objective,
        training: TrainingSection,
        folder: Path,
        hooks: Hooks,
        reporter: Reporter,
        matrix_rate: float = 0.0,
    ) -> None:
        assert training.steps is not None
        self.model, self.objective, self.training, self.steps = model, objective, training, training.steps
        self.folder, self.hooks, self.reporter, self.matrix_rate = Path(folder), hooks, reporter, matrix_rate
        self.optimizers = objective.optimizers(model, training)
        self.progress = Progress()
        self.carry: Any = None
        self.best: dict[str, Tensor] | None = None
        self.mean = RunningMean()
        self.notices: list[str] = []
        self._begin, self._cap, self._by_time = 0.0, math.inf, False
        self._stop_asked = False

    # -- state ----------------------------------------------------------------------------------------------------------

    def save(self) -> None:
        """Write a checkpoint of this moment."""
        self.progress.metrics_bytes = self.metrics.sync()
        self.progress.seconds = self._seconds()
        Checkpoint(
            self.progress,
            learned_state(self.model),
            [o.state_dict() for o in self.optimizers],
            self.carry,
            generator_states(),
            self.best,
            self.mean.weights or None,
        ).save(self.folder)

    def restore(self, saved: Checkpoint) -> None:
        """Go back to the moment of a checkpoint."""
        load_weights(self.model, saved.model, self.folder)
        try:
            for optimizer, state in zip(self.optimizers, saved.optimizers, strict=True):
                optimizer.load_state_dict(state)
        except (ValueError, KeyError) as cause:
            raise CheckpointError(f"{self.folder}: the checkpoint's optimizer does not fit the run's recipe ({cause})") from None
        self.progress, self.best = saved.progress, saved.best
        self.mean = RunningMean(saved.mean, saved.progress.averaged)
        if saved.progress.steps:
            self._set_steps(saved.progress.steps)
        self.carry = tree_map_only(Tensor, lambda t: t.to(self.model.device), saved.carry)
        set_generator_states(saved.generators)

    @property
    def kept(self) -> dict[str, Tensor] | None:
        """The weights that the run ends with; None where those are the last ones."""
        chosen = self.best if self.training.keep == "best" else None
        return chosen if chosen is not None else self.mean.weights or None

    def _seconds(self) -> float:
        return time.perf_counter() - self._begin

    # -- the run --------------------------------------------------------------------------------------------------------

    def run(self, seconds_used: float = 0.0, resumed: bool = False, plan_again: bool = False) -> Outcome:
        """Learn until the last step, the cap, or the end of patience; `seconds_used` went before step 0.

        plan_again: of a budget of time, the steps are planned anew four times, for a machine is not always as fast as in the seconds of
        its probe. What is planned stands in the checkpoint.
        """
        training, progress = self.training, self.progress
        self.metrics = Metrics(self.folder, progress.metrics_bytes)
        self._begin = time.perf_counter() - (progress.seconds if resumed else seconds_used)
        cap = self._cap = Budget.parse(training.budget).seconds or math.inf
        self._by_time = plan_again and math.isfinite(cap)
        saved_at = time.perf_counter()
        self.model.train()
        try:
            with self._interruptible():
                if not resumed:
                    progress.metrics = {"since": seconds_used}
                    progress.plans = [share * cap for share in _AGAIN] if plan_again and math.isfinite(cap) else []
                    if self.hooks.start is not None:
                        with self._outside_the_clock():
                            self.hooks.start(self.model)
                    self.save()
                first = progress.step + 1
                while progress.step < self.steps and not progress.ended:
                    self._step()
                    if progress.step == first:  # which compiles, and takes memory: it tells no speed
                        progress.planned_at = [first, self._seconds()]
                    self._plan_again(cap)
                    if self._seconds() >= cap and progress.step < self.steps:
                        progress.ended = "capped"
                    if self._due(training.evaluations or 0) or (progress.ended and training.evaluations):
                        self._look()
                    if self.hooks.sample and self._due(training.samples or 0):
                        self._write_sample()
                    every = training.checkpoint_every
                    due = progress.step % every == 0 if every else time.perf_counter() - saved_at > 60
                    if due and progress.step < self.steps:
                        self.save()
                        saved_at = time.perf_counter()
                    if self._stop_asked:
                        self.save()
                        raise Interrupted(f"stopped at step {progress.step} of {self.steps}; go on with: bimo train --resume {self.folder}")
                progress.seconds = self._seconds()
                self._look_at_mean()
                self.save()
                self.reporter.update(1.0)
                self._check_end()
        finally:
            self.reporter.close()
            self.metrics.close()
        return Outcome(progress, progress.ended == "capped", progress.ended == "stopped")

    def _step(self) -> None:
        training, progress = self.training, self.progress
        set_learning_rate(self.optimizers, schedule_factor(training, progress.step, self.steps))
        batches = self._next_batches()
        made = training_step(self._loss, self.model, batches, self.carry, training.precision or "fp32")
        nats, self.carry = made.nats, made.carry
        norm = float(torch.nn.utils.clip_grad_norm_(self.model.parameters(), training.clip or math.inf))
        if not (math.isfinite(norm) and math.isfinite(nats)):
            self._diverged(batches, nats)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        progress.step += 1
        if progress.first_loss is None:
            progress.first_loss = nats / max(1, made.targets)
        if progress.step > (1 - training.average) * self.steps:
            self.mean.add(learned_state(self.model))
            progress.averaged = self.mean.steps
        read = sum(batch.read for batch in batches)
        progress.tokens += read
        sums = progress.metrics
        for name, value in {"nats": nats, "tokens": made.targets, "read": read, **made.told}.items():
            sums[name] = sums.get(name, 0.0) + value
        if self._due(max(20, min(200, self.steps))):
            self._log(norm)

    def _plan_again(self, cap: float) -> None:
        """Where that is due, or the steps are done too soon: as many as the time left pays for, at the speed since the last plan."""
        progress, now = self.progress, self._seconds()
        step, then = progress.planned_at
        if not progress.plans or progress.step == step:
            return
        if progress.step < self.steps and (now < progress.plans[0] or progress.step - step < _FEWEST):
            return
        left = int((_FILLED * cap - now) / (now - then) * (progress.step - step))
        progress.plans, progress.planned_at = progress.plans[1:], [progress.step, now]
        steps = progress.step + max(progress.step < self.steps, left)
        self._set_steps(steps)
        self.metrics.write({"step": progress.step, "steps": steps})

    def _set_steps(self, steps: int) -> None:
        self.steps = self.training.steps = self.progress.steps = steps

    def _loss(self, model: NeuralLanguageModel, batch: Any, carry: Any) -> Loss:
        return self.objective.loss(model, batch, carry, self.progress.step / self.steps)

    def _next_batches(self) -> list[Any]:
        batches, source = [], self.objective.source
        for _ in range(self.training.accumulation):
            epoch, index = divmod(self.progress.position, source.steps_per_epoch)
            batches.append(source.batch(epoch, index).to(self.model.device))
            self.progress.position += 1
        return batches

    def _due(self, times: int) -> bool:
        """Whether this step is one of `times` evenly spaced ones, the last step included."""
        step, steps = self.progress.step, self.steps
        return times > 0 and step * times // steps > (step - 1) * times // steps

    def _log(self, norm: float) -> None:
        progress, sums = self.progress, self.progress.metrics
        seconds, loss = self._seconds(), sums["nats"] / max(1, sums["tokens"])
        speed = sums["read"] / max(1e-9, seconds - sums.get("since", 0.0))
        use = flops_per_token(self.model) * speed / self.matrix_rate if self.matrix_rate else None
        record = {"step": progress.step, "tokens": progress.tokens, "seconds": round(seconds, 3), "loss": loss,
                  "learning_rate": self.optimizers[-1].param_groups[0]["lr"], "gradient_norm": norm,
                  "tokens_per_second": round(speed, 1), "memory_bytes": runtime.memory_bytes(),
                  **{name: value / max(1, sums["tokens"]) for name, value in sums.items() if name not in _COUNTED}}  # fmt: skip
        self.metrics.write(record if use is None else {**record, "utilisation": round(use, 4)})
        progress.metrics, progress.last_loss = {"since": seconds}, loss
        share = "" if use is None else f"  MFU {use:.0%}"
        step = f"step {progress.step:,}/{self.steps:,}"
        self.reporter.update(self._share(), f"loss {loss:.3f}  {step}  {speed:,.0f} tokens/s{share}")

    def _share(self) -> float:
        """How much of the run is done: of a budget of time by the clock, since its steps may still be planned anew."""
        return min(1.0, self._seconds() / (_FILLED * self._cap)) if self._by_time else self.progress.step / self.steps

    @contextmanager
    def _outside_the_clock(self) -> Iterator[None]:
        """Evaluation and samples don't count as learning time, and draw from generators of their own."""
        begin, generators = time.perf_counter(), generator_states()
        self.model.eval()
        try:
            with torch.no_grad():
                yield
        finally:
            self.model.train()
            set_generator_states(generators)
            self._begin += time.perf_counter() - begin

    def _look(self) -> None:
        """Evaluate and keep the best weights; the run ends where patience does."""
        if (nats := self._validate()) is None:
            return
        progress = self.progress
        if math.isfinite(nats) and (progress.best_nats is None or nats < progress.best_nats):
            progress.best_nats, progress.best_step, progress.stale = nats, progress.step, 0
            if self.training.keep == "best":
                self.best = {name: t.detach().clone() for name, t in learned_state(self.model).items()}
        else:
            progress.stale += 1
        self.reporter.update(self._share(), f"valid loss {nats:.3f}")
        if 0 < self.training.patience <= progress.stale and not progress.ended:
            progress.ended = "stopped"

    def _validate(self, **told: Any) -> float | None:
        """Nats per token on validation text, noted with further fields; None where there is none, or where a look has failed."""
        if self.hooks.validate is None:
            return None
        try:
            with self._outside_the_clock():
                nats = self.hooks.validate(self.model)
        except Exception as cause:  # whatever it is: what was learned is worth more than a look at it
            self.hooks.validate = None
            self._note(
                f"step {self.progress.step}: the validation text could not be scored ({type(cause).__name__}: {cause}); no more looks"
            )
            return None
        progress = self.progress
        line = {"step": progress.step, "tokens": progress.tokens, "seconds": round(self._seconds(), 3), "valid_loss": nats}
        self.metrics.write({**line, **told})
        return nats

    def _look_at_mean(self) -> None:
        """At the end: the mean of the weights, where one was kept, is one of those that validation text chooses the best of."""
        if not self.mean.weights or not self.training.evaluations or self.hooks.validate is None or self.training.keep != "best":
            return
        last, steps = {name: t.detach().clone() for name, t in learned_state(self.model).items()}, self.mean.steps
        load_weights(self.model, self.mean.weights, self.folder)
        nats = self._validate(averaged=steps)
        load_weights(self.model, last, self.folder)
        progress = self.progress
        if nats is None:
            return
        if math.isfinite(nats) and (progress.best_nats is None or nats < progress.best_nats):
            progress.best_nats, progress.best_step, self.best = nats, progress.step, self.mean.weights
            self.reporter.say(f"the mean of the last {steps:,} steps' weights is better than any step's, and is kept")
        self.mean, progress.averaged = RunningMean(), 0

    def _write_sample(self) -> None:
        try:
            with self._outside_the_clock():
                text = self.hooks.sample(self.model) if self.hooks.sample else ""
        except Exception as cause:
            self.hooks.sample = None
            self._note(f"step {self.progress.step}: no sample could be written ({type(cause).__name__}: {cause}); no more samples")
            return
        self.metrics.write({"step": self.progress.step, "sample": text})

    def _note(self, notice: str) -> None:
        self.notices.append(notice)
        self.reporter.say(notice)

    def _check_end(self) -> None:
        """A run whose loss ended far above where it began has diverged: its weights are of no use, but for those of an earlier step.

        Far above: more than twice the first step's loss, and twice that of guessing all ids alike, ln V nats.
        """
        progress, guess = self.progress, math.log(self.model.vocab_size)
        first, last = progress.first_loss or 0.0, progress.last_loss or 0.0
        most = _FAR * max(guess, first)
        if last <= most:
            return
        rate = self.training.learning_rate
        if self.training.keep == "best" and progress.best_nats is not None and progress.best_nats <= most:
            self._note(
                f"the loss ended at {last:.4g} nats, far above the {first:.4g} that it began with: the run diverged after step "
                f"{progress.best_step}, whose weights are kept; a lower training.learning_rate (here {rate:g}) would use all of the budget"
            )
            return
        raise DivergedError(
            f"the loss ended at {last:.4g} nats a target, far above the {first:.4g} that it began with: the run diverged; start anew with "
            f"a lower training.learning_rate (here {rate:g}), in another folder (--out)"
        )

    def _diverged(self, batches: list[Any], nats: float) -> None:
        path = self.folder / f"diverged-step-{self.progress.step + 1}.safetensors"
        store.write_tensors(path, {f"tokens.{i}": b.tokens for i, b in enumerate(batches)})
        wrong = [n for n, p in self.model.named_parameters() if p.grad is not None and not torch.isfinite(p.grad).all()]
        first = f"first in {wrong[-1]}" if wrong else "in the loss alone"
        raise DivergedError(
            f"step {self.progress.step + 1}: the loss is {nats} or its gradient is not finite ({first}; {len(wrong)} parameters); "
            f"the batch is in {path}; --resume would meet it again: start anew with a lower training.learning_rate "
            f"(here {self.training.learning_rate:g}) or training.precision=fp32, in another folder (--out)"
        )

    @contextmanager
    def _interruptible(self) -> Iterator[None]:
        """The first Ctrl-C ends the run after this step, with a checkpoint; the second ends it at once."""

        def asked(number: int, frame: Any) -> None:
            if self._stop_asked:
                raise KeyboardInterrupt
            self._stop_asked = True
            self.reporter.say("stopping after this step …")

        try:
            before = {s: signal.signal(s, asked) for s in (signal.SIGINT, signal.SIGTERM)}
        except ValueError:  # not the main thread: the caller handles signals
            yield
            return
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
