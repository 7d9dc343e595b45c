"""Tokenizers of all kinds: ids, ids back to text, folders, and parity with the libraries."""

from __future__ import annotations

import gzip
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bimo.core.errors import ModelError, RecipeError, SourceError, UserError
from bimo.text import runners
from bimo.text.runners import BpeRunner, HubRunner
from bimo.text.tokenizer import Tokenizer

KINDS = ("byte", "char", "word", "bpe", "wordpiece", "unigram")
ENGLISH = "the quick brown fox doesn't jump over 1,234 lazy dogs; it'll walk there, the fox said to the dogs.\n" * 30
CHINESE = "今天天气很好，我们去公园看花。公园里的花很多，天气也很好。\n" * 30
TEXTS = [*ENGLISH.splitlines(), *CHINESE.splitlines()]
SIZES = {"bpe": 400, "wordpiece": 200, "unigram": 500}


@pytest.fixture(scope="module")
def all_kinds() -> dict[str, Tokenizer]:
    return {kind: Tokenizer.train(kind, TEXTS, SIZES.get(kind)) for kind in KINDS}


@pytest.fixture(params=KINDS)
def tokenizer(request: pytest.FixtureRequest, all_kinds: dict[str, Tokenizer]) -> Tokenizer:
    return all_kinds[request.param]


def test_special_ids_and_suppression(tokenizer: Tokenizer) -> None:
    v = tokenizer.vocabulary
    assert (v.bos, v.eos, v.pad) == (0, 1, 2)
    assert v.unk == (None if tokenizer.kind in ("byte", "bpe") else 3)
    assert v.suppressed == (0, 2)
    assert v.size <= SIZES.get(tokenizer.kind, 10_000)


def test_known_text_comes_back(tokenizer: Tokenizer) -> None:
    for text in ("the quick brown fox", "今天天气很好"):
        back = tokenizer.decode(tokenizer.encode(text))
        assert back == text or (tokenizer.kind == "wordpiece" and back.replace(" ", "") == text.replace(" ", ""))


def test_special_tokens_in_a_text_stay_text(tokenizer: Tokenizer) -> None:
    for text in ("the </s> fox", "<s>the</s>", "<pad>", "a<unk>b", "</s>"):
        ids = tokenizer.encode(text)
        assert not {0, 1, 2} & set(ids)
        if tokenizer.lossless:
            assert tokenizer.decode(ids) == text
    assert Tokenizer.train("unigram", [*TEXTS, "</s> <s> <0x41>"] * 3, 500).decode([*tokenizer.encode("")]) == ""


def test_unigram_never_reads_names_as_tokens(all_kinds: dict[str, Tokenizer]) -> None:
    for text in ("</s>", "<s>", "<pad>", "<0x41>", "see <0x41> and </s>"):
        assert all_kinds["unigram"].decode(all_kinds["unigram"].encode(text)) == text


def test_unk_written_in_a_text_is_a_word() -> None:
    t = Tokenizer.train("word", ["a <unk> b <unk>"])
    assert t.encode("a <unk> zzz") == [t.encode("a")[0], 3, 3]
    ids, offsets = t.encode_documents(["a <unk> zzz"])
    assert t.losses(["a <unk> zzz"], ids, offsets) == (1, len("zzz"))
    assert t.decode(t.encode("a <unk>")) == "a <unk>"


def test_batches_equal_single_texts(tokenizer: Tokenizer) -> None:
    texts = [*TEXTS, "", "never seen: ëЖ龍🙂", " ", "a\nb"] * (20 if tokenizer.kind != "unigram" else 1)
    batch = tokenizer.encode_batch(texts)
    assert [b.tolist() for b in batch] == [tokenizer.encode(t) for t in texts]
    assert all(b.dtype == np.int64 for b in batch)
    assert tokenizer.encode_batch([]) == []


