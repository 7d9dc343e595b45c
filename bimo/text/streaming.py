"""Text that appears id by id, in whole characters only."""

from __future__ import annotations

import codecs
import copy
from collections.abc import Collection, Sequence

from bimo.text.runners import BpeRunner, ByteRunner, CharRunner, HubRunner, Runner


def cut_character(runner: Runner, ids: Sequence[int]) -> int:
    """How many U+FFFD at the end of the text of `ids` stand for the first bytes of a character that was cut; 0 where it is whole.

    >>> from bimo.text.tokenizer import Tokenizer
    >>> t = Tokenizer.train("byte", ["x"])
    >>> [cut_character(t._runner, t.encode("a中")[:n]) for n in (1, 2, 3, 4)]
    [0, 1, 1, 0]
    """
    if not isinstance(runner, ByteRunner | BpeRunner | HubRunner):
        return 0
    data: list[bytes] = []  # of the last ids, which hold all bytes of the last character
    for token in reversed(ids[-4:]):
        piece = runner.token_bytes(int(token))
        if piece is None:
            break
        data.insert(0, piece)
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    decoder.decode(b"".join(data))
    begun = len(decoder.getstate()[0])
    return begun if isinstance(runner, HubRunner) and not runner.byte_level else min(begun, 1)  # a fallback's bytes are replaced one by one


class StreamDecoder:
    """Turns ids into text as they come; a character whose bytes are not complete yet is held back, and dropped if it never is.

    >>> from bimo.text.tokenizer import Tokenizer
    >>> t = Tokenizer.train("byte", ["x"])
    >>> d = t.stream_decoder()
    >>> [d.push(i) for i in t.encode("中a")], d.flush()
    (['', '', '中', 'a'], '')
    """

    def __init__(self, runner: Runner, left_out: Collection[int], newline: int | None, after: Sequence[int] = ()) -> None:
        self._runner, self._left_out, self._newline = runner, left_out, newline
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        # Kinds whose ids are not bytes or characters: text is certain up to the last whole character.
        self._before = [i for i in after[-1:] if i not in left_out]  # the ids of the piece of text that was given last
        self._ids: list[int] = []  # ids since then

    def push(self, token: int) -> str:
        """The text that this id completes ("" while a character is incomplete)."""
        token = int(token)
        if token in self._left_out:
            return self.flush() + "\n" if token == self._newline else ""
        if isinstance(self._runner, ByteRunner | BpeRunner):
            return self._utf8.decode(self._runner.token_bytes(token))
        if isinstance(self._runner, CharRunner):
            return self._runner.pieces([token])
        return self._push_by_difference(token)

    def _push_by_difference(self, token: int) -> str:
        self._ids.append(token)
        text = self._new_text()
        if text.endswith("\ufffd"):
            return ""
        self._before, self._ids = self._ids, []
        return text

    def _new_text(self) -> str:
        # What an id looks like can depend on what stands before it (a space), never on more.
        known = len(self._runner.pieces(self._before)) if self._before else 0
        return self._runner.pieces(self._before + self._ids)[known:]

    def copy(self) -> StreamDecoder:
        """A decoder that goes on from the same place, apart from this one."""
        twin = copy.copy(self)
        twin._utf8, twin._ids = copy.copy(self._utf8), list(self._ids)
        return twin

    @property
    def is_whole(self) -> bool:
        """Whether all characters that have begun are complete, and given."""
        return not self._ids and not self._utf8.getstate()[0]

    def flush(self) -> str:
        """What was held back, without the bytes of an incomplete character; the decoder is as new."""
        rest = self._new_text() if self._ids else ""
        if cut := cut_character(self._runner, self._ids) if rest.endswith("\ufffd") else 0:
            rest = rest[:-cut]
        self._utf8.reset()
        self._before, self._ids = [], []
        return rest
