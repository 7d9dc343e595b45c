"""Other programs' vocabularies: their ids on real texts, and what is said of damaged ones."""

from __future__ import annotations

import base64
import contextlib
import gzip
import json
import shutil
import struct
import time
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import regex
import tokenizers
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bimo.core.errors import BimoWarning, ModelError, UserError
from bimo.text.chat import encode_chat
from bimo.text.special_ids import special_ids
from bimo.text.template import ChatTemplate
from bimo.text.tokenizer import Tokenizer
from bimo.text.vocabularies.bytelevel import PARTINGS, TIKTOKEN, parting_of, pre_tokenizer
from bimo.text.vocabularies.gguf import end_ids_of, fields_of, tokenizer_of
from bimo.text.vocabularies.protobuf import fields, message
from bimo.text.vocabularies.sentencepiece import sentencepiece

ODD = [
    "", " ", "   ", "  a  b ", "\ta\n b\n\n", "ｆｕｌｌ　ｗｉｄｔｈ ①½", "naïve cafe\u0301 か\u3099", "</s> <s> <unk> <0x41>",
    "🙂👩\u200d👩\u200d👧 x", "한국어 龘龘 𝔘",
]  # fmt: skip


def vectors(folder: Path, name: str) -> list[tuple[str, list[int]]]:
    """(text, ids) of llama.cpp's reference vectors."""
    texts = (folder / f"tok-reference-vectors/ggml-vocab-{name}.gguf.inp").read_bytes().decode("utf-8").split("\n__ggml_vocab_test__\n")
    lines = (folder / f"tok-reference-vectors/ggml-vocab-{name}.gguf.out").read_text(encoding="utf-8").removesuffix("\n").split("\n")
    assert len(lines) == 46
    return list(zip(texts, ([*map(int, line.split())] for line in lines), strict=False))


def gguf_fields(folder: Path, name: str, place: Path) -> dict[str, Any]:
    gguf = pytest.importorskip("gguf")
    path = place / f"{name}.gguf"
    path.write_bytes(gzip.decompress((folder / f"tok-reference-vectors/ggml-vocab-{name}.gguf.gz").read_bytes()))
    told = gguf.GGUFReader(path).fields
    return {key: field.contents() for key, field in told.items() if key.startswith("tokenizer.")}


def real_lines(folder: Path, characters: int) -> tuple[list[str], list[str]]:
    english = gzip.decompress((folder / "lm-wikitext2-raw/wiki.valid.raw.gz").read_bytes()).decode("utf-8")
    chinese = (folder / "lm-zh-wiki/valid.txt").read_text(encoding="utf-8")
    return english[:characters].splitlines(), chinese[:characters].splitlines()


# -- reference vectors ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["gpt-2", "bert-bge", "llama-spm"])
def test_a_gguf_vocabulary_gives_the_reference_ids_and_goes_back(data_folder: Path, tmp_path: Path, name: str) -> None:
    told = gguf_fields(data_folder, name, tmp_path)
    hub, found = tokenizer_of(told)
    tokenizer = Tokenizer(hub, "loaded", found)
    for text, ids in vectors(data_folder, name):
        assert tokenizer.encode(text) == ids, text
    back = fields_of(tokenizer)
    differing = {key for key in told if told[key] != back.get(key)} - {"tokenizer.ggml.scores"}
    assert differing <= ({"tokenizer.ggml.pre"} if name == "bert-bge" else set())
    again = Tokenizer(tokenizer_of(back)[0], "loaded", found)
    for text, ids in vectors(data_folder, name):
        assert again.encode(text) == ids, text
    assert (tokenizer.adds_bos, tokenizer.adds_eos) == (name != "gpt-2", name == "bert-bge")  # BERT's are [CLS] and [SEP]


@pytest.mark.parametrize(("folder", "name"), [("tok-gpt2", "gpt-2"), ("tok-bert-base-uncased", "bert-bge")])
def test_the_makers_own_files_give_the_reference_ids(data_folder: Path, folder: str, name: str) -> None:
    tokenizer = Tokenizer.load(data_folder / folder)
    for text, ids in vectors(data_folder, name):
        assert tokenizer.encode(text) == ids, text
    if name == "bert-bge":
        assert special_ids(tokenizer) == {"pad": 0, "unk": 100, "cls": 101, "sep": 102, "mask": 103}
        assert tokenizer.hub.encode("a").ids == [101, 1037, 102]
    else:
        assert tokenizer.vocabulary.eos == 50256


