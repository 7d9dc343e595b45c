"""Part-of-speech tags of tokens: each token's tag by its own text alone, so that none depends on what comes later."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import replace

from bimo.core.errors import UserError
from bimo.text.tokenizer import Tokenizer
from bimo.text.vocabulary import Vocabulary

SPECIAL, UNKNOWN = "<special>", "<unknown>"  # the tags of <s>, </s> and padding, and of what has none
LookUp = Callable[[str], str | None]  # a word's tag, or None


class Lexicon:
    """Each word's most frequent tag in a tagged text, the first met of several; then that of the words which differ in case alone.

    >>> lexicon = Lexicon([("The", "DET"), ("Bank", "PROPN"), ("bank", "NOUN"), ("bank", "VERB"), ("bank", "NOUN")])
    >>> [lexicon(word) for word in ("bank", "Bank", "BANK", "the", "tree")]
    ['NOUN', 'PROPN', 'NOUN', 'DET', None]
    """

    def __init__(self, tagged: Iterable[tuple[str, str]]) -> None:
        exact: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for word, tag in tagged:
            exact[word][tag] += 1
        lowered: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for word, counts in exact.items():
            lowered[word.lower()].update(counts)
        self._exact, self._lowered = _most_frequent(exact), _most_frequent(lowered)

    def __call__(self, word: str) -> str | None:
        """The tag of a word, or None where the text did not hold it."""
        return self._exact.get(word) or self._lowered.get(word.lower())

    @property
    def tags(self) -> set[str]:
        """The tags that words have."""
        return {*self._exact.values(), *self._lowered.values()}


def _most_frequent(counts: dict[str, Counter[str]]) -> dict[str, str]:
    return {word: tags.most_common(1)[0][0] for word, tags in counts.items()}


def jieba_look_up() -> LookUp:
    """The dictionary of rjieba: the tag of a word that stands alone; what it parts into several words has none.

    >>> look_up = jieba_look_up()
    >>> look_up("北京"), look_up("跑"), look_up("。"), look_up("北京跑")
    ('ns', 'v', 'x', None)
    """
    try:
        import rjieba
    except ImportError:
        raise UserError(
            "text.tags: jieba is the dictionary of the library rjieba, which is not installed; "
            "pip install 'bimo[zh]', or name a file of tagged text"
        ) from None

    def look_up(word: str) -> str | None:
        found = rjieba.tag(word, hmm=False)
        return found[0][1] if len(found) == 1 else None

    return look_up


def tagged_vocabulary(tokenizer: Tokenizer, look_up: LookUp) -> Vocabulary:
    """The tokenizer's vocabulary with a tag for each id: that of its text, taken as a word.

    >>> tokenizer = Tokenizer.train("word", ["a cat sat"])
    >>> found = tagged_vocabulary(tokenizer, {"a": "DET", "cat": "NOUN"}.get)
    >>> found.tags, [found.tags[found.tag_of[i]] for i in tokenizer.encode_document("a cat sat")]
    (('<special>', '<unknown>', 'DET', 'NOUN'), ['<special>', 'DET', 'NOUN', '<unknown>', '<special>'])
    """
    v = tokenizer.vocabulary
    texts = (None if i in (v.bos, v.eos, v.pad) else tokenizer.decode([i]).strip() for i in range(v.size))
    found = [SPECIAL if text is None else (look_up(text) if text else None) or UNKNOWN for text in texts]
    names = (SPECIAL, UNKNOWN, *sorted(set(found) - {SPECIAL, UNKNOWN}))
    places = {name: place for place, name in enumerate(names)}
    return replace(v, tags=names, tag_of=tuple(places[tag] for tag in found))
