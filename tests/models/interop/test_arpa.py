"""ARPA: what is written reads back; what is damaged is named by file and line; KenLM gives the same scores."""

from __future__ import annotations

import gzip
import math
from pathlib import Path

import numpy as np
import pytest
import torch

import bimo
from bimo.core.errors import ModelError, UserError
from bimo.model import Model
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
        ("-0.6\ta", "-1_0\ta", 8, "numbers"),
        ("-0.6\ta", "inf\ta", 8, "at most 0"),
        ("-0.2\ta b", "-0.2\ta b\t-0.1", 13, "an n-gram of the highest order has no back-off weight"),
        ("-0.2\ta b", "-0.2\ta b\tnan", 13, "finite"),
        ("-0.6\ta", "0.6\ta", 8, "at most 0"),
        ("-0.25", "inf", 8, "finite"),
        ("-0.9\tb", "-0.9\ta", 9, "twice"),
        ("-0.9\tb", "-0.9", 9, "expected log10 p"),
        ("a b", "a c", 13, "1-grams"),
        ("a b", "a b c d", 13, "expected log10 p"),
        ("-0.2\ta b", "-0.2\t<s> a", 13, "twice"),
        ("\\2-grams:", "\\3-grams:", 11, "2-grams"),
        ("\n\\end\\\n", "\n", 14, "end of the file"),
        ("\n\\end\\\n", "\n\\end\\\n\n" + "\\data\\\n", 17, "expected nothing behind"),
    ],
)
def test_damage_is_named_by_file_and_line(old: str, new: str, line: int, says: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.arpa"
    path.write_text(GOOD.replace(old, new, 1))
    with pytest.raises(ModelError) as caught:
        read_arpa(path)
    assert str(caught.value).startswith(f"{path}: line {line}: ")
    assert says in str(caught.value)


@pytest.mark.parametrize("section", ["", "\\3-grams:\n\n", "\\3-grams:\n\n\\4-grams:\n\n"])
def test_orders_without_ngrams(section: str, tmp_path: Path) -> None:
    more = "\nngram 3=0" + "\nngram 4=0" * (section == "" or "4" in section)
    (tmp_path / "empty.arpa").write_text(GOOD.replace("ngram 2=2", f"ngram 2=2{more}").replace("\\end\\", f"{section}\\end\\"))
    (tmp_path / "good.arpa").write_text(GOOD)
    found, expected = (read_arpa(tmp_path / name)[0].score(torch.tensor([[1, 2, 3, 2, 0]])).nats for name in ("empty.arpa", "good.arpa"))
    assert found.tolist() == expected.tolist()


@pytest.mark.parametrize(("begin", "end"), [("!ENTER", "!EXIT"), ("<S>", "</S>")])
def test_a_file_without_sentence_markers_is_refused(begin: str, end: str, tmp_path: Path) -> None:
    (tmp_path / "bare.arpa").write_text(GOOD.replace("</s>", end).replace("<s>", begin))
    with pytest.raises(ModelError, match="neither <s> nor </s> is among the 1-grams"):
        read_arpa(tmp_path / "bare.arpa")


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
    [
        ("New York", "parts words by blanks"),
        ("", "parts words"),
        ("a\nb", "lines by newlines"),
        ("我", "both written"),
        ("<s>", "both written"),
    ],
)
def test_words_that_arpa_cannot_write(form: str, says: str, tmp_path: Path) -> None:
    model = fitted(order=2)
    with pytest.raises(UserError, match=says):
        write_arpa(model, [*WORDS[:-1], form], tmp_path / "model.arpa")
    with pytest.raises(UserError, match="one for each id"):
        write_arpa(model, WORDS[:-1], tmp_path / "model.arpa")
    assert not list(tmp_path.iterdir())


# -- as other programs write them -----------------------------------------------------------------------------------------

ODD = ["\xa0", "\u3000", "\x0b", "\x0c", "\x85", "\u2028", "\u2009", "\x1c"]  # white space to Unicode or to C, and none to ARPA


def small(unk: str = "<unk>", a: str = "a", backoff: str = "") -> str:
    return (
        f"\\data\\\nngram 1=5\nngram 2=4\n\n\\1-grams:\n-0.9\t{unk}\n-99\t<s>\t-0.3\n-0.7\t</s>\n-0.6\t{a}\t-0.2\n-0.8\tb\t-0.1\n\n"
        f"\\2-grams:\n-0.3\t<s> {a}\n-0.4\t{a} b{backoff}\n-0.5\tb {a}\n-0.2\tb </s>\n\n\\end\\\n"
    )


def opened(path: Path, text: str | bytes) -> Model:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return bimo.load(path)


def of_ten(model: Model, text: str) -> float:
    return model.score(text)[0] / math.log(10)


