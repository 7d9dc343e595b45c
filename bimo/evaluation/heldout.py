"""The text that a finished model is measured on: the test text, or as much of it as suits the budget, evenly drawn."""

from __future__ import annotations

from bimo.core.budget import Budget
from bimo.core.recipe import TrainingSection
from bimo.data.corpus import Corpus
from bimo.data.excerpt import excerpt
from bimo.data.split import Split
from bimo.evaluation.ranking import row_interval
from bimo.evaluation.results import Comparison, Row
from bimo.models.base import Kind, LanguageModel

PER_SECOND, LEAST = 1_000, 10_000  # tokens for each second of a budget of time, and at least
_LEAST_OF_MANY = 2_000  # at least, of a model that reads each token many times to score it


def test_text(corpus: Corpus) -> Split | None:
    """The test text, or the validation text where there is none; None where neither has anything to score."""
    split = corpus.splits.get("test") or corpus.splits.get("valid")
    return split if split is not None and split.scored_tokens else None


def most_tokens(training: TrainingSection) -> int | None:
    """How many tokens of it are scored at most; None: all. It depends on no model, so that rows of a comparison are of one sample.

    >>> most_tokens(TrainingSection(budget="30s")), most_tokens(TrainingSection(budget="5s")), most_tokens(TrainingSection(budget="9steps"))
    (30000, 10000, None)
    >>> most_tokens(TrainingSection(budget="30s", test_tokens="all"))
    """
    if training.test_tokens is not None:
        return None if training.test_tokens == "all" else training.test_tokens
    seconds = Budget.parse(training.budget).seconds
    return None if seconds is None else max(LEAST, round(PER_SECOND * seconds))


def drawn_for(model: LanguageModel, split: Split, training: TrainingSection) -> Split:
    """What of `split` this model is measured on: fewer tokens of a model whose score of each takes many passes, if not said how many."""
    most = most_tokens(training)
    if most is not None and training.test_tokens is None and model.kind in (Kind.BOUND, Kind.PSEUDO):  # ranked among themselves alone
        most = max(_LEAST_OF_MANY, most // model.scoring_passes)
    return split if most is None or split.tokens <= most else excerpt(split, most, whole=model.whole_documents)


def said_before(corpus: Corpus, training: TrainingSection) -> str | None:
    """What is said, before learning, of how the model will be measured; None where that is on all of the text."""
    split, most = test_text(corpus), most_tokens(training)
    if split is None or most is None or split.tokens <= most:
        return None
    return (
        f"the finished model is measured on {most:,} of {split.tokens:,} tokens of the {split.name} text at most, evenly drawn; "
        "training.test_tokens=all measures it on all"
    )


def said_after(comparison: Comparison, row: Row, drawn: Split, split: Split) -> list[str]:
    """What a row says of the sample that it was measured on; nothing where that was all of the text."""
    if drawn is split:
        return []
    interval = row_interval(comparison, row)
    between = "" if interval is None else f" (95 % interval of the bits per byte: {interval.low:.3f} to {interval.high:.3f})"
    return [
        f"measured on {drawn.tokens:,} of {split.tokens:,} tokens of the {split.name} text, evenly drawn{between}; "
        "training.test_tokens=all measures all"
    ]
