"""A model with what must travel with it: its tokenizer, what it took for a document, and the context it learned in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

import torch
from torch.nn.utils.rnn import pad_sequence

from bimo.core import store
from bimo.core.errors import ModelError, RecipeError
from bimo.core.recipe import CleanSection, DocumentMode, validated
from bimo.data.batches import Given
from bimo.data.corpus import Corpus
from bimo.models.base import LanguageModel, load_model
from bimo.models.saved import holds_weights
from bimo.models.vocabulary import generation_config
from bimo.text.streaming import StreamDecoder
from bimo.text.tokenizer import Tokenizer

FILE = "bimo.json"


@dataclass
class Bundle:
    """What a model folder holds. context: tokens of a training window, in which documents are scored; clean: how its text was tidied."""

    model: LanguageModel
    tokenizer: Tokenizer
    documents: str = "file"
    context: int | None = None
    clean: CleanSection = field(default_factory=CleanSection)

    @classmethod
    def of(cls, model: LanguageModel, corpus: Corpus, context: int | None = None) -> Bundle:
        """A model that learned from `corpus`, in windows of `context` fed tokens."""
        context = None if model.context is None else min(context or model.context, model.context)
        return cls(model, corpus.tokenizer, corpus.documents, context, corpus.clean)

    @property
    def stream(self) -> bool:
        """Whether each newline is </s>, which then ends nothing."""
        return self.documents == "stream"

    @property
    def eos(self) -> int | None:
        """The id that ends a text, or None where nothing does."""
        return None if self.stream else self.tokenizer.vocabulary.eos

    def prompt(self, text: str) -> list[int]:
        """Ids of a text that is to be continued: a document without its end."""
        ids = self.tokenizer.encode_document(text, stream=self.stream).tolist()
        return ids[:-1] if ids and ids[-1] == self.tokenizer.vocabulary.eos else ids

    def decoder(self, after: Sequence[int]) -> StreamDecoder:
        """What makes text of ids that follow the ids `after`, piece by piece."""
        return self.tokenizer.stream_decoder(self.stream, after=after)

    def given(self, texts: Sequence[str]) -> Given:
        """Source texts as a model's `start` takes them: documents, their ends included."""
        rows = [torch.from_numpy(ids.astype("int64")) for ids in map(self.tokenizer.encode_document, texts)]
        return Given(pad_sequence(rows, batch_first=True), torch.tensor([len(row) for row in rows]))

    def save(self, folder: Path) -> None:
        """Write the model folder; its safetensors come last, so that a folder with weights is a whole one."""
        folder = Path(folder)
        self.tokenizer.save(folder)
        store.write_json(folder / FILE, {"documents": self.documents, "context": self.context, "clean": self.clean.model_dump()})
        store.write_json(folder / "generation_config.json", generation_config(self.model.vocabulary))
        self.model.save(folder)

    @classmethod
    def load(cls, folder: Path | str) -> Bundle:
        """Open a model folder (a run folder is one once its model is written)."""
        folder = Path(folder)
        if folder.is_dir() and not holds_weights(folder) and (folder / "recipe.yaml").exists():
            raise ModelError(f"{folder}: this run has not finished; go on with: bimo train --resume {folder}")
        model = load_model(folder)
        tokenizer = Tokenizer.load(folder)
        if tokenizer.vocabulary.size > model.vocab_size:
            raise ModelError(
                f"{folder}: the tokenizer has {tokenizer.vocabulary.size} ids, the model {model.vocab_size}; they are not of one run"
            )
        ours, theirs = tokenizer.vocabulary, model.vocabulary
        if tokenizer.kind != "loaded" and (ours.bos, ours.eos) != (theirs.bos, theirs.eos):
            raise ModelError(
                f"{folder}: <s> and </s> are {ours.bos} and {ours.eos} in tokenizer.json, {theirs.bos} and {theirs.eos} in config.json"
            )
        told = store.read_json(folder / FILE) if (folder / FILE).exists() else {}
        documents, context = (told.get("documents", "file"), told.get("context")) if isinstance(told, dict) else (None, None)
        context_fits = context is None or (isinstance(context, int) and context > 0)
        if not isinstance(documents, str) or documents not in get_args(DocumentMode) or not context_fits:
            raise ModelError(f"{folder / FILE}: expected documents ({', '.join(get_args(DocumentMode))}) and a context of 1 or more")
        try:
            clean = validated(CleanSection, told.get("clean", {}), "clean")
        except (RecipeError, TypeError) as cause:
            raise ModelError(f"{folder / FILE}: {cause}") from None
        return cls(model, tokenizer, documents, context, clean)
