"""ARPA: what is written reads back; what is damaged is named by file and line; KenLM gives the same scores."""

from __future__ import annotations

import gzip
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from bimo.core.errors import ModelError, UserError
from bimo.models.interop.arpa import read_arpa, write_arpa
from bimo.models.ngram import NGram, NGramConfig
from bimo.text.kernels import WordIndex
from bimo.text.vocabulary import Vocabulary

WORDS = ["<s>", "</s>", "<pad>", "<unk>", "我", "爱", "北京", "天安门", "likes", "café"]
TEXTS = ["我 爱 北京", "我 爱 北京 天安门", "café likes 北京", "", "likes likes 我"] * 3 + ["天安门 爱 我 我"]
HEARD = ["我 爱 北京 likes", "café", "", "爱 我 爱 我 never 北京 天安门 天安门", "likes 北京"]


def fitted(words: list[str] = WORDS, **choices: object) -> NGram:
    model = NGram.build(NGramConfig(**choices), Vocabulary(len(words), bos=0, eos=1, pad=2, unk=3, suppressed=(0, 2)))  # type: ignore[arg-type]
    model.count([WordIndex(words).ids(TEXTS, bos=0, eos=1, unknown=3)[0]])
    model.estimate()
    return model


def scores(model: NGram, words: list[str]) -> list[float]:
    """log10 of each sentence of HEARD."""
    specials = {"bos": words.index("<s>"), "eos": words.index("</s>"), "unknown": words.index("<unk>")}
    ids, offsets = WordIndex(words).ids(HEARD, **specials)
    return (np.add.reduceat(model.score_documents(ids, offsets), offsets[:-1]) / -math.log(10)).tolist()


@pytest.mark.parametrize("smoothing", ["kneser-ney", "witten-bell", "mle"])
@pytest.mark.parametrize("order", [1, 2, 4, 9])
def test_round_trip(smoothing: str, order: int, tmp_path: Path) -> None:
    model = fitted(order=order, smoothing=smoothing, cutoffs=[0, 0, 1])
    write_arpa(model, WORDS, tmp_path / "model.arpa")
    again, words = read_arpa(tmp_path / "model.arpa")
    assert words == [word for word in WORDS if word != "<pad>"]
    assert scores(again, words) == pytest.approx(scores(model, WORDS), abs=1e-5)
    for text in HEARD:
        old = model.advance(model.start(1), torch.tensor([[0, *WordIndex(WORDS).ids([text], unknown=3)[0].tolist()]]), keep="last")[0][0, 0]
        ids = [words.index("<s>"), *WordIndex(words).ids([text], unknown=words.index("<unk>"))[0].tolist()]
        new = again.advance(again.start(1), torch.tensor([ids]), keep="last")[0][0, 0]
        left = [id for id in range(len(WORDS)) if id != 2]
        torch.testing.assert_close(new.exp(), old[left].exp(), atol=1e-6, rtol=1e-6)
    write_arpa(again, words, tmp_path / "again.arpa")
    assert scores(read_arpa(tmp_path / "again.arpa")[0], words) == pytest.approx(scores(model, WORDS), abs=1e-5)


@pytest.mark.parametrize("order", [2, 3, 5])
def test_kenlm_gives_the_same_scores(order: int, tmp_path: Path) -> None:
    kenlm = pytest.importorskip("kenlm")
    for smoothing in ("kneser-ney", "witten-bell"):
        model = fitted(order=order, smoothing=smoothing)
        write_arpa(model, WORDS, tmp_path / "model.arpa")
        other = kenlm.Model(str(tmp_path / "model.arpa"))
        assert scores(model, WORDS) == pytest.approx([other.score(text) for text in HEARD], abs=1e-3)


def test_model_from_a_file_is_saved_and_cannot_count(tmp_path: Path) -> None:
    write_arpa(fitted(order=3), WORDS, tmp_path / "model.arpa")
    model, words = read_arpa(tmp_path / "model.arpa")
    model.save(tmp_path / "folder")
    from bimo.models.base import load_model

    again = load_model(tmp_path / "folder")
    assert isinstance(again, NGram)
    assert scores(again, words) == scores(model, words)
    with pytest.raises(ModelError, match="cannot count"):
        model.count([np.array([0, 1])])


GOOD = (
    "\\data\\\nngram 1=4\nngram 2=2\n\n\\1-grams:\n-1\t</s>\n-99\t<s>\t-0.5\n-0.6\ta\t-0.25\n-0.9\tb\n\n"
    "\\2-grams:\n-0.1\t<s> a\n-0.2\ta b\n\n\\end\\\n"
)


