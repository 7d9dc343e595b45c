"""Byte-level BPE as other programs have it: what makes their ids differ is how a text is parted first.

The patterns are facts of the models' own `tokenizer.json` files and of tiktoken, by the names that GGUF gives them (llama.cpp,
`llama-vocab.cpp`); where the two spell a pattern differently, the spelling here is that of `tokenizer.json`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bimo.core.errors import ModelError
from bimo.text.runners import GPT2_PATTERN, byte_alphabet

_ENDINGS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_LETTERS = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_REST_SLASH = _REST.replace(r"[\r\n]*", r"[\r\n/]*", 1)
_CASED = (rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+", rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*")
_DIGIT, _GPT2 = r"\p{N}", GPT2_PATTERN
_THREES = rf"{_ENDINGS}|{_LETTERS}|\p{{N}}{{1,3}}|{_REST}"
_ONES = rf"{_ENDINGS}|{_LETTERS}|\p{{N}}|{_REST}"
_O200K = "|".join((*(f"{cased}{_ENDINGS}?" for cased in _CASED), r"\p{N}{1,3}", _REST_SLASH))
_TEKKEN = "|".join((*_CASED, r"\p{N}", _REST_SLASH))
_CLAUSES = r" ?[^(\s|.,!?…。，、।۔،)]+"
_CJK = "[一-龥぀-ゟ゠-ヿ]+"
_DEEPSEEK = (
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"""
    r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@dataclass(frozen=True)
class Parting:
    """How a text is parted before BPE: patterns, each applied to what the ones before left; whole: a part that is itself a token
    is that token, whatever the merges say; bos: a text begins with <s> unless told otherwise; normal: normalisation, if any."""

    patterns: tuple[str, ...]
    whole: bool = False
    bos: bool = False
    normal: str | None = None


PARTINGS: dict[str, Parting] = {
    "gpt-2": Parting((_GPT2,)),
    "smollm": Parting((_DIGIT, _GPT2)),
    "qwen2": Parting((_ONES,), normal="NFC"),
    "deepseek-r1-qwen": Parting((_ONES,)),
    "llama-bpe": Parting((_THREES,), whole=True, bos=True),
    "dbrx": Parting((_THREES,)),
    "gpt-4o": Parting((_O200K,)),
    "tekken": Parting((_TEKKEN,), whole=True, bos=True),
    "deepseek-v3": Parting((r"\p{N}{1,3}", _CJK, _DEEPSEEK)),
    "deepseek-coder": Parting((r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-퟿]+", _DIGIT)),
    "falcon": Parting((r"[\p{P}\$\+<=>\^~\|`]+", _GPT2, "[0-9][0-9][0-9]")),
    "bloom": Parting((_CLAUSES,)),
    "viking": Parting((_CLAUSES, _DIGIT)),
    "default": Parting((r"[\p{P}\$\+<=>\^~\|]+", _GPT2, r"\p{N}+", "[0-9][0-9][0-9]")),
}
_SAME = {
    "gpt-2": "phi-2 jina-es jina-de jina-v1-en jina-v2-es jina-v2-de jina-v2-code roberta-bpe gigachat a.x-4.0 mellum mpt olmo jais "
    "trillion granite-docling exaone4 modern-bert",
    "smollm": "starcoder refact command-r codeshell exaone minerva-7b mellum2",
    "deepseek-r1-qwen": "stablelm2 megrez f2llmv2 hunyuan kormo grok-2",
    "llama-bpe": "llama3 llama-v3 falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano",
    "dbrx": "smaug-bpe glm4 chatglm-bpe",
    "gpt-4o": "llama4 minimax-m2 kanana2 talkie",
    "deepseek-v3": "hunyuan-dense",
    "bloom": "poro-chat gpt3-finnish",
}
PARTINGS |= {name: PARTINGS[known] for known, names in _SAME.items() for name in names.split()}
TIKTOKEN: dict[str, Parting] = {  # by the names of tiktoken's encodings and of the models that use its form
    "gpt2": Parting((_GPT2,), whole=True),
    "cl100k": Parting((_THREES,), whole=True),
    "llama3": Parting((_THREES,), whole=True, bos=True),
    "qwen": Parting((_ONES,), whole=True, normal="NFC"),
    "o200k": Parting((_O200K,), whole=True),
}


def byte_level_hub(vocab: Mapping[str, int], merges: Sequence[tuple[str, str]], parting: Parting, where: str) -> Any:
    """A `tokenizers.Tokenizer` of byte-level BPE; pairs must be made of known tokens and make known ones.

    >>> hub = byte_level_hub({"a": 0, "b": 1, "ab": 2}, [("a", "b")], PARTINGS["gpt-2"], "x")
    >>> hub.encode("abba").tokens
    ['ab', 'b', 'a']
    """
    from tokenizers import Tokenizer, decoders, models, normalizers

    check_merges(vocab, merges, where)
    hub = Tokenizer(models.BPE(dict(vocab), list(merges), ignore_merges=parting.whole))
    if parting.normal:
        hub.normalizer = getattr(normalizers, parting.normal)()
    hub.pre_tokenizer = pre_tokenizer(parting.patterns)
    hub.decoder = decoders.ByteLevel()
    return hub


def check_merges(vocab: Mapping[str, int], merges: Sequence[tuple[str, str]], where: str) -> None:
    """Raise `ModelError` for the first pair that is not made of known tokens, or makes no known one."""
    for number, (left, right) in enumerate(merges):
        unknown = next((part for part in (left, right, left + right) if part not in vocab), None)
        if unknown is not None:
            raise ModelError(f"{where}: merge {number} ({left} {right}) needs the token {unknown!r}, which the vocabulary lacks")


def pre_tokenizer(patterns: Sequence[str]) -> Any:
    """What parts a text by `patterns`, then writes its bytes in the byte-level alphabet."""
    from tokenizers import Regex, pre_tokenizers

    steps: list[Any] = []
    for pattern in patterns[:-1] if patterns[-1] == _GPT2 else patterns:
        steps.append(pre_tokenizers.Digits(True) if pattern == _DIGIT else pre_tokenizers.Split(Regex(pattern), "isolated"))
    last = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=patterns[-1] == _GPT2)
    return pre_tokenizers.Sequence([*steps, last]) if steps else last


