r"""ARPA files, the common language of n-gram tools (SRILM, KenLM): read and written.

A header of counts, a section per order, a line per n-gram: log10 p, the words, log10 of the back-off weight.

    \data\
    ngram 1=3
    …
    \1-grams:
    -0.477  likes   -0.301
    …
    \end\
"""

from __future__ import annotations

import contextlib
import gzip
import io
import math
import re
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NoReturn, cast

import numpy as np

from bimo.core import store
from bimo.core.errors import ModelError, UserError
from bimo.models.ngram import NGram, NGramConfig
from bimo.models.ngram.config import Rule
from bimo.models.ngram.trie import Trie
from bimo.text.vocabulary import Vocabulary

_LN10 = math.log(10.0)
_ZERO = -99.0  # log10 of a probability of zero, by SRILM's custom
_UNKNOWN = -100.0  # log10 p of unknown words where the file has no <unk>, by KenLM's custom
_LONGEST_LINE = 1 << 20
_GAP = re.compile(rb"[ \t\r]+")  # what parts the fields of a line; no other white space does, as in KenLM
_NO_WORD = re.compile(r"[ \t\r\n\0]")  # characters that a word cannot have
_UNKNOWN_WORD = "<unk>"


# -- writing ----------------------------------------------------------------------------------------------------------


def write_arpa(model: NGram, words: Sequence[str], path: Path) -> None:
    """Write `model` as an ARPA file; words[i] is the written form of id i.

    `<s>`, `</s>` and `<unk>` are written so, whatever `words` calls them; padding and other suppressed ids are left out.
    A path that ends with `.gz` is packed. Raises `UserError` where words hold blanks, tabs or newlines or stand twice, and for
    smoothings that ARPA cannot express.
    """
    if model.config.rule != Rule.BACK_OFF:
        raise UserError(
            f"smoothing: {model.config.smoothing} has no ARPA form (its unseen n-grams do not follow the back-off rule); "
            "train with smoothing=kneser-ney, witten-bell or mle"
        )
    names = _names(model, words)
    packed = Path(path).suffix.lower() == ".gz"
    store.write_beside(Path(path), lambda beside: _write(model.trie, names, beside, packed))


def _names(model: NGram, words: Sequence[str]) -> list[str | None]:
    """The written form of each id; None for ids that are left out."""
    vocabulary = model.vocabulary
    if len(words) != vocabulary.size:
        raise UserError(f"words: expected {vocabulary.size}, one for each id, found {len(words)}")
    names: list[str | None] = list(words)
    for id in (*vocabulary.suppressed, vocabulary.pad):
        if id is not None:
            names[id] = None
    for id, name in ((vocabulary.unk, _UNKNOWN_WORD), (vocabulary.bos, "<s>"), (vocabulary.eos, "</s>")):
        if id is not None:
            names[id] = name
    seen: dict[str, int] = {}
    for id, name in enumerate(names):
        if name is None:
            continue
        if not name or _NO_WORD.search(name):
            raise UserError(
                f"words: token {id} is {name!r}; an ARPA file parts words by blanks and lines by newlines, so that n-grams of such tokens "
                "(of characters, say) have no form in it; write the model to a folder, or train one with --tokenizer word"
            )
        if name in seen:
            raise UserError(f"words: tokens {seen[name]} and {id} are both written {name!r}; ARPA knows words by their form")
        seen[name] = id
    return names


def _write(trie: Trie, names: list[str | None], path: Path, packed: bool) -> None:
    order = max(k for k in range(1, trie.order + 1) if trie.sizes[k - 1])
    with contextlib.ExitStack() as stack:
        raw = stack.enter_context(open(path, "wb"))
        data = stack.enter_context(gzip.GzipFile("", "wb", fileobj=raw, mtime=0)) if packed else raw
        file = stack.enter_context(io.TextIOWrapper(cast(BinaryIO, data), "utf-8", "surrogatepass", newline="\n"))
        file.write("\\data\\\n")
        for k in range(1, order + 1):
            file.write(f"ngram {k}={trie.sizes[k - 1] if k > 1 else sum(name is not None for name in names)}\n")
        texts: list[str] = [name or "" for name in names]
        for k in range(1, order + 1):
            rows = trie.rows(k)
            if k > 1:
                below = trie.rows(k - 1)
                prefixes = np.repeat(np.arange(trie.sizes[k - 2]), np.diff(trie.first[below.start : below.stop + 1]))
                texts = [f"{texts[p]} {names[w]}" for p, w in zip(prefixes.tolist(), trie.words[rows].tolist(), strict=True)]
            logs = np.maximum(trie.logprob[rows] / _LN10, _ZERO).tolist()
            file.write(f"\n\\{k}-grams:\n")
            if k < order:
                weights = np.maximum(trie.backoff[rows] / _LN10, _ZERO).tolist()
                file.writelines(f"{p:.8g}\t{t}\t{b:.8g}\n" for p, t, b in zip(logs, texts, weights, strict=True) if t)
            else:
                file.writelines(f"{p:.8g}\t{t}\n" for p, t in zip(logs, texts, strict=True) if t)
        file.write("\n\\end\\\n")


