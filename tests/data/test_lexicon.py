"""Tagged text of every form is read; what is none is refused with its reason."""

from __future__ import annotations

import gzip
import zipfile
from pathlib import Path

import pytest

from bimo.core.errors import SourceError
from bimo.data.lexicon import read_lexicon

ROWS = "# text = Go home\n1\tGo\tgo\tVERB\tVB\t_\t0\troot\t_\t_\n2\thome\thome\tADV\tRB\t_\t1\tadvmod\t_\t_\n\n"
SLASHED = "19980101-01-001-001/m  迈向/v  [中央/n  电台/n]nt  。/w\n"


def test_conllu_packed_or_not(tmp_path: Path) -> None:
    (tmp_path / "a.conllu").write_text(ROWS, encoding="utf-8")
    (tmp_path / "b.conllu.gz").write_bytes(gzip.compress(ROWS.encode()))
    with zipfile.ZipFile(tmp_path / "c.zip", "w") as archive:
        archive.writestr("d.conllu", ROWS)
    for name in ("a.conllu", "b.conllu.gz", "c.zip"):
        look_up = read_lexicon(str(tmp_path / name))
        assert [look_up(word) for word in ("Go", "go", "home", "stay")] == ["VERB", "VERB", "ADV", None], name


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030", "utf-16"])
def test_slashed_text_in_any_encoding(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "people.txt").write_bytes((SLASHED * 20).encode(encoding))
    look_up = read_lexicon(str(tmp_path / "people.txt"))
    assert [look_up(word) for word in ("迈向", "中央", "电台", "。", "[")] == ["v", "n", "n", "w", None]


def test_the_dictionary_of_jieba() -> None:
    assert read_lexicon("jieba")("北京") == "ns"


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("missing.conllu", None, "no such file"),
        ("folder", "folder", "is a folder"),
        ("empty.conllu", b"", "holds no word with a tag"),
        ("comments.conllu", b"# nothing\n\n", "holds no word with a tag"),
        ("blank.conllu", ROWS.replace("VERB", "_").replace("ADV", "_").encode(), "holds no word with a tag"),
        ("prose.conllu", b"a cat sat\n", r"line 1 has 1 column\(s\); CoNLL-U has ten"),
        ("prose.txt", b"a cat sat on the mat and/or ran\n", "7 of its 8 tokens are not of the form word/tag"),
        ("binary.conllu", bytes(range(256)) * 9, "binary"),
        ("broken.conllu.gz", gzip.compress(ROWS.encode() * 99, mtime=0)[:-20], "damaged"),
        ("no.conllu.gz", ROWS.encode(), "."),
        ("records.json", b'{"text": "a/b"}', "is json"),
        ("urls.txt", " ".join(f"w{i}/{i}" for i in range(1500)).encode(), "different tags"),
        ("mixed.txt", ("猫/n 狗/n " * (1 << 17)).encode() + b"\xff\xfe\xff", "byte sequences are not utf-8"),
    ],
)
def test_what_is_no_tagged_text_is_refused(tmp_path: Path, name: str, content: bytes | str | None, said: str) -> None:
    path = tmp_path / name
    if content == "folder":
        path.mkdir()
    elif isinstance(content, bytes):
        path.write_bytes(content)
    with pytest.raises(SourceError, match=rf"^text\.tags: .*{name}: .*{said}"):
        read_lexicon(str(path))