@pytest.mark.parametrize("name", ["gpt-2", "qwen2", "llama-bpe", "gpt-4o", "tekken"])
def test_texts_are_parted_as_the_pattern_says(data_folder: Path, name: str) -> None:
    (pattern,) = PARTINGS[name].patterns
    step = pre_tokenizer(PARTINGS[name].patterns)
    for text, _ in vectors(data_folder, "qwen2"):
        parts = [text[a:b] for _, (a, b) in step.pre_tokenize_str(text)]
        assert parts == [found[0] for found in regex.finditer(pattern, text)]


def test_every_parting_is_told_apart() -> None:
    for name, parting in PARTINGS.items():
        merges = [("a", "b")]
        hub, _ = tokenizer_of(gpt2_fields(pre=name) | {"tokenizer.ggml.merges": [" ".join(pair) for pair in merges]})
        assert parting_of(hub) == parting, name
    numbers = {
        "smollm": ["1", "2", "3"],
        "llama-bpe": ["123", "4"],
        "default": ["123", "4"],
        "gpt-2": ["1234"],
        "qwen2": ["1", "2", "3", "4"],
    }
    for name, parts in numbers.items():
        assert [part for part, _ in pre_tokenizer(PARTINGS[name].patterns).pre_tokenize_str("1234")][: len(parts)] == parts


# -- GGUF -------------------------------------------------------------------------------------------------------------


def gpt2_fields(**changes: Any) -> dict[str, Any]:
    told = {
        "model": "gpt2",
        "pre": "gpt-2",
        "tokens": ["a", "b", "ab", "<end>", "<tool>"],
        "token_type": [1, 1, 1, 3, 4],
        "merges": ["a b"],
    }
    return {f"tokenizer.ggml.{name}": value for name, value in (told | changes).items() if value is not None}


def test_gguf_types_of_tokens_are_kept() -> None:
    hub, found = tokenizer_of(gpt2_fields(bos_token_id=3, add_bos_token=True) | {"tokenizer.chat_template": "x"})
    tokenizer = Tokenizer(hub, "loaded", found)
    assert tokenizer.encode("ab<tool>") == [2, 4]
    assert 3 not in tokenizer.encode("a<end>")
    assert tokenizer.hub.encode("a").ids == [3, 0]
    assert (tokenizer.adds_bos, tokenizer.chat_template) == (True, "x")
    back = fields_of(tokenizer)
    assert back["tokenizer.ggml.token_type"] == [1, 1, 1, 3, 4]
    assert (back["tokenizer.chat_template"], back["tokenizer.ggml.bos_token_id"], back["tokenizer.ggml.add_bos_token"]) == ("x", 3, True)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"pre": "qwen-2"}, "did you mean qwen2"),
        ({"model": "rwkv"}, "'rwkv' is not known"),
        ({"tokens": None}, "tokens: expected a list"),
        ({"tokens": ["a", "b", "a", "<end>", "<tool>"]}, "0 and 2 are both 'a'"),
        ({"merges": ["ab"]}, "number 0 is 'ab'"),
        ({"merges": ["a b", "a z"]}, "merge 1 .* needs the token 'z'"),
        ({"token_type": [1]}, "1 of them for 5 tokens"),
        ({"eos_token_id": 5}, "eos_token_id: 5 is no id"),
        ({"model": "llama"}, "scores: missing"),
        ({"model": "t5", "scores": [0.0] * 5}, "0 pieces are marked as the unknown one"),
        ({"model": "t5", "scores": [0.0] * 5, "unknown_token_id": 0, "precompiled_charsmap": [1, 2, 3]}, "table of normalisation"),
        ({"model": "bert"}, r"no token \[UNK\]"),
    ],
)
def test_wrong_gguf_fields_are_named(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ModelError, match=said):
        tokenizer_of(gpt2_fields(**changes))


TEMPLATE = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>{% endfor %}"


