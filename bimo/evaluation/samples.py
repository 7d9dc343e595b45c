"""What a run asks its model to write: a sample for the report, and how quickly it writes."""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass

from bimo.data.corpus import Corpus
from bimo.generation import search
from bimo.generation.sampling import GenerationConfig
from bimo.generation.search import Continuation
from bimo.generation.texts import continue_texts
from bimo.models.base import Kind
from bimo.models.bundle import Bundle
from bimo.text.runners import UNK

_SETTINGS = {"max_new_tokens": 120, "temperature": 0.8, "top_k": 50, "seed": 0}
SAID = "temperature 0.8, top-k 50, seed 0"
_SHORT_TEXTS, _SHORT_TOKENS, _TOGETHER = 12, 32, 4  # texts that are compared with one another, and how many are written at once


@dataclass(frozen=True)
class Prompt:
    """What every model of a run is asked: `text` is continued; `given` is the source text, for a model that is given one.

    ids: of a conversation, which is continued by an answer, and whose special tokens no text can write.
    """

    text: str
    given: str | None = None
    ids: tuple[int, ...] = ()

    @property
    def shown(self) -> str:
        """What stands before a sample in the report."""
        return self.text if self.given is None else f"{self.given} → "


def prompt_for(bundle: Bundle, corpus: Corpus) -> Prompt:
    """The first line of prose in the held-out text, the first source text for a model that is given one, or the first conversation."""
    split = corpus.splits.get("test") or corpus.splits.get("valid") or corpus.splits["train"]
    if split.answers is not None:
        ids = split.document(0)[: max(1, int(split.answers.argmax()))].tolist()
        return Prompt(corpus.tokenizer.decode(ids), ids=tuple(ids))
    if bundle.model.kind is Kind.CONDITIONAL and split.given is not None:
        return Prompt("", corpus.tokenizer.decode(split.given.document(0).tolist()))
    return Prompt(_first_prose(corpus))


def _first_prose(corpus: Corpus, length: int = 40) -> str:
    """The first line of prose in the held-out text, up to about `length` characters; nothing where that is a whole document."""
    split = corpus.splits.get("test") or corpus.splits.get("valid") or corpus.splits["train"]
    stop = min(split.tokens, 4000)
    edges = [*split.starts[split.starts < stop].tolist(), stop]
    parts = (split.read(*ends).tolist() for ends in itertools.pairwise(edges))
    text = "\n".join(corpus.tokenizer.decode(ids, stream=corpus.documents == "stream") for ids in parts)
    lines = [line.strip() for line in text.split("\n")[1:] or [text]]
    prose = [line for line in lines if sum(c.isalpha() for c in line) > max(12, 0.7 * len(line))]
    line = next((line for line in prose if UNK not in line), next(iter(prose), next(filter(None, lines), "")))
    if len(line) <= length:
        return "" if corpus.documents == "line" else line
    cut = line[:length] if line[:length].isascii() else line[: length // 3]
    return cut.rsplit(" ", 1)[0] if " " in cut else cut


def write_samples(bundle: Bundle, prompt: Prompt, number: int, max_new_tokens: int = 120, seed: int = 0) -> list[Continuation]:
    """So many continuations of the prompt; none of a model that does not continue texts, or lacks a source text to be given."""
    if not _writes(bundle, prompt):
        return []
    config = GenerationConfig.of(**{**_SETTINGS, "max_new_tokens": max_new_tokens, "seed": seed})
    if prompt.ids:
        return search.generate(bundle.model, [prompt.ids] * number, config, eos=bundle.answer_ends, decoder=bundle.decoder).rows
    return continue_texts(bundle, [prompt.text] * number, config, None if prompt.given is None else [prompt.given] * number).rows


def short_texts(bundle: Bundle, prompt: Prompt, seconds: float) -> list[list[int]]:
    """Twelve short continuations of the prompt, without their ends, to be compared with one another; fewer where `seconds` are over.

    Empty ones are left out. The first four are written however long that takes: 32 steps.
    """
    texts: list[list[int]] = []
    begin = time.perf_counter()
    for batch in range(1, _SHORT_TEXTS // _TOGETHER + 1):
        rows = write_samples(bundle, prompt, _TOGETHER, _SHORT_TOKENS, seed=batch)
        texts += [row.ids[:-1] if row.finish == "eos" else row.ids for row in rows]
        if not rows or (time.perf_counter() - begin) * (1 + 1 / batch) > seconds:  # one more would take too long
            break
    return [text for text in texts if text]


def _writes(bundle: Bundle, prompt: Prompt) -> bool:
    return bundle.model.continues_text and (bundle.model.kind is not Kind.CONDITIONAL or prompt.given is not None)


def generation_speed(bundle: Bundle, prompt: Prompt, seconds: float = 2.0) -> float | None:
    """Tokens a second that one row writes (temperature 1), measured for about `seconds`, once something was written."""
    if not _writes(bundle, prompt):
        return None
    given = None if prompt.given is None else [prompt.given]

    def write(seed: int) -> int:
        return continue_texts(bundle, [""], GenerationConfig.of(max_new_tokens=64, min_new_tokens=64, seed=seed), given).generated_tokens

    tokens, begin = 0, time.perf_counter()
    for seed in itertools.count(1):
        written = write(seed)
        tokens += written
        used = time.perf_counter() - begin
        if used > seconds or written == 0:
            return tokens / used or None
    return None