def test_documents(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode_document("the fox").tolist() == [0, *tokenizer.encode("the fox"), 1]
    line = tokenizer.encode("the fox")
    for text in ("the fox\n\nthe fox\n", "the fox\n\nthe fox"):
        assert tokenizer.encode_document(text, stream=True).tolist() == [0, *line, 1, 1, *line, 1]
    ids, offsets = tokenizer.encode_documents(["the fox\nthe fox\n", "", "\n", "the fox"], stream=True)
    assert [ids[a:b].tolist() for a, b in itertools.pairwise(offsets)] == [
        [0, *line, 1, *line, 1], [0, 1], [0, 1], [0, *line, 1],
    ]  # fmt: skip
    if tokenizer.kind != "wordpiece":
        assert tokenizer.decode(ids[: offsets[1]], stream=True) == "the fox\nthe fox\n"
        assert tokenizer.decode(ids[: offsets[1]]).replace(" ", "") == "thefoxthefox"


@pytest.mark.parametrize("kind", ["byte", "bpe"])
def test_lossless_kinds_give_any_text_back(all_kinds: dict[str, Tokenizer], kind: str) -> None:
    t = all_kinds[kind]
    assert t.lossless

    @settings(max_examples=150, deadline=None)
    @given(st.text(), st.integers(1, 3))
    def check(text: str, times: int) -> None:
        ids = t.encode(text * times)
        assert t.decode(ids) == text * times
        decoder = t.stream_decoder()
        assert "".join([*map(decoder.push, ids), decoder.flush()]) == text * times

    check()


def test_half_a_surrogate_is_refused(tokenizer: Tokenizer) -> None:
    for call in (tokenizer.encode, tokenizer.encode_document, lambda t: tokenizer.encode_batch([t] * 3)):
        with pytest.raises(UserError, match="surrogate"):
            call("x\ud800")


def test_saved_and_loaded_is_the_same(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path)
    again = Tokenizer.load(tmp_path)
    assert (again.kind, again.vocabulary, again.fingerprint) == (tokenizer.kind, tokenizer.vocabulary, tokenizer.fingerprint)
    assert type(again._runner) is type(tokenizer._runner)
    for text in (*TEXTS[:2], TEXTS[-1], "neu 新 🙂 </s>"):
        assert again.encode(text) == tokenizer.encode(text)


def test_transformers_gives_the_same_ids(tokenizer: Tokenizer, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    tokenizer.save(tmp_path)
    fast = transformers.PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json"))
    opened = transformers.AutoTokenizer.from_pretrained(tmp_path)
    for text in (ENGLISH, "naïve  café\t\n\n x", "emoji 🙂👩‍👩‍👧 end", CHINESE):
        if tokenizer.kind == "word" and text == CHINESE:
            text = "今天 天气 很 好 ，"  # tokenizer.json cannot segment: it takes words parted by spaces
        assert fast.encode(text, add_special_tokens=False) == tokenizer.encode(text)
        assert opened.encode(text, add_special_tokens=False) == tokenizer.encode(text)
    assert (opened.bos_token, opened.eos_token, opened.pad_token) == ("<s>", "</s>", "<pad>")
    if tokenizer.kind != "word":  # there a word that is named like a special token is unknown to us, and special to them
        assert opened.encode("a </s> b", split_special_tokens=True, add_special_tokens=False) == tokenizer.encode("a </s> b")


def test_bpe_runs_by_tiktoken_and_agrees_on_real_text(data_folder: Path) -> None:
    english = gzip.decompress((data_folder / "lm-wikitext2-raw/wiki.valid.raw.gz").read_bytes()).decode("utf-8")
    chinese = (data_folder / "lm-zh-wiki/valid.txt").read_text(encoding="utf-8")
    t = Tokenizer.train("bpe", (english[:200_000] + chinese[:60_000]).splitlines(), 3000)
    assert isinstance(t._runner, BpeRunner)
    slow = HubRunner(t._hub)
    for text in (english, chinese, *english.splitlines()[:500], *chinese.splitlines()[:100]):
        assert np.array_equal(t._runner.encode(text), slow.encode(text))


def test_long_texts_are_cut_where_nothing_changes(all_kinds: dict[str, Tokenizer], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runners, "_PART", 7)
    monkeypatch.setattr(runners, "_WORTH_THREADS", 50)
    fast = all_kinds["bpe"]._runner
    assert isinstance(fast, BpeRunner)

    @settings(max_examples=200, deadline=None)
    @given(st.text(alphabet=" \n\x1c\u3000a1'.中é\u0301", max_size=200))
    def check(text: str) -> None:
        assert np.array_equal(fast.encode(text), fast.slow.encode(text))

    check()


def test_both_ways_part_every_character_alike(all_kinds: dict[str, Tokenizer]) -> None:
    fast = all_kinds["bpe"]._runner
    assert isinstance(fast, BpeRunner)
    # Every assigned character between letters, digits and spaces: the two Unicode tables must agree on what is a letter.
    text = " ".join(f"a{chr(c)}1 {chr(c)} {chr(c)}a" for c in range(0x3100) if not 0xD800 <= c < 0xE000)
    assert np.array_equal(fast.encode(text), fast.slow.encode(text))


def test_a_disagreement_falls_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runners, "GPT2_PATTERN", r"\S+|\s+")
    assert isinstance(Tokenizer.train("bpe", TEXTS, 400)._runner, HubRunner)


@pytest.mark.parametrize("character", [" ", "\n", "x", "中", "="])
def test_long_runs(all_kinds: dict[str, Tokenizer], character: str) -> None:
    text = character * 300_000 + "the fox"
    for kind in ("bpe", "byte", "char"):
        t = all_kinds[kind]
        assert len(t.encode(text)) > 0
        if t.lossless:
            assert t.decode(t.encode(text)) == text


def test_a_ten_megabyte_line(all_kinds: dict[str, Tokenizer]) -> None:
    text = "今天 the quick fox。" * 600_000  # 10.8 MB without a newline
    for kind in ("byte", "char", "word", "bpe"):
        assert len(all_kinds[kind].encode_document(text)) > 1_000_000


def test_stream_decoder_gives_whole_characters(all_kinds: dict[str, Tokenizer]) -> None:
    text = "今天天气🙂👩‍👩‍👧好é!"
    for kind in ("byte", "bpe", "unigram"):
        t = all_kinds[kind]
        decoder = t.stream_decoder()
        pieces = [decoder.push(i) for i in t.encode(text)]
        assert "�" not in "".join(pieces)
        assert "".join(pieces) + decoder.flush() == text
    decoder = all_kinds["byte"].stream_decoder()
    assert decoder.push(all_kinds["byte"].encode("中")[0]) == ""
    assert decoder.flush() == ""
    assert [decoder.push(i) for i in all_kinds["byte"].encode("中")] == ["", "", "中"]


def fallback() -> Tokenizer:
    """A vocabulary of SentencePiece's kind, in which a character that is not known is written by its bytes."""
    from tokenizers import Tokenizer as Hub
    from tokenizers import decoders, models

    vocab = {"<unk>": 0, "▁a": 1, "好": 2, "\ufffd": 3, **{f"<0x{byte:02X}>": 4 + byte for byte in range(256)}}
    hub = Hub(models.BPE(vocab, [], byte_fallback=True, unk_token="<unk>"))
    hub.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    return Tokenizer(hub, "loaded")


@pytest.mark.parametrize("kind", ["byte", "bpe", "loaded bpe", "fallback"])
@pytest.mark.parametrize("text", ["a好🙂", "好\ufffd", "é", "🙂\ufffd🙂"])
def test_of_a_character_that_is_cut_nothing_is_left(all_kinds: dict[str, Tokenizer], kind: str, text: str) -> None:
    if kind == "fallback":
        t = fallback()
        ids = [t.hub.token_to_id(c) or 4 + b for c in text for b in ([0] if t.hub.token_to_id(c) else c.encode())]
    else:
        t = all_kinds[kind.split()[-1]]
        t = Tokenizer(t.hub, "loaded") if kind.startswith("loaded") else t
        ids = t.encode(text)
    assert t.decode(ids) == text
    for cut in range(len(ids) + 1):
        whole = t.decode(ids[:cut], whole=True)
        decoder = t.stream_decoder()
        assert "".join([*map(decoder.push, ids[:cut]), decoder.flush()]) == whole
        assert text.startswith(whole), "a whole U+FFFD stays, half a character goes"
        assert len(t.encode(whole)) + 3 >= cut or kind == "fallback"


def test_stream_decoder_equals_decode(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode_document("the quick fox 今天天气很好\nlazy dogs\n", stream=True).tolist()
    for stream in (False, True):
        decoder = tokenizer.stream_decoder(stream)
        got = "".join([*map(decoder.push, ids), decoder.flush()])
        assert got == tokenizer.decode(ids, stream)


def test_losses_are_counted(all_kinds: dict[str, Tokenizer]) -> None:
    text = "the fox 龘"
    for kind, expected in {"byte": (0, 0), "bpe": (0, 0), "char": (1, 3), "word": (1, 3), "unigram": (0, 0)}.items():
        ids, offsets = all_kinds[kind].encode_documents([text])
        assert all_kinds[kind].losses([text], ids, offsets) == expected
    ids, offsets = all_kinds["word"].encode_documents([" the  fox "])
    assert all_kinds["word"].losses([" the  fox "], ids, offsets) == (0, 3)


def test_word_vocabulary_order_and_size() -> None:
    t = Tokenizer.train("word", ["b a c a", "c a d"])
    assert [t.decode([i]) for i in range(4, t.vocabulary.size)] == ["a", "c", "b", "d"]
    assert Tokenizer.train("word", ["b a c a", "c a d"], 6).encode("a c b d") == [4, 5, 3, 3]
    assert Tokenizer.train("char", ["abcab"], 6).encode("abc") == [4, 5, 3]


def test_bad_asks() -> None:
    with pytest.raises(RecipeError, match="did you mean bpe"):
        Tokenizer.train("bpee", ["x"])
    with pytest.raises(RecipeError, match="too small"):
        Tokenizer.train("bpe", ["x"], 100)
    for kind in set(KINDS) - {"byte"}:  # bytes are known without a text
        with pytest.raises(SourceError, match="no text"):
            Tokenizer.train(kind, [" ", ""])


def test_a_folder_of_another_maker_opens(data_folder: Path) -> None:
    t = Tokenizer.load(data_folder / "tok-bytelevel-bpe-minimind")
    assert t.kind == "loaded"
    assert t.vocabulary.eos is not None
    text = "今天天气 the fox"
    assert t.decode(t.encode(text)) == text


def test_damaged_folders(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such file"):
        Tokenizer.load(tmp_path)
    (tmp_path / "tokenizer.json").write_text(json.dumps({"model": 3}))
    with pytest.raises(ModelError, match=r"tokenizer\.json"):
        Tokenizer.load(tmp_path)


_WHITE = ["", " ", "  ", "\t", " \t", "\t ", "\u00a0", "\u3000 ", "\r", "\x1c", "\x85 ", "\n", "\n\n", "    "]
_CORE = ["", "a", "code's", "12 3", "-- x", "中文，", "é\u0301", "don't  do", "a\tb", "x\n y", "\u200bz", "🙂 ok"]


def test_texts_together_give_the_ids_of_each_alone(all_kinds: dict[str, Tokenizer]) -> None:
    """Whatever white space stands at their ends, in every order."""
    tokenizer = all_kinds["bpe"]
    texts = [first + core + last for first in _WHITE for core in _CORE for last in _WHITE]
    alone = [tokenizer.encode(text) for text in texts]
    generator = np.random.default_rng(0)
    for _ in range(3):
        order = generator.permutation(len(texts))
        together = tokenizer.encode_batch([texts[i] for i in order])
        assert [ids.tolist() for ids in together] == [list(alone[i]) for i in order]


def test_a_file_with_dropout_gives_one_encoding(tmp_path: Path) -> None:
    bpe = Tokenizer.train("bpe", ["to be or not to be that is the question " * 20], 300)
    bpe.save(tmp_path)
    told = json.loads((tmp_path / "tokenizer.json").read_text(encoding="utf-8"))
    told["model"]["dropout"] = 0.9
    (tmp_path / "tokenizer.json").write_text(json.dumps(told), encoding="utf-8")
    (tmp_path / "tokenizer_config.json").write_text("{}")
    opened = Tokenizer.load(tmp_path)
    assert opened.kind == "loaded"
    assert {tuple(opened.encode("that is the question")) for _ in range(9)} == {tuple(bpe.encode("that is the question"))}
    assert opened.spans("the question", first=False)[0].tolist() == bpe.encode("the question")


def test_a_file_that_pads_and_cuts_does_neither_here(tmp_path):
    hub_of = Tokenizer.train("wordpiece", ["to be or not to be " * 20], 60)
    hub_of.save(tmp_path)
    told = json.loads((tmp_path / "tokenizer.json").read_text(encoding="utf-8"))
    told["truncation"] = {"max_length": 3, "strategy": "LongestFirst", "stride": 0, "direction": "Right"}
    told["padding"] = {"strategy": {"Fixed": 9}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 2, "pad_type_id": 0,
                       "pad_token": "<pad>"}  # fmt: skip
    (tmp_path / "tokenizer.json").write_text(json.dumps(told), encoding="utf-8")
    opened = Tokenizer.load(tmp_path)
    for text in ("to", "to be or not to be"):
        assert opened.encode(text) == hub_of.encode(text)
    assert [ids.tolist() for ids in opened.encode_batch(["to", "to be or not"])] == [hub_of.encode(t) for t in ("to", "to be or not")]
