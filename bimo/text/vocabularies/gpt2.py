"""GPT-2's two files: a vocabulary (`vocab.json`, `encoder.json`) and its merges (`merges.txt`, `vocab.bpe`); each may be a `.gz`."""

from __future__ import annotations

import json
from typing import Any

from bimo.core.errors import ModelError
from bimo.text.vocabularies.bytelevel import PARTINGS, byte_level_hub


def gpt2(vocab: str, merges: str, where: str) -> tuple[Any, dict[str, Any]]:
    """(tokenizer, settings) of what the two files hold, where no class is named: texts are parted as GPT-2's are.

    >>> hub, _ = gpt2('{"a": 0, "b": 1, "ab": 2}', "#version: 0.2\\na b\\n", "x")
    >>> hub.encode("aba").ids
    [2, 0]
    """
    ids, pairs = read_gpt2(vocab, merges, where)
    hub = byte_level_hub(ids, pairs, PARTINGS["gpt-2"], where)
    end = "<|endoftext|>"
    if end not in ids:
        return hub, {}
    hub.add_special_tokens([end])
    return hub, dict.fromkeys(("bos_token", "eos_token", "unk_token"), end)


def read_gpt2(vocab: str, merges: str, where: str) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Ids by token, and the merges."""
    try:
        ids = json.loads(vocab)
    except (ValueError, RecursionError) as cause:
        raise ModelError(f"{where}: the vocabulary is not valid JSON ({cause})") from None
    if not isinstance(ids, dict) or not ids or not all(isinstance(i, int) and 0 <= i < 2**31 for i in ids.values()):
        raise ModelError(f"{where}: the vocabulary must be a mapping from tokens to ids")
    if len(set(ids.values())) < len(ids):
        raise ModelError(f"{where}: two tokens of the vocabulary have the same id; the file is damaged")
    lines = merges.split("\n")
    if lines and lines[0].startswith("#version"):
        lines[0] = ""
    pairs = []
    for number, line in enumerate(lines, 1):
        parts = line.rstrip("\r").split(" ")
        if len(parts) == 2 and all(parts):
            pairs.append((parts[0], parts[1]))
        elif parts != [""]:
            raise ModelError(f"{where}: line {number} of the merges is {line[:80]!r}; expected two tokens parted by a space")
    return ids, pairs
