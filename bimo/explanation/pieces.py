"""Tokens as text: pieces that join to the text in whole characters, and how each token is shown alone."""

from __future__ import annotations

import re
from collections.abc import Sequence

from bimo.models.bundle import Bundle

_JOINED = ("word", "wordpiece")  # kinds of tokenizer whose words hold no spaces
_HALVES = re.compile("[\udc80-\udcff]+")


class Pieces:
    """What the ids of a text look like. A character whose bytes are several tokens belongs to the last of them.

    >>> from bimo.text.tokenizer import Tokenizer
    >>> pieces = Pieces(Bundle(None, Tokenizer.train("byte", ["x"])))
    >>> pieces.of([0, *pieces.tokenizer.encode("a中"), 1])
    (['', 'a', '', '', '中', ''], ['<s>', 'a', '⟨E4⟩', '⟨B8⟩', '中', '</s>'])
    """

    def __init__(self, bundle: Bundle) -> None:
        self.bundle, self.tokenizer = bundle, bundle.tokenizer
        v = self.tokenizer.vocabulary
        self._names = {id: name for id, name in ((v.pad, "<pad>"), (v.bos, "<s>"), (v.eos, "</s>")) if id is not None}

    def of(self, ids: Sequence[int]) -> tuple[list[str], list[str]]:
        """Of each id of a text its characters, which join to the text, and how it is shown alone."""
        decoder = self.bundle.decoder([])
        texts = [decoder.push(id) for id in ids]
        last = next((i for i in range(len(ids) - 1, -1, -1) if ids[i] not in self._names), None)
        rest = decoder.flush()
        if last is not None:
            texts[last] += rest
        return texts, [self._names.get(id) or self._alone(text) or self._spelled(id) for id, text in zip(ids, texts, strict=True)]

    def special(self, id: int) -> bool:
        """Whether an id stands for a beginning or an end, not for text."""
        return id in self._names

    def after(self, before: Sequence[int], id: int) -> str:
        """How an id is shown alone that might follow these."""
        if id in self._names or id >= self.tokenizer.vocabulary.size:
            return self._spelled(id)
        data = self.tokenizer.token_bytes(id)
        return spelled(data) if data is not None else self._alone(self.bundle.decoder(before).push(id)) or self._spelled(id)

    def told(self, ids: Sequence[int]) -> str:
        """How ids are shown together: a context, say."""
        data = [self._names[id].encode() if id in self._names else self.tokenizer.token_bytes(id) for id in ids]
        if all(part is not None for part in data):
            return spelled(b"".join(part or b"" for part in data))
        texts, alone = self.of(ids)
        return "".join(name if id in self._names else text for id, text, name in zip(ids, texts, alone, strict=True))

    def _alone(self, text: str) -> str:
        """Without the space that only joins words."""
        return (text.strip() or text) if self.tokenizer.kind in _JOINED else text

    def _spelled(self, id: int) -> str:
        if id in self._names:
            return self._names[id]
        data = self.tokenizer.token_bytes(id) if id < self.tokenizer.vocabulary.size else None
        return f"⟨{id}⟩" if data is None else spelled(data)


def spelled(data: bytes) -> str:
    """UTF-8 as text; bytes that are no whole character are written in hexadecimal.

    >>> spelled("中".encode()), spelled("中".encode()[:2] + b"a")
    ('中', '⟨E4 B8⟩a')
    """
    text = data.decode("utf-8", errors="surrogateescape")
    return _HALVES.sub(lambda found: "⟨" + " ".join(f"{ord(half) - 0xDC00:02X}" for half in found[0]) + "⟩", text)