@pytest.mark.parametrize("gap", ODD)
def test_words_are_parted_at_blanks_and_tabs_alone(gap: str, tmp_path: Path) -> None:
    """KenLM, issue 97."""
    word = f"x{gap}y"
    model = opened(tmp_path / "m.arpa", small(a=word))
    assert of_ten(model, f"{word} b") == pytest.approx(0.9)  # p(word | <s>), p(b | word), p(</s> | b)
    assert of_ten(model, f"b\t{word}\n") == pytest.approx(0.3 + 0.8 + 0.5 + 0.2 + 0.7)
    assert model.generate(word, max_new_tokens=1, temperature=0) == " b"
    bimo.convert(tmp_path / "m.arpa", tmp_path / "again.arpa")
    assert of_ten(bimo.load(tmp_path / "again.arpa"), f"{word} b") == pytest.approx(0.9)
    bimo.convert(tmp_path / "m.arpa", tmp_path / "folder")
    assert of_ten(bimo.load(tmp_path / "folder"), f"{word} b") == pytest.approx(0.9)


def test_long_texts_are_parted_alike(tmp_path: Path) -> None:
    tokenizer = opened(tmp_path / "m.arpa", small(a="x\u00a0y")).bundle.tokenizer
    for texts in (["x\u00a0y b  b"] * 20_000, ["b b\t<s> b\r\nc"] * 20_000):
        ids, offsets = tokenizer.encode_documents(texts)
        one = tokenizer.encode_document(texts[0])
        assert ids.tolist() == one.tolist() * len(texts)
        assert len(offsets) == len(texts) + 1


def test_chinese_words_of_the_file_stay_whole_and_a_running_text_is_segmented(tmp_path: Path) -> None:
    pytest.importorskip("rjieba")
    word = "今天天气"
    model = opened(tmp_path / "m.arpa", small(a="我爱北京天安门", unk="<unk>").replace("\tb\t", f"\t{word}\t").replace("b", word))
    tokenizer = model.bundle.tokenizer
    assert tokenizer.encode("我爱北京天安门 今天天气") == [3, 4]
    assert tokenizer.encode("今天天气\u3000今天天气") == [4, 4]


@pytest.mark.parametrize("unk", ["<UNK>", "<Unk>", "<unk>"])
def test_unknown_words_however_they_are_written(unk: str, tmp_path: Path) -> None:
    model = opened(tmp_path / "m.arpa", small(unk))
    assert model.score("c")[0] == pytest.approx(4.3749, abs=1e-4)  # 0.3 + 0.9 + 0.7
    assert model.bundle.tokenizer.vocabulary.unk == 0


def test_of_two_unknown_words_the_small_one_is_it(tmp_path: Path) -> None:
    model = opened(tmp_path / "m.arpa", small().replace("\tb\t", "\t<UNK>\t").replace(" b", " <UNK>").replace("\tb ", "\t<UNK> "))
    assert of_ten(model, "c") == pytest.approx(0.3 + 0.9 + 0.7)
    assert of_ten(model, "<UNK>") == pytest.approx(0.3 + 0.8 + 0.2)


@pytest.mark.parametrize("zero", ["\t0", "\t-0", "\t0.0", " 0", "\t-0.000000"])
def test_a_back_off_of_nothing_in_the_highest_order(zero: str, tmp_path: Path) -> None:
    """KenLM, issue 380: SRILM writes it."""
    assert of_ten(opened(tmp_path / "m.arpa", small(backoff=zero)), "a b") == pytest.approx(0.9)


def test_what_stands_twice_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "m.arpa").write_text(small().replace("ngram 2=4", "ngram 2=5").replace("-0.2\tb", "-0.6\tb a\n-0.2\tb"))
    with pytest.raises(ModelError, match="line 16: this 2-gram stands twice; remove one of the two lines"):
        bimo.load(tmp_path / "m.arpa")


FORMS = {
    "CRLF": small().replace("\n", "\r\n"),
    "a byte order mark": "\ufeff" + small(),
    "comments": "# made by hand\n# for a test\n\n" + small(),
    "blanks": small().replace("\t", " "),
    "tabs": small().replace(" ", "\t").replace("ngram\t", "ngram "),
    "blanks at the ends": small().replace("\n", " \t\n"),
    "blank lines": small().replace("\n", "\n\n"),
    "packed": gzip.compress(small().encode()),
    "an empty order": small().replace("ngram 2=4", "ngram 2=4\nngram 3=0").replace("\n\\end", "\n\\3-grams:\n\n\\end"),
    "-inf": small().replace("-99\t", "-inf\t"),
}


@pytest.mark.parametrize("form", FORMS)
def test_forms_of_one_file(form: str, tmp_path: Path) -> None:
    model = opened(tmp_path / "m.arpa", FORMS[form])
    assert (of_ten(model, "a b"), of_ten(model, "c")) == (pytest.approx(0.9), pytest.approx(1.9))


def test_a_file_cut_anywhere_is_refused_by_its_name(tmp_path: Path) -> None:
    whole = small()
    for cut in range(len(whole) - 2):
        (tmp_path / "m.arpa").write_text(whole[:cut])
        with pytest.raises(ModelError, match=r"m\.arpa: line \d+: "):
            read_arpa(tmp_path / "m.arpa")


def test_a_packed_file_is_written(tmp_path: Path) -> None:
    opened(tmp_path / "m.arpa", small())
    for name in ("p.arpa.gz", "P.ARPA.GZ"):
        bimo.convert(tmp_path / "m.arpa", tmp_path / name)
        assert (tmp_path / name).read_bytes()[:2] == b"\x1f\x8b"
        assert of_ten(bimo.load(tmp_path / name), "a b") == pytest.approx(0.9)
