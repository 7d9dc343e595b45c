"""Text as it is written: whole characters, and nothing that may still turn out to be a stop string."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol, Self


class TokenDecoder(Protocol):
    """What `Tokenizer.stream_decoder()` gives: ids in, whole characters out."""

    def push(self, id: int, /) -> str:
        """Characters that are complete with this id."""
        ...

    def flush(self) -> str:
        """What was held back, at the end."""
        ...

    def copy(self) -> Self:
        """One that goes on from the same place, apart from this one."""
        ...


DecoderFactory = Callable[[Sequence[int]], TokenDecoder]  # of the ids that stand before (a prompt)


class TextStream:
    """Ids of one row become text; `stopped` is set when a stop string was written, which is left out.

    `push` and `finish` return what may be shown; `text` is everything shown so far.
    """

    def __init__(self, decoder: TokenDecoder, stop: Sequence[str] = ()) -> None:
        self._decoder, self._stop = decoder, stop
        self._waiting = ""  # could still become a stop string
        self.stopped = False
        self.text = ""

    def push(self, token: int) -> str:
        """Text that can be shown after this id."""
        return self._release(self._decoder.push(token))

    def after(self, token: int) -> TextStream:
        """A stream that has this id too; this one stays where it is."""
        further = copy.copy(self)
        further._decoder = self._decoder.copy()
        further.push(token)
        return further

    def finish(self) -> str:
        """Text that was still held back."""
        shown = self._release(self._decoder.flush())
        rest, self._waiting = self._waiting, ""
        self.text += rest
        return shown + rest

    def _release(self, text: str) -> str:
        if self.stopped:
            return ""
        text = self._waiting + text
        found = [(at + len(stop), at) for stop in self._stop if (at := text.find(stop)) >= 0]
        if found:
            self.stopped, self._waiting = True, ""
            shown = text[: min(found)[1]]
        else:
            keep = max((_overlap(text, stop) for stop in self._stop), default=0)
            shown, self._waiting = text[: len(text) - keep], text[len(text) - keep :]
        self.text += shown
        return shown


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` with which `stop` begins."""
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:n])), 0)


def written(ids: Iterable[int], decoder: TokenDecoder, stop: Sequence[str] = ()) -> TextStream:
    """The finished stream of `ids`."""
    stream = TextStream(decoder, stop)
    for token in ids:
        stream.push(token)
    stream.finish()
    return stream