def parting_of(hub: Any) -> Parting | None:
    """How a byte-level BPE tokenizer parts texts, or None where it does so in a way that has no name here.

    >>> parting_of(byte_level_hub({"a": 0}, [], PARTINGS["qwen2"], "x")) == PARTINGS["qwen2"]
    True
    """
    told = json.loads(hub.to_str())
    step = told["pre_tokenizer"] or {}
    steps = step["pretokenizers"] if step.get("type") == "Sequence" else [step]
    if steps[-1].get("type") != "ByteLevel" or steps[-1]["add_prefix_space"]:
        return None
    patterns = []
    for step in steps[:-1]:
        if step["type"] == "Digits" and step["individual_digits"]:
            patterns.append(_DIGIT)
        elif step["type"] == "Split" and step["behavior"] == "Isolated" and not step["invert"] and "Regex" in step["pattern"]:
            patterns.append(step["pattern"]["Regex"])
        else:
            return None
    patterns += [_GPT2] if steps[-1]["use_regex"] else []
    normalizer = told["normalizer"]
    if normalizer is not None and normalizer != {"type": "Sequence", "normalizers": []} and normalizer.get("type") != "NFC":
        return None
    normal = "NFC" if normalizer is not None and normalizer.get("type") == "NFC" else None
    model = told["model"]
    made = {"".join(pair) if isinstance(pair, list) else pair.replace(" ", "", 1) for pair in model["merges"]}
    made |= {token["content"] for token in told["added_tokens"]}
    merged = all(len(token) == 1 or token in made for token in model["vocab"])  # then a token that is met whole is merged as well
    wholes = (model["ignore_merges"], False) if merged else (model["ignore_merges"],)
    found = [(tuple(patterns), whole, normal) for whole in wholes]
    return next((p for key in found for p in PARTINGS.values() if (p.patterns, p.whole, p.normal) == key), None)


def to_alphabet(data: bytes) -> str:
    """Bytes in the byte-level alphabet.

    >>> to_alphabet(b" a")
    'Ġa'
    """
    return "".join(map(_ALPHABET.__getitem__, data))


_ALPHABET = byte_alphabet()
