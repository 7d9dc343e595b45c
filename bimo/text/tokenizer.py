"""Text to ids and back: one `Tokenizer` for every kind, stored as a Hugging Face `tokenizer.json`."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np

from bimo.core import store
from bimo.core.errors import UserError
from bimo.text import trainers
from bimo.text.runners import UNK, BpeRunner, ByteRunner, CharRunner, HubRunner, Ids, Runner, WordRunner
from bimo.text.streaming import StreamDecoder, cut_character
from bimo.text.template import PLAIN, ChatTemplate, find_template, put_template
from bimo.text.vocabularies.added import tokens_around, with_ends, written
from bimo.text.vocabularies.extending import extended, with_special
from bimo.text.vocabularies.opening import open_tokenizer
from bimo.text.vocabulary import SpecialToken, Vocabulary

_UNK_WORD = re.compile(r"(?<!\S)<unk>(?!\S)")
# What both ways of running byte-level BPE must agree on before tiktoken's core is used.
_SAMPLES = (
    "The quick brown fox doesn't jump; it'll walk, they've 1,234.56 reasons.\n\n  def f(x):\n\treturn x ** 2  # naïve café\r\n",
    "由韩国Nexon开发与发行。２０２４年，台湾由遊戲橘子運營……“你好”！ \u3000 全角　空格",
    "emoji 👩‍👩‍👧‍👦 🇨🇳 é e\u0301 ﷺ ½ ² Ⅷ ٣ 𝔘𝔫𝔦 \x00\x07\x1b \ufeff \u200b \u2028 \x85 \xa0 <s></s><pad><unk>",
    "日本語のテキスト 한국어 텍스트 العربية עברית ไทย हिन्दी русский ελληνικά",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa abababababababababab 0000000000000000 ================",
)


def cleaned_up(text: str) -> str:
    """A decoded text without the spaces that WordPiece puts before punctuation and short forms, as transformers writes it.

    >>> cleaned_up("do n't stop , he 's here .")
    "don't stop, he's here."
    """
    for spaced in (" .", " ?", " !", " ,"):
        text = text.replace(spaced, spaced[1:])
    text = text.replace(" ' ", "'")
    for spaced in (" n't", " 'm", " 's", " 've", " 're"):
        text = text.replace(spaced, spaced[1:])
    return text


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
        hub.no_padding()  # some makers' files pad every text to a length, and cut it there
        hub.no_truncation()
        if getattr(hub.model, "dropout", None):
            hub.model.dropout = None  # merges that are left out at random (BPE-dropout) are for learning; a text has one encoding here
        self.vocabulary = self._find_vocabulary()
        self._runner = self._make_runner()

    @classmethod
    def train(cls, kind: str, texts: Iterable[str], vocab_size: int | None = None) -> Self:
        """Learn a vocabulary of `kind` from `texts`; `vocab_size` counts the special tokens (None: chosen by the text)."""
        import tokenizers

        text = trainers.train(kind, texts, vocab_size).to_str()  # read again, as `load` does: scores are rounded alike
        return cls(tokenizers.Tokenizer.from_str(text), kind, text=text)

    @classmethod
    def of_words(cls, words: Sequence[str]) -> Self:
        """A word tokenizer of these words, each with its place as its id; `<s>`, `</s>`, `<pad>` and `<unk>` among them are special.

        A text is parted at ASCII white space alone, so that a word may have a no-break space (U+00A0) in it.

        >>> t = Tokenizer.of_words(["</s>", "<s>", "a", "b", "<unk>"])
        >>> t.encode_document("b c").tolist()
        [1, 3, 4, 0]
        """
        from tokenizers import Regex, models, pre_tokenizers
        from tokenizers import Tokenizer as Hub

        hub = Hub(models.WordLevel(vocab={word: i for i, word in enumerate(words)}, unk_token=UNK))
        hub.pre_tokenizer = pre_tokenizers.Split(Regex(r"[ \t\r\n]+"), "removed")
        hub.add_special_tokens([word for word in words if word in (*trainers.SPECIALS, UNK)])
        return cls(hub, "word")

    # -- encoding -----------------------------------------------------------------------------------------------------

    def encode(self, text: str, add_special_tokens: bool = False) -> list[int]:
        """Ids of a text; add_special_tokens: with those that this vocabulary's makers put before and behind it.

        >>> Tokenizer.train("char", ["ab"]).encode("ab", add_special_tokens=True)
        [0, 4, 5]
        """
        ids = self._runner.encode(text).tolist()
        before, behind = self._around if add_special_tokens else ((), ())
        return [*before, *ids, *behind]

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

    def spans(self, text: str, first: bool = True) -> tuple[Ids, Ids]:
        """Ids of a stretch of text, and which of its characters each stands for, [n, 2]; no special tokens are added.

        first: it begins the whole text (some vocabularies put a space before that, and before nothing else).

        >>> [found.tolist() for found in Tokenizer.train("byte", ["x"]).spans("é!")]
        [[198, 172, 36], [[0, 1], [0, 1], [1, 2]]]
        """
        return (self._runner if first else self._runner_inside).spans(text)

    @property
    def hub(self) -> Any:
        """The tokenizer of the tokenizers library that `tokenizer.json` holds; it is not to be changed."""
        return self._hub

    # -- special tokens -----------------------------------------------------------------------------------------------

    @property
    def special_tokens(self) -> dict[str, SpecialToken]:
        """Every special token, as it is written."""
        told = self._hub.get_added_tokens_decoder()
        return {token.content: SpecialToken(i, token.lstrip, token.rstrip) for i, token in told.items() if token.special}

    @property
    def adds_bos(self) -> bool:
        """Whether this vocabulary's models were taught to read `<s>` before a plain text."""
        return self._adds("bos", self.vocabulary.bos, 0)

    @property
    def adds_eos(self) -> bool:
        """Whether this vocabulary's own convention puts `</s>` behind a plain text."""
        return self._adds("eos", self.vocabulary.eos, -1)

    def _adds(self, name: str, token: int | None, place: int) -> bool:
        if self.kind != "loaded" or token is None:
            return token is not None and self.settings.get(f"add_{name}_token") is not False
        return token in self._around[place]

    @property
    def _around(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The ids that stand before and behind a text where special tokens are added."""
        if self.kind != "loaded":
            return ((self.vocabulary.bos,) if self.vocabulary.bos is not None else (), ())
        return tokens_around(self._hub)

    def name_ends(self, bos: int | None, eos: int | None) -> None:
        """Say which ids begin and end a text, where the settings of a loaded tokenizer name none and the model's own do."""
        v = self.vocabulary
        if self.kind == "loaded":
            self.vocabulary = replace(v, bos=bos if v.bos is None else v.bos, eos=eos if v.eos is None else v.eos)

    # -- decoding -----------------------------------------------------------------------------------------------------

    def decode(self, ids: Iterable[int], stream: bool = False, whole: bool = False) -> str:
        """The text of ids; special tokens are left out (`<unk>` prints as such); with `stream` `</s>` prints a newline.

        whole: a character whose last bytes are missing at the end is left out; it prints as U+FFFD otherwise.
        """
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
        text = "".join(parts)
        if whole and text.endswith("\ufffd"):
            text = text[: len(text) - cut_character(self._runner, run)]
        return cleaned_up(text) if self._cleans_up else text

    @cached_property
    def _cleans_up(self) -> bool:
        """Whether a text gets no space before punctuation: where the settings say so, and as in transformers not after BPE."""
        if self.kind != "loaded" or not self.settings.get("clean_up_tokenization_spaces"):
            return False
        bpe = type(self._hub.model).__name__ == "BPE"
        return not bpe or bool(self.settings.get("clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output"))

    def stream_decoder(self, stream: bool = False, after: Sequence[int] = ()) -> StreamDecoder:
        """A decoder fed id by id: `.push(id)` gives whole characters only, `.flush()` those that are left.

        after: the ids that stand before the first one (a word is parted from them by a space).
        """
        v = self.vocabulary
        left_out = {i for i in (v.bos, v.eos, v.pad) if i is not None}
        return StreamDecoder(self._runner, left_out, v.eos if stream else None, after)

    def written(self, token: int) -> str:
        """A token as the vocabulary writes it, special ones included.

        >>> Tokenizer.of_words(["<s>", "a"]).written(0)
        '<s>'
        """
        return self._added.get(token) or self._hub.id_to_token(token) or f"[{token}]"

    @cached_property
    def _added(self) -> dict[int, str]:
        """How added tokens are written; the library writes those that are normalised in their normal form."""
        return {i: token.content for i, token in self._hub.get_added_tokens_decoder().items()}

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
        v, unk = self.vocabulary, self.vocabulary.unk
        if self.lossless or unk is None or unk in (v.bos, v.eos, v.pad):  # GPT-2's one special token is all of them, and means none unknown
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
        """SHA-256 of `tokenizer.json`, in hexadecimal; the special tokens that one of our own kinds adds to a text are left out of it."""
        return hashlib.sha256(self._json.encode("utf-8")).hexdigest()

    def save(self, folder: Path, ends: bool = False) -> None:
        """Write `tokenizer.json`, `tokenizer_config.json` and, if there is one, `chat_template.jinja` into `folder`, each whole or not.

        Of a kind of our own, `tokenizer.json` tells other programs what our models are given: `<s>` before a text, where the
        vocabulary has it; ends: `</s>` behind it.
        """
        v = self.vocabulary
        names = {"bos_token": v.bos, "eos_token": v.eos, "pad_token": v.pad, "unk_token": v.unk}
        config: dict[str, Any] = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "clean_up_tokenization_spaces": self._cleans_up,
            "bimo_kind": self.kind,
        }
        config |= {name: self.written(i) for name, i in names.items() if i is not None}
        settings = self.settings | config
        if self.chat_template is not None:
            store.write_text(Path(folder) / "chat_template.jinja", self.chat_template)
            if isinstance(settings["chat_template"], str):
                del settings["chat_template"]
        else:
            (Path(folder) / "chat_template.jinja").unlink(missing_ok=True)  # another's
        (Path(folder) / "special_tokens_map.json").unlink(missing_ok=True)
        text = self._json
        if self.kind != "loaded":
            text = with_ends(text, config.get("bos_token"), config.get("eos_token") if ends else None)
        store.write_text(Path(folder) / "tokenizer.json", text)
        store.write_json(Path(folder) / "tokenizer_config.json", settings)

    @classmethod
    def load(cls, folder: Path, pattern: str | None = None) -> Self:
        """Open a folder, or the file itself, that holds a tokenizer: `tokenizer.json`, or the form of another program.

        Those are a `.model` of SentencePiece, tiktoken's files, GPT-2's and BERT's; `tokenizer_config.json` beside them names the
        special tokens. pattern: how texts are parted, which tiktoken's files do not say (gpt2, cl100k, llama3, qwen, o200k).
        """
        hub, settings, text = open_tokenizer(Path(folder), pattern)
        kind = settings.get("bimo_kind", "loaded")
        return cls(hub, kind if kind in trainers.KINDS else "loaded", settings, text)

    @property
    def chat_template(self) -> str | None:
        """The template of conversations that belongs to this vocabulary (`ChatTemplate` renders it), or None."""
        return find_template(self.settings)

    @chat_template.setter
    def chat_template(self, source: str | None) -> None:
        put_template(self.settings, source)

    @property
    def template(self) -> ChatTemplate | None:
        """The chat template, ready to render, with the special tokens that it may write; None where there is none."""
        return ChatTemplate.find(self.settings)

    def talking(self) -> Self:
        """This tokenizer where it has a chat template; where it has none, one like it with a plain one: each text, an end behind it.

        Raises `UserError` where it has no token that ends a text.

        >>> t = Tokenizer.train("char", ["ab"]).talking()
        >>> t.template.render([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}])
        '<s>a</s>b</s>'
        """
        if self.chat_template is not None:
            return self
        named = self._named_ends()
        if "eos_token" not in named:
            raise UserError("chat template: there is none, and no special token that ends a text, to make a plain one of; add one")
        begin = "{{ bos_token }}" if "bos_token" in named and self.adds_bos else ""
        return self.with_template(begin + PLAIN)

    def with_template(self, source: str) -> Self:
        """A tokenizer like this one with another chat template, which may write `bos_token` and `eos_token` by these names.

        >>> Tokenizer.train("char", ["ab"]).with_template("{{ eos_token }}").template.render([{"role": "user", "content": "a"}])
        '</s>'
        """
        settings = self.settings | self._named_ends()
        put_template(settings, source)
        return self._like(settings)

    def _named_ends(self) -> dict[str, str]:
        v = self.vocabulary
        names = {"bos_token": v.bos, "eos_token": v.eos}
        return {name: word for word, token in self.special_tokens.items() for name, i in names.items() if token.id == i}

    def _like(self, settings: dict[str, Any], hub: Any = None) -> Self:
        """This tokenizer with other settings, or more tokens; what a model's own config said of the ends of its texts holds there, too."""
        other = type(self)(self._hub, self.kind, settings, self._json) if hub is None else type(self)(hub, self.kind, settings)
        other.name_ends(self.vocabulary.bos, self.vocabulary.eos)
        return other

    # -- more tokens --------------------------------------------------------------------------------------------------

    def add_tokens(self, words: Sequence[str]) -> tuple[Self, int]:
        """A tokenizer that has these words as ordinary tokens too, behind all others, and how many they are.

        Words that are one token already are passed over. Raises `UserError` for a word that this kind cannot have as one token.

        >>> t, added = Tokenizer.train("char", ["abc"]).add_tokens(["中", "a"])
        >>> added, t.encode("a中"), t.decode([7])
        (1, [4, 7], '中')
        """
        wanted = [word for word in dict.fromkeys(words) if not self._is_one(word)]
        hub = extended(self._hub, self.kind, wanted, self.vocabulary.size) if wanted else None
        return self._like(self.settings, hub), len(wanted)

    def add_special_tokens(self, words: Sequence[str]) -> tuple[Self, int]:
        """A tokenizer that has these words as special tokens too, behind all others, and how many they are.

        A chat template can write them; in a text they stay text. Those that are special already are passed over. Raises `UserError` for
        a word that is an ordinary token.

        >>> t, added = Tokenizer.train("char", ["abc"]).add_special_tokens(["<|user|>", "</s>"])
        >>> added, t.special_tokens["<|user|>"].id, len(t.encode("<|user|>"))
        (1, 7, 8)
        """
        wanted = [word for word in dict.fromkeys(words) if word not in self.special_tokens]
        hub = with_special(self._hub, wanted, self.vocabulary.size) if wanted else None
        key = "extra_special_tokens" if isinstance(self.settings.get("extra_special_tokens"), list) else "additional_special_tokens"
        told = self.settings.get(key)
        more = {key: [*(told if isinstance(told, list) else []), *wanted]} if wanted else {}
        return self._like(self.settings | more, hub), len(wanted)

    def _is_one(self, word: str) -> bool:
        if not isinstance(self._runner, BpeRunner | ByteRunner) and not getattr(self._runner, "byte_level", False):
            return self._hub.token_to_id(word) is not None
        ids = self.encode(word)
        return len(ids) == 1 and self.decode(ids) == word

    # -- making -------------------------------------------------------------------------------------------------------

    def _find_vocabulary(self) -> Vocabulary:
        hub = self._hub
        size = max(hub.get_vocab(with_added_tokens=True).values(), default=-1) + 1
        if self.kind != "loaded":
            bos, eos, pad = (hub.token_to_id(t) for t in trainers.SPECIALS)
            suppressed = tuple(i for i in (bos, pad) if i is not None)
            return Vocabulary(size, bos, eos, pad, hub.token_to_id(UNK), suppressed=suppressed)

        def special(name: str) -> int | None:
            token = written(self.settings.get(name))
            return None if token is None else hub.token_to_id(token)

        bos, eos = special("bos_token"), special("eos_token")
        bos, eos = (special(other) if i is None else i for i, other in ((bos, "cls_token"), (eos, "sep_token")))  # BERT's names of them
        before, behind = tokens_around(hub)  # where no name says it, they stand around a text
        bos, eos = (next(iter(ids), None) if i is None else i for i, ids in ((bos, before), (eos, behind)))
        return Vocabulary(size, bos, eos, special("pad_token"), special("unk_token"))

    def _make_runner(self) -> Runner:
        plain = self._hub.get_vocab(with_added_tokens=False)
        for token in trainers.SPECIALS:
            plain.pop(token, None)
        unk = self.vocabulary.unk
        if any(token.content not in (*trainers.SPECIALS, UNK) for token in self._hub.get_added_tokens_decoder().values()):
            return HubRunner(self._hub)  # the others know nothing of tokens that were added
        if self.kind == "byte" and len(plain) == 256:
            return ByteRunner(len(trainers.SPECIALS))
        if self.kind == "char" and unk is not None:
            plain.pop(UNK, None)
            return CharRunner(plain, unk)
        if self.kind == "word" and unk is not None:
            from tokenizers.pre_tokenizers import Split

            return WordRunner(plain, unk, ascii_only=isinstance(self._hub.pre_tokenizer, Split))
        if self.kind == "bpe" and BpeRunner.runs(plain):
            fast = BpeRunner(self._hub, plain)
            if fast.agrees(_SAMPLES):
                return fast
        return HubRunner(self._hub)

    @cached_property
    def _runner_inside(self) -> Runner:
        """What runs a text that is not the first: where only the first gets a space before it, the one that puts none."""
        import tokenizers

        text = self._hub.to_str()
        inside = text.replace('"prepend_scheme":"first"', '"prepend_scheme":"never"')
        return self._runner if inside == text else HubRunner(tokenizers.Tokenizer.from_str(inside))
