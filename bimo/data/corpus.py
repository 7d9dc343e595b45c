"""A corpus on disk: documents dealt into splits and encoded as memory-mapped token shards, with a manifest.

The folder holds `corpus.json`, `tokenizer.json`, `tokenizer_config.json` and for each split `<split>-00000.tokens`, …,
`<split>-starts.npy`, `<split>-bytes.npy`, and of conversations `<split>-answers.npy`. It appears whole or not at all.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np

from bimo.core import progress, store
from bimo.core.errors import CorpusError, RecipeError
from bimo.core.progress import Task
from bimo.core.reading import ReadOptions
from bimo.core.recipe import CleanSection
from bimo.core.validation import validated
from bimo.data.documents import Document, DocumentMode, ReadReport
from bimo.data.formats import Leaf, standard_input
from bimo.data.overlap import Overlap
from bimo.data.sources import Sources, listed, read_documents
from bimo.data.speech import Speech
from bimo.data.split import Split
from bimo.data.splits import FEW_DOCUMENTS, Dealer
from bimo.data.writing import MIXED, SplitWriter, encode_documents, map_shards, token_type
from bimo.text.clean import Cleaner
from bimo.text.tokenizer import Tokenizer
from bimo.text.words import guess_language

__all__ = ["Corpus", "Split", "encode_documents", "prepare"]

FORMAT = 1
_MEMORY_CHARACTERS = 1 << 28  # texts larger than this are read twice instead of held
_TRAINING_CHARACTERS = 1 << 28  # sub-words are learned from a sample of about this size at most
_HELD_OUT = ("valid", "test")


@dataclass
class Corpus:
    """A prepared corpus: its tokenizer and its splits, by name ("train", and "valid" and "test" where there are any)."""

    folder: Path
    tokenizer: Tokenizer
    documents: DocumentMode
    splits: dict[str, Split]
    manifest: dict[str, Any] = field(repr=False)
    clean: CleanSection = field(default_factory=CleanSection)
    reading: ReadOptions = field(default_factory=ReadOptions)

    @classmethod
    def open(cls, folder: Path | str) -> Self:
        """Open a prepared folder; a missing or damaged one is a `CorpusError`."""
        folder = Path(folder)
        if not (folder / "corpus.json").is_file():
            raise CorpusError(f"{folder}: not a prepared corpus (no corpus.json); make one with bimo prepare SOURCE --out {folder}")
        manifest = store.read_json(folder / "corpus.json", CorpusError)
        try:
            if manifest["format"] != FORMAT:
                raise CorpusError(f"{folder / 'corpus.json'}: format {manifest['format']}, this version reads {FORMAT}; prepare it again")
            tokenizer = Tokenizer.load(folder)
            if tokenizer.fingerprint != manifest["tokenizer"]["fingerprint"]:
                raise CorpusError(f"{folder / 'tokenizer.json'}: not the tokenizer this corpus was made with; prepare it again")
            splits = {name: _open_split(folder, name, told, tokenizer) for name, told in manifest["splits"].items()}
            clean = validated(CleanSection, manifest.get("clean", {}), "clean")
            reading = ReadOptions(**manifest.get("read_options", {}))
            return cls(folder, tokenizer, manifest["documents"], splits, manifest, clean, reading)
        except (KeyError, TypeError, AttributeError, RecipeError) as cause:
            raise CorpusError(f"{folder / 'corpus.json'}: damaged ({cause!r}); prepare the corpus again") from None


def _open_split(folder: Path, name: str, told: dict[str, Any], tokenizer: Tokenizer) -> Split:
    shards = map_shards(folder, name, told["shards"], token_type(tokenizer.vocabulary.size))
    try:
        starts = np.load(folder / f"{name}-starts.npy", allow_pickle=False)
        sizes = np.load(folder / f"{name}-bytes.npy", allow_pickle=False)
        answers = np.load(folder / f"{name}-answers.npy", allow_pickle=False) if told.get("answers") else None
    except (OSError, ValueError) as cause:
        raise CorpusError(f"{folder}: the tables of {name} are missing or damaged ({cause}); prepare the corpus again") from None
    given = _open_split(folder, f"{name}-given", told["given"], tokenizer) if "given" in told else None
    split = Split(name, shards, starts, sizes, told["unknown_tokens"], told["lost_bytes"], told["fingerprint"], given, answers)
    if answers is not None and (answers.dtype != np.bool_ or answers.shape != (split.tokens,)):
        raise CorpusError(f"{folder}: the answers of {name} are not of its {split.tokens} tokens; prepare the corpus again")
    if (split.tokens, split.documents) != (told["tokens"], told["documents"]):
        raise CorpusError(f"{folder}: {name} holds {split.tokens} tokens, its manifest says {told['tokens']}; prepare the corpus again")
    return split


def prepare(
    sources: Sources,
    out: Path | str,
    *,
    valid: Sources | None = None,
    test: Sources | None = None,
    tokenizer: str | Tokenizer | None = None,
    vocab_size: int | None = None,
    documents: DocumentMode = "file",
    clean: CleanSection | None = None,
    seed: int = 0,
    speech: Speech | None = None,
    reading: ReadOptions | None = None,
) -> Corpus:
    """Read `sources`, deal them into splits, learn a tokenizer from the training split, and write token shards to `out`.

    tokenizer: a kind, or one that stands; None: by the language of the text, or `speech`'s. clean: what is tidied;
    None: what no reader would miss.

    Given `valid` / `test` are taken as they are. Otherwise with 200 documents or more they are dealt 90 / 5 / 5 by
    fingerprint; with fewer, each is cut at its tail. Where documents are given another text (pairs), each is a document of its
    own (`line`) and its split has the texts that are given beside it. speech: conversations are read, told to the model so, and learned
    from in their answers alone. reading: what is stated of the files, `valid` and `test` included.
    Raises `SourceError` or `CorpusError`; `out` is then as before.
    """
    out = Path(out)
    _check_out(out)
    given = {name: source for name, source in zip(_HELD_OUT, (valid, test), strict=True) if source is not None}
    with contextlib.ExitStack() as stack:
        sources = stack.enter_context(_rereadable(sources))
        cleaner = Cleaner(clean)
        dealer = Dealer(documents, tuple(n for n in _HELD_OUT if n not in given), seed)
        plan = _Plan(sources, documents, cleaner, dealer, speech is not None, reading or ReadOptions())
        notes: list[str] = []
        tokenizer = speech.tokenizer if tokenizer is None and speech is not None else tokenizer
        if not isinstance(tokenizer, Tokenizer):
            tokenizer = _learn_tokenizer(plan, tokenizer or plan.fitting_kind(), vocab_size, notes)
        place = store.resolve(out)  # of a link to a folder, that folder is replaced and the link stays
        beside = stack.enter_context(_folder_beside(place))
        with progress.task("writing the text as tokens", total=plan.characters) as writing:
            splits, overlap, reports = _write_splits(plan, given, tokenizer, cleaner, beside, speech, writing)
        notes += plan.dealer.notes + (speech.settle() if speech is not None else [])
        summary = _summary(reports) + overlap.summary() + notes
        for line in summary if speech is not None else []:  # what is left out of so few examples should be known before they are learned
            progress.say(line)
        if speech is not None and speech.taken:
            tokenizer = speech.tokenizer  # with the template that they were told by
        if "train" not in splits:
            raise CorpusError(f"nothing is left to learn from: {'; '.join(notes) or 'no documents'}")
        tokenizer.save(beside)
        manifest = {
            "format": FORMAT,
            "documents": plan.mode,
            "clean": cleaner.options.model_dump(),
            "read_options": plan.reading.to_dict(),
            "seed": seed,
            "tokenizer": {"kind": tokenizer.kind, "size": tokenizer.vocabulary.size, "fingerprint": tokenizer.fingerprint},
            "splits": {name: _told(split) for name, split in splits.items()},
            "overlap": overlap.to_dict(),
            "reading": {name: report.to_dict() for name, report in reports.items()},
            "summary": summary,
        }
        store.write_json(beside / "corpus.json", manifest)
        _put_in_place(beside, place)
    return Corpus.open(out)


def _learn_tokenizer(plan: _Plan, kind: str, vocab_size: int | None, notes: list[str]) -> Tokenizer:
    """A tokenizer of the training text; a size other than `vocab_size` is added to `notes`."""
    with progress.task(f"learning the {kind} tokenizer"):
        tokenizer = Tokenizer.train(kind, plan.training_texts(kind, notes), vocab_size)
    size = tokenizer.vocabulary.size
    if vocab_size is not None and size < vocab_size:
        notes.append(f"vocab_size: the text gives {size} of the {vocab_size} asked for")
    if vocab_size is not None and size > vocab_size:
        notes.append(f"vocab_size: {size} tokens instead of {vocab_size}, as each character of the text needs one")
        progress.say(notes[-1])
    return tokenizer


def _summary(reports: dict[str, ReadReport]) -> list[str]:
    return [f"{name}: {line}" if len(reports) > 1 else line for name, report in reports.items() for line in report.summary()]


def _told(split: Split) -> dict[str, Any]:
    return {
        "documents": split.documents,
        "tokens": split.tokens,
        "scored_tokens": split.scored_tokens,
        "bytes": split.bytes,
        "unknown_tokens": split.unknown_tokens,
        "lost_bytes": split.lost_bytes,
        "shards": len(split.shards),
        "fingerprint": split.fingerprint,
        **({} if split.given is None else {"given": _told(split.given)}),
        **({} if split.answers is None else {"answers": True}),
    }


class _Plan:
    """The first pass over the sources: counts the documents, and holds them where they fit into memory."""

    def __init__(
        self, sources: Sources, mode: DocumentMode, clean: Cleaner, dealer: Dealer, conversations: bool, reading: ReadOptions
    ) -> None:
        self.sources, self.clean, self.dealer, self.conversations, self.reading = sources, clean, dealer, conversations, reading
        self.mode: DocumentMode = mode
        self.report = ReadReport()
        self.held: list[Document] | None = []
        self.characters = 0
        count = 0
        for document in read_documents(sources, mode, self.report, clean, conversations, reading):
            count += 1
            self.characters += len(document.text)
            if self.held is not None:
                self.held.append(document)
                if self.characters > _MEMORY_CHARACTERS and count >= FEW_DOCUMENTS:
                    self.held = None
            if (document.given is not None or document.turns is not None) and self.mode != "line":  # neither is ever cut
                self.mode = dealer.mode = "line"
        dealer.plan(count, self.held)

    def documents(self) -> Iterator[Document]:
        """All documents again."""
        if self.held is not None:
            return iter(self.held)
        return read_documents(self.sources, self.mode, ReadReport(), self.clean, self.conversations, self.reading)

    def fitting_kind(self) -> str:
        """char where the text is Chinese, whose characters byte-level bpe may cut; bpe otherwise."""
        beginning = "".join(text[:2000] for text in itertools.islice(self.training_texts("char", []), 8))
        return "char" if guess_language(beginning) == "zh" else "bpe"

    def training_texts(self, kind: str, notes: list[str]) -> Iterator[str]:
        """Texts of the training split; for sub-words, whose learning holds the text in memory, an even sample of a large one."""
        every = 1 if kind in ("byte", "char", "word") else max(1, -(-self.characters // _TRAINING_CHARACTERS))
        if every > 1:
            notes.append(f"tokenizer: learned from every {every}th training document")
        documents = (document for name, document in self.dealer.deal_all(self.documents()) if name == "train")
        chosen = (document for i, document in enumerate(documents) if i % every == 0)
        return (text for document in chosen for text in (document.given, document.text) if text is not None)


def _write_splits(
    plan: _Plan, given: dict[str, Sources], tokenizer: Tokenizer, clean: Cleaner, folder: Path, speech: Speech | None, writing: Task
) -> tuple[dict[str, Split], Overlap, dict[str, ReadReport]]:
    mode = plan.mode
    reports = {"train": plan.report}
    overlap = Overlap()
    writers = {name: SplitWriter(name, tokenizer, mode == "stream", folder, name != "train", speech) for name in ("train", *_HELD_OUT)}
    try:
        with store.machine_errors(folder):
            for name, document in plan.dealer.deal_all(plan.documents()):
                writers[name].add(document)
                overlap.add(name, document.text)
                writing.advance(len(document.text))
            for name, source in given.items():
                reports[name] = ReadReport()
                for document in read_documents(source, mode, reports[name], clean, speech is not None, plan.reading):
                    writers[name].add(document)
                    overlap.add(name, document.text)
            splits = {name: writer.finish() for name, writer in writers.items()}
    finally:
        for writer in writers.values():
            writer.close()
    splits = {name: split for name, split in splits.items() if split.documents}
    if len({split.answers is None for split in splits.values()}) > 1:
        raise CorpusError(MIXED)
    return splits, overlap, reports


@contextlib.contextmanager
def _rereadable(sources: Sources) -> Iterator[Sources]:
    """The same sources, where standard input is copied to a temporary file first, since it is read more than once."""
    names = listed(sources)
    if "-" not in names:
        yield names
        return
    with tempfile.TemporaryDirectory(prefix="bimo-") as folder:
        copy = Path(folder) / "standard-input"
        with store.machine_errors(copy), open(copy, "wb") as file:
            shutil.copyfileobj(standard_input(), file)
        held = Leaf("standard input", "text", lambda: open(copy, "rb"))  # noqa: SIM115 — closed by who reads it
        yield [held if name == "-" else name for name in names]


def _check_out(out: Path) -> None:
    if out.is_dir() and not (out / "corpus.json").is_file() and any(out.iterdir()):
        raise CorpusError(f"{out}: exists and is not a prepared corpus; choose another folder with --out")
    store.refuse_non_folder(out, CorpusError)


@contextlib.contextmanager
def _folder_beside(out: Path) -> Iterator[Path]:
    """A new folder beside `out`, removed if anything fails; those that killed runs left are removed first."""
    with store.machine_errors(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        _clear_what_is_left(out)
        beside = out.with_name(f".{out.name}.{os.getpid()}.part")
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir()
    try:
        yield beside
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _clear_what_is_left(out: Path) -> None:
    """Remove what runs that were killed left beside `out`; a corpus that was being replaced is put back first."""
    for left, what in store.left_behind(out.parent, out.name):
        if what == "old" and not out.exists():
            os.replace(left, out)
        else:
            store.remove(left)


def _put_in_place(beside: Path, out: Path) -> None:
    with store.machine_errors(out):
        if out.exists():
            old = out.with_name(f".{out.name}.{os.getpid()}.old")
            os.replace(out, old)
            os.replace(beside, out)
            shutil.rmtree(old, ignore_errors=True)
        else:
            os.replace(beside, out)
        store.sync_folder(out.parent)
