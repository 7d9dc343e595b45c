"""tiktoken's files: a token in base64 and its rank a line; also Llama 3's `tokenizer.model`. How texts are parted is not in them."""

from __future__ import annotations

import base64
import binascii
from typing import Any

from bimo.core.errors import ModelError, UserError
from bimo.text.vocabularies.added import added_by_id, written
from bimo.text.vocabularies.bytelevel import TIKTOKEN, byte_level_hub, to_alphabet

_END = "<|endoftext|>"
_LLAMA3 = (
    *("<|begin_of_text|>", "<|end_of_text|>", *(f"<|reserved_special_token_{i}|>" for i in range(4))),
    *("<|start_header_id|>", "<|end_header_id|>", "<|reserved_special_token_4|>", "<|eot_id|>"),
    *(f"<|reserved_special_token_{i}|>" for i in range(5, 251)),
)
# Special tokens that the models have beside the ranks, and the names that they go by (tiktoken, Llama 3, Qwen), by the number of ranks.
_SPECIAL: dict[int, tuple[str, dict[int, str], dict[str, str]]] = {
    50256: ("gpt2", {50256: _END}, {"bos_token": _END, "eos_token": _END}),
    50280: ("gpt2", {50256: _END}, {"eos_token": _END}),
    100256: (
        "cl100k",
        {100257: _END, 100258: "<|fim_prefix|>", 100259: "<|fim_middle|>", 100260: "<|fim_suffix|>", 100276: "<|endofprompt|>"},
        {"eos_token": _END},
    ),
    128000: ("llama3", dict(enumerate(_LLAMA3, 128000)), {"bos_token": "<|begin_of_text|>", "eos_token": "<|end_of_text|>"}),
    151643: ("qwen", {151643: _END, 151644: "<|im_start|>", 151645: "<|im_end|>"}, {"eos_token": _END, "pad_token": _END}),
    199998: ("o200k", {199999: _END, 200018: "<|endofprompt|>"}, {"eos_token": _END}),
}
_LONGEST = 512  # bytes of a token, whose pairs are looked for
_MOST_WORK = 100_000_000  # squares of all tokens' bytes together; of those that are known the largest has some 20 million


def is_tiktoken(data: bytes) -> bool:
    """Whether bytes are a file of tiktoken's form, by its first line.

    >>> is_tiktoken(b"IQ== 0\\nIg== 1\\n"), is_tiktoken(b"\\x0a\\x0e\\x0a\\x05<unk>")
    (True, False)
    """
    line = data[: 2 * _LONGEST].split(b"\n", 1)[0].split()
    try:
        return len(line) == 2 and line[1].isdigit() and bool(base64.b64decode(line[0], validate=True))
    except binascii.Error:
        return False


def tiktoken(data: bytes, pattern: str | None, settings: dict[str, Any], where: str) -> tuple[Any, dict[str, Any]]:
    """(tokenizer, settings) of a file's bytes; pattern: how texts are parted (gpt2, cl100k, llama3, qwen, o200k), None: as the number
    of ranks tells, where it is that of a model that is known."""
    ranks = _ranks(data, where)
    usual, special, names = _SPECIAL.get(len(ranks), (None, {}, {}))
    pattern = pattern or usual
    if pattern is None:
        raise UserError(
            f"{where}: {len(ranks):,} ranks, by which no model is known, and the file does not say how texts are parted; "
            f"give pattern, one of {', '.join(TIKTOKEN)}"
        )
    if pattern not in TIKTOKEN:
        raise UserError(f"pattern: {pattern!r} is not known; it is one of {', '.join(TIKTOKEN)}")
    ids = {to_alphabet(token): rank for token, rank in ranks.items()}
    if "added_tokens_decoder" in settings or pattern != usual:
        special, names = {}, {}
    taken = set(ids.values())
    beside = special or {i: written(token) or "" for i, token in added_by_id(settings, where).items()}
    ids |= {token: i for i, token in beside.items() if i not in taken and token not in ids}  # there may be gaps between them
    hub = byte_level_hub(ids, _merges(ranks), TIKTOKEN[pattern], where)
    hub.add_special_tokens(list(special.values()))
    return hub, dict(names)


def _ranks(data: bytes, where: str) -> dict[bytes, int]:
    ranks: dict[bytes, int] = {}
    seen: set[int] = set()
    for number, line in enumerate(data.split(b"\n"), 1):
        parts = line.split()
        if not parts:
            continue
        try:
            token, rank = base64.b64decode(parts[0], validate=True), int(parts[1])
            right = len(parts) == 2 and 0 < len(token) <= _LONGEST and 0 <= rank < 2**31
        except (binascii.Error, ValueError, IndexError):
            token, rank, right = b"", 0, False
        if not right:
            raise ModelError(f"{where}: line {number} is {line[:60]!r}; expected a token in base64 and its rank")
        if token in ranks or rank in seen:
            raise ModelError(f"{where}: line {number}: the token {token!r} or its rank {rank} stands there twice; the file is damaged")
        ranks[token] = rank
        seen.add(rank)
    if not ranks:
        raise ModelError(f"{where}: no token in it; expected lines of a token in base64 and its rank")
    if sum(len(token) ** 2 for token in ranks) > _MOST_WORK:
        raise ModelError(f"{where}: its {len(ranks):,} tokens are longer than any vocabulary's, and would take hours to open")
    return ranks


def _merges(ranks: dict[bytes, int]) -> list[tuple[str, str]]:
    """The pair that makes each token: what BPE comes to with the ranks below its own. A token that no pair makes is met whole only."""
    merges = []
    for token, rank in sorted(ranks.items(), key=lambda item: item[1]):
        if len(token) > 1 and (pair := _pair(token, rank, ranks)) is not None:
            merges.append((to_alphabet(pair[0]), to_alphabet(pair[1])))
    return merges


def _pair(token: bytes, limit: int, ranks: dict[bytes, int]) -> tuple[bytes, bytes] | None:
    parts = [token[i : i + 1] for i in range(len(token))]
    while len(parts) > 2:
        best, at = limit, -1
        for i in range(len(parts) - 1):
            rank = ranks.get(parts[i] + parts[i + 1], limit)
            if rank < best:
                best, at = rank, i
        if at < 0:
            return None
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    return (parts[0], parts[1]) if parts[0] in ranks and parts[1] in ranks else None