@pytest.mark.parametrize("types", [None, [1] * 6, [1, 1, 1, 4, 4, 4], [1, 1, 1, 3, 3, 3], [1, 1, 1, 5, 4, 1]])
def test_tokens_that_end_a_text_are_special_whatever_their_type(types: list[int] | None) -> None:
    """As in llama.cpp (`llama_vocab::impl::load`), which overrides the type of tokens with these names."""
    tokens = ["a", "b", "ab", "<|im_end|>", "<|im_start|>", "<|file_sep|>"]
    told = gpt2_fields(tokens=tokens, token_type=types) | {"tokenizer.chat_template": TEMPLATE}
    tokenizer = Tokenizer(*(lambda hub, found: (hub, "loaded", found))(*tokenizer_of(told)))
    assert end_ids_of(told) == (5, 3)
    marked = {4} if types in ([1, 1, 1, 4, 4, 4], [1, 1, 1, 3, 3, 3], [1, 1, 1, 5, 4, 1]) else set()
    assert {token.id for token in tokenizer.special_tokens.values()} == {3, 5} | marked
    assert not {3, 5} & set(tokenizer.encode("a<|im_end|>b<|file_sep|>"))  # a message cannot hold it
    message = {"role": "user", "content": "a<|im_end|><|im_start|>"}
    ids = encode_chat(tokenizer, cast(ChatTemplate, tokenizer.template), [message], add_generation_prompt=False)
    assert (ids.count(3), ids.count(4)) == (1, 1 if marked else 0)


@pytest.mark.parametrize(
    ("changes", "ends"),
    [
        ({"eot_token_id": 0, "eom_token_id": 1}, (0, 1)),
        ({"fim_pad_token_id": 2, "fim_pre_token_id": 1}, (2,)),
        ({"tokens": ["a", "b", "ab", "<|end|>", "<|return|>"]}, (3, 4)),
        ({"tokens": ["<|call|>", "b", "ab", "<|end|>", "<|return|>"]}, (4, 0)),
        ({"tokens": ["</s>", "b", "ab", "<eos>", "<|tool_response>"]}, (3, 4)),
    ],
)
def test_ends_of_a_gguf_file(changes: dict[str, Any], ends: tuple[int, ...]) -> None:
    assert end_ids_of(gpt2_fields(**changes)) == ends


def test_of_gguf_keys_that_nobody_reads_the_user_is_warned() -> None:
    told = gpt2_fields(pre=None, added_tokens=["x"], token_type_count=2) | {"tokenizer.chat_template.rag": "x"}
    with pytest.warns(BimoWarning) as warned:
        tokenizer_of(told, "m.gguf")
    messages = sorted(str(one.message) for one in warned)
    assert len(messages) == 2
    assert messages[0] == "m.gguf: tokenizer.ggml.added_tokens = ['x'] is not known and not used"
    assert messages[1].startswith("m.gguf: tokenizer.ggml.pre is missing: texts are parted by the pattern called default")


def test_special_tokens_of_llama_that_the_file_does_not_name() -> None:
    """llama.cpp takes the ids 0, 1 and 2 for them; here they must also be marked as such."""
    told = gpt2_fields(model="llama", pre=None, merges=None, scores=[0.0] * 5, tokens=["<unk>", "<s>", "</s>", "▁", "a"])
    hub, found = tokenizer_of(told | {"tokenizer.ggml.token_type": [2, 3, 3, 1, 1]})
    assert (found["bos_token"], found["eos_token"], hub.encode("a").ids) == ("<s>", "</s>", [1, 3, 4])
    hub, found = tokenizer_of(told | {"tokenizer.ggml.token_type": [2, 1, 1, 1, 1]})
    assert "bos_token" not in found


@pytest.mark.parametrize("kind", ["bpe", "wordpiece"])
def test_own_kinds_go_to_gguf_and_back(kind: str) -> None:
    texts = ["the quick brown fox doesn't jump 1,234 times. 今天天气很好\n"] * 20
    tokenizer = Tokenizer.train(kind, texts, 400)
    again = Tokenizer(*(lambda hub, found: (hub, "loaded", found))(*tokenizer_of(fields_of(tokenizer))))
    for text in (*texts[:1], "a fox 天气"):
        assert again.encode(text) == tokenizer.encode(text)
    v, w = tokenizer.vocabulary, again.vocabulary
    assert (v.size, v.bos, v.eos, v.pad, v.unk) == (w.size, w.bos, w.eos, w.pad, w.unk)