# -- reading ----------------------------------------------------------------------------------------------------------


@dataclass
class _Section:
    """One order as it stands in the file: ids [N * order], log10 values [N], line numbers [N]."""

    ids: array[int]
    logs: array[float]
    weights: array[float]
    lines: array[int]


class _Lines:
    """Lines of a file with their numbers, blank ones left out; errors name file and line."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path, self.file, self.number = path, file, 0

    def __iter__(self) -> Iterator[bytes]:
        while line := self.file.readline(_LONGEST_LINE):
            self.number += 1
            line = line.removeprefix(b"\xef\xbb\xbf") if self.number == 1 else line  # a byte order mark
            if len(line) == _LONGEST_LINE:
                self.fail(f"a line of more than {_LONGEST_LINE} bytes; is this an ARPA file?")
            if line := line.strip(b" \t\r\n"):
                yield line

    def fail(self, found: str, line: int | None = None) -> NoReturn:
        raise ModelError(f"{self.path}: line {line or self.number}: {found}")


def read_arpa(path: Path) -> tuple[NGram, list[str]]:
    """Read an ARPA file, packed by gzip or not: the model, and the words by id, in the file's order.

    Words are parted by blanks and tabs alone. `<UNK>`, however it is capitalised, is read as `<unk>`; where there is none, unknown words
    have log10 p = -100, as in KenLM. Raises `ModelError` with file and line.
    """
    path = Path(path)
    store.refuse_pointer(path)
    try:
        with open(path, "rb") as raw:
            packed = raw.read(2) == b"\x1f\x8b" or path.suffix == ".gz"
            raw.seek(0)
            return _read(_Lines(path, cast(BinaryIO, gzip.GzipFile(fileobj=raw)) if packed else raw))
    except FileNotFoundError:
        raise ModelError(f"{path}: no such file") from None
    except (OSError, EOFError) as cause:
        raise ModelError(f"{path}: cannot be read ({cause})") from None


def _read(lines: _Lines) -> tuple[NGram, list[str]]:
    rest = iter(lines)
    claimed = _read_header(lines, rest)
    index: dict[bytes, int] = {}
    sections: list[_Section] = []
    following: bytes | None = b"\\1-grams:"
    top = max((order for order, count in enumerate(claimed, start=1) if count), default=1)
    for order, count in enumerate(claimed, start=1):
        section = _Section(array("i"), array("d"), array("d"), array("q"))
        if following == b"\\%d-grams:" % order:
            following = _read_section(section, lines, rest, order, index, last=order == len(claimed))
        elif order <= top:  # SRILM may leave out the sections above, which have no n-grams
            lines.fail(f"expected \\{order}-grams:, found {_shown(following)}")
        if len(section.logs) != count:
            lines.fail(f"the header says {count} {order}-grams, found {len(section.logs)} before this line")
        sections.append(section)
    if following != b"\\end\\":
        lines.fail(f"expected \\end\\, found {_shown(following)}")
    if (more := next(rest, None)) is not None:
        lines.fail(f"expected nothing behind \\end\\, found {_shown(more)}; is this several files in one?")
    words = []
    for word, id in index.items():
        try:
            words.append(word.decode("utf-8"))
        except UnicodeDecodeError:
            lines.fail(f"the word {_shown(word)} is not UTF-8", sections[0].lines[id])
    return _model(lines, sections, words), words


def _shown(line: bytes | None) -> str:
    return "the end of the file" if line is None else repr(line[:60].decode("utf-8", "replace"))


def _read_header(lines: _Lines, rest: Iterator[bytes]) -> list[int]:
    """The counts of `\\data\\`; whatever stands before is skipped, as the format says."""
    for line in rest:
        if line == b"\\data\\":
            break
    else:
        lines.fail("no \\data\\ section; is this an ARPA file?")
    claimed: list[int] = []
    for line in rest:
        if line == b"\\1-grams:" and claimed:
            return claimed
        name, _, count = line.partition(b"=")
        if name.split() != [b"ngram", b"%d" % (len(claimed) + 1)] or not count.strip().isdigit() or len(count) > 18 or len(claimed) == 1000:
            lines.fail(f"expected 'ngram {len(claimed) + 1}=<count>' or \\1-grams:, found {_shown(line)}")
        claimed.append(int(count))
    lines.fail("the file ends within its header")


def _read_section(section: _Section, lines: _Lines, rest: Iterator[bytes], order: int, index: dict[bytes, int], last: bool) -> bytes | None:
    """Fill a section with the lines of its order; the line that ended it."""
    ids, logs, weights, numbers = section.ids, section.logs, section.weights, section.lines
    for line in rest:
        if line[0] == 92 and (line == b"\\end\\" or line.endswith(b"-grams:")):
            return line
        fields = _GAP.split(line)
        if not order + 1 <= len(fields) <= order + 2:
            lines.fail(f"expected log10 p, {order} words{'' if last else ' and perhaps a back-off weight'}, found {_shown(line)}")
        try:
            log = _number(fields[0])
            weight = _number(fields[order + 1]) if len(fields) > order + 1 else 0.0
        except ValueError:
            lines.fail(f"expected numbers around the words, found {_shown(line)}")
        if not (log <= 0.0 and math.isfinite(weight)):  # also refuses NaN
            lines.fail(f"log10 p must be at most 0 and the back-off weight finite, found {_shown(line)}")
        if last and weight != 0.0:
            lines.fail(f"an n-gram of the highest order has no back-off weight (but 0), found {_shown(line)}")
        if order == 1:
            if fields[1] in index:
                lines.fail(f"the word {_shown(fields[1])} stands twice; remove one of the two lines")
            index[fields[1]] = len(index)
        try:
            ids.extend([index[word] for word in fields[1 : order + 1]])
        except KeyError as unknown:
            lines.fail(f"the word {_shown(unknown.args[0])} is not among the 1-grams")
        logs.append(log)
        weights.append(weight)
        numbers.append(lines.number)
    return None


def _number(field: bytes) -> float:
    if b"_" in field:  # which Python would take, as in 1_000
        raise ValueError
    return float(field)


def _model(lines: _Lines, sections: list[_Section], words: list[str]) -> NGram:
    """Sort what was read into a trie."""
    forms = {"bos": "<s>", "eos": "</s>", "unk": _UNKNOWN_WORD}
    if (
        _UNKNOWN_WORD not in words
        and (upper := next((i for i, word in enumerate(words) if word.lower() == _UNKNOWN_WORD), None)) is not None
    ):
        words[upper] = _UNKNOWN_WORD
    special = {name: words.index(word) if word in words else None for name, word in forms.items()}
    if special["bos"] is None and special["eos"] is None:
        lines.fail(
            "neither <s> nor </s> is among the 1-grams, so that the first word of a sentence could not be scored; rename what begins and "
            "ends a sentence there (!ENTER and !EXIT, say) to <s> and </s>"
        )
    if special["unk"] is None:
        special["unk"] = len(words)
        words.append(_UNKNOWN_WORD)
        sections[0].logs.append(_UNKNOWN)
        sections[0].weights.append(0.0)
    size, bos = len(words), special["bos"]
    if all(log <= _ZERO for id, log in enumerate(sections[0].logs) if id != bos):
        lines.fail("no word has a probability above zero")
    if bos is not None:
        sections[0].logs[bos] = _ZERO
    sizes, tables, children, logprob, backoff = [size], [np.arange(size, dtype=np.int32)], [], [], []
    keys: list[np.ndarray] = []  # of orders 2, 3, …, sorted
    for k, section in enumerate(sections, start=1):
        logs, weights = (_natural(np.array(values)) for values in (section.logs, section.weights))
        if k > 1:
            order, below = _sorted(lines, section, k, size, keys)
            children.append(np.bincount(below, minlength=sizes[-1]))
            tables.append((keys[-1] % size).astype(np.int32))
            sizes.append(len(order))
            logs, weights = logs[order], weights[order]
        logprob.append(logs)
        if k < len(sections):
            backoff.append(weights)
    vocabulary = Vocabulary(size, bos, special["eos"], unk=special["unk"], suppressed=() if bos is None else (bos,))
    model = NGram(NGramConfig(order=len(sections), smoothing="arpa"), vocabulary)
    model.trie = Trie.from_tables(sizes, tables, children, logprob, backoff)
    return model


def _natural(logs: np.ndarray) -> np.ndarray:
    """Natural logarithms, float32; SRILM's -99 is zero's."""
    return np.where(logs == _ZERO, -np.inf, logs * _LN10).astype(np.float32)


def _sorted(lines: _Lines, section: _Section, k: int, size: int, keys: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The order in which a section's n-grams are sorted, and the row of each one's prefix; appends its sorted keys to `keys`."""
    ids = np.array(section.ids, dtype=np.int64).reshape(-1, k)
    node = ids[:, 0]
    for length, known in enumerate(keys, start=2):
        key = node * size + ids[:, length - 1]
        node = np.searchsorted(known, key)
        missing = np.flatnonzero(known[np.minimum(node, len(known) - 1)] != key) if len(known) else np.arange(len(key))
        if len(missing):
            lines.fail(f"the first {length} words of this {k}-gram do not stand among the {length}-grams", section.lines[int(missing[0])])
    key = node * size + ids[:, k - 1]
    order = np.argsort(key, kind="stable")
    twice = np.flatnonzero(np.diff(key[order]) == 0)
    if len(twice):
        lines.fail(f"this {k}-gram stands twice; remove one of the two lines", section.lines[int(order[twice[0] + 1])])
    keys.append(key[order])
    return order, node[order]
