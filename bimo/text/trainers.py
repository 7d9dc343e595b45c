"""How vocabularies are learned from a text: one function a kind, each gives a tokenizer of the tokenizers library.

Special tokens come first: `<s>` 0, `</s>` 1, `<pad>` 2, and `<unk>` 3 where the kind can meet what it does not know.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any, get_args

from bimo.core.errors import RecipeError, SourceError, did_you_mean
from bimo.core.recipe import TokenizerKind
from bimo.text.runners import UNK, byte_alphabet
from bimo.text.words import split_words

KINDS: tuple[str, ...] = get_args(TokenizerKind)
SPECIALS = ("<s>", "</s>", "<pad>")
_VERY_UNLIKELY = -10_000.0  # the score of pieces that plain text must never become (Unigram)


def default_vocab_size(kind: str, text_bytes: int) -> int | None:
    """Vocabulary size where none is asked for: all characters or words; for sub-words it grows with the text.

    A sub-word should be seen some hundred times: one token per 256 bytes of text, in multiples of 64, within
    512 … 8,192 (a megabyte gives 4,096).

    >>> default_vocab_size("bpe", 1 << 20), default_vocab_size("bpe", 1000), default_vocab_size("bpe", 1 << 30)
    (4096, 512, 8192)
    """
    if kind in ("byte", "char", "word"):
        return None
    return max(512, min(8192, text_bytes // 256 // 64 * 64))


def train(kind: str, texts: Iterable[str], vocab_size: int | None) -> Any:
    """A `tokenizers.Tokenizer` of `kind`, learned from `texts`, with `vocab_size` ids at most (None: a size by the text).

    Raises `RecipeError` for an unknown kind or a size too small for it, `SourceError` where there is no text.
    """
    if kind not in KINDS:
        raise RecipeError(f"tokenizer: unknown kind {kind!r}; {did_you_mean(kind, KINDS)}")
    specials = [*SPECIALS] if kind in ("byte", "bpe") else [*SPECIALS, UNK]
    floor = {"byte": 259, "bpe": 259, "unigram": 260 + 95}.get(kind, len(specials) + 1)
    if vocab_size is not None and vocab_size < floor:
        raise RecipeError(f"vocab_size: {vocab_size} is too small for {kind}; it needs at least {floor}")
    hub = _TRAINERS[kind](_text_only(texts), vocab_size, specials)
    hub.add_special_tokens(specials)
    return hub


def _text_only(texts: Iterable[str]) -> Iterator[str]:
    seen = False
    for text in texts:
        seen = seen or bool(text.strip())
        yield text
    if not seen:
        raise SourceError("tokenizer: no text to learn a vocabulary from")


def _train_byte(texts: Iterable[str], vocab_size: int | None, specials: list[str]) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    vocab = {token: i for i, token in enumerate([*specials, *byte_alphabet()])}
    hub = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    hub.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    hub.decoder = decoders.ByteLevel()
    return hub


def _most_frequent(counts: Counter[str], specials: list[str], vocab_size: int | None) -> list[str]:
    for special in specials:
        counts.pop(special, None)
    return [w for w, _ in counts.most_common(None if vocab_size is None else vocab_size - len(specials))]


def _train_char(texts: Iterable[str], vocab_size: int | None, specials: list[str]) -> Any:
    from tokenizers import Tokenizer, decoders, models

    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text)
    characters = sorted(_most_frequent(counts, specials, vocab_size))
    vocab = {token: i for i, token in enumerate([*specials, *characters])}
    hub = Tokenizer(models.BPE(vocab=vocab, merges=[], unk_token=UNK))
    hub.decoder = decoders.Fuse()
    return hub


def _train_word(texts: Iterable[str], vocab_size: int | None, specials: list[str]) -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers

    counts: Counter[str] = Counter()  # equal counts stay in the order of first appearance
    for text in texts:
        counts.update(split_words(text))
    vocab = {token: i for i, token in enumerate([*specials, *_most_frequent(counts, specials, vocab_size)])}
    hub = Tokenizer(models.WordLevel(vocab=vocab, unk_token=UNK))
    hub.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return hub


def _measured(texts: Iterable[str], total: list[int]) -> Iterator[str]:
    for text in texts:
        total[0] += len(text) if text.isascii() else len(text.encode("utf-8", "replace"))
        yield text


def _held(kind: str, texts: Iterable[str], vocab_size: int | None) -> tuple[Iterable[str], int]:
    """The texts and the size; where no size was asked for, the texts are measured first."""
    if vocab_size is not None:
        return texts, vocab_size
    total = [0]
    held = list(_measured(texts, total))
    return held, default_vocab_size(kind, total[0]) or 0


def _train_bpe(texts: Iterable[str], vocab_size: int | None, specials: list[str]) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    texts, vocab_size = _held("bpe", texts, vocab_size)
    hub = Tokenizer(models.BPE())
    hub.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    hub.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        special_tokens=specials,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    hub.train_from_iterator(texts, trainer)
    return hub


def _train_wordpiece(texts: Iterable[str], vocab_size: int | None, specials: list[str]) -> Any:
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    texts, vocab_size = _held("wordpiece", texts, vocab_size)
    hub = Tokenizer(models.WordPiece(unk_token=UNK))
    hub.normalizer = normalizers.BertNormalizer(clean_text=False, handle_chinese_chars=True, strip_accents=False, lowercase=False)
    hub.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    hub.decoder = decoders.WordPiece(prefix="##", cleanup=False)
    trainer = trainers.WordPieceTrainer(vocab_size=vocab_size, min_frequency=2, special_tokens=specials, show_progress=False)
    hub.train_from_iterator(texts, trainer)
    return hub


def _train_unigram(texts: Iterable[str], vocab_size: int | None, specials: list[str]) -> Any:
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    texts, vocab_size = _held("unigram", list(texts), vocab_size)
    hub = Tokenizer(models.Unigram())
    edges = pre_tokenizers.Split(Regex(r"\n|[、-〃〈-】！-／：-＠“”‘’…—]+"), "isolated")  # no piece spans lines or Chinese clauses
    hub.pre_tokenizer = pre_tokenizers.Sequence([edges, pre_tokenizers.Metaspace(prepend_scheme="never")])
    hub.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    alphabet = [chr(c) for c in range(33, 127)] + ["▁"]
    characters = set(alphabet).union(*texts) - {" "}  # each needs a piece, or the trainer has nothing to begin with
    trainer = trainers.UnigramTrainer(
        vocab_size=max(vocab_size - 256, len(characters) + len(specials)),
        special_tokens=specials,
        unk_token=UNK,
        initial_alphabet=alphabet,
        show_progress=False,
    )
    hub.train_from_iterator(texts, trainer)
    learned = _unigram_pieces(hub)
    # Bytes for what was never seen; their names, and those of the special tokens, never match plain text.
    vocab = [(piece, _VERY_UNLIKELY if piece in specials else score) for piece, score in learned]
    vocab += [(f"<0x{b:02X}>", _VERY_UNLIKELY) for b in range(256)]
    hub.model = models.Unigram(vocab, unk_id=specials.index(UNK), byte_fallback=True)
    return hub


def _unigram_pieces(hub: Any) -> list[tuple[str, float]]:
    import json

    return [(piece, score) for piece, score in json.loads(hub.to_str())["model"]["vocab"]]


_TRAINERS: dict[str, Callable[[Iterable[str], int | None, list[str]], Any]] = {
    "byte": _train_byte,
    "char": _train_char,
    "word": _train_word,
    "bpe": _train_bpe,
    "wordpiece": _train_wordpiece,
    "unigram": _train_unigram,
}
