"""Distillation: a model learns from what another one expects next, beside what stands in the text (Hinton, Vinyals & Dean 2015).

Teacher and student are of any families over one vocabulary that tell the next token, or are both encoders. A student that learns by
gradient is drawn to the teacher's distributions at every place of the text; one that counts counts text that the teacher writes
(`bimo/training/dictation.py`).
"""

from __future__ import annotations

from typing import Any, ClassVar, cast

from pydantic import Field

from bimo.core import runtime
from bimo.core.errors import RecipeError
from bimo.core.recipe import Recipe
from bimo.core.validation import validated
from bimo.data.batches import Batch, CarriedBatches
from bimo.data.corpus import Corpus
from bimo.data.masking import MaskedBatch
from bimo.data.rows import DocumentBatches
from bimo.models.base import NeuralLanguageModel
from bimo.training.dictation import Dictation
from bimo.training.divergence import chunked_divergence
from bimo.training.game import valued
from bimo.training.objectives.base import Batches, Loss, Objective, ObjectiveConfig
from bimo.training.objectives.causal import batches_for
from bimo.training.objectives.masked import Masked, MaskedConfig
from bimo.training.teacher import Teacher


class DistillationConfig(ObjectiveConfig):
    """Settings of distillation."""

    name: str = Field("distillation", description="distillation")
    teacher: str = Field(description="folder of the model to learn from, of any family, with the text's own tokenizer")
    temperature: float = Field(
        1.0, gt=0, description="logits of teacher and student are divided by it (Hinton 2015); 1 where words are counted"
    )
    weight: float = Field(0.5, ge=0, le=1, description="the teacher's share in what is learned; the rest is the text's")
    fingerprint: str | None = Field(
        None, description="of the teacher's files: a run writes it into its recipe and goes on with no other teacher"
    )


class Distillation(Objective):
    """weight · T² · KL(teacher ‖ student), both at temperature T, + (1 − weight) · cross-entropy of the text.

    The value of the loss is the cross-entropy, so that its curve stands beside that of a run without a teacher; its gradient is that of
    the sum. Told: `kl` at temperature T, and `cross_entropy`, nats a target.
    """

    Config: ClassVar[type[ObjectiveConfig]] = DistillationConfig

    def __init__(self, config: DistillationConfig, model: NeuralLanguageModel, recipe: Recipe, corpus: Corpus) -> None:
        self.teacher = _opened(config, corpus, model.device)
        self.teacher.check(model, corpus.splits["train"].given is not None)
        super().__init__(config, model, recipe, corpus)
        context = self.teacher.model.context
        if context is not None and self.source.context > context:
            raise RecipeError(
                f"training.context: {self.source.context} tokens a row, and the teacher {config.teacher} reads {context} at most; "
                f"set training.context={context}"
            )
        self.carries = isinstance(self.source, CarriedBatches)
        if self.carries:
            self.teacher.check_carried()
        if self.teacher.bundle.documents != corpus.documents:
            self.source.notes.append(
                f"the teacher's documents were of another kind ({self.teacher.bundle.documents}) than this text's ({corpus.documents})"
            )

    def batches(self, model: NeuralLanguageModel, recipe: Recipe, corpus: Corpus) -> Batches:
        """What the student would read without a teacher; whole documents where the teacher reads nothing else."""
        if self.teacher.tells_gaps:
            return Masked(validated(MaskedConfig, {}), model, recipe, corpus).source
        training = recipe.training
        if self.teacher.model.whole_documents and not model.whole_documents:
            known = [n for n in (training.context, model.context, self.teacher.model.context) if n is not None]
            return DocumentBatches(corpus.splits["train"], training.batch_size, min(known, default=None), training.seed)
        return batches_for(model, recipe, corpus)

    def loss(self, model: NeuralLanguageModel, batch: Batch | MaskedBatch, carry: Any, done: float) -> Loss:
        """See the class. What is carried is the student's state and the teacher's."""
        own, theirs = (None, None) if carry is None else carry
        if isinstance(batch, MaskedBatch):
            hidden, own = model.hidden(batch.tokens, None, batch.boundaries)
            hidden, targets = hidden.flatten(0, 1)[batch.places], batch.targets
            reading = self.teacher.read_hidden(batch)
        else:
            given = {} if batch.given is None else {"given": batch.given}
            hidden, own = model.hidden(batch.tokens[:, :-1], own, batch.boundaries, **given)
            hidden, targets = hidden.flatten(0, 1), batch.tokens[:, 1:].flatten()
            reading = self.teacher.read(batch, theirs, self.carries)
        config, (weight, bias) = cast(DistillationConfig, self.config), model.head()
        suppressed = model.vocabulary.suppressed
        loss, kl, entropy = chunked_divergence(hidden, weight, bias, targets, reading.pieces, config.temperature, config.weight, suppressed)
        told = {"kl": float(kl), "cross_entropy": float(entropy)}
        return Loss(valued(loss, entropy), (own, reading.carry) if self.carries else None, told)

    @classmethod
    def dictation(cls, config: DistillationConfig, recipe: Recipe, corpus: Corpus) -> Dictation:
        """Text by the teacher that is to be `weight` of all that is counted: together they are nearest to both in the same proportion."""
        if config.temperature != 1:
            raise RecipeError(
                f"objective.temperature: {config.temperature:g}, but a model that counts learns from text that the teacher writes "
                "as it is; leave it at 1"
            )
        teacher = _opened(config, corpus, runtime.pick_device(recipe.training.device))
        if teacher.tells_gaps:
            raise RecipeError(f"objective.teacher: {teacher.folder} tells hidden tokens and writes no text; choose a teacher that does")
        teacher.check_sourceless()
        stream = corpus.documents == "stream"
        return Dictation(teacher, corpus.splits["train"], config.weight, recipe.training.seed, stream)


def _opened(config: DistillationConfig, corpus: Corpus, device: Any) -> Teacher:
    """The teacher; its folder, absolute, and its fingerprint are written into the settings."""
    teacher = Teacher.open(config.teacher, corpus.tokenizer, device, config.fingerprint)
    config.teacher, config.fingerprint = str(teacher.folder), teacher.fingerprint
    return teacher