@pytest.mark.parametrize("kind", ["byte", "char", "word", "unigram"])
def test_kinds_that_gguf_lacks_are_refused(kind: str) -> None:
    with pytest.raises(UserError, match="GGUF has no kind"):
        fields_of(Tokenizer.train(kind, ["the quick brown fox 今天"] * 5))


# -- SentencePiece ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["chinese_sp", "chinese_xlnet_spiece"])
def test_sentencepiece_gives_the_packages_ids(data_folder: Path, name: str) -> None:
    """On every line but where two ways are equally good: the package adds scores in 32 bits, by whose rounding it then chooses."""
    package = pytest.importorskip("sentencepiece")
    path = data_folder / f"tok-sentencepiece-zh/{name}.model"
    theirs = package.SentencePieceProcessor(model_file=str(path))
    ours = Tokenizer.load(path)
    assert ours.vocabulary.size == theirs.get_piece_size()
    assert (ours.vocabulary.bos, ours.vocabulary.eos, ours.vocabulary.unk) == (1, 2, 0)
    english, chinese = real_lines(data_folder, 100_000)
    differing = 0
    for text in (*english, *chinese, *ODD):
        found, expected = ours.encode(text), theirs.encode(text)
        if found != expected:
            differing += 1
            total, best = (sum(map(theirs.get_score, ids)) for ids in (found, expected))
            assert best <= total < best + 2e-4 * len(text) / 100
    assert differing <= 2
    text = "今天天气很好 hello world"
    assert ours.decode(ours.encode(text)) == theirs.decode(theirs.encode(text))


@pytest.mark.parametrize(
    "options",
    [
        {"model_type": "bpe", "byte_fallback": True, "remove_extra_whitespaces": False, "normalization_rule_name": "identity"},
        {"model_type": "bpe", "user_defined_symbols": ["<sep>"]},
        {"model_type": "unigram", "byte_fallback": True, "user_defined_symbols": ["<sep>", "fox"]},
        {"model_type": "bpe", "add_dummy_prefix": False, "control_symbols": ["<mask>"]},
    ],
)
def test_small_sentencepiece_models_of_every_kind(tmp_path: Path, options: dict[str, Any]) -> None:
    package = pytest.importorskip("sentencepiece")
    from io import BytesIO

    lines = ["the quick brown fox doesn't jump over 1,234 lazy dogs", "today the dogs walk", "今天天气很好，我们去公园看花。"] * 20
    held = BytesIO()
    package.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=held, vocab_size=400, hard_vocab_limit=False, minloglevel=3, **options
    )
    (tmp_path / "tokenizer.model").write_bytes(held.getvalue())
    theirs = package.SentencePieceProcessor(model_proto=held.getvalue())
    ours = Tokenizer.load(tmp_path)
    for text in (*lines[:3], *ODD, "a  fox<sep> the dogs  <sep>x", " walk the <mask>"):
        assert ours.encode(text) == theirs.encode(text), text
    if "user_defined_symbols" in options and options["model_type"] == "bpe":
        with pytest.raises(UserError, match="GGUF has no kind"):
            fields_of(ours)
    elif options.get("byte_fallback"):
        again = Tokenizer(tokenizer_of(fields_of(ours))[0], "loaded")
        for text in (*lines[:3], *ODD):
            assert again.encode(text) == ours.encode(text), text


def piece(text: str, kind: int = 1, score: float = 0.0) -> bytes:
    inner = field(1, text.encode()) + bytes([0x15]) + struct.pack("<f", score) + bytes([0x18, kind])
    return field(1, inner)


def field(number: int, data: bytes) -> bytes:
    size, out = len(data), bytearray([number << 3 | 2])
    while size > 127:
        out.append(size & 127 | 128)
        size >>= 7
    return bytes(out) + bytes([size]) + data


