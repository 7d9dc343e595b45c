"""Files are whole or absent, whatever happens while they are written."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch

from bimo.core import store
from bimo.core.errors import CheckpointError, MachineError, ModelError, UserError

ROOT = hasattr(os, "geteuid") and os.geteuid() == 0


def test_what_is_written_reads_back(tmp_path: Path) -> None:
    store.write_json(tmp_path / "new" / "a.json", {"书": [1, None]})
    assert store.read_json(tmp_path / "new" / "a.json") == {"书": [1, None]}
    store.write_tensors(tmp_path / "t.safetensors", {"x": torch.arange(6).view(2, 3).t()}, {"note": "n"})
    assert store.read_tensors(tmp_path / "t.safetensors")["x"].tolist() == [[0, 3], [1, 4], [2, 5]]
    assert store.read_tensor_metadata(tmp_path / "t.safetensors") == {"note": "n"}


@pytest.mark.parametrize("when", ["write", "sync", "rename"])
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), KeyboardInterrupt(), ZeroDivisionError()])
def test_a_failure_leaves_the_old_file_and_nothing_beside(tmp_path: Path, when: str, error: BaseException) -> None:
    path = tmp_path / "a.txt"
    store.write_text(path, "old")

    def fail(stage: str, where: Path) -> None:
        if stage == when:
            raise error

    with store.observe_saves(fail), pytest.raises(MachineError if isinstance(error, OSError) else type(error)):
        store.write_text(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_stages_come_in_order(tmp_path: Path) -> None:
    seen: list[str] = []
    with store.observe_saves(lambda stage, path: seen.append(stage)):
        store.write_text(tmp_path / "a", "x")
    store.write_text(tmp_path / "b", "x")
    assert seen == ["write", "sync", "rename", "renamed"]


@pytest.mark.parametrize(
    ("number", "kind", "said"),
    [(errno.ENOSPC, MachineError, "no space left .* MiB free"), (errno.EDQUOT, MachineError, "no space left"),
     (errno.EACCES, UserError, "cannot be written .*--out"), (errno.EROFS, UserError, "cannot be written"),
     (errno.ENOTDIR, UserError, "in the way"), (errno.EEXIST, UserError, "in the way")],
)  # fmt: skip
def test_the_machines_refusals_say_what_to_do(tmp_path: Path, number: int, kind: type[Exception], said: str) -> None:
    with pytest.raises(kind, match=said), store.machine_errors(tmp_path / "deep" / "file"):
        raise OSError(number, os.strerror(number))
    with pytest.raises(OSError, match="Input/output"), store.machine_errors(tmp_path):
        raise OSError(errno.EIO, os.strerror(errno.EIO))


@pytest.mark.parametrize("kind", ["text", "tensors"])
def test_a_real_limit_on_file_size_leaves_the_old_file(tmp_path: Path, kind: str) -> None:
    script = textwrap.dedent("""
        import pathlib, resource, signal, sys
        from bimo.core import store
        path, kind = pathlib.Path(sys.argv[1]), sys.argv[2]
        store.write_text(path, "old")
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
        if kind == "tensors":
            import torch
        try:
            store.write_text(path, "n" * 100_000) if kind == "text" else store.write_tensors(path, {"a": torch.zeros(100_000)})
        except store.MachineError as error:
            print(error)
    """)
    path = tmp_path / "a.txt"
    done = subprocess.run([sys.executable, "-c", script, str(path), kind], capture_output=True, text=True, check=False)
    assert "a.txt: larger than" in done.stdout, done.stderr
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_real_small_disk_that_is_full_leaves_the_old_file(tmp_path: Path) -> None:
    """On a disk of 64 KiB that only this child process sees (a mount namespace of its own)."""
    script = textwrap.dedent("""
        import pathlib, subprocess, sys, torch
        from bimo.core import store
        small = pathlib.Path(sys.argv[1])
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(small)], check=True)
        path = small / "a"
        store.write_text(path, "old")
        for write in (lambda: store.write_text(path, "n" * 200_000), lambda: store.write_tensors(path, {"a": torch.zeros(50_000)})):
            try:
                write()
            except store.MachineError as error:
                print(error)
        print(path.read_text(), len(list(small.iterdir())))
    """)
    command = ["unshare", "--mount", sys.executable, "-c", script, str(tmp_path)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("no unshare on this system")
    if "ermission" in done.stderr or "mount" in done.stderr:
        pytest.skip("no permission to mount a small disk")
    first, second, left = done.stdout.splitlines()
    assert "a: no space left on the device (0 MiB free)" in first
    assert second == first
    assert left == "old 1"


def test_a_really_full_device_is_told_so() -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("no /dev/full on this system")
    with pytest.raises(MachineError, match="no space left"), store.machine_errors(full):
        full.write_bytes(b"x")


@pytest.mark.skipif(ROOT, reason="root may write everywhere")
def test_an_unwritable_folder_is_the_users_to_choose(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(UserError, match=r"cannot be written .*--out"):
            store.write_text(tmp_path / "a.txt", "x")
    finally:
        tmp_path.chmod(0o700)


def test_a_file_where_a_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="a file is in the way"):
        store.write_text(tmp_path / "file" / "a.txt", "x")


def test_files_are_as_readable_as_the_umask_says(tmp_path: Path) -> None:
    script = "import os, sys, pathlib; os.umask(0o027); from bimo.core import store; store.write_text(pathlib.Path(sys.argv[1]), 'x')"
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "a")], check=True)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe\x00", b""])
def test_damaged_json_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"config\.json: not valid JSON"):
        store.read_json(path)
    with pytest.raises(CheckpointError, match="no such file"):
        store.read_json(tmp_path / "none.json", CheckpointError)
    with pytest.raises(ModelError, match="cannot be read"):
        store.read_json(tmp_path)


@pytest.mark.parametrize("content", [b"", b"\x00" * 7, b"\xff" * 64, b'\x10\x00\x00\x00\x00\x00\x00\x00{"a": 1}'])
def test_damaged_tensors_are_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(ModelError, match="damaged safetensors"):
        store.read_tensors(path)
    with pytest.raises(ModelError, match="no such file"):
        store.read_tensors(tmp_path / "none")


def test_infinity_is_never_written_as_json(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        store.write_json(tmp_path / "a.json", float("inf"))
    assert not (tmp_path / "a.json").exists()


def test_run_folders_are_numbered(tmp_path: Path) -> None:
    assert store.next_run_folder("x", tmp_path) == tmp_path / "x-1"
    (tmp_path / "x-1").mkdir()
    assert store.next_run_folder("x", tmp_path) == tmp_path / "x-2"
    assert store.free_bytes(tmp_path / "not" / "there") > 0


def test_parts_of_dead_processes_are_cleared_and_of_living_ones_kept(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    names = {
        f".a.json.{dead.pid}.part",
        f".corpus.{dead.pid}.part",
        f".b.{os.getppid()}.part",
        f".corpus.{dead.pid}.old",
        ".c.part",
        "d.1.part",
    }
    for name in names - {f".corpus.{dead.pid}.part"}:
        (tmp_path / name).write_text("half")
    (tmp_path / f".corpus.{dead.pid}.part").mkdir()
    store.clear_left(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == names - {f".a.json.{dead.pid}.part", f".corpus.{dead.pid}.part"}
    store.clear_left(tmp_path / "absent")
