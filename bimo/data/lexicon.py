"""Tagged text: a file of words with their tags becomes a lexicon."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from bimo.core.errors import SourceError
from bimo.data.documents import lines_of
from bimo.data.encodings import Found, Unreadable, decode_blocks
from bimo.data.formats import Leaf, byte_chunks, leaves
from bimo.text.tags import Lexicon, LookUp, jieba_look_up

JIEBA = "jieba"
MOST_TAGS = 1000  # a file with more of them is no tagged text
_BRACKET = re.compile(r"\].*$")  # 人民日报: [中央/n 电台/n]nt is a name of two words


def read_lexicon(source: str) -> LookUp:
    """What tells a word's tag: `jieba`, or a file of tagged text, packed or not; `SourceError` where it is no such file.

    A file whose name ends in `.conllu` is CoNLL-U: the word in the second column, its tag (UPOS) in the fourth. In any other each token
    is `word/tag`, as in the People's Daily corpus.
    """
    if source == JIEBA:
        return jieba_look_up()
    path = Path(source).expanduser()
    try:
        if not path.is_file():
            raise Unreadable("is a folder; name a file" if path.is_dir() else f"no such file; name a file of tagged text, or {JIEBA}")
        lexicon = Lexicon(pair for leaf in leaves(path) for pair in _pairs(leaf))
        if not lexicon.tags:
            raise Unreadable("holds no word with a tag")
        if len(lexicon.tags) > MOST_TAGS:
            raise Unreadable(f"{len(lexicon.tags):,} different tags (at most {MOST_TAGS:,}); is this text of word/tag tokens?")
    except (Unreadable, OSError) as cause:
        why = cause if isinstance(cause, Unreadable) else f"cannot be read ({cause.strerror or cause})"
        raise SourceError(f"text.tags: {source}: {why}") from None
    return lexicon


def _pairs(leaf: Leaf) -> Iterator[tuple[str, str]]:
    """The words of a file with their tags."""
    if leaf.format != "text":
        raise Unreadable(f"is {leaf.format}; tagged text is CoNLL-U (.conllu) or plain text of word/tag tokens")
    found = Found()
    conllu = ".conllu" in [suffix.lower() for suffix in Path(leaf.name).suffixes]
    with leaf.open() as stream:
        yield from (conllu_pairs if conllu else slashed_pairs)(lines_of(decode_blocks(byte_chunks(stream), found)))
    if found.replaced:
        raise Unreadable(f"{found.replaced} byte sequences are not {found.encoding}; save it as UTF-8")


def conllu_pairs(lines: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Words and UPOS tags of CoNLL-U; the ranges and empty nodes among its rows are no words of their own.

    >>> list(conllu_pairs(["# text = It's", "1-2\\tIt's\\t_\\t_", "1\\tIt\\tit\\tPRON\\tPRP", "2\\t's\\tbe\\tAUX\\tVBZ", ""]))
    [('It', 'PRON'), ("'s", 'AUX')]
    """
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        columns = line.split("\t")
        if len(columns) < 4:
            raise Unreadable(
                f"line {number} has {len(columns)} column(s); CoNLL-U has ten, parted by tabs, with the word in the second and its tag "
                "in the fourth"
            )
        if columns[0].isdigit() and columns[3] not in ("", "_"):
            yield columns[1], columns[3]


def slashed_pairs(lines: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Words and tags of word/tag tokens; most tokens must be of this form.

    >>> list(slashed_pairs(["[中央/n 电台/n]nt 1/2/m", "//w"]))
    [('中央', 'n'), ('电台', 'n'), ('1/2', 'm'), ('/', 'w')]
    """
    plain = tagged = 0
    for line in lines:
        for token in line.split():
            word, _, tag = token.rpartition("/")
            tag = _BRACKET.sub("", tag)
            if word and tag:
                tagged += 1
                yield word.removeprefix("[") or word, tag
            else:
                plain += 1
    if plain > tagged:
        raise Unreadable(
            f"{plain:,} of its {plain + tagged:,} tokens are not of the form word/tag (CoNLL-U is known by a name that ends in .conllu)"
        )