SMALL = piece("<unk>", 2) + piece("<s>", 3) + piece("▁a", 1, -1.0) + piece("b", 1, -2.0) + piece("a", 1, -3.0)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "no pieces"),
        (SMALL[:-1], "wants 10 bytes, 9 are left"),
        (b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7f", "the file is cut off"),
        (b"\x0a\xff\xff\xff\xff\x0f" + SMALL, "wants 4,294,967,295 bytes"),
        (b"\xff" * 20, "more than 64 bits"),
        (b"\x0b", "wire type 3"),
        (b"\x00\x00", "field number 0"),
        (b"\x08\x01", "pieces is a number, expected a run of bytes"),
        (field(1, b"\x08\x05"), "piece 0: piece is a number"),
        (SMALL + piece("b"), "pieces 3 and 5 are both 'b'"),
        (SMALL + piece(""), "piece 5 is empty"),
        (SMALL + piece("x", 9), "unknown type"),
        (SMALL + piece("x", 1, float("nan")), "no number"),
        (SMALL + field(1, field(1, b"\xff")), "no UTF-8"),
        (SMALL + piece("x", 2), "2 pieces are marked as the unknown one"),
        (SMALL + field(2, b"\x18\x03"), "of kind word"),
        (SMALL + field(2, b"\x18\x02") + piece("x" * 300), "more than 256"),
        (SMALL + field(2, b"\xc0\x01\x01"), "treat_whitespace_as_suffix"),
        (SMALL + field(3, field(2, b"\x01\x02")), "table of normalisation"),
    ],
)
def test_damaged_sentencepiece_files(data: bytes, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        sentencepiece(data, "x.model")


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60), st.integers(0, len(SMALL)), st.integers(0, 8))
@example(b"", len(SMALL), 0)
def test_no_bytes_do_more_than_a_model_error(noise: bytes, at: int, cut: int) -> None:
    data = SMALL[:at] + noise + SMALL[at + cut :]
    with contextlib.suppress(ModelError):  # anything else fails the test
        hub, _ = sentencepiece(data, "x")
        hub.encode("ab a")


def test_wire_fields_are_read_in_order() -> None:
    data = bytes([0x08, 0x96, 0x01, 0x15]) + struct.pack("<f", 0.5) + bytes([0x19]) + struct.pack("<d", -2.0) + b"\x22\x01z"
    assert [(number, value) for number, _, value in fields(data, "x")] == [(1, 150), (2, 0.5), (3, -2.0), (4, b"z")]
    assert message(data, {4: ("name", 2)}, "x") == {"name": [b"z"]}


# -- tiktoken ---------------------------------------------------------------------------------------------------------


def write_ranks(path: Path, tokenizer: Tokenizer, count: int | None = None) -> dict[bytes, int]:
    special = {token.id for token in tokenizer.special_tokens.values()}
    ordinary = [tokenizer.token_bytes(i) for i in range(tokenizer.vocabulary.size) if i not in special]
    ranks = {token: rank for rank, token in enumerate(ordinary[:count]) if token is not None}
    path.write_text("".join(f"{base64.b64encode(token).decode()} {rank}\n" for token, rank in ranks.items()))
    return ranks


def test_gpt2_as_ranks_is_gpt2(data_folder: Path, tmp_path: Path) -> None:
    gpt2 = Tokenizer.load(data_folder / "tok-gpt2")
    write_ranks(tmp_path / "r50k_base.tiktoken", gpt2)
    tokenizer = Tokenizer.load(tmp_path)
    assert tokenizer.vocabulary == gpt2.vocabulary.__class__(50257, 50256, 50256)
    for text, ids in vectors(data_folder, "gpt-2"):
        assert tokenizer.encode(text) == ids, text
    merges = [json.loads(t.hub.to_str())["model"]["merges"] for t in (tokenizer, gpt2)]
    assert merges[0] == merges[1]
    assert fields_of(tokenizer)["tokenizer.ggml.pre"] == "gpt-2"  # each token has its merge: that ranks are met whole changes nothing


@pytest.mark.parametrize("pattern", sorted(TIKTOKEN))
def test_ranks_give_tiktokens_ids(data_folder: Path, tmp_path: Path, pattern: str) -> None:
    import tiktoken

    english, chinese = real_lines(data_folder, 30_000)
    path = tmp_path / "tokenizer.model"  # Llama 3 calls it so
    ranks = write_ranks(path, Tokenizer.train("bpe", [*english, *chinese], 1500))
    tokenizer = Tokenizer.load(path, pattern)
    core = tiktoken.Encoding("x", pat_str=TIKTOKEN[pattern].patterns[0], mergeable_ranks=ranks, special_tokens={})
    for text in (*english, *chinese, *ODD):
        if tokenizer.hub.normalizer is not None:
            text = tokenizer.hub.normalizer.normalize_str(text)
        assert tokenizer.encode(text) == core.encode(text), text


