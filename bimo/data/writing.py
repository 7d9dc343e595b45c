"""Documents become tokens: a `SplitWriter` gathers them in memory, or in shards on disk that are memory-mapped later."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from bimo.core import store
from bimo.core.errors import CorpusError
from bimo.data.documents import Document, DocumentMode, utf8_length
from bimo.data.speech import Speech
from bimo.data.split import Ids, Split
from bimo.text.tokenizer import Tokenizer

SHARD_TOKENS = 1 << 28
_BATCH_CHARACTERS = 1 << 22
MIXED = "some documents are conversations and some are not; learn from them one after the other"


def token_type(vocab_size: int) -> Any:
    """The smallest type that holds all ids: uint16 or uint32.

    >>> token_type(65536).__name__, token_type(65537).__name__
    ('uint16', 'uint32')
    """
    return np.uint16 if vocab_size <= 1 << 16 else np.uint32


class SplitWriter:
    """Takes documents, gives a `Split`; with a folder its tokens go to `<name>-00000.tokens`, … there.

    speech: how conversations become tokens, of which the answers are marked (`bimo.data.speech`).
    """

    def __init__(
        self,
        name: str,
        tokenizer: Tokenizer,
        stream: bool,
        folder: Path | None = None,
        measure_loss: bool = True,
        speech: Speech | None = None,
    ) -> None:
        self.name, self.tokenizer, self.stream, self.folder, self.speech = name, tokenizer, stream, folder, speech
        self.measure_loss = measure_loss
        self.type = token_type(tokenizer.vocabulary.size)
        self.unknown = self.lost = self.tokens = 0
        self._held: list[Document] = []
        self._held_size = 0
        self._memory: list[NDArray[Any]] = []
        self._file: BinaryIO | None = None
        self._files = self._in_file = 0
        self._lengths: list[Ids] = []
        self._bytes: list[Ids] = []
        self._digest = hashlib.blake2b(digest_size=16)
        self._given: SplitWriter | None = None  # of what documents are given, where they are pairs
        self._answers: list[NDArray[np.bool_]] | None = None  # where documents are conversations
        self._documents = 0

    def add(self, document: Document) -> None:
        """Take a document; it is encoded with others when enough are held. Either all are pairs or none is."""
        if (self._given is not None) != (document.given is not None) and self._documents:
            raise CorpusError(f"{document.source}: some documents are given another text and some are not; prepare them apart")
        if (self._answers is not None) != (document.turns is not None) and self._documents:
            raise CorpusError(f"{document.source}: {MIXED}")
        if document.turns is not None and self._answers is None:
            self._answers = []
        if document.given is not None:
            if self._given is None:
                self._given = SplitWriter(f"{self.name}-given", self.tokenizer, False, self.folder, self.measure_loss)
            self._given.add(Document(document.given, document.source, utf8_length(document.given)))
        self._documents += 1
        self._held.append(document)
        self._held_size += len(document.text)
        if self._held_size >= _BATCH_CHARACTERS:
            self._encode()

    def _encode(self) -> None:
        if not self._held:
            return
        if self._answers is not None:
            self._converse(self._answers)
            self._held, self._held_size = [], 0
            return
        texts = [d.text for d in self._held]
        ids, offsets = self.tokenizer.encode_documents(texts, self.stream)
        unknown, lost = self.tokenizer.losses(texts, ids, offsets, self.stream, self.measure_loss)
        self.unknown += unknown
        self.lost += lost
        self._lengths.append(np.diff(offsets))
        self._bytes.append(np.array([d.bytes for d in self._held], dtype=np.int64))
        self._write(ids.astype(self.type))
        self._held, self._held_size = [], 0

    def _converse(self, marks: list[NDArray[np.bool_]]) -> None:
        assert self.speech is not None
        for document in self._held:
            said = self.speech.said(document, held_out=self.measure_loss)
            if said is not None:
                self._lengths.append(np.array([len(said.ids)], dtype=np.int64))
                self._bytes.append(np.array([said.bytes], dtype=np.int64))
                self.unknown += said.unknown
                self.lost += said.lost
                marks.append(said.answers)
                self._write(said.ids.astype(self.type))

    def _write(self, tokens: NDArray[Any]) -> None:
        self._digest.update(tokens.astype("<u4").tobytes())
        self.tokens += len(tokens)
        if self.folder is None:
            self._memory.append(tokens)
            return
        start = 0
        while start < len(tokens):
            if self._file is None or self._in_file >= SHARD_TOKENS:
                self._next_file()
            part = tokens[start : start + SHARD_TOKENS - self._in_file]
            assert self._file is not None
            self._file.write(part.astype(self.type).astype(np.dtype(self.type).newbyteorder("<")).tobytes())
            self._in_file += len(part)
            start += len(part)

    def _next_file(self) -> None:
        assert self.folder is not None
        self.close()
        self._file = open(self.folder / f"{self.name}-{self._files:05d}.tokens", "wb")  # noqa: SIM115
        self._files += 1
        self._in_file = 0

    def close(self) -> None:
        """Sync and close the open shards."""
        if self._given is not None:
            self._given.close()
        if self._file is not None:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            self._file = None

    def finish(self) -> Split:
        """The split of all documents taken; with a folder its tables are written there too."""
        self._encode()
        self.close()
        given = None if self._given is None else self._given.finish()
        if given is not None:
            self._digest.update(given.fingerprint.encode())
        lengths = np.concatenate([np.empty(0, np.int64), *self._lengths])
        sizes = np.concatenate([np.empty(0, np.int64), *self._bytes])
        starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])[:-1]
        answers = None if self._answers is None else np.concatenate([np.empty(0, np.bool_), *self._answers])
        if answers is not None:
            self._digest.update(np.packbits(answers).tobytes())
        shards: list[NDArray[Any]]
        if self.folder is None:
            shards = [np.concatenate([np.empty(0, self.type), *self._memory])]
        else:
            store.write_beside(self.folder / f"{self.name}-starts.npy", lambda p: _save(p, starts))
            store.write_beside(self.folder / f"{self.name}-bytes.npy", lambda p: _save(p, sizes))
            if answers is not None:
                store.write_beside(self.folder / f"{self.name}-answers.npy", lambda p: _save(p, answers))
            shards = map_shards(self.folder, self.name, self._files, self.type)
        return Split(self.name, shards, starts, sizes, self.unknown, self.lost, self._digest.hexdigest(), given, answers)


def _save(path: Path, values: NDArray[Any]) -> None:
    with open(path, "wb") as file:
        np.save(file, values, allow_pickle=False)


def map_shards(folder: Path, name: str, count: int, kind: Any) -> list[NDArray[Any]]:
    """The memory-mapped shards of a split; a missing or damaged one is a `CorpusError`."""
    shards: list[NDArray[Any]] = []
    for i in range(count):
        path = folder / f"{name}-{i:05d}.tokens"
        try:
            shards.append(np.memmap(path, dtype=np.dtype(kind).newbyteorder("<"), mode="r"))
        except (OSError, ValueError) as cause:
            raise CorpusError(f"{path}: missing or damaged ({cause}); prepare the corpus again") from None
    return shards


def encode_documents(
    documents: Iterable[Document],
    tokenizer: Tokenizer,
    mode: DocumentMode = "file",
    name: str = "text",
    speech: Speech | None = None,
) -> Split:
    """The documents as a `Split` in memory, for evaluation of any source."""
    writer = SplitWriter(name, tokenizer, mode == "stream", speech=speech)
    for document in documents:
        writer.add(document)
    return writer.finish()
