"""Reading of all formats, document modes, and the report of what was read and what was not."""

from __future__ import annotations

import gzip
import io
import json
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bimo.core.errors import RecipeError, SourceError
from bimo.core.recipe import CleanSection
from bimo.data import formats
from bimo.data.documents import part_text, utf8_length
from bimo.data.sources import Document, DocumentMode, ReadReport, read_documents
from bimo.text.clean import Cleaner


def read(source: object, mode: DocumentMode = "file", **options: object) -> tuple[list[Document], ReadReport]:
    report = ReadReport()
    return list(read_documents(source, mode, report, **options)), report  # type: ignore[arg-type]


def texts(source: object, mode: DocumentMode = "file") -> list[str]:
    return [d.text for d in read(source, mode)[0]]


# -- documents --------------------------------------------------------------------------------------------------------


def test_modes(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("one\r\ntwo\n\n \n三 three".encode())
    assert texts(path) == ["one\ntwo\n\n \n三 three"]
    assert texts(path, "stream") == texts(path)
    assert texts(path, "line") == ["one", "two", "三 three"]
    assert texts(path, "paragraph") == ["one\ntwo", "三 three"]
    documents, report = read(path, "line")
    assert [d.bytes for d in documents] == [5, 4, 9]
    assert (report.dropped_documents, report.dropped_bytes) == (2, 3)
    assert report.bytes + report.dropped_bytes == path.stat().st_size


@settings(max_examples=200)
@given(st.lists(st.text(alphabet="ab 中\u0301\r\n\n"), max_size=6), st.sampled_from(["file", "line", "paragraph", "stream"]))
def test_documents_sum_to_the_file(blocks: list[str], mode: DocumentMode) -> None:
    whole = "".join(blocks)
    found = [pair for part in part_text(blocks, mode) for pair in part]
    total = sum(size for _, size in found)
    if whole.strip() or mode != "paragraph":
        assert total == utf8_length(whole)
    again = [pair for part in part_text([whole], mode) for pair in part]
    assert again == found or "\r" in whole  # a CR at a block's end is only a line's end with what follows


def test_old_line_ends_and_long_lines(tmp_path: Path) -> None:
    path = tmp_path / "mac.txt"
    path.write_bytes(b"one\rtwo\rthree")
    assert texts(path, "line") == ["one", "two", "three"]
    path.write_bytes(b"x" * 10_000_000 + b"\nshort")
    documents, _ = read(path, "line")
    assert [d.bytes for d in documents] == [10_000_001, 5]


def test_penn_treebank_lines(data_folder: Path) -> None:
    documents, report = read(data_folder / "lm-ptb/ptb.test.txt", "line")
    assert len(documents) == 3761
    assert report.bytes == 449_945
    assert documents[0].text == " no it was n't black monday "
    assert sum(len(d.text.split()) + 1 for d in documents) == 82_430
    (stream,), _ = read(data_folder / "lm-ptb/ptb.test.txt", "stream")
    assert (stream.text.count("\n"), stream.bytes) == (3761, 449_945)


def test_gb18030_and_big5_files(data_folder: Path, tmp_path: Path) -> None:
    text = gzip.decompress((data_folder / "lm-zh-novels/hongloumeng.txt.gz").read_bytes()).decode("utf-8")[:200_000]
    path = tmp_path / "novel.txt"
    path.write_bytes(text.encode("gb18030"))
    (document,), report = read(path)
    assert document.text == text.replace("\r\n", "\n")
    assert document.bytes == len(text.encode("utf-8"))
    assert report.files[0].encoding == "gb18030"
    packed = (data_folder / "lm-zh-poetry/tang.test.jsonl.gz").read_bytes()
    poems = [json.loads(line)["paragraphs"] for line in gzip.decompress(packed).splitlines()[:200]]
    big5 = "\n".join(line for poem in poems for line in poem).encode("big5hkscs", "ignore")
    path.write_bytes(big5)
    (document,), report = read(path)
    assert document.text == big5.decode("big5hkscs")
    assert report.files[0].encoding == "big5hkscs"


# -- formats ----------------------------------------------------------------------------------------------------------


def test_json_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(
        '{"id": 1, "text": "eins\\u2028zwei"}\n\nnot json\n{"id": 2}\n{"text": "half \\ud800"}\n{"text": ""}\n"plain"\n[1]\n',
        encoding="utf-8",
    )
    documents, report = read(path)
    assert [d.text for d in documents] == ["eins\u2028zwei", "half \ufffd", "plain"]
    assert report.skipped_records == 3
    assert report.dropped_documents == 1
    assert report.cleaned["surrogates"] == 1
    assert any("line 3" in note for note in report.files[0].notes)
    assert [d.text for d in read(path, clean=False)[0]][1] == "half \ufffd"


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.json", '[{"content": "x"}, {"content": "y"}]', ["x", "y"]),
        ("a.json", '{"version": 1, "data": [{"text": "x"}]}', ["x"]),
        ("a.json", '{"text": "one"}\n{"text": "two"}\n', ["one", "two"]),
        ("a.json", '["x", "y"]', ["x", "y"]),
        ("a.jsonl", '{"title": "t", "paragraphs": ["春眠不覺曉", "處處聞啼鳥"]}', ["春眠不覺曉\n處處聞啼鳥"]),
        ("a.csv", 'label,review\n1,"two\nlines, one text"\n0,好\n', ["two\nlines, one text", "好"]),
        ("a.csv", "id;text\n1;a,b\n", ["a,b"]),
        ("a.csv", "just one column\nanother row\n", ["just one column", "another row"]),
        ("a.tsv", 'text_a\tlabel\n"quoted" text\t1\n', ['"quoted" text']),
        ("a.tsv", "no header here\t0\nsecond\t1\n", ["no header here", "second"]),
        ("a.md", "# Title\n\n*text*\n", ["# Title\n\n*text*\n"]),
        ("a.unknown", "still text\n", ["still text\n"]),
    ],
)  # fmt: skip
def test_small_files(tmp_path: Path, name: str, content: str, expected: list[str]) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    assert texts(tmp_path / name) == expected


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("a.jsonl", '{"messages": [{"role": "user", "content": "x"}]}\n', "conversations"),
        ("a.jsonl", '{"instruction": "x", "output": "y"}\n', "instructions and answers"),
        ("a.jsonl", '{"title": "x", "author": "y"}\n', "'title', 'author'"),
        ("a.jsonl", '{"title": "x", "parts": [{"a": 1}]}\n', "no field 'text'"),
        ("a.jsonl", "no json at all\n", "not JSON"),
        ("a.json", "[" * 100_000, "not JSON"),
        ("a.json", '{"broken": ', "not JSON"),
        ("a.csv", "a,b\nx,y\n", "just one"),
        ("a.txt", "", "empty"),
        ("a.txt", " \n\n", "blank"),
        ("a.gz", "no gzip", "damaged|cannot be read"),
        ("a.txt.zst", "no zstd", "damaged|cannot be read"),
        ("a.zip", "no zip", "damaged"),
        ("a.parquet", "no parquet", "damaged"),
        ("a.txt", "\x00\x01\x02" * 50, "binary"),
    ],
)
def test_unreadable_files_say_why(tmp_path: Path, name: str, content: str, why: str) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(SourceError, match=why) as caught:
        read(tmp_path / name)
    assert name in str(caught.value)
    good = tmp_path / "good.txt"
    good.write_text("readable\n")
    documents, report = read([tmp_path / name, good])
    assert [d.text for d in documents] == ["readable\n"]
    assert [skipped for skipped, _ in report.skipped] == [str(tmp_path / name)]
    assert any(str(tmp_path / name) in line for line in report.summary())
    json.dumps(report.to_dict())


