"""Devices, pipes and links as output: written into, never replaced. All of them are made in a temporary folder."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch

import bimo
from bimo.core import store
from bimo.core.errors import MachineError, UserError
from bimo.data.corpus import Corpus, prepare
from tests.test_cli import refused


@pytest.fixture
def only_files_are_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Renaming something over a device, a pipe, a folder or a link fails the test, and leaves what stands there."""
    replace = os.replace

    def checked(source: Path, target: Path) -> None:
        assert not os.path.lexists(target) or stat.S_ISREG(os.lstat(target).st_mode), f"{target} was to be replaced"
        replace(source, target)

    monkeypatch.setattr(os, "replace", checked)


def node(path: Path, kind: str) -> Path:
    """A pipe, or a copy of /dev/null or /dev/full."""
    numbers = {"null": (1, 3), "full": (1, 7)}
    try:
        if kind == "pipe":
            os.mkfifo(path)
        else:
            os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(*numbers[kind]))
            path.write_bytes(b"")  # where the file system has no devices, this fails
    except (OSError, AttributeError):
        pytest.skip(f"no {kind} can be made here")
    return path


@pytest.mark.usefixtures("only_files_are_replaced")
@pytest.mark.parametrize("linked", [False, True])
def test_a_device_is_written_into(tmp_path: Path, linked: bool) -> None:
    path = device = node(tmp_path / "null", "null")
    if linked:
        path = tmp_path / "link"
        path.symlink_to("null")
    store.write_text(path, "a page")
    store.write_tensors(path, {"x": torch.zeros(3)})
    assert stat.S_ISCHR(device.stat().st_mode)
    assert sorted(tmp_path.iterdir()) == sorted({path, device})
    assert path.is_symlink() == linked


@pytest.mark.usefixtures("only_files_are_replaced")
def test_a_device_that_is_full_says_so(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match=r"full: no space left"):
        store.write_text(node(tmp_path / "full", "full"), "a page")


@pytest.mark.usefixtures("only_files_are_replaced")
def test_a_pipe_is_written_into(tmp_path: Path) -> None:
    pipe = node(tmp_path / "pipe", "pipe")
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)  # so that the writer need not wait for one
    try:
        store.write_text(pipe, "一页")
        assert os.read(reader, 99).decode() == "一页"
    finally:
        os.close(reader)
    assert stat.S_ISFIFO(pipe.stat().st_mode)


@pytest.mark.usefixtures("only_files_are_replaced")
def test_a_terminal_is_written_into(tmp_path: Path) -> None:
    ours, theirs = os.openpty()
    try:
        store.write_text(Path(os.ttyname(theirs)), "a page")
        assert os.read(ours, 99) == b"a page"
    finally:
        os.close(ours)
        os.close(theirs)


@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
@pytest.mark.parametrize("to", ["a pipe", "a file"])
def test_standard_output_is_written_into(tmp_path: Path, name: str, to: str) -> None:
    if not os.path.exists(name):
        pytest.skip(f"no {name} on this system")
    script = textwrap.dedent("""
        import os, pathlib, sys
        def checked(source, target):
            raise SystemExit(f"{target} was to be replaced")
        os.replace = checked
        from bimo.core import store
        print("before")
        store.write_text(pathlib.Path(sys.argv[1]), "a page\\n")
        print("after")
    """)
    command = [sys.executable, "-c", script, name]
    if to == "a file":
        with open(tmp_path / "log", "ab") as log:
            log.write(b"earlier\n")
            log.flush()
            subprocess.run(command, stdout=log, check=True)
        assert (tmp_path / "log").read_text() == "earlier\nbefore\na page\nafter\n"
    else:
        assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "before\na page\nafter\n"


@pytest.mark.usefixtures("only_files_are_replaced")
def test_the_target_of_a_link_is_written_and_the_link_stays(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "old").write_text("old")
    for name, target in (("near", "there/old"), ("far", str(tmp_path / "there" / "old")), ("twice", "near"), ("none", "there/new/file")):
        (tmp_path / name).symlink_to(target)
        store.write_text(tmp_path / name, name)
        assert (tmp_path / name).is_symlink()
        assert (tmp_path / target).read_text() == name
    assert not list(tmp_path.rglob(".*"))


def test_links_in_a_circle_and_folders_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(UserError, match=r"/a: cannot be written \(Too many levels of symbolic links\)"):
        store.write_text(tmp_path / "a", "x")
    for folder in (tmp_path, Path("."), Path("/")):
        with pytest.raises(UserError, match=r"cannot be written \(Is a directory\)"):
            store.write_text(folder, "x")


def test_a_failure_writes_nothing_into_a_pipe(tmp_path: Path) -> None:
    pipe = node(tmp_path / "pipe", "pipe")
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)

    def fail(path: Path) -> None:
        path.write_text("half")
        raise ZeroDivisionError

    try:
        with pytest.raises(ZeroDivisionError):
            store.write_beside(pipe, fail)
        assert os.read(reader, 99) == b""
    finally:
        os.close(reader)