def test_ranks_that_do_not_say_how_texts_are_parted(tmp_path: Path) -> None:
    path = tmp_path / "x.tiktoken"
    path.write_text("YQ== 0\nYg== 1\nYWI= 2\n")
    with pytest.raises(UserError, match=r"3 ranks, by which no model is known.*give pattern, one of gpt2, cl100k"):
        Tokenizer.load(path)
    with pytest.raises(UserError, match="'gpt3' is not known"):
        Tokenizer.load(path, "gpt3")
    (tmp_path / "tokenizer_config.json").write_text(
        json.dumps({"added_tokens_decoder": {"5": {"content": "<end>", "special": True}}, "eos_token": "<end>"})
    )
    tokenizer = Tokenizer.load(path, "cl100k")
    assert (tokenizer.encode("ab<end>")[:1], tokenizer.vocabulary.eos, tokenizer.vocabulary.size) == ([2], 5, 6)


@pytest.mark.parametrize("line", ["!!!! 3", "YQ== x", "YQ==", "YQ== 3 4", "YQ== -1", "YQ== 0", "eg== 1", "= 9"])
def test_damaged_ranks_name_the_line(tmp_path: Path, line: str) -> None:
    (tmp_path / "x.tiktoken").write_text(f"YQ== 0\nYg== 1\n{line}\n")
    with pytest.raises(ModelError, match="line 3"):
        Tokenizer.load(tmp_path, "gpt2")


# -- folders ----------------------------------------------------------------------------------------------------------


def test_an_empty_folder_is_told_what_would_do(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"tokenizer\.json, a \.model .*vocab\.txt"):
        Tokenizer.load(tmp_path)
    with pytest.raises(ModelError, match="no such file or folder"):
        Tokenizer.load(tmp_path / "nothing")
    for name in ("a.tiktoken", "b.tiktoken"):
        (tmp_path / name).write_text("YQ== 0\n")
    with pytest.raises(ModelError, match=r"several vocabularies \(a\.tiktoken, b\.tiktoken\)"):
        Tokenizer.load(tmp_path)


def test_tokenizer_json_goes_first_and_files_open_by_name(tmp_path: Path) -> None:
    t = Tokenizer.train("bpe", ["abc abc"])
    t.save(tmp_path)
    (tmp_path / "vocab.txt").write_text("[UNK]\nabc\n")
    assert Tokenizer.load(tmp_path).fingerprint == t.fingerprint
    assert Tokenizer.load(tmp_path / "tokenizer.json").fingerprint == t.fingerprint
    assert Tokenizer.load(tmp_path / "vocab.txt").encode("abc") == [1]


def gpt2_folder(folder: Path, merges: str = "#version: 0.2\na b\n", **config: Any) -> Path:
    (folder / "vocab.json").write_text('{"a": 0, "b": 1, "ab": 2, "<|endoftext|>": 3}')
    (folder / "merges.txt").write_text(merges)
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


def test_settings_name_and_add_tokens(tmp_path: Path) -> None:
    told = {"4": {"content": "<|user|>", "special": True, "rstrip": True}, "5": {"content": "<think>", "special": False}}
    folder = gpt2_folder(tmp_path, added_tokens_decoder=told, additional_special_tokens=["<|more|>"], bos_token={"content": "<|user|>"})
    (folder / "special_tokens_map.json").write_text(
        json.dumps({"pad_token": "<|more|>", "bos_token": "ab"})
    )  # not read: the other is newer
    for tokenizer in (Tokenizer.load(folder), Tokenizer.load(folder / "merges.txt")):
        assert (tokenizer.vocabulary.bos, tokenizer.vocabulary.eos, tokenizer.vocabulary.pad) == (4, 3, None)
        assert tokenizer.encode("ab<think>a") == [2, 5, 0]
        assert not {3, 4, 6} & set(tokenizer.encode("a<|endoftext|><|user|><|more|>"))
        assert tokenizer.special_tokens["<|user|>"] == (4, False, True)
    tokenizer.save(tmp_path / "again")
    again = Tokenizer.load(tmp_path / "again")
    assert (again.vocabulary, again.fingerprint) == (tokenizer.vocabulary, tokenizer.fingerprint)


