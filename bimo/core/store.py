"""Files that are either whole or absent: written beside, synced, then renamed; devices and pipes are written into."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from bimo.core.errors import MachineError, ModelError, UserError

_HALVES = re.compile("[\ud800-\udfff]")
_STAGES: list[Callable[[str, Path], None]] = []  # told of each stage of a save: "write", "sync", "rename", "renamed"

_UNWRITABLE = (
    errno.EACCES, errno.EPERM, errno.EROFS, errno.EISDIR, errno.ELOOP, errno.ENXIO, errno.ENODEV, errno.EBADF
)  # fmt: skip
_UMASK = os.umask(0)
os.umask(_UMASK)


@contextlib.contextmanager
def observe_saves(told: Callable[[str, Path], None]) -> Iterator[None]:
    """Call `told(stage, path)` at every stage of every save inside the block (tests kill the process there)."""
    _STAGES.append(told)
    try:
        yield
    finally:
        _STAGES.remove(told)


def _stage(name: str, path: Path) -> None:
    for told in _STAGES:
        told(name, path)


@contextlib.contextmanager
def machine_errors(path: Path) -> Iterator[None]:
    """Turn the machine's refusals (full disk, no permission) into errors that say what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            free = free_bytes(path)
            raise MachineError(
                f"{path}: no space left on the device ({free / 2**20:.0f} MiB free); free some space, then resume"
            ) from error
        if error.errno == errno.EFBIG:
            raise MachineError(f"{path}: larger than this system or a limit of it (ulimit -f) lets a file be") from error
        if error.errno in _UNWRITABLE:
            raise UserError(f"{path}: cannot be written ({error.strerror}); choose another folder with --out") from error
        if error.errno in (errno.ENOTDIR, errno.EEXIST):
            raise UserError(f"{path}: a file is in the way ({error.strerror}); choose another folder with --out") from error
        raise


def sync_folder(folder: Path) -> None:
    """Make renames inside `folder` survive a power cut (a no-op where folders cannot be opened)."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it; where a symbolic link leads to a missing one, that one is made."""
    with machine_errors(folder):
        os.makedirs(resolve(folder), exist_ok=True)


def refuse_non_folder(path: Path, error: type[UserError] = UserError) -> None:
    """Raise `error` where a file, a device or a circle of links stands in the place of a folder, or of one above it."""
    for place in (Path(path), *Path(path).parents):
        with machine_errors(place):
            found = resolve(place)
        if found.is_dir():
            return
        if os.path.lexists(found):
            raise error(f"{place}: {kind_of_file(found)} is in the way of a folder; choose another folder with --out")


def kind_of_file(path: Path) -> str:
    """What stands at a path that exists, in words."""
    mode = os.stat(path).st_mode
    kinds = {stat.S_ISDIR: "a folder", stat.S_ISREG: "a file", stat.S_ISFIFO: "a pipe", stat.S_ISSOCK: "a socket"}
    return next((words for holds, words in kinds.items() if holds(mode)), "a device")


def is_special(path: Path) -> bool:
    """Whether a path is (or a link leads to) a device, a pipe or a socket: neither a regular file, nor a folder, nor nothing."""
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):  # there is none, or it is no name that a file can have
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