def test_other_makers_files(tmp_path: Path) -> None:
    (tmp_path / "good.arpa").write_text("made by hand\n\n" + GOOD.replace("\t", " "))
    with gzip.open(tmp_path / "good.arpa.gz", "wt") as file:
        file.write(GOOD.replace("\n", "\r\n"))
    for name in ("good.arpa", "good.arpa.gz"):
        model, words = read_arpa(tmp_path / name)
        assert words == ["</s>", "<s>", "a", "b", "<unk>"]
        nats = model.score(torch.tensor([[1, 2, 3, 2, 0], [1, 3, 3, 4, 0]])).nats / math.log(10)
        # p(a|<s>), p(b|a), b(b) p(a), b(a) p(</s>) · b(<s>) p(b), b(b) p(b), p(<unk>) as KenLM, p(</s>)
        assert nats[0, 1:].tolist() == pytest.approx([0.1, 0.2, 0.6, 1.25])
        assert nats[1, 1:].tolist() == pytest.approx([1.4, 0.9, 100, 1])


@pytest.mark.parametrize(
    ("old", "new", "line", "says"),
    [
        ("\\data\\\n", "", 14, "data"),
        ("ngram 1=4", "ngram 1=four", 2, "ngram 1"),
        ("ngram 1=4", "ngram 2=4", 2, "ngram 1"),
        ("ngram 1=4", "ngram 1=999999999999", 11, "999999999999 1-grams"),
        ("ngram 1=4", "ngram 1=" + "9" * 40, 2, "ngram 1"),
        ("ngram 2=2", "ngram 2=1", 15, "1 2-grams"),
        ("-0.6\ta", "x\ta", 8, "numbers"),
        ("-0.6\ta", "nan\ta", 8, "at most 0"),
        ("-0.6\ta", "0.6\ta", 8, "at most 0"),
        ("-0.25", "inf", 8, "finite"),
        ("-0.9\tb", "-0.9\ta", 9, "twice"),
        ("-0.9\tb", "-0.9", 9, "expected log10 p"),
        ("a b", "a c", 13, "1-grams"),
        ("a b", "a b c d", 13, "expected log10 p"),
        ("-0.2\ta b", "-0.2\t<s> a", 13, "twice"),
        ("\\2-grams:", "\\3-grams:", 11, "2-grams"),
        ("\n\\end\\\n", "\n", 14, "end of the file"),
    ],
)
def test_damage_is_named_by_file_and_line(old: str, new: str, line: int, says: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.arpa"
    path.write_text(GOOD.replace(old, new, 1))
    with pytest.raises(ModelError) as caught:
        read_arpa(path)
    assert str(caught.value).startswith(f"{path}: line {line}: ")
    assert says in str(caught.value)


def test_an_ngram_without_its_prefix(tmp_path: Path) -> None:
    text = GOOD.replace("ngram 2=2", "ngram 2=2\nngram 3=1").replace("\\end\\", "\\3-grams:\n-0.3\tb a b\n\n\\end\\")
    (tmp_path / "bad.arpa").write_text(text)
    with pytest.raises(ModelError, match="line 17: the first 2 words"):
        read_arpa(tmp_path / "bad.arpa")


@pytest.mark.parametrize(
    "content",
    [b"", b"\x00\x01\xff" * 50, b"x" * (3 << 20), b"\\data\\\n\\1-grams:\n", b"\\data\\\nngram 1=0\n\\1-grams:\n\\end\\\n"],
)
def test_files_that_are_no_arpa(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "bad.arpa").write_bytes(content)
    with pytest.raises(ModelError, match=r"bad\.arpa"):
        read_arpa(tmp_path / "bad.arpa")
    (tmp_path / "bad.gz").write_bytes(content)
    with pytest.raises(ModelError, match=r"bad\.gz"):
        read_arpa(tmp_path / "bad.gz")


def test_words_that_are_not_utf8(tmp_path: Path) -> None:
    (tmp_path / "bad.arpa").write_bytes(GOOD.encode().replace(b"b\n", b"\xff\n"))
    with pytest.raises(ModelError, match=r"line 9.*UTF-8"):
        read_arpa(tmp_path / "bad.arpa")


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such file"):
        read_arpa(tmp_path / "none.arpa")


@pytest.mark.parametrize("smoothing", ["add-k", "stupid-backoff"])
def test_smoothings_without_an_arpa_form(smoothing: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no ARPA form"):
        write_arpa(fitted(smoothing=smoothing), WORDS, tmp_path / "model.arpa")


@pytest.mark.parametrize(
    ("form", "says"),
    [("New York", "white space"), ("", "white space"), ("我", "both written"), ("<s>", "both written")],
)
def test_words_that_arpa_cannot_write(form: str, says: str, tmp_path: Path) -> None:
    model = fitted(order=2)
    with pytest.raises(UserError, match=says):
        write_arpa(model, [*WORDS[:-1], form], tmp_path / "model.arpa")
    with pytest.raises(UserError, match="one for each id"):
        write_arpa(model, WORDS[:-1], tmp_path / "model.arpa")
    assert not list(tmp_path.iterdir())
