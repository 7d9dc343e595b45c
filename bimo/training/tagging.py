"""The vocabulary that a run's model is made for: the tokenizer's, with tags where the recipe asks for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from bimo.core.errors import RecipeError
from bimo.core.recipe import Recipe
from bimo.data.corpus import Corpus
from bimo.data.lexicon import read_lexicon
from bimo.text.tags import SPECIAL, UNKNOWN, tagged_vocabulary
from bimo.text.vocabulary import Vocabulary
from bimo.training.starting import start_vocabulary

_SAMPLE = 1 << 24  # tokens of the training text that are looked at, at most


def model_vocabulary(recipe: Recipe, corpus: Corpus, tags: Sequence[str] | None = None) -> Vocabulary:
    """The vocabulary of a fresh model: tags are those of the model that it starts from, which brings its own table, or of `text.tags`.

    tags: names of those that it reads, where a checkpoint holds which token has which.
    """
    tokenizer = corpus.tokenizer
    whole = tokenizer.vocabulary if recipe.start is None else start_vocabulary(recipe.start, tokenizer)
    if tags is not None:
        return replace(whole, tags=tuple(tags))
    if recipe.start is not None:
        return whole
    if recipe.text.tags is None:
        return tokenizer.vocabulary
    tagged = tagged_vocabulary(tokenizer, read_lexicon(recipe.text.tags))
    if set(tagged.tags) <= {SPECIAL, UNKNOWN}:
        raise RecipeError(
            f"text.tags: {recipe.text.tags} knows none of the tokenizer's {tagged.size:,} tokens; is it in the text's language, "
            "and are the text's words its words? (--tokenizer word)"
        )
    return tagged


def tags_told(vocabulary: Vocabulary, corpus: Corpus) -> list[str]:
    """What a run says of its tags: how much of the training text has one, and who can open the model."""
    if not vocabulary.tag_of:
        return []
    tags = np.array(vocabulary.tag_of)[corpus.splits["train"].read(0, _SAMPLE)]
    ordinary = int((tags != vocabulary.tags.index(SPECIAL)).sum())
    known = ordinary - int((tags == vocabulary.tags.index(UNKNOWN)).sum())
    return [
        f"text.tags: {known / max(1, ordinary):.1%} of the training text's tokens have one of {len(vocabulary.tags) - 2} tags, "
        "which the model reads beside them: its folder opens in Bimo alone"
    ]
