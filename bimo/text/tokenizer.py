"""Text to ids and back: one `Tokenizer` for every kind, stored as a Hugging Face `tokenizer.json`."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from bimo.core import store
from bimo.core.errors import ModelError
from bimo.text import trainers
from bimo.text.runners import UNK, BpeRunner, ByteRunner, CharRunner, HubRunner, Ids, Runner, WordRunner
from bimo.text.streaming import StreamDecoder
from bimo.text.vocabulary import Vocabulary

_UNK_WORD = re.compile(r"(?<!\S)<unk>(?!\S)")
# What both ways of running byte-level BPE must agree on before tiktoken's core is used.
_SAMPLES = (
    "The quick brown fox doesn't jump; it'll walk, they've 1,234.56 reasons.\n\n  def f(x):\n\treturn x ** 2  # naïve café\r\n",
    "由韩国Nexon开发与发行。２０２４年，台湾由遊戲橘子運營……“你好”！ \u3000 全角　空格",
    "emoji 👩‍👩‍👧‍👦 🇨🇳 é e\u0301 ﷺ ½ ² Ⅷ ٣ 𝔘𝔫𝔦 \x00\x07\x1b \ufeff \u200b \u2028 \x85 \xa0 <s></s><pad><unk>",
    "日本語のテキスト 한국어 텍스트 العربية עברית ไทย हिन्दी русский ελληνικά",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa abababababababababab 0000000000000000 ================",
)


class Tokenizer:
    """Text to ids and back.

    kind: byte, char, word, bpe, wordpiece, unigram, or loaded (any other `tokenizer.json`);
    vocabulary: size and special ids; lossless: decode(encode(t)) == t for every t.

    Special tokens written in a text stay text, except `<unk>` with the word tokenizer.

    >>> t = Tokenizer.train("char", ["abc ab"])
    >>> t.encode("cab"), t.decode(t.encode("cab")), t.encode_document("ab").tolist()
    ([7, 5, 6], 'cab', [0, 5, 6, 1])
    """

    def __init__(self, hub: Any, kind: str, settings: dict[str, Any] | None = None, text: str | None = None) -> None:
        self.kind = kind
        self.settings = dict(settings or {})
        self._json: str = hub.to_str() if text is None else text  # what tokenizer.json holds
        self._hub = hub
        self.vocabulary = self._find_vocabulary()
        self._runner = self._make_runner()

    @classmethod
    def train(cls, kind: str, texts: Iterable[str], vocab_size: int | None = None) -> Self:
        """Learn a vocabulary of `kind` from `texts`; `vocab_size` counts the special tokens (None: chosen by the text)."""
        import tokenizers

        text = trainers.train(kind, texts, vocab_size).to_str()  # read again, as `load` does: scores are rounded alike
        return cls(tokenizers.Tokenizer.from_str(text), kind, text=text)

    # -- encoding -----------------------------------------------------------------------------------------------------

    def encode(self, text: str) -> list[int]:
        """Ids of a text; no special tokens are added."""
        return self._runner.encode(text).tolist()

    def encode_batch(self, texts: Sequence[str]) -> list[Ids]:
        """Ids of many texts, int64 [n] each; no special tokens are added."""
        ids, offsets = self._runner.flat(texts)
        return np.split(ids, offsets[1:-1]) if len(texts) else []

    def encode_document(self, text: str, stream: bool = False) -> Ids:
        """Ids of a document, `<s> … </s>`; with `stream` each newline is `</s>`, and a last line without one gets it."""
        ids, _ = self.encode_documents([text], stream)
        return ids

    def encode_documents(self, texts: Sequence[str], stream: bool = False) -> tuple[Ids, Ids]:
        """`encode_document` of many texts, end to end: (ids int64 [N], offsets int64 [texts + 1])."""
        v = self.vocabulary
        bos = v.bos if v.bos is not None else v.eos
        lines, counts = texts, np.ones(len(texts), np.int64)
        if stream and v.eos is not None:
            parted = [text.removesuffix("\n").split("\n") for text in texts]
            lines = [line for part in parted for line in part]
            counts = np.array([len(part) for part in parted], dtype=np.int64)
        ids, ends = self._runner.flat(lines)
        first = np.cumsum(counts) - counts  # the first line of each document
        documents = np.arange(len(texts))
        places = np.empty(len(texts) + len(lines), np.int64)  # where special tokens are put: <s> line </s> line </s> <s> …
        values = np.full(len(places), -1 if v.eos is None else v.eos, np.int64)
        values[first + documents] = -1 if bos is None else bos
        places[first + documents] = ends[first]
        places[np.arange(len(lines)) + 1 + np.repeat(documents, counts)] = ends[1:]
        used = values >= 0
        offsets = np.append(ends[first], len(ids)) + np.append(np.cumsum(used)[first + documents] - used[first + documents], used.sum())
        return np.insert(ids, places[used], values[used]), offsets

    # -- decoding -----------------------------------------------------------------------------------------------------

    def decode(self, ids: Iterable[int], stream: bool = False) -> str:
        """The text of ids; special tokens are left out (`<unk>` prints as such); with `stream` `</s>` prints a newline."""
        v = self.vocabulary
        left_out = {i for i in (v.bos, v.eos, v.pad) if i is not None}
        parts: list[str] = []
        run: list[int] = []
        for i in map(int, ids):
            if i not in left_out:
                run.append(i)
            elif stream and i == v.eos:
                parts += (self._runner.pieces(run), "\n")
                run = []
        parts.append(self._runner.pieces(run) if run else "")
        return "".join(parts)

    def stream_decoder(self, stream: bool = False, after: Sequence[int] = ()) -> StreamDecoder:
        """A decoder fed id by id: `.push(id)` gives whole characters only, `.flush()` what is left.

        after: the ids that stand before the first one (a word is parted from them by a space).
        """
        v = self.vocabulary
        left_out = {i for i in (v.bos, v.eos, v.pad) if i is not None}
        return StreamDecoder(self._runner, left_out, v.eos if stream else None, after)

    def token_bytes(self, token: int) -> bytes | None:
        """The UTF-8 bytes that an ordinary token stands for, where tokens are made of bytes; None elsewhere.

        >>> Tokenizer.train("byte", ["x"]).token_bytes(3 + 0xe4), Tokenizer.train("char", ["x"]).token_bytes(4)
        (b'\\xe4', None)
        """
        return self._runner.token_bytes(token) if isinstance(self._runner, ByteRunner | BpeRunner | HubRunner) else None

    def losses(self, texts: Sequence[str], ids: Ids, offsets: Ids, stream: bool = False, measure: bool = True) -> tuple[int, int]:
        """(unknown tokens, lost bytes at least) of texts and what `encode_documents` gave for them.

        Unknown: `<unk>` that the text did not hold. Lost: where decoding does not give the text back, the bytes that
        are missing, at least 1 (not looked for with `measure` off).
        """
        unk = self.vocabulary.unk
        if self.lossless or unk is None:
            return 0, 0
        unknown = int((ids == unk).sum())
        if unknown and self.kind == "word":
            unknown -= sum(len(_UNK_WORD.findall(text)) for text in texts)
        if not measure or (self.kind == "char" and not unknown):
            return unknown, 0
        parts = np.split(ids, offsets[1:-1])
        return unknown, sum(self._lost(text, part, stream) for text, part in zip(texts, parts, strict=True))

    def _lost(self, text: str, ids: Ids, stream: bool) -> int:
        back = self.decode(ids, stream)
        if stream and not text.endswith("\n"):
            back = back.removesuffix("\n")
        if back == text and (self.kind == "word" or not (ids == self.vocabulary.unk).any()):
            return 0
        unknown = int((ids == self.vocabulary.unk).sum())
        if self.kind == "word":
            unknown -= len(_UNK_WORD.findall(text))
        return max(1, len(text.encode("utf-8")) - len(back.encode("utf-8")) + len(UNK) * unknown)

    @property
    def lossless(self) -> bool:
        """True if decode(encode(t)) == t for every text t."""
        return self.kind in ("byte", "bpe")

    # -- on disk ------------------------------------------------------------------------------------------------------

    @property
    def fingerprint(self) -> str:
        """SHA-256 of `tokenizer.json`, in hexadecimal."""
        return hashlib.sha256(self._json.encode("utf-8")).hexdigest()

    def save(self, folder: Path) -> None:
        """Write `tokenizer.json` and `tokenizer_config.json` into `folder`, each whole or not at all."""
        v = self.vocabulary
        names = {"bos_token": v.bos, "eos_token": v.eos, "pad_token": v.pad, "unk_token": v.unk}
        config: dict[str, Any] = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "clean_up_tokenization_spaces": False,
            "bimo_kind": self.kind,
        }
        config |= {name: self._hub.id_to_token(i) for name, i in names.items() if i is not None}
        store.write_text(Path(folder) / "tokenizer.json", self._json)
        store.write_json(Path(folder) / "tokenizer_config.json", self.settings | config)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Open a folder that holds `tokenizer.json` (and `tokenizer_config.json`, which names the special tokens)."""
        import tokenizers

        path = Path(folder) / "tokenizer.json"
        store.read_json(path)  # missing or not JSON: an error that says so
        text = path.read_text(encoding="utf-8")
        config_path = path.with_name("tokenizer_config.json")
        settings = store.read_json(config_path) if config_path.is_file() else {}
        if not isinstance(settings, dict):
            raise ModelError(f"{config_path}: expected a mapping of settings, found a {type(settings).__name__}; save the model again")
        try:
            hub = tokenizers.Tokenizer.from_str(text)
        except Exception as cause:  # the library raises plain Exception
            raise ModelError(f"{path}: not a tokenizer ({cause})") from None
        kind = settings.get("bimo_kind", "loaded")
        return cls(hub, kind if kind in trainers.KINDS else "loaded", settings, text)

    # -- making -------------------------------------------------------------------------------------------------------

    def _find_vocabulary(self) -> Vocabulary:
        hub = self._hub
        size = max(hub.get_vocab(with_added_tokens=True).values(), default=-1) + 1
        if self.kind != "loaded":
            bos, eos, pad = (hub.token_to_id(t) for t in trainers.SPECIALS)
            return Vocabulary(size, bos, eos, pad, hub.token_to_id(UNK), suppressed=(bos, pad))

        def special(name: str) -> int | None:
            token = self.settings.get(name)
            token = token.get("content") if isinstance(token, dict) else token
            return hub.token_to_id(token) if isinstance(token, str) else None

        return Vocabulary(size, special("bos_token"), special("eos_token"), special("pad_token"), special("unk_token"))

    def _make_runner(self) -> Runner:
        plain = self._hub.get_vocab(with_added_tokens=False)
        for token in trainers.SPECIALS:
            plain.pop(token, None)
        unk = self.vocabulary.unk
        if self.kind == "byte":
            return ByteRunner(len(trainers.SPECIALS))
        if self.kind == "char" and unk is not None:
            plain.pop(UNK, None)
            return CharRunner(plain, unk)
        if self.kind == "word" and unk is not None:
            return WordRunner(plain, unk)
        if self.kind == "bpe":
            fast = BpeRunner(self._hub, plain)
            if fast.agrees(_SAMPLES):
                return fast
        return HubRunner(self._hub)
