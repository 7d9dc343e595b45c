"""GGUF files that lie: each lie is told by name, and none makes the reader take more than the file's size warrants."""

from __future__ import annotations

import random
import struct
import time
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bimo.core.errors import ModelError
from bimo.models.interop.gguf import read_gguf
from bimo.models.interop.gguf.header import TYPES, opened

gguf = pytest.importorskip("gguf")

U8, U32, I32, F32, BOOL, TEXT, ARRAY, U64 = 0, 4, 5, 6, 7, 8, 9, 10
PACKED = {U8: "B", U32: "I", I32: "i", F32: "f", BOOL: "B", U64: "Q"}
Fact = tuple[str, int, Any]  # a name, a type, a value
Told = tuple[str, tuple[int, ...], int, int]  # a tensor's name, GGUF's shape, type, place


def text(value: str | bytes) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(raw)) + raw


def forged(
    facts: list[Fact] = [],  # noqa: B006 - read only
    tensors: list[Told] = [],  # noqa: B006
    data: int = 0,
    version: int = 3,
    counts: tuple[int, int] | None = None,
    magic: bytes = b"GGUF",
) -> bytes:
    """A file of such a header; a value of bytes is put in as it is."""
    found = magic + struct.pack("<IQQ", version, *(counts or (len(tensors), len(facts))))
    for name, kind, value in facts:
        packed = value if isinstance(value, bytes) else text(value) if kind == TEXT else struct.pack(f"<{PACKED[kind]}", value)
        found += text(name) + struct.pack("<I", kind) + packed
    for name, shape, kind, place in tensors:
        found += text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, place)
    return found + bytes(-len(found) % 32 + data)


def listed(kind: int, count: int, raw: bytes = b"") -> bytes:
    return struct.pack("<IQ", kind, count) + raw


SHAPE: dict[str, Any] = {"context_length": 8, "embedding_length": 4, "block_count": 1, "feed_forward_length": 6, "attention.head_count": 2}
SIZES = {"token_embd.weight": (4, 5), "output_norm.weight": (4,), "blk.0.attn_norm.weight": (4,), "blk.0.ffn_norm.weight": (4,),
         "blk.0.attn_q.weight": (4, 4), "blk.0.attn_k.weight": (4, 4), "blk.0.attn_v.weight": (4, 4), "blk.0.attn_output.weight": (4, 4),
         "blk.0.ffn_gate.weight": (4, 6), "blk.0.ffn_up.weight": (4, 6), "blk.0.ffn_down.weight": (6, 4)}  # fmt: skip