def is_standard_output(path: Path) -> bool:
    """Whether what is written to `path` goes where this process prints."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(1))
    except (OSError, ValueError):
        return False


def resolve(path: Path) -> Path:
    """Where a path leads, symbolic links followed, whether or not a file is there; `OSError` for a circle of links."""
    try:
        return Path(os.path.realpath(path, strict=True))
    except (FileNotFoundError, NotADirectoryError):
        return Path(os.path.realpath(path))


def _descriptor(path: Path) -> int | None:
    """The open file of this process that a path names, as /dev/stdout and /dev/fd/3 do, by its number; None of any other path."""
    for _ in range(40):  # links in a row, at which Linux gives up too
        folder = Path(os.path.realpath(path.parent))
        if str(folder) in (f"/proc/{os.getpid()}/fd", "/dev/fd") and path.name.isdecimal():
            return int(path.name)
        if not path.is_symlink():
            return None
        path = folder / os.readlink(path)
    return None


def write_beside(path: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a file beside `path`, sync it, and rename it to `path`: never a half-written file.

    On any failure the file beside is removed and `path` is as it was. Only a regular file is replaced: of a symbolic link the target is
    written and the link stays; a device, a pipe or an open file (/dev/stdout) is written into once `write` is done.
    """
    path = Path(path)
    with machine_errors(path):
        number = _descriptor(path)
        if number is not None or is_special(path):
            _write_into(path if number is None else number, path, write)
            return
        target = resolve(path)
        if target.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        beside = target.with_name(f".{target.name}.{os.getpid()}.part")
        refuse_non_folder(target.parent)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            _stage("write", path)
            write(beside)
            _stage("sync", path)
            os.chmod(beside, 0o666 & ~_UMASK)
            with open(beside, "rb+") as file:
                os.fsync(file.fileno())
            _stage("rename", path)
            os.replace(beside, target)
            sync_folder(target.parent)
            _stage("renamed", path)
        except BaseException:
            with contextlib.suppress(OSError):
                beside.unlink()
            raise


def _write_into(place: Path | int, path: Path, write: Callable[[Path], None]) -> None:
    """Copy what `write` writes into a device or a pipe, or into the open file of that number; nothing where `write` fails."""
    with tempfile.TemporaryDirectory(prefix="bimo-") as folder:
        _stage("write", path)
        write(whole := Path(folder) / "whole")
        if sys.stdout is not None:
            sys.stdout.flush()  # what was printed comes first
        handle = os.dup(place) if isinstance(place, int) else os.open(place, os.O_WRONLY | getattr(os, "O_NOCTTY", 0))
        with open(handle, "wb") as into, open(whole, "rb") as held:
            shutil.copyfileobj(held, into)


def left_behind(folder: Path, name: str | None = None) -> Iterator[tuple[Path, str]]:
    """What processes that are gone left in `folder` beside `name` (beside anything, if None): each path, and "part" or "old"."""
    import psutil

    for left in sorted(Path(folder).glob(".*")):
        found = re.fullmatch(r"\.(.+)\.(\d+)\.(part|old)", left.name)
        if found and name in (None, found[1]) and (int(found[2]) == os.getpid() or not psutil.pid_exists(int(found[2]))):
            yield left, found[3]


def clear_left(folder: Path) -> None:
    """Remove the half-written files (and folders) that processes killed inside a save left in `folder`; not while this one saves."""
    for left, what in left_behind(folder):
        if what == "part":
            remove(left)


def remove(path: Path) -> None:
    """Remove a file or a folder as far as the system lets us."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()


def printable(text: str | Path) -> str:
    """`text` as UTF-8 can hold it: bytes of a file's name that are no UTF-8, which Python keeps as half surrogates, are spelled out.

    >>> print(printable(b"\\xcc\\xc6.txt".decode("utf-8", "surrogateescape")))
    \\xcc\\xc6.txt
    """
    return _HALVES.sub(lambda half: f"\\x{ord(half[0]) - 0xDC00:02x}" if half[0] >= "\udc80" else f"\\u{ord(half[0]):04x}", str(text))


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8, whole or not at all."""
    data = text.encode("utf-8")

    def write(beside: Path) -> None:
        beside.write_bytes(data)

    write_beside(Path(path), write)


def json_text(value: Any) -> str:
    """`value` as JSON. Infinity and NaN must have been replaced by None before.

    Half surrogates (names that are no UTF-8) become JSON's own escapes, so that they are read as they were.
    """
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False).encode("utf-8", "backslashreplace").decode("utf-8")


def json_line(value: Any) -> str:
    """As `json_text`, on one line."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False).encode("utf-8", "backslashreplace").decode("utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write `json_text`, whole or not at all."""
    write_text(path, json_text(value) + "\n")