@pytest.mark.parametrize(
    ("told", "said"),
    [({"7": {"content": "<x>"}}, "has the id 7 there, and 4"), ({"x": {"content": "<x>"}}, "no id and its token"), ([1], "a mapping")],
)
def test_wrong_added_tokens(tmp_path: Path, told: Any, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        Tokenizer.load(gpt2_folder(tmp_path, added_tokens_decoder=told))


@pytest.mark.parametrize(
    ("merges", "said"),
    [("a b c\n", "line 1 of the merges"), ("a b\n\na z\n", "merge 1 .* 'z'"), ("a a\n", "'aa', which the vocabulary lacks")],
)
def test_wrong_merges(tmp_path: Path, merges: str, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        Tokenizer.load(gpt2_folder(tmp_path, merges))


def test_wrong_vocabularies(tmp_path: Path) -> None:
    folder = gpt2_folder(tmp_path)
    for text, said in (("[1]", "a mapping"), ("{", "not valid JSON"), ('{"a": 0, "b": 0}', "same id"), ('{"a": -1}', "to ids")):
        (folder / "vocab.json").write_text(text)
        with pytest.raises(ModelError, match=said):
            Tokenizer.load(folder)
    (tmp_path / "vocab.txt").write_text("[PAD]\na\n")
    with pytest.raises(ModelError, match=r"no token \[UNK\]"):
        Tokenizer.load(tmp_path / "vocab.txt")
    (tmp_path / "vocab.json").unlink()
    with pytest.raises(ModelError, match=r"vocab\.json, which belongs to them"):
        Tokenizer.load(tmp_path / "merges.txt")
    (tmp_path / "encoder.json.gz").write_bytes(b"\x1f\x8b\x08")
    (tmp_path / "vocab.bpe").write_text("")
    with pytest.raises(ModelError, match=r"encoder\.json\.gz: cannot be read"):
        Tokenizer.load(tmp_path / "encoder.json.gz")


def test_bert_takes_case_from_the_settings_or_the_vocabulary(data_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("[UNK]\ncat\nCat\n")
    assert Tokenizer.load(tmp_path).encode("Cat cat") == [2, 1]
    (tmp_path / "tokenizer_config.json").write_text('{"do_lower_case": true}')
    assert Tokenizer.load(tmp_path).encode("Cat cat") == [1, 1]
    shutil.copy(data_folder / "tok-bert-base-chinese/vocab.txt", tmp_path / "vocab.txt")
    transformers = pytest.importorskip("transformers")
    theirs = transformers.BertTokenizer(str(tmp_path / "vocab.txt"), do_lower_case=True)
    ours = Tokenizer.load(tmp_path)
    for text in (*real_lines(data_folder, 5000)[1], *ODD[1:7]):
        assert ours.encode(text) == theirs.encode(text, add_special_tokens=False)


@pytest.mark.parametrize(
    ("config", "adds"),
    [
        ({"tokenizer_class": "LlamaTokenizer"}, (False, False)),  # as in transformers 5
        ({"add_bos_token": True, "tokenizer_class": "LlamaTokenizer"}, (True, False)),
        ({"add_eos_token": True}, (False, True)),
        ({}, (False, False)),
    ],
)
def test_whether_a_text_is_put_between_marks(tmp_path: Path, config: dict[str, Any], adds: tuple[bool, bool]) -> None:
    (tmp_path / "tokenizer.model").write_bytes(SMALL + piece("</s>", 3) + piece("▁"))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    tokenizer = Tokenizer.load(tmp_path)
    assert (tokenizer.adds_bos, tokenizer.adds_eos) == adds
    assert tokenizer.hub.encode("a").ids == [*[1] * adds[0], 2, *[5] * adds[1]]
    tokenizer.settings.pop("add_bos_token", None)
    assert tokenizer.adds_bos == adds[0]
    assert Tokenizer.train("char", ["a"]).adds_bos
    assert Tokenizer.train("char", ["a"]).adds_eos


# -- more tokens ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["byte", "char", "word", "bpe", "wordpiece", "unigram"])
def test_tokens_are_added_to_own_kinds(tmp_path: Path, kind: str) -> None:
    tokenizer = Tokenizer.train(kind, ["the quick brown fox"] * 20)
    size = tokenizer.vocabulary.size
    more, added = tokenizer.add_tokens(["天", "气", "天", "é", *(["the"] if kind == "word" else [])])
    assert (added, more.vocabulary.size, tokenizer.vocabulary.size) == (3, size + 3, size)
    assert more.encode("天")[-1:] == [size]
    text = "the fox 天 气 é fox"
    back = more.decode(more.encode(text))
    assert back.replace(" ", "") == text.replace(" ", "")
    assert back == text or kind in ("word", "wordpiece")
    assert more.encode("the quick fox") == tokenizer.encode("the quick fox")
    if kind in ("byte", "bpe"):
        assert more.lossless
        decoder = more.stream_decoder()
        assert "".join([*map(decoder.push, more.encode(text)), decoder.flush()]) == text
        assert more.token_bytes(size + 2) == "é".encode()
    more.save(tmp_path)
    again = Tokenizer.load(tmp_path)
    assert (again.encode(text), again.vocabulary) == (more.encode(text), more.vocabulary)
    assert again.add_tokens(["天"])[1] == 0


def test_tokens_are_added_to_loaded_kinds(data_folder: Path) -> None:
    theirs = Tokenizer.load(data_folder / "tok-sentencepiece-zh/chinese_sp.model")
    more, added = theirs.add_tokens(["龘", "的"])
    assert (added, more.encode("一个龘字"), more.decode(more.encode("一个龘字 hello"))) == (
        1, [*theirs.encode("一个"), 20_000, *theirs.encode("字")[1:]], "一个龘字 hello",
    )  # fmt: skip
    with pytest.raises(UserError, match=r"'龘龘' cannot be one here; .* single characters"):
        theirs.add_tokens(["龘龘"])
    gpt2 = Tokenizer.load(data_folder / "tok-gpt2")
    more, added = gpt2.add_tokens(["今天", " hello", "ÿ"])
    text = "say hello 今天ÿ 今\n"
    assert (added, more.decode(more.encode(text)), 50_257 in more.encode(text)) == (2, text, True)


def test_words_that_cannot_be_tokens() -> None:
    for kind, word in (("char", "ab"), ("word", "a b"), ("wordpiece", "a b"), ("bpe", "")):
        with pytest.raises(UserError, match="cannot be one here"):
            Tokenizer.train(kind, ["x y z"] * 9).add_tokens([word])


def test_spans_cover_what_each_token_stands_for(data_folder: Path) -> None:
    text = "the fox 今天 é🙂"
    for kind in ("byte", "char", "word", "bpe", "unigram"):
        tokenizer = Tokenizer.train(kind, [text] * 20)
        ids, spans = tokenizer.spans(text)
        assert ids.tolist() == tokenizer.encode(text)
        assert spans.shape == (len(ids), 2)
        covered = {i for a, b in spans for i in range(a, b)}
        assert {i for i, c in enumerate(text) if not c.isspace()} <= covered
        assert np.all(np.diff(spans[:, 0]) >= 0)
    hub = tokenizers.Tokenizer(tokenizers.models.BPE({"▁": 0, "a": 1}, []))
    hub.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace(prepend_scheme="first")
    first = Tokenizer(hub, "loaded")
    assert (first.spans("a")[0].tolist(), first.spans("a", first=False)[0].tolist()) == ([0, 1], [1])


def test_hostile_files_take_neither_time_nor_memory(tmp_path: Path) -> None:
    began = time.monotonic()
    (tmp_path / "bomb.tiktoken").write_bytes(b"A" * (1 << 20))
    with pytest.raises(ModelError):
        Tokenizer.load(tmp_path / "bomb.tiktoken", "gpt2")
    with pytest.raises(ModelError):
        sentencepiece(b"\x0a\x00" * 200_000, "x")
    assert time.monotonic() - began < 20