def llama(change: dict[str, Any] | None = None, sizes: dict[str, tuple[int, ...] | None] | None = None, kind: str = "llama") -> bytes:
    """A whole file of the smallest Llama (zeros), with facts (a value, a type and a value, or None: left out) and tensors changed."""
    shape = {f"{kind}.{key}": value for key, value in SHAPE.items()}
    told = {"general.architecture": kind, **shape, f"{kind}.attention.layer_norm_rms_epsilon": 1e-5, **(change or {})}
    facts: list[Fact] = []
    for name, value in told.items():
        if isinstance(value, tuple):
            facts.append((name, *value))
        elif value is not None:
            facts.append((name, {int: U32, float: F32, str: TEXT, bool: BOOL}[type(value)], value))
    place, tensors = 0, []
    for name, size in (SIZES | (sizes or {})).items():
        if size is not None:
            tensors.append((name, size, 0, place))
            place += -(-4 * int(np.prod(size)) // 32) * 32
    return forged(facts, tensors, data=place)


def told(path: Path, raw: bytes) -> str:
    """What the error says of such a file; it names the file."""
    path.write_bytes(raw)
    with pytest.raises(ModelError) as error:
        read_gguf(path)
    assert str(error.value).startswith(f"{path}: ")
    return str(error.value)


def test_the_whole_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(llama())
    found = read_gguf(tmp_path / "m.gguf")
    assert (found.config["vocab_size"], found.config["rms_norm_eps"], len(found.tensors)) == (5, 1e-5, len(SIZES))
    assert found.tensors["model.layers.0.mlp.down_proj.weight"].shape == (4, 6)
    (tmp_path / "m.gguf").write_bytes(
        llama({"general.x": (ARRAY, listed(U32, 2, struct.pack("<II", 7, 1 << 31)))}).replace(b"GGUF\x03", b"GGUF\x02")
    )
    assert read_gguf(tmp_path / "m.gguf").vocabulary == {"general.x": [7, 1 << 31]}


ONE = [("general.alignment", U32, 32)]
HEADERS: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "does not begin with GGUF"),
    "another format": (b"PK\x03\x04" + bytes(99), "does not begin with GGUF"),
    "nothing but the letters": (b"GGUF", "the version needs 4 bytes at byte 4, and 0 are left; is the file whole?"),
    "version 1": (forged(version=1), "version 1 of GGUF is not supported; versions 2 and 3 are"),
    "big-endian": (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "is big-endian"),
    "no end of facts": (forged(counts=(0, 1 << 60)), f"a header of 0 tensors and {1 << 60} facts needs"),
    "no end of tensors": (forged(counts=(1 << 60, 0)), f"a header of {1 << 60} tensors and 0 facts needs"),
    "a long name": (forged([("", TEXT, struct.pack("<Q", 1 << 62))])[:24] + struct.pack("<Q", 1 << 62) + bytes(99), "a fact's name needs"),
    "a long text": (forged([("a", TEXT, struct.pack("<Q", 1 << 62))], data=99), f"'a' needs {1 << 62} bytes"),
    "a long list of texts": (forged([("a", ARRAY, listed(TEXT, 1 << 40))], data=99), f"'a' (of {1 << 40} texts) needs"),
    "a long list of numbers": (forged([("a", ARRAY, listed(U64, 1 << 60))], data=99), f"'a' needs {1 << 63} bytes"),
    "a list of lists": (forged([("a", ARRAY, listed(ARRAY, 1))], data=99), "'a' is a list of lists, which is not supported"),
    "a list of what?": (forged([("a", ARRAY, listed(77, 1))], data=99), "'a' is a list of the unknown type 77"),
    "an unknown type": (forged([("a", 13, b"")], data=99), "'a' has the unknown type 13"),
    "half a truth": (forged([("a", BOOL, 2)]), "'a' is to be true (1) or false (0), found 2"),
    "half truths": (forged([("a", ARRAY, listed(BOOL, 3, b"\0\1\7"))]), "'a' is to be true (1) or false (0), found 7"),
    "twice told": (forged([("a", U8, 1), ("a", U8, 1)]), "'a' stands twice"),
    "a text that is no UTF-8": (forged([("a", TEXT, text(b"\xff"))]), "'a' is not UTF-8: b'\\xff'"),
    "a name that is no UTF-8": (forged([("x", U8, 1)]).replace(b"x", b"\xff"), "a fact's name is not UTF-8"),
    "a tensor's that is none": (forged([], [("x", (1,), 0, 0)], 32).replace(b"x", b"\xff"), "a tensor's name is not UTF-8"),
    "alignment 0": (forged([("general.alignment", U32, 0)]), "general.alignment must be a power of two up to 1048576, found 0"),
    "alignment 48": (forged([("general.alignment", U32, 48)]), "general.alignment must be a power of two"),
    "alignment 2 MiB": (forged([("general.alignment", U32, 1 << 21)]), "general.alignment must be a power of two"),
    "alignment true": (forged([("general.alignment", BOOL, 1)]), "general.alignment must be a power of two"),
    "a tensor twice": (forged(ONE, [("x", (1,), 0, 0), ("x", (1,), 0, 32)], 64), "tensor 'x' stands twice"),
    "no dimensions": (forged(ONE, [("x", (), 0, 0)], 32), "tensor 'x' has 0 dimensions"),
    "five dimensions": (forged(ONE, [("x", (1,) * 5, 0, 0)], 32), "tensor 'x' has 5 dimensions"),
    "no values": (forged(ONE, [("x", (4, 0), 0, 0)], 32), "tensor 'x' has the shape [0, 4], which no tensor can have"),
    "more than int64 counts": (forged(ONE, [("x", (1 << 32, 1 << 32), 0, 0)], 32), "which no tensor can have"),
    "a type that is not read": (forged(ONE, [("x", (256,), 13, 0)], 999), "is of type Q5_K, which is not supported; give one of F32, F16"),
    "a type that is none": (forged(ONE, [("x", (256,), 999, 0)], 999), "is of type 999"),
    "half a block": (forged(ONE, [("x", (48, 2), 8, 0)], 999), "has rows of 48 values, no multiple of the 32 of a block of Q8_0"),
    "a crooked place": (forged(ONE, [("x", (1,), 0, 8)], 99), "tensor 'x' lies at byte 8 of the data, no multiple of the alignment 32"),
    "a place beyond the file": (forged(ONE, [("x", (1,), 0, 1 << 62)], 99), "tensor 'x' of shape [1] ends at byte"),
    "larger than the file": (forged(ONE, [("x", (1 << 40,), 0, 0)], 99), "is the file whole?"),
    "one over another": (forged(ONE, [("x", (9,), 0, 0), ("y", (9,), 0, 32)], 99), "tensors 'x' and 'y' overlap"),
    "a name with line ends": (forged(ONE, [("x\n\033[31m", (), 0, 0)], 32), r"tensor 'x\n\x1b[31m' has 0 dimensions"),
}  # fmt: skip


