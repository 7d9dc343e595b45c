"""How ids are made quickly: one runner a way of encoding. All give the ids of the `tokenizer.json` they stand for.

A runner has `encode(text) -> int64 [n]`, `flat(texts) -> (int64 [N], offsets [texts + 1])`, all texts end to end, `spans(text)`, the
ids with the characters [n, 2] that each stands for, and `pieces(ids) -> str`; ids of special tokens never reach `pieces`, except
`<unk>`, which prints as itself.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bimo.core.errors import ModelError, UserError
from bimo.text.words import has_han, join_words, split_words

Ids = NDArray[np.int64]
UNK = "<unk>"
_WORTH_COMPILED = 1 << 17  # characters from which the compiled table pays
_WORTH_THREADS = 1 << 18  # characters from which threads pay
_PART = 1 << 17  # characters that byte-level BPE runs at a time
_ASCII_GAP, _OTHER_GAP = re.compile(r"[ \t\r\n]+"), re.compile(r"[^\S \t\r\n]")
_SAFE_CUT = re.compile(r"(?<=\S)[ \n]")
_FALLBACK = re.compile("<0x([0-9A-F]{2})>")  # a byte, in vocabularies that have no byte-level alphabet
# GPT-2's pattern (Radford et al. 2019), the one that `ByteLevel` of the tokenizers library applies.
GPT2_PATTERN = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""


class Runner(Protocol):
    """What a tokenizer asks of the code that runs it."""

    def encode(self, text: str) -> Ids:
        """Ids of a text, no special tokens added."""
        ...

    def flat(self, texts: Sequence[str]) -> tuple[Ids, Ids]:
        """Ids of many texts end to end, and offsets: text i is ids[offsets[i]:offsets[i + 1]]."""
        ...

    def spans(self, text: str) -> tuple[Ids, Ids]:
        """Ids of a text, and where in it the characters of each begin and end, [n, 2]."""
        ...

    def pieces(self, ids: Sequence[int]) -> str:
        """The text of ordinary ids."""
        ...


def utf8(text: str) -> bytes:
    """The UTF-8 bytes of a text; half a surrogate pair, which UTF-8 cannot hold, is a `UserError`."""
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as cause:
        raise UserError(
            f"text: half a surrogate pair (U+{ord(text[cause.start]):04X}) at character {cause.start}, which is no Unicode text; "
            "replace it by U+FFFD first"
        ) from None


def byte_alphabet() -> list[str]:
    """The printable character that stands for each byte in byte-level vocabularies (GPT-2's table).

    >>> byte_alphabet()[32], byte_alphabet()[65]
    ('Ġ', 'A')
    """
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = iter(range(256, 512))
    return [chr(b) if b in printable else chr(next(rest)) for b in range(256)]


_BYTE_OF = {character: byte for byte, character in enumerate(byte_alphabet())}


class ByteRunner:
    """Bytes: id = byte + first."""

    def __init__(self, first: int) -> None:
        self.first = first

    def encode(self, text: str) -> Ids:
        return np.frombuffer(utf8(text), dtype=np.uint8).astype(np.int64) + self.first

    def flat(self, texts: Sequence[str]) -> tuple[Ids, Ids]:
        whole = "".join(texts)
        return self.encode(whole), _offsets(map(len, texts) if whole.isascii() else (len(utf8(text)) for text in texts))

    def spans(self, text: str) -> tuple[Ids, Ids]:
        of = np.repeat(np.arange(len(text)), [len(utf8(character)) for character in text])
        return self.encode(text), np.stack([of, of + 1], axis=1)

    def pieces(self, ids: Sequence[int]) -> str:
        return bytes(i - self.first for i in ids).decode("utf-8", errors="replace")

    def token_bytes(self, token: int) -> bytes:
        return bytes([token - self.first])


class CharRunner:
    """Characters: a table from code point to id."""

    def __init__(self, ids: dict[str, int], unk: int) -> None:
        points = np.array([ord(c) for c in ids], dtype=np.int64)
        self.unk = unk
        self.table = np.full(int(points.max(initial=0)) + 2, unk, dtype=np.int64)  # the last cell: all beyond
        self.table[points] = list(ids.values())
        self.strings = {i: c for c, i in ids.items()} | {unk: UNK}

    def encode(self, text: str) -> Ids:
        try:
            points = np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)
        except UnicodeEncodeError:
            utf8(text)
            raise
        return self.table[np.minimum(points, len(self.table) - 1)]

    def flat(self, texts: Sequence[str]) -> tuple[Ids, Ids]:
        return self.encode("".join(texts)), _offsets(map(len, texts))

    def spans(self, text: str) -> tuple[Ids, Ids]:
        of = np.arange(len(text))
        return self.encode(text), np.stack([of, of + 1], axis=1)

    def pieces(self, ids: Sequence[int]) -> str:
        return "".join(map(self.strings.__getitem__, ids))


class WordRunner:
    """Words: a dictionary for short texts, a compiled table (`WordIndex`) for long ones; unknown words are `<unk>`.

    ascii_only: words are parted at ASCII white space alone, and what is a word of the vocabulary as it stands is not segmented.
    """

    def __init__(self, ids: dict[str, int], unk: int, ascii_only: bool = False) -> None:
        self.ids, self.unk, self.ascii_only = ids, unk, ascii_only
        self.words = {i: w for w, i in ids.items()} | {unk: UNK}
        self._index: Any = None

    def encode(self, text: str) -> Ids:
        if not text.isascii():
            utf8(text)
        get, unk = self.ids.get, self.unk
        return np.array([get(word, unk) for word in self._split(text)], dtype=np.int64)

    def _split(self, text: str) -> list[str]:
        if not self.ascii_only:
            return split_words(text)
        parts = [part for part in _ASCII_GAP.split(text) if part]
        return [word for part in parts for word in ([part] if part in self.ids or not has_han(part) else split_words(part))]

    def flat(self, texts: Sequence[str]) -> tuple[Ids, Ids]:
        if sum(map(len, texts)) < _WORTH_COMPILED or (self.ascii_only and any(map(_OTHER_GAP.search, texts))):
            parts = [self.encode(text) for text in texts]
            return _joined(parts), _offsets(map(len, parts))
        if self._index is None:
            from bimo.text.kernels import WordIndex

            # A name with a space in it is no word: it fills the places of ids that no word has.
            self._index = WordIndex([self.words.get(i, f" {i}") for i in range(max(self.words) + 1)])
        parted = [text if text.isascii() else self._parted(text) for text in texts]
        ids, offsets = self._index.ids(parted, unknown=self.unk)
        return ids.astype(np.int64), offsets.astype(np.int64)

    def _parted(self, text: str) -> str:
        utf8(text)
        return " ".join(self._split(text)) if has_han(text) else text

    def spans(self, text: str) -> tuple[Ids, Ids]:
        ids = self.encode(text)
        places, at = [], 0
        for word in self._split(text):
            start = text.index(word, at)
            at = start + len(word)
            places.append((start, at))
        return ids, np.array(places, dtype=np.int64).reshape(-1, 2)

    def pieces(self, ids: Sequence[int]) -> str:
        return join_words([self.words[i] for i in ids])


@contextmanager
def told_panics() -> Iterator[None]:
    """Turn what the tokenizers library raises where a vocabulary is damaged (plain `Exception`, or a panic, which is no `Exception`) into
    a `ModelError`."""
    try:
        yield
    except BaseException as cause:
        if type(cause) is Exception:
            raise ModelError(f"tokenizer: {cause}; it is damaged") from None
        if type(cause).__name__ != "PanicException":
            raise
        raise ModelError(f"tokenizer: the tokenizers library gave up on it ({cause}); it is damaged") from None


class HubRunner:
    """Any `tokenizer.json`, run by the tokenizers library."""

    def __init__(self, hub: Any) -> None:
        from tokenizers.decoders import ByteLevel

        self.hub = hub
        self.hub.encode_special_tokens = True  # special tokens written in a text stay text
        self.byte_level = isinstance(hub.decoder, ByteLevel)
        # Ordinary tokens that were added are written as they are, not in the byte-level alphabet.
        self.added = {i: t.content for i, t in hub.get_added_tokens_decoder().items() if not t.special} if self.byte_level else {}
        self._names = self._met_names()  # of special tokens that the model itself would take a text for
        self._parted: Any = None

    def _met_names(self) -> re.Pattern[str] | None:
        special = {token.content: i for i, token in self.hub.get_added_tokens_decoder().items() if token.special}
        if getattr(self.hub.model, "unk_token", None) is not None and self.hub.token_to_id(self.hub.model.unk_token) is None:
            return None  # words without an unknown one: nothing but them can be encoded
        with told_panics():
            inside = [name for name in special if len(name) > 1 and self.hub.model.token_to_id(name) is not None]
            met = [name for name in inside if special[name] in self.hub.encode(f"a{name}", add_special_tokens=False).ids]
        return re.compile("|".join(map(re.escape, sorted(met, key=len, reverse=True)))) if met else None

    def _hub_for(self, text: str) -> Any:
        """The hub, or where a text holds such a name, one that parts it behind the name's first character."""
        if self._names is None or not self._names.search(text):
            return self.hub
        if self._parted is None:
            from tokenizers import Regex, Tokenizer, pre_tokenizers

            self._parted = Tokenizer.from_str(self.hub.to_str())
            self._parted.encode_special_tokens = True
            names = self._names.pattern.split("|")
            cuts = [f"{first}(?={name[len(first) :]})" for name in names for first in re.findall(r"^(?:\\.|.)", name)]
            before = [] if self.hub.pre_tokenizer is None else [self.hub.pre_tokenizer]
            self._parted.pre_tokenizer = pre_tokenizers.Sequence([*before, pre_tokenizers.Split(Regex("|".join(cuts)), "isolated")])
        return self._parted

    def encode(self, text: str) -> Ids:
        utf8(text)
        with told_panics():
            return np.array(self._hub_for(text).encode(text, add_special_tokens=False).ids, dtype=np.int64)

    def flat(self, texts: Sequence[str]) -> tuple[Ids, Ids]:
        for text in texts:
            utf8(text)
        with told_panics():
            parts = [e.ids for e in self.hub.encode_batch_fast(list(texts), add_special_tokens=False)]
        if self._names is not None:
            parts = [self.encode(text).tolist() if self._names.search(text) else ids for text, ids in zip(texts, parts, strict=True)]
        return np.array(list(itertools.chain.from_iterable(parts)), dtype=np.int64), _offsets(map(len, parts))

    def spans(self, text: str) -> tuple[Ids, Ids]:
        utf8(text)
        with told_panics():
            found = self._hub_for(text).encode(text, add_special_tokens=False)
        return np.array(found.ids, dtype=np.int64), np.array(found.offsets, dtype=np.int64).reshape(-1, 2)

    def pieces(self, ids: Sequence[int]) -> str:
        if not self.added or self.added.keys().isdisjoint(ids):
            return self._decoded(list(ids))
        runs = [(i, [*run]) for i, run in itertools.groupby(ids, self.added.get)]
        return "".join(self._decoded(run) if text is None else text * len(run) for text, run in runs)

    def _decoded(self, ids: list[int]) -> str:
        with told_panics():
            return self.hub.decode(ids, skip_special_tokens=False)

    def token_bytes(self, token: int) -> bytes | None:
        """The bytes that a token stands for in byte-level BPE or as a fallback, None elsewhere."""
        if token in self.added:
            return self.added[token].encode("utf-8")
        written = self.hub.id_to_token(int(token)) or ""
        if self.byte_level:
            places = [_BYTE_OF.get(character) for character in written]
            return bytes(b for b in places if b is not None) if None not in places else None
        fallback = _FALLBACK.fullmatch(written)
        return bytes.fromhex(fallback[1]) if fallback else None


class BpeRunner:
    """Byte-level BPE, run by tiktoken's core; a text that it refuses is run by the tokenizers library."""

    @staticmethod
    def runs(vocab: dict[str, int]) -> bool:
        """Whether tiktoken's core can run a vocabulary: its tokens are made of bytes, every byte is one of them, no two have one id."""
        whole = _BYTE_OF.keys() <= vocab.keys() and all(token and _BYTE_OF.keys() >= set(token) for token in vocab)
        return whole and len(set(vocab.values())) == len(vocab)

    def __init__(self, hub: Any, vocab: dict[str, int]) -> None:
        import tiktoken

        self.slow = HubRunner(hub)
        self.bytes_of = {i: bytes(_BYTE_OF[c] for c in token) for token, i in vocab.items()}
        ranks = {token: i for i, token in self.bytes_of.items()}
        self.core = tiktoken.Encoding("bimo", pat_str=GPT2_PATTERN, mergeable_ranks=ranks, special_tokens={})
        self.newline = ranks.get(b"\n")
        self._indents: dict[str, Ids] = {}  # white space that lines begin with

    def encode(self, text: str) -> Ids:
        return self._encode(text) if len(text) <= _PART else self.flat([text])[0]

    def _encode(self, text: str) -> Ids:
        try:
            return self.core.encode_to_numpy(text, disallowed_special=()).astype(np.int64)
        except UnicodeEncodeError:
            utf8(text)
            raise
        except ValueError:  # the regular expression's stack: hundreds of thousands of spaces in a row
            return self.slow.encode(text)

    def flat(self, texts: Sequence[str]) -> tuple[Ids, Ids]:
        split = [_safe_parts(text) for text in texts]
        parts = list(itertools.chain.from_iterable(split))
        threads = min(8, os.cpu_count() or 1)
        if threads == 1 or len(parts) < 2 or sum(map(len, parts)) < _WORTH_THREADS:
            found = [self._run(run) for run in _runs(parts)]
        else:
            with ThreadPoolExecutor(threads) as pool:
                found = list(pool.map(self._run, _runs(parts)))
        lengths = _joined([lengths for _, lengths in found])
        return _joined([ids for ids, _ in found]), _offsets(lengths)[_offsets(map(len, split))]

    def _run(self, parts: Sequence[str]) -> tuple[Ids, Ids]:
        """Ids of some texts end to end, and how many each has.

        Lines are run together, which is far quicker than one by one: between lines that do not end with white space, and begin
        with one such character at most, the pattern takes a newline by itself, and it is a token by itself. Of a deeper indent
        all but the last character is a piece of its own, met again and again.
        """
        bodies = [text for text in parts if _is_line(text)] if len(parts) > 1 and self.newline is not None else []
        indents = [len(text) - len(text.lstrip()) for text in bodies]
        together = self._encode("\n".join(text[max(0, k - 1) :] for text, k in zip(bodies, indents, strict=True)))
        ends = [*np.flatnonzero(together == self.newline).tolist(), len(together)]
        if len(ends) != max(1, len(bodies)):
            return self._one_by_one(parts)
        lines = zip(bodies, indents, [-1, *ends], ends, strict=False)
        found: list[Ids] = []
        lengths = np.zeros(len(parts), dtype=np.int64)
        for i, text in enumerate(parts):
            if bodies and _is_line(text):
                _, indent, before, end = next(lines)
                if indent > 1:
                    found.append(self._indent(text[: indent - 1]))
                    lengths[i] = len(found[-1])
                found.append(together[before + 1 : end])
            elif text:
                found.append(self._encode(text))
            else:
                continue
            lengths[i] += len(found[-1])
        return _joined(found), lengths

    def _one_by_one(self, parts: Sequence[str]) -> tuple[Ids, Ids]:
        found = [self._encode(part) for part in parts]
        return _joined(found), np.array([len(ids) for ids in found], dtype=np.int64)

    def _indent(self, white: str) -> Ids:
        if white not in self._indents:
            if len(self._indents) > 1000:
                self._indents.clear()
            self._indents[white] = self._encode(white)
        return self._indents[white]

    def spans(self, text: str) -> tuple[Ids, Ids]:
        return self.slow.spans(text)

    def pieces(self, ids: Sequence[int]) -> str:
        return b"".join(map(self.bytes_of.__getitem__, ids)).decode("utf-8", errors="replace")

    def token_bytes(self, token: int) -> bytes:
        return self.bytes_of[token]

    def agrees(self, samples: Iterable[str]) -> bool:
        """True if both ways give the same ids for the samples and for every token of the vocabulary by itself."""
        alone = [b.decode("utf-8") for b in self.bytes_of.values() if _is_utf8(b)]
        return all(np.array_equal(self.encode(t), self.slow.encode(t)) for t in [*samples, *alone])


def _safe_parts(text: str) -> list[str]:
    """A long text cut where GPT-2's pattern parts it in any case: before a space or newline that follows no white space.

    >>> "".join(_safe_parts("ab " * 200_000)) == "ab " * 200_000
    True
    """
    parts, start = [], 0
    while len(text) - start > _PART:
        found = _SAFE_CUT.search(text, start + _PART)
        if not found:
            break
        parts.append(text[start : found.start()])
        start = found.start()
    parts.append(text[start:] if start else text)
    return parts


def _is_line(text: str) -> bool:
    """Whether a text is one line, with something on it and no white space at its end.

    >>> [_is_line(text) for text in ("a b", "  a", "a ", "", "a\\nb")]
    [True, True, False, False, False]
    """
    return text != "" and not text[-1].isspace() and "\n" not in text


def _runs(parts: Sequence[str]) -> Iterator[list[str]]:
    """Parts together until they are worth a thread's turn."""
    run: list[str] = []
    size = 0
    for part in parts:
        run.append(part)
        size += len(part)
        if size >= _PART:
            yield run
            run, size = [], 0
    if run:
        yield run


def _offsets(lengths: Iterable[int]) -> Ids:
    return np.cumsum([0, *lengths], dtype=np.int64)


def _joined(parts: Sequence[Ids]) -> Ids:
    return np.concatenate(parts) if parts else np.empty(0, np.int64)


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
