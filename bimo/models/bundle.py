"""A model with what must travel with it: its tokenizer, what it took for a document, and the context it learned in."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import torch
from torch.nn.utils.rnn import pad_sequence

from bimo.core import progress, store
from bimo.core.errors import BimoError, BimoWarning, ModelError, RecipeError
from bimo.core.reading import ReadOptions
from bimo.core.recipe import CleanSection, DocumentMode
from bimo.core.validation import validated
from bimo.data.batches import Given
from bimo.data.conversations import Turn
from bimo.data.corpus import Corpus
from bimo.models.adapters import adapted, merge, merged, strip, unmerge
from bimo.models.base import LanguageModel, NeuralLanguageModel, load_model
from bimo.models.folders import refuse_no_model
from bimo.models.interop.generation import FILE as GENERATION
from bimo.models.interop.generation import ids_of, read_options, write_options
from bimo.models.interop.opening import open_file
from bimo.models.interop.peft import read_adapter
from bimo.models.interop.sentences import normalises, read_pooling, write_pooling
from bimo.models.interop.settings import Settings
from bimo.models.vocabulary import generation_config
from bimo.text.chat import encode_chat, end_ids
from bimo.text.streaming import StreamDecoder
from bimo.text.template import find_template
from bimo.text.tokenizer import Tokenizer
from bimo.text.vocabularies.opening import opens_otherwise
from bimo.text.vocabularies.settings import read_settings

FILE = "bimo.json"


@dataclass
class Bundle:
    """What a model folder holds. context: tokens of a training window, in which documents are scored; clean: how its text was tidied.

    ends: ids that end a text beside the tokenizer's `</s>`; many models have several. generation: options of generation that the model's
    makers recommend, under the names of `GenerationConfig`; they hold where a caller gives none. pooling: what of its features a text's
    vector is made of, mean, first or last, or what another program calls a way of its own. unit_vectors: those vectors have length 1.
    reading: the columns that its text came from.
    """

    model: LanguageModel
    tokenizer: Tokenizer
    documents: str = "file"
    context: int | None = None
    clean: CleanSection = field(default_factory=CleanSection)
    ends: tuple[int, ...] = ()
    pooling: str = "mean"
    generation: dict[str, Any] = field(default_factory=dict)
    reading: ReadOptions = field(default_factory=ReadOptions)
    unit_vectors: bool = False
    _own_template: tuple[str | None] | None = field(default=None, init=False, repr=False)  # the model's, while an adapter's is used

    @classmethod
    def of(cls, model: LanguageModel, corpus: Corpus, context: int | None = None) -> Bundle:
        """A model that learned from `corpus`, in windows of `context` fed tokens."""
        context = None if model.context is None else min(context or model.context, model.context)
        return cls(model, corpus.tokenizer, corpus.documents, context, corpus.clean, reading=corpus.reading.columns)

    @property
    def stream(self) -> bool:
        """Whether each newline is </s>, which then ends nothing."""
        return self.documents == "stream"

    @property
    def eos(self) -> int | None:
        """The id that stands behind a text, or None where nothing does."""
        return None if self.stream else self.tokenizer.vocabulary.eos

    @property
    def text_ends(self) -> tuple[int, ...]:
        """The ids that end a text: the tokenizer's and those that the folder or file names beside it; none of a stream of lines."""
        return () if self.stream else tuple(dict.fromkeys((*(() if self.eos is None else (self.eos,)), *self.ends)))

    def prompt(self, text: str) -> list[int]:
        """Ids of a text that is to be continued: a document without its end, nor with a beginning where the tokenizer's makers put none."""
        ids = self.tokenizer.encode_document(text, stream=self.stream).tolist()
        v = self.tokenizer.vocabulary
        ids = ids[:-1] if ids and ids[-1] == v.eos else ids
        begun = (v.bos if v.bos is not None else v.eos) is not None  # whether the first id is none of the text's
        return ids[1:] if begun and not self.tokenizer.adds_bos and len(ids) > 1 else ids

    def chat(self, turns: Sequence[Turn]) -> list[int]:
        """Ids of a conversation, as the model is told it before it answers: by its chat template, or without one the texts, a line each."""
        template = self.tokenizer.template
        return (
            self.prompt("\n".join(turn["content"] for turn in turns)) if template is None else encode_chat(self.tokenizer, template, turns)
        )

    @property
    def answer_ends(self) -> tuple[int, ...]:
        """The ids that end an answer: those of a text, and the chat template's."""
        ends = (() if self.eos is None else (self.eos,)) + self.ends + end_ids(self.tokenizer)
        return tuple(dict.fromkeys(ends))

    def put_adapter(self, folder: Path) -> None:
        """Put the LoRA adapters in `folder` beside the model's weights, and add them in; an error leaves the model as it was.

        A chat template that the folder has is used as long as the adapter is there: it learned by that one.
        """
        if not isinstance(self.model, NeuralLanguageModel):
            raise ModelError(f"{folder}: adapters stand beside linear maps, and this model has none")
        if any(adapted(self.model)):
            raise ModelError(f"{folder}: the model has an adapter already; unload_adapter takes it away")
        theirs = find_template(read_settings(folder).values)
        try:
            read_adapter(self.model, folder)
        except BimoError:
            strip(self.model)
            raise
        merge(self.model)
        own = self.tokenizer.chat_template
        if theirs is not None and theirs != own:
            self._own_template, self.tokenizer.chat_template = (own,), theirs
            warnings.warn(f"{folder}: the adapter's chat template is used, not the model's: its tokenizer has its own", BimoWarning, 2)

    def drop_adapter(self) -> None:
        """Take the adapter away, and its chat template; a `ModelError` where there is none."""
        model = self.adapted_model()
        unmerge(model)
        strip(model)
        if self._own_template is not None:
            (self.tokenizer.chat_template,), self._own_template = self._own_template, None

    def adapted_model(self) -> NeuralLanguageModel:
        """The model, which has an adapter; a `ModelError` where it has none."""
        if not isinstance(self.model, NeuralLanguageModel) or not any(adapted(self.model)):
            raise ModelError("adapter: the model has none; load_adapter puts one beside its weights")
        return self.model

    def whole(self) -> AbstractContextManager[None]:
        """While it lasts, what adapters add is in the weights, as in every file that is written."""
        return merged(self.model) if isinstance(self.model, NeuralLanguageModel) else nullcontext()

    def decoder(self, after: Sequence[int]) -> StreamDecoder:
        """What makes text of ids that follow the ids `after`, piece by piece."""
        return self.tokenizer.stream_decoder(self.stream, after=after)

    def given(self, texts: Sequence[str]) -> Given:
        """Source texts as a model's `start` takes them: documents, their ends included."""
        rows = [torch.from_numpy(ids.astype("int64")) for ids in map(self.tokenizer.encode_document, texts)]
        return Given(pad_sequence(rows, batch_first=True), torch.tensor([len(row) for row in rows]))

    def save(self, folder: Path, dtype: str | None = None, most_bytes: int | None = None) -> None:
        """Write the model folder; its safetensors come last, so that a folder with weights is a whole one.

        dtype: f32, f16 or bf16; most_bytes: of one file of weights.
        """
        folder = Path(folder)
        self.model.check_dtype(dtype)  # before anything is written over
        self.tokenizer.save(folder, ends="features" in self.model.capabilities)  # a text whose vector is asked for is whole
        own = {"documents": self.documents, "context": self.context, "clean": self.clean.model_dump()}
        store.write_json(folder / FILE, own | ({"read_options": self.reading.to_dict()} if self.reading.to_dict() else {}))
        store.write_json(folder / GENERATION, generation_config(self.model.vocabulary, self.all_ends(), write_options(self.generation)))
        if "features" in self.model.capabilities:
            write_pooling(folder, self.pooling, getattr(getattr(self.model, "config", None), "width", None), self.unit_vectors)
        with self.whole():
            self.model.save(folder, dtype, most_bytes)
        kind = str(self.model.config_dict().get("model_type"))
        if opens_otherwise(folder, kind):
            warnings.warn(
                f"{folder}: transformers builds the tokenizer of every {kind} model anew, whatever tokenizer.json says, and gives other "
                "ids than Bimo; open it there by PreTrainedTokenizerFast.from_pretrained",
                BimoWarning,
                stacklevel=2,
            )

    def all_ends(self) -> list[int]:
        """The ids that end a text or an answer beside the model's own: the tokenizer's, the chat template's, those of the folder."""
        eos = self.model.vocabulary.eos
        ends = dict.fromkeys(i for i in (self.tokenizer.vocabulary.eos, *self.ends, *end_ids(self.tokenizer)) if i is not None and i != eos)
        return list(ends)

    @classmethod
    def load(cls, folder: Path | str, as_stored: bool = False) -> Bundle:
        """Open a model folder (a run folder is one once its model is written), or a file that is a model (`.gguf`, `.arpa`).

        as_stored: see `model_of`; a file's weights are float32 in any case.
        """
        folder = Path(folder)
        refuse_no_model(folder)
        with progress.task(f"opening {folder.name}"):
            return cls._open(folder, as_stored)

    @classmethod
    def _open(cls, folder: Path, as_stored: bool) -> Bundle:
        if folder.is_file():
            opened = open_file(folder)
            return cls(opened.model, opened.tokenizer, ends=opened.ends, pooling=opened.pooling or "mean", generation=opened.generation)
        model = load_model(folder, as_stored)
        tokenizer = Tokenizer.load(folder)
        if tokenizer.vocabulary.size > model.vocab_size:
            beyond = [name for name, token in tokenizer.special_tokens.items() if token.id >= model.vocab_size]
            added = f" with {', '.join(beyond[:3])}, which tokenizer_config.json or the tokenizer's class adds" if beyond else ""
            raise ModelError(
                f"{folder}: the tokenizer has {tokenizer.vocabulary.size} ids{added}, the model {model.vocab_size}; they are not of one "
                "model, or the settings must name the special tokens that it has"
            )
        tokenizer.name_ends(model.vocabulary.bos, model.vocabulary.eos)
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
            reading = ReadOptions(**told.get("read_options", {}))
        except (RecipeError, TypeError) as cause:
            raise ModelError(f"{folder / FILE}: {cause}") from None
        ends, generation = generation_of(folder, model)
        pooling, unit = read_pooling(folder) or "mean", normalises(folder)
        return cls(model, tokenizer, documents, context, clean, ends, pooling, generation, reading, unit)


def generation_of(folder: Path, model: LanguageModel) -> tuple[tuple[int, ...], dict[str, Any]]:
    """The ids that end a text by `config.json` and `generation_config.json`, each of which may list several; and the latter's options."""
    read = [store.read_mapping(folder / name) for name in ("config.json", GENERATION)]
    ends = dict.fromkeys(i for values in read for i in ids_of(values.get("eos_token_id"), model.vocab_size))
    return tuple(ends), read_options(Settings(read[1], str(folder / GENERATION)), model.vocabulary.suppressed)