@pytest.mark.parametrize("name", HEADERS)
def test_headers_that_lie_are_told(name: str, tmp_path: Path) -> None:
    raw, word = HEADERS[name]
    assert word in told(tmp_path / "m.gguf", raw)


def test_files_that_are_cut_anywhere_are_told(tmp_path: Path) -> None:
    whole = llama()
    for length in range(len(whole) - 32):
        assert "left" in (said := told(tmp_path / "m.gguf", whole[:length])) or "whole?" in said or "begin with GGUF" in said


def test_files_that_are_none_are_told(tmp_path: Path) -> None:
    for path, word in ((tmp_path / "none.gguf", "no such file"), (tmp_path, "cannot be read")):
        with pytest.raises(ModelError, match=word):
            read_gguf(path)


def floats(*values: float) -> tuple[int, bytes]:
    return ARRAY, listed(F32, len(values), struct.pack(f"<{len(values)}f", *values))


MODELS: dict[str, tuple[bytes, str]] = {
    "no architecture": (llama({"general.architecture": None}), "general.architecture is None, which is not supported; llama, qwen2"),
    "another architecture": (llama(kind="mamba"), "general.architecture is 'mamba'"),
    "an architecture that is a list": (llama({"general.architecture": floats(1, 2)}), "general.architecture is array"),
    "a part": (llama({"split.count": 3}), "is one of 3 parts of a model"),
    "no embedding": (llama(sizes={"token_embd.weight": None}), "has no tensor token_embd.weight"),
    "more tokens than rows": (llama({"tokenizer.ggml.tokens": (ARRAY, listed(TEXT, 6, bytes(48)))}), "has 6 tokens, token_embd.weight 5"),
    "an id that is text": (llama({"tokenizer.ggml.bos_token_id": "a"}), "bos_token_id must be a whole number, found 'a'"),
    "suppressed, beyond": (llama({"tokenizer.ggml.suppress_tokens": (ARRAY, listed(I32, 1, b"\5\0\0\0"))}), "must be ids below 5"),
    "suppressed, broken": (llama({"tokenizer.ggml.suppress_tokens": floats(1)}), "must be ids below 5"),
    "a length that is missing": (llama({"llama.context_length": None}), "must be a whole number of 1 to 16777216, found None"),
    "a length that is 0": (llama({"llama.attention.head_count": 0}), "llama.attention.head_count must be a whole number of 1"),
    "a length that is none": (llama({"llama.embedding_length": 4.0}), "llama.embedding_length must be a whole number"),
    "a length for each layer": (llama({"llama.feed_forward_length": floats(6)}), "llama.feed_forward_length must be a whole number"),
    "a context that is too long": (llama({"llama.context_length": 1 << 25}), "llama.context_length must be a whole number of 1 to"),
    "more layers than tensors": (llama({"llama.block_count": 12}), "llama.block_count must be a whole number of 1 to 11, found 12"),
    "no epsilon": (llama({"llama.attention.layer_norm_rms_epsilon": None}), "layer_norm_rms_epsilon must be a number above 0"),
    "an epsilon that is NaN": (llama({"llama.attention.layer_norm_rms_epsilon": float("nan")}), "must be a number above 0, found nan"),
    "an epsilon that is true": (llama({"llama.attention.layer_norm_rms_epsilon": True}), "must be a number above 0, found True"),
    "heads that do not fit": (llama({"llama.attention.head_count": 3}), "llama.attention.key_length must be told"),
    "values of other widths": (llama({"llama.attention.value_length": 4}), "llama.attention.value_length must be 2, found 4"),
    "half a head turned": (llama({"llama.rope.dimension_count": 1}), "llama.rope.dimension_count must be 2, found 1"),
    "an unknown scaling": (llama({"llama.rope.scaling.type": "longrope"}), "rope.scaling.type must be 'linear' or 'none' or 'yarn'"),
    "a scaling by lists": (llama({"llama.rope.scaling.factor": floats(1, 2)}), "rope.scaling.factor must be a number above 0"),
    "more of yarn": (llama({"llama.rope.scaling.yarn_log_multiplier": 1.0}), "rope.scaling.yarn_log_multiplier is not supported"),
    "a factor of attention": (llama({"llama.rope.scaling.attn_factor": 2.0}), "rope.scaling.attn_factor must be 1.0, found 2.0"),
    "no whole model": (llama({"general.type": "adapter"}), "general.type is 'adapter'; it must be 'model'"),
    "experts": (llama({"llama.expert_count": 8}), "llama.expert_count is not supported; it would change what the model says"),
    "a window for each layer": (llama({"llama.attention.sliding_window": floats(0)}), "attention.sliding_window is not supported"),
    "not causal": (llama({"llama.attention.causal": False}), "llama.attention.causal must be True, found False"),
    "turned by factors": (llama(sizes={"rope_freqs.weight": (1,)}), "rope_freqs.weight changes the rotary angles"),
    "a tensor that is missing": (llama(sizes={"blk.0.ffn_up.weight": None}), "tensor blk.0.ffn_up.weight is missing"),
    "a tensor too many": (llama(sizes={"blk.0.ffn_gate_inp.weight": (4,)}), "unknown tensors 'blk.0.ffn_gate_inp.weight'"),
    "half the biases": (llama(sizes={"blk.0.attn_q.bias": (4,)}), "tensor blk.0.attn_k.bias is missing"),
    "a tensor too deep": (llama(sizes={"blk.0.ffn_up.weight": (4, 3, 2)}), "tensor blk.0.ffn_up.weight has the shape [2, 3, 4]"),
    "rows of half a head": (llama(sizes={"blk.0.attn_q.weight": (4, 6)}), "blk.0.attn_q.weight has 6 rows, no multiple of 2 × 2 heads"),
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_models_that_are_not_supported_are_told(name: str, tmp_path: Path) -> None:
    raw, word = MODELS[name]
    assert word in told(tmp_path / "m.gguf", raw)


def test_what_says_nothing_is_passed_over(tmp_path: Path) -> None:
    facts = {
        "llama.expert_count": 0,
        "llama.rope.scaling.factor": 0.0,
        "llama.vocab_size": 5,
        "split.count": 1,
        "llama.rope.scale_linear": 2.0,
        "llama.rope.scaling.attn_factor": 1.0,
        "general.type": "model",
    }
    (tmp_path / "m.gguf").write_bytes(llama(facts))
    assert read_gguf(tmp_path / "m.gguf").config["rope_parameters"] == {"rope_type": "linear", "rope_theta": 10000.0, "factor": 2.0}
    raw = llama({"llama.rope.scaling.type": "none", "llama.rope.scaling.factor": 2.0}, {"rope_freqs.weight": (1,)})
    (tmp_path / "m.gguf").write_bytes(raw[:-32] + struct.pack("<f", 1.0) + bytes(28))  # the last tensor: a factor of 1
    assert read_gguf(tmp_path / "m.gguf").config["rope_parameters"]["rope_type"] == "default"


# -- how much, how long -------------------------------------------------------------------------------------------------


def measured(path: Path, whole: bool = True) -> tuple[int, str]:
    """The most bytes that Python and numpy held while the file (its header alone, if not `whole`) was read, and the error, if any."""
    said = ""
    tracemalloc.start()
    try:
        if whole:
            read_gguf(path)
        else:
            with opened(path):
                pass
    except ModelError as error:
        said = str(error)
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return peak, said


def test_a_header_takes_at_most_32_bytes_a_byte(tmp_path: Path) -> None:
    """The shortest facts, texts, tensors and numbers, each kind many times."""
    many = 22_000  # dictionaries have just grown then
    cases = {
        "facts": forged([(f"{i:x}", U8, 1) for i in range(many)]),
        "dense texts": forged([("a", ARRAY, listed(TEXT, many, b"".join(text(chr(0x4E00 + i)) for i in range(many))))]),
        "numbers": llama({"general.x": (ARRAY, listed(3, many, b"\x55\x77" * many))}),
        "tensors": forged([], [(f"{i:x}", (8,), 0, 32 * i) for i in range(many)], 32 * many),
    }
    for name, raw in cases.items():
        (tmp_path / "m.gguf").write_bytes(raw)
        size = len(raw) - (32 * many if name == "tensors" else 0)
        peak, said = measured(tmp_path / "m.gguf", whole=name == "numbers")
        assert (said, 0 < peak < 32 * size) == ("", True), name


def test_spoiled_files_are_told_in_little_time_and_memory(tmp_path: Path) -> None:
    """400 spoiled copies: bits turned, ends cut, lengths made huge. Each is read, or is a ModelError that names the file."""
    tokens = [f"词{i}" for i in range(5)]
    facts = {"tokenizer.ggml.tokens": (ARRAY, listed(TEXT, 5, b"".join(map(text, tokens)))), "tokenizer.ggml.scores": floats(*range(5)),
             "tokenizer.ggml.bos_token_id": 1, "general.alignment": 32, "tokenizer.ggml.add_bos_token": True}  # fmt: skip
    whole, chance, path = llama(facts), random.Random(1), tmp_path / "m.gguf"
    header = len(whole) - 4 * 200  # most of what can be spoiled
    path.write_bytes(whole)
    read_gguf(path)  # what is imported on the way is not counted
    told = 0
    for turn in range(400):
        raw = bytearray(whole)
        if turn % 4 == 0:
            raw = raw[: chance.randrange(len(raw))]
        elif turn % 4 == 1:
            huge = chance.choice([1 << 63, (1 << 64) - 1, 1 << 40, 1 << 31, len(whole), len(whole) // 8, 1 << 20])
            place = chance.randrange(header)
            raw[place : place + 8] = struct.pack("<Q", huge)
        else:
            for _ in range(chance.choice([1, 1, 3, 20])):
                raw[chance.randrange(header)] ^= 1 << chance.randrange(8)
        path.write_bytes(raw)
        start = time.process_time()
        peak, said = measured(path)
        assert time.process_time() - start < 1.0
        assert peak < 32 * len(whole)
        assert not said or said.startswith(f"{path}: ")
        told += bool(said)
    assert 300 < told < 400


def test_every_type_is_known_to_the_library() -> None:
    assert all(gguf.GGMLQuantizationType[name] in gguf.GGML_QUANT_SIZES for name in TYPES)