LFS_POINTER = b"version https://git-lfs.github.com/spec/"


def refuse_pointer(path: Path, error: type[UserError] = ModelError) -> None:
    """Raise `error` where a file is the pointer that Git LFS leaves in place of a large file which was not fetched."""
    with contextlib.suppress(OSError), open(path, "rb") as file:
        if file.read(len(LFS_POINTER)) == LFS_POINTER:
            raise error(f"{path}: a Git LFS pointer, not the file itself; fetch it with git lfs pull, in the folder of the repository")


def read_mapping(path: Path) -> dict[str, Any]:
    """The settings that a JSON file holds; none where there is no file, `ModelError` for anything but a mapping."""
    found = read_json(path) if path.is_file() else {}
    if not isinstance(found, dict):
        raise ModelError(f"{path}: expected a mapping of settings, found a {type(found).__name__}; save the model again")
    return found


def read_json(path: Path, error: type[UserError] = ModelError) -> Any:
    """Read JSON; a missing or damaged file raises `error`, which names the file."""
    path = Path(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise error(f"{path}: no such file") from None
    except OSError as cause:
        raise error(f"{path}: cannot be read ({cause.strerror})") from None
    except (ValueError, RecursionError) as cause:
        refuse_pointer(path, error)
        raise error(f"{path}: not valid JSON ({cause})") from None


def refuse_odd_name(path: Path, error: type[UserError] = UserError) -> None:
    """Raise `error` where a path is no UTF-8: safetensors opens no such file."""
    if printable(path) != str(path):
        raise error(f"{path}: its name is not UTF-8, under which a model cannot be opened; choose another name")


def write_tensors(path: Path, tensors: Mapping[str, Any], metadata: Mapping[str, str] | None = None) -> None:
    """Write torch tensors as safetensors, whole or not at all."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    refuse_odd_name(path)
    contiguous = {name: t.detach().contiguous().cpu() for name, t in tensors.items()}

    def write(beside: Path) -> None:
        try:
            save_file(contiguous, beside, metadata=dict(metadata or {"format": "pt"}))
        except SafetensorError as cause:  # the machine's refusals come as text: "… (os error 28)"
            number = re.search(r"os error (\d+)", str(cause))
            if number is None:
                raise
            raise OSError(int(number.group(1)), os.strerror(int(number.group(1))), str(beside)) from cause

    write_beside(Path(path), write)


def read_tensors(path: Path, error: type[UserError] = ModelError) -> dict[str, Any]:
    """Read safetensors into torch tensors; a missing or damaged file raises `error`, which names the file."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = Path(path)
    if not os.path.isfile(path):  # unlike Path's, false of names that no file can have
        raise error(f"{path}: no such file")
    refuse_odd_name(path, error)
    try:
        # Products of matrices that lie askew in the file differ in their last bits: what is saved and loaded must not.
        return {name: t if t.data_ptr() % 64 == 0 else t.clone() for name, t in load_file(path).items()}
    except (SafetensorError, ValueError, OSError, OverflowError, MemoryError) as cause:
        refuse_pointer(path, error)
        if isinstance(cause, MemoryError) or (isinstance(cause, OSError) and cause.errno == errno.ENOMEM):
            raise MachineError(f"{path}: not enough memory for its tensors ({path.stat().st_size / 2**20:,.0f} MiB)") from cause
        raise error(f"{path}: damaged safetensors file ({cause})") from None


def read_tensor_metadata(path: Path) -> dict[str, str]:
    """The string metadata in the header of a safetensors file."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        return dict(file.metadata() or {})


def free_bytes(path: Path) -> int:
    """Free bytes on the device that holds `path` (or its nearest existing parent)."""
    path = Path(path).absolute()
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free


def next_run_folder(name: str, root: Path = Path("runs")) -> Path:
    """The first of runs/<name>-1, runs/<name>-2, … that does not exist yet."""
    number = 1
    while (folder := root / f"{name}-{number}").exists():
        number += 1
    return folder