def test_html(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    body = "".join(f"<p>Paragraph {i} has enough words in it to be taken for the main content of this page.</p>" for i in range(8))
    path.write_text(
        f"<html><head><script>var x=1</script></head><body><nav><a href=x>Menu</a></nav><article>{body}</article></body></html>"
    )
    (document,), report = read(path)
    assert "Paragraph 3 has enough" in document.text
    assert "var x" not in document.text
    assert "<p>" not in document.text
    assert report.files[0].format == "html"
    path.write_bytes('<meta charset="gbk"><p>你好</p><script>no</script>'.encode("gbk"))
    assert texts(path) == ["你好\n"]


def test_parquet(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    import pyarrow.parquet as parquet

    parquet.write_table(pyarrow.table({"n": [1, 2, 3], "text": ["a", None, "中"]}), tmp_path / "a.parquet")
    documents, report = read(tmp_path / "a.parquet", "line")
    assert [(d.text, d.bytes) for d in documents] == [("a", 1), ("中", 3)]
    assert report.skipped_records == 1
    data = gzip.compress((tmp_path / "a.parquet").read_bytes())
    (tmp_path / "b.parquet.gz").write_bytes(data)
    assert texts(tmp_path / "b.parquet.gz") == ["a", "中"]


@pytest.mark.parametrize(("library", "name"), [("pyarrow", "a.parquet"), ("zstandard", "a.txt.zst"), ("trafilatura", "a.html")])
def test_a_missing_library_names_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, library: str, name: str) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    (tmp_path / name).write_bytes(b"something")
    with pytest.raises(SourceError, match=rf"{library}; pip install 'bimo\[text\]'"):
        read(tmp_path / name)


def test_packed_files_and_archives(tmp_path: Path) -> None:
    zstandard = pytest.importorskip("zstandard")
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(b"gz\n") + gzip.compress(b"more\n"))
    (tmp_path / "b.txt.zst").write_bytes(zstandard.compress(b"zst\n") + zstandard.compress(b"more\n"))
    (tmp_path / "c.jsonl.gz").write_bytes(gzip.compress(b'{"text": "record"}\n'))
    inner = io.BytesIO()
    with zipfile.ZipFile(tmp_path / "d.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("b/two.txt", "two\n")
        archive.writestr("a/one.txt.gz", gzip.compress(b"one\n"))
        archive.writestr("picture.png", b"\x89PNG\r\n\x1a\n")
        with zipfile.ZipFile(inner, "w") as nested:
            nested.writestr("x.txt", "x")
        archive.writestr("nested.zip", inner.getvalue())
    documents, report = read(tmp_path)
    assert [d.text for d in documents] == ["gz\nmore\n", "zst\nmore\n", "record", "one\n", "two\n"]
    assert documents[3].source.endswith("d.zip:a/one.txt.gz")
    assert {name.rsplit(":", 1)[-1]: why.split(":")[0].split(";")[0] for name, why in report.skipped} == {
        "nested.zip": "an archive within an archive",
        "picture.png": "binary",
    }


def test_zip_bombs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "FREE_EXPANSION", 1 << 20)
    (tmp_path / "bomb.txt.gz").write_bytes(gzip.compress(b"a" * (4 << 20)))
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("big.txt", b"a" * (4 << 20))
    for name in ("bomb.txt.gz", "bomb.zip"):
        with pytest.raises(SourceError, match="zip bomb"):
            read(tmp_path / name)