def test_a_folder_is_made_where_a_link_leads(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("far/away")
    store.make_folder(tmp_path / "link" / "run")
    assert (tmp_path / "far" / "away" / "run").is_dir()
    store.refuse_non_folder(tmp_path / "link" / "run" / "new")
    for path, found in ((node(tmp_path / "null", "null"), "a device"), (node(tmp_path / "pipe", "pipe"), "a pipe")):
        for place in (path, path / "corpus"):
            with pytest.raises(UserError, match=f"{path.name}: {found} is in the way of a folder; choose another folder with --out"):
                store.refuse_non_folder(place)


# -- commands -----------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("only_files_are_replaced")
def test_a_page_goes_into_a_device_or_a_pipe(bimo_cli: Any, place: Path, tmp_path: Path) -> None:
    null, pipe = node(tmp_path / "null", "null"), node(tmp_path / "pipe", "pipe")
    (tmp_path / "link").symlink_to(null)
    for out in (null, tmp_path / "link"):
        assert bimo_cli("explain", place / "ngram", "月", "--out", out).out.endswith(f"page: {out}\n")
        assert stat.S_ISCHR(null.stat().st_mode)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        assert bimo_cli("explain", place / "ngram", "月", "--out", pipe).code == 0
        assert os.read(reader, 1 << 16).startswith(b"<!doctype html>")
    finally:
        os.close(reader)


def test_a_page_to_standard_output_comes_alone(bimo_cli: Any, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not os.path.exists("/dev/stdout"):
        pytest.skip("no /dev/stdout on this system")
    ran = bimo_cli("explain", place / "ngram", "ink", "--out", "/dev/stdout")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith("<!doctype html>")
    assert ran.out.rstrip().endswith("</html>")
    refused(bimo_cli("explain", place / "ngram", "ink", "--out", "/dev/stdout", "--json"), "both write to standard output")


@pytest.mark.usefixtures("only_files_are_replaced")
def test_a_device_is_no_folder(bimo_cli: Any, place: Path, tmp_path: Path) -> None:
    null, text = node(tmp_path / "null", "null"), place / "text.txt"
    for words in (("prepare", text), ("train", text), ("train", place / "corpus"), ("compare", text, "--families", "ngram"),
                  ("quickstart", text), ("quickstart",), ("finetune", place / "lstm", text)):  # fmt: skip
        refused(bimo_cli(*words, "--out", null), f"{null}: a device is in the way of a folder")
        refused(bimo_cli(*words, "--out", null / "deep" / "er"), f"{null}: a device is in the way of a folder")
    refused(bimo_cli("convert", place / "lstm", null), f"{null}: a device is in the way of a folder")
    assert stat.S_ISCHR(null.stat().st_mode)
    assert list(tmp_path.iterdir()) == [null]


@pytest.mark.parametrize("there", [False, True])
def test_a_run_goes_where_a_link_to_a_folder_leads(place: Path, tmp_path: Path, there: bool) -> None:
    if there:
        (tmp_path / "disk").mkdir()
    (tmp_path / "run").symlink_to("disk")
    run = bimo.train(place / "corpus", family="ngram", out=tmp_path / "run", overrides=["model.order=2"])
    assert run.folder == tmp_path / "run"
    assert (tmp_path / "run").is_symlink()
    assert (tmp_path / "disk" / "model.safetensors").is_file()


@pytest.mark.parametrize("before", ["none", "folder", "corpus"])
def test_a_corpus_goes_where_a_link_to_a_folder_leads(place: Path, tmp_path: Path, before: str) -> None:
    if before == "folder":
        (tmp_path / "disk").mkdir()
    elif before == "corpus":
        prepare(place / "text.txt", tmp_path / "disk", tokenizer="byte")
    (tmp_path / "corpus").symlink_to("disk")
    assert prepare(place / "text.txt", tmp_path / "corpus", tokenizer="char").folder == tmp_path / "corpus"
    assert Corpus.open(tmp_path / "disk").tokenizer.kind == "char"
    assert {path.name for path in tmp_path.iterdir()} == {"corpus", "disk"}
    assert (tmp_path / "corpus").is_symlink()


def test_a_folder_behind_a_circle_of_links_is_refused(bimo_cli: Any, place: Path, tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    for words in (("prepare", place / "text.txt", "--out"), ("train", place / "corpus", "--out"), ("convert", place / "lstm")):
        refused(bimo_cli(*words, tmp_path / "a"), "Too many levels of symbolic links")


@pytest.mark.usefixtures("only_files_are_replaced")
def test_a_model_file_goes_into_a_pipe_and_through_a_link(place: Path, tmp_path: Path) -> None:
    pytest.importorskip("gguf")
    from tests.pretrained import pretrained

    pretrained(tmp_path / "model")
    bimo.convert(tmp_path / "model", tmp_path / "m.gguf", dtype="f32")
    (tmp_path / "link.gguf").symlink_to("far.gguf")
    bimo.convert(tmp_path / "model", tmp_path / "link.gguf", dtype="f32")
    assert bimo.load(tmp_path / "far.gguf").score("a") == bimo.load(tmp_path / "m.gguf").score("a")
    pipe = node(tmp_path / "pipe.gguf", "pipe")
    with subprocess.Popen(["cat", pipe], stdout=subprocess.PIPE) as reader:
        bimo.convert(tmp_path / "model", pipe, dtype="f32")
        assert reader.communicate()[0].startswith(b"GGUF")
    with pytest.raises(UserError, match="exists already"):
        bimo.convert(tmp_path / "model", tmp_path / "m.gguf")


@pytest.mark.usefixtures("only_files_are_replaced")
def test_a_conversation_is_saved_into_a_pipe(bimo_cli: Any, place: Path, tmp_path: Path) -> None:
    pipe = node(tmp_path / "pipe", "pipe")
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        ran = bimo_cli("chat", place / "lstm", "max_new_tokens=8", "seed=1", stdin=f"The\n/save {pipe}\n".encode())
        assert f"saved 2 turns to {pipe}\n" in ran.err
        assert os.read(reader, 1 << 16).startswith(b'{"messages":')
    finally:
        os.close(reader)
    assert list(tmp_path.iterdir()) == [pipe]