def test_a_file_cut_short_keeps_what_was_read(tmp_path: Path) -> None:
    lines = "".join(f"line {i} {os.urandom(20).hex()}\n" for i in range(60_000))
    (tmp_path / "cut.txt.gz").write_bytes(gzip.compress(lines.encode())[:-100_000])
    documents, report = read(tmp_path / "cut.txt.gz", "line")
    assert 10_000 < len(documents) < 60_000
    assert report.skipped[0][1].startswith(f"after {len(documents)} document(s): damaged")
    assert report.files[0].documents == len(documents)


# -- folders, globs, standard input -----------------------------------------------------------------------------------


def test_folders_globs_and_missing_files(tmp_path: Path) -> None:
    for name in ("b.txt", "a.txt", "deep/er/c.txt", ".hidden.txt", ".git/d.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    os.symlink(tmp_path / "nowhere", tmp_path / "dangling")
    documents, report = read(tmp_path)
    assert [d.text for d in documents] == ["a.txt", "b.txt", "deep/er/c.txt"]
    assert sorted(Path(n).name for n, _ in report.skipped) == [".git", ".hidden.txt", "dangling"]
    assert texts(f"{tmp_path}/*.txt") == ["a.txt", "b.txt"]
    assert texts(f"{tmp_path}/**/*.txt") == ["a.txt", "b.txt", "deep/er/c.txt"]
    assert texts([tmp_path / "b.txt", tmp_path / "a.txt"]) == ["b.txt", "a.txt"]
    for missing in (tmp_path / "none.txt", f"{tmp_path}/*.pdf"):
        with pytest.raises(SourceError, match="no such file"):
            read([tmp_path / "a.txt", missing])
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(SourceError, match="nothing readable in"):
        read(empty)
    with pytest.raises(RecipeError, match="did you mean line"):
        read(tmp_path, "lines")  # type: ignore[arg-type]


def test_nothing_readable_names_all(tmp_path: Path) -> None:
    for i in range(8):
        (tmp_path / f"{i}.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(SourceError, match=r"0\.png: binary: a PNG picture.*and 3 more"):
        read(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_files_without_permission(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x")
    (tmp_path / "a.txt").chmod(0)
    with pytest.raises(SourceError, match="cannot be read"):
        read(tmp_path)


def test_standard_input() -> None:
    code = "from bimo.data.sources import read_documents as r; print([d.text for d in r('-', 'line')])"
    done = subprocess.run([sys.executable, "-c", code], input="一\ntwo".encode(), capture_output=True, check=True)
    assert done.stdout.decode().strip() == "['一', 'two']"


@pytest.mark.parametrize(
    ("content", "mode", "expected"),
    [
        (b"one\ntwo\rand more\nthree\r\nfour\r\r\n", "line", ["one", "two and more", "three", "four"]),
        (b"one\rtwo\r\rthree\r", "line", ["one", "two", "three"]),
        (b"one\rtwo\r\rthree\r", "paragraph", ["one\ntwo", "three"]),
        (b"a\rb\n\n\nc\n", "paragraph", ["a b", "c"]),
    ],
)
def test_carriage_returns_end_lines_only_where_nothing_else_does(
    tmp_path: Path, content: bytes, mode: DocumentMode, expected: list[str]
) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(content)
    documents, report = read(path, mode)
    assert [d.text for d in documents] == expected
    assert report.bytes + report.dropped_bytes == len(content)


def packed(*members: tuple[str, bytes]) -> bytes:
    """A tar archive."""
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w") as archive:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return held.getvalue()


TAR = packed(("a.txt", b"some text\n"))


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("a.tar", TAR, "tar archive; unpack it first"),
        ("a.tar.gz", gzip.compress(TAR), "tar archive; unpack it first"),
        ("a.tgz", gzip.compress(TAR), "tar archive; unpack it first"),
        ("a.txt", TAR[:257] + bytes(8) + TAR[265:], "control characters"),
        ("a.txt", b"Rar!\x1a\x07\x01\x00", "RAR archive"),
        ("a.txt", b"{\\rtf1\\ansi Hello\\par}", "an RTF document; save its text first"),
        ("a.txt", b"%!PS-Adobe-3.0\n(Hello) show\n", "a PostScript program"),
        ("a.xml", b"<?xml version='1.0'?>\n<?mso-application progid='Word.Document'?><w:wordDocument/>", "an office document in XML"),
        ("a.txt", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "a Git LFS pointer"),
        ("a.ipynb", b'{"cells": [], "nbformat": 4}', "a Jupyter notebook"),
    ],
)
def test_what_is_no_plain_text_is_named(tmp_path: Path, name: str, content: bytes, why: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SourceError, match=why):
        read(tmp_path / name)


def test_tags_that_are_read_as_text_are_noted(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text("<?xml version='1.0'?>\n<list><sms><text>See you at five</text></sms></list>\n")
    (tmp_path / "b.txt").write_text("<3 is a heart, and a < b, but b > a\n")
    documents, report = read(tmp_path)
    assert "<text>" in documents[0].text
    assert [f.notes for f in report.files] == [["its tags are read as text; text.clean.markup=true leaves them out"], []]
    documents, report = read(tmp_path / "a.xml", clean=Cleaner(CleanSection(markup=True)))
    assert (documents[0].text.strip(), report.files[0].notes) == ("See you at five", [])


def test_hidden_members_of_a_zip_are_left_out(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name in (".env", ".git/config", "b/.hidden/c.txt", "b/desktop.ini", "Thumbs.db", "__MACOSX/._a.txt", "a.txt", "b/c.v1.txt"):
            archive.writestr(name, name)
    documents, report = read(tmp_path / "a.zip")
    assert [d.text for d in documents] == ["a.txt", "b/c.v1.txt"]
    assert [(name.partition(":")[2], why) for name, why in report.skipped] == [
        (name, "hidden") for name in (".env", ".git/config", "Thumbs.db", "__MACOSX/._a.txt", "b/.hidden/c.txt", "b/desktop.ini")
    ]


def test_what_file_managers_keep_in_folders_is_left_out(tmp_path: Path) -> None:
    for name in ("a.txt", "Desktop.ini", "__MACOSX/a.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    documents, report = read(tmp_path)
    assert [d.text for d in documents] == ["a.txt"]
    assert sorted((Path(name).name, why) for name, why in report.skipped) == [("Desktop.ini", "hidden"), ("__MACOSX", "hidden")]


@pytest.mark.parametrize(
    ("text", "noted"),
    [
        ("1\n00:00:01,000 --> 00:00:02,000\nHello there.\n\n2\n00:00:03,000 --> 00:00:04,500\nGood bye.\n", True),
        ("WEBVTT\n\n00:01.000 --> 00:04.000\nHello there.\n", True),
        ("The train leaves at 10:15 --> be there at 10:00,300 metres from here.\n", False),
    ],
)
def test_time_codes_that_are_read_as_text_are_noted(tmp_path: Path, text: str, noted: bool) -> None:
    (tmp_path / "a.srt").write_text(text)
    _, report = read(tmp_path)
    assert any("time codes of subtitles" in note for note in report.files[0].notes) == noted


def test_gzip_members_padding_and_bytes_behind_them(tmp_path: Path) -> None:
    path = tmp_path / "a.txt.gz"
    for rest, notes in ((b"", []), (bytes(700), []), (b"%behind", ["7 bytes behind the gzip data are no gzip data and were left out"])):
        path.write_bytes(gzip.compress(b"one ") + gzip.compress(b"two" * 100_000) + rest)
        documents, report = read(path)
        assert (documents[0].text, report.files[0].notes) == ("one " + "two" * 100_000, notes)
    path.write_bytes(gzip.compress(b"lines\n" * 900)[:-9])
    with pytest.raises(SourceError, match="ends before its end"):
        read(path)


def test_zstd_frames_with_a_long_window(tmp_path: Path) -> None:
    zstandard = pytest.importorskip("zstandard")
    settings = zstandard.ZstdCompressionParameters.from_level(1, window_log=28)
    packer = zstandard.ZstdCompressor(compression_params=settings).compressobj()
    (tmp_path / "a.txt.zst").write_bytes(packer.compress(b"some text\n" * 9) + packer.flush())
    assert read(tmp_path / "a.txt.zst")[0][0].text == "some text\n" * 9
