"""Spoiled files: models, vocabularies, adapters and recipes with bytes changed at random must open, or be refused in words.

`python -m benchmarks.fuzzing --files 100000` is the evidence run; the tests spoil 2,000. A file that opens is used, too: a model reads
a few tokens, a tokenizer a text. What is wrong: an exception that is not one of Bimo's own, a process that dies, a file that takes
longer than `SECONDS`, and memory beyond `MEMORY` above what the process has when it begins.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import random
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.record import Desk

FILES = 100_000  # of the evidence run
SECONDS = 10
MEMORY = 1 << 30  # bytes beyond what the process has at its start; the largest file here has 60 kB
_EXTREMES = (
    b"0",
    b"-1",
    b"1e308",
    b"NaN",
    b"Infinity",
    b"null",
    b"true",
    b'""',
    b"[]",
    b"{}",
    b"99999999999",
    b"9" * 400,
    b"\xff\xfe",
    b"\x00",
)


@dataclass(frozen=True)
class Target:
    """A kind of file: `make` writes one that is right and returns it and what is to be opened; `use` opens it and does a little with it."""

    name: str
    make: Callable[[Path], tuple[Path, Path]]
    use: Callable[[Path], None]
    text: bool  # numbers and words are swapped, too


# -- what is spoiled --------------------------------------------------------------------------------------------------


def _tiny_decoder(folder: Path, **shape: Any) -> Any:
    from bimo.models.bundle import Bundle
    from bimo.models.decoder import Decoder, DecoderConfig
    from bimo.text.tokenizer import Tokenizer

    tokenizer = Tokenizer.train("bpe", ["to be or not to be, that is the question 你好 " * 20], 300)
    settings = {"layers": 1, "heads": 2, "width": 16, "feed_forward": 24, "context": 32, "qk_norm": False, **shape}
    bundle = Bundle(Decoder.build(DecoderConfig(**settings), tokenizer.vocabulary), tokenizer)
    bundle.save(folder)
    return bundle


def _of_folder(file: str) -> Callable[[Path], tuple[Path, Path]]:
    def make(place: Path) -> tuple[Path, Path]:
        _tiny_decoder(place / "model")
        return place / "model" / file, place / "model"

    return make


_TEMPLATE = """{{ bos_token }}{% for m in messages if m.role != 'tool' %}{% set text = m['content'] | trim | replace('a', 'b') %}
{{ '<|' ~ m.role ~ '|>' + text * 2 }}{% if not loop.last %}, {{ (m | tojson(indent=2))[:9] }}{% endif %}{{ eos_token }}{% endfor %}
{% if add_generation_prompt %}{{ strftime_now('%Y') ~ [1] | join(', ') }}{% endif %}{{ [9] | sum }}{% generation %}b{% endgeneration %}"""


def _template(place: Path) -> tuple[Path, Path]:
    bundle = _tiny_decoder(place / "model")
    bundle.tokenizer.chat_template = _TEMPLATE
    bundle.save(place / "model")
    return place / "model" / "chat_template.jinja", place / "model"


def _index(place: Path) -> tuple[Path, Path]:
    from bimo.models.saved import INDEX, WEIGHTS, write_weights

    model = _tiny_decoder(place / "model").model
    (place / "model" / WEIGHTS).unlink()
    write_weights(place / "model", model.tensors(), 4000)
    return place / "model" / INDEX, place / "model"


def _gguf(place: Path) -> tuple[Path, Path]:
    from bimo.model import Model

    Model(_tiny_decoder(place / "model")).export(place / "model.gguf", "q8_0")
    return place / "model.gguf", place / "model.gguf"


def _arpa(place: Path) -> tuple[Path, Path]:
    import numpy as np

    from bimo.models.interop.arpa import write_arpa
    from bimo.models.ngram import NGram, NGramConfig
    from bimo.text.vocabulary import Vocabulary

    words = ["<s>", "</s>", "<pad>", "<unk>", *"abcdefgh"]
    model = NGram.build(NGramConfig(order=3), Vocabulary(len(words), bos=0, eos=1, pad=2, unk=3, suppressed=(0, 2)))
    generator = random.Random(0)
    model.count([np.array([i for _ in range(40) for i in (0, *(generator.randrange(4, 12) for _ in range(6)), 1)], np.int64)])
    model.estimate()
    write_arpa(model, words, place / "model.arpa")
    return place / "model.arpa", place / "model.arpa"


def _adapter(file: str) -> Callable[[Path], tuple[Path, Path]]:
    def make(place: Path) -> tuple[Path, Path]:
        from bimo.core.recipe import AdapterSection
        from bimo.models.adapters import adapt
        from bimo.models.interop.peft import write_adapter

        model = _tiny_decoder(place / "model").model
        adapt(model, AdapterSection(rank=2))
        write_adapter(model, place / "adapter")
        return place / "adapter" / file, place

    return make


def _vocabulary(name: str, content: Callable[[], bytes], **beside: bytes) -> Callable[[Path], tuple[Path, Path]]:
    def make(place: Path) -> tuple[Path, Path]:
        folder = place / "vocabulary"
        folder.mkdir()
        for file, data in {name: content(), **{f"{stem}.txt": data for stem, data in beside.items()}}.items():
            (folder / file).write_bytes(data)
        return folder / name, folder

    return make


def _byte_letters() -> list[str]:
    from bimo.text.runners import byte_alphabet

    return byte_alphabet()


def _vocab_json() -> bytes:
    letters = _byte_letters()
    return json.dumps({token: i for i, token in enumerate([*letters, "he", "hel", "lo", "<|endoftext|>"])}).encode()


def _vocab_txt() -> bytes:
    return "\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "hello", "##lo", "he", "你", "好"]).encode()


def _tiktoken() -> bytes:
    import base64

    tokens = [*(bytes([i]) for i in range(256)), b"he", b"hel", b"lo", b" w"]
    return b"".join(base64.b64encode(token) + b" %d\n" % i for i, token in enumerate(tokens))


def _pieces() -> bytes:
    """A SentencePiece model, written by hand: pieces with scores and types, then the settings of its trainer."""

    def field(number: int, wire: int, data: bytes) -> bytes:
        return bytes([number << 3 | wire]) + (bytes([len(data)]) if wire == 2 else b"") + data

    def piece(text: str, score: float, kind: int) -> bytes:
        import struct

        return field(1, 2, field(1, 2, text.encode()) + field(2, 5, struct.pack("<f", score)) + field(3, 0, bytes([kind])))

    pieces = [piece("<unk>", 0.0, 2), piece("<s>", 0.0, 3), piece("</s>", 0.0, 3), piece("▁", -2.0, 1)]
    pieces += [piece(text, -3.0 - i, 1) for i, text in enumerate(["▁he", "l", "o", "he", "▁w", "or", "d"])]
    return b"".join(pieces) + field(2, 2, field(3, 0, b"\x01"))


def _recipe(place: Path) -> tuple[Path, Path]:
    from bimo.core.recipe import make_recipe

    path = place / "recipe.yaml"
    make_recipe({"family": "lstm", "training": {"budget": "30s"}}).save(path)
    return path, path


# -- what is done with it ---------------------------------------------------------------------------------------------


def _use_model(path: Path) -> None:
    import torch

    from bimo.models.bundle import Bundle

    bundle = Bundle.load(path)
    bundle.model.score(torch.tensor([bundle.prompt("to be 你好")[:8] or [0, 0]]))
    bundle.tokenizer.decode(bundle.tokenizer.encode("to be 你好"))


def _use_adapter(place: Path) -> None:
    from bimo.models.bundle import Bundle

    bundle = Bundle.load(place / "model")
    bundle.put_adapter(place / "adapter")


def _use_tokenizer(path: Path) -> None:
    from bimo.text.tokenizer import Tokenizer

    tokenizer = Tokenizer.load(path, "gpt2")  # how tiktoken's ranks part a text stands in no file
    tokenizer.decode(tokenizer.encode("hello world 你好"))


def _use_template(path: Path) -> None:
    from bimo.models.bundle import Bundle
    from bimo.text.chat import encode_example

    bundle = Bundle.load(path)
    turns = [{"role": "user", "content": "to be"}, {"role": "assistant", "content": "or not to be"}]
    bundle.chat(turns[:1])
    assert bundle.tokenizer.template is not None
    encode_example(bundle.tokenizer, bundle.tokenizer.template, turns)


def _use_recipe(path: Path) -> None:
    from bimo.core.recipe import make_recipe, read_recipe

    make_recipe(read_recipe(path))


TARGETS = (
    Target("safetensors", _of_folder("model.safetensors"), _use_model, text=False),
    Target("safetensors index", _index, _use_model, text=True),
    Target("config.json", _of_folder("config.json"), _use_model, text=True),
    Target("tokenizer.json", _of_folder("tokenizer.json"), _use_model, text=True),
    Target("tokenizer_config.json", _of_folder("tokenizer_config.json"), _use_model, text=True),
    Target("generation_config.json", _of_folder("generation_config.json"), _use_model, text=True),
    Target("GGUF", _gguf, _use_model, text=False),
    Target("ARPA", _arpa, _use_model, text=True),
    Target("adapter_config.json", _adapter("adapter_config.json"), _use_adapter, text=True),
    Target("adapter_model.safetensors", _adapter("adapter_model.safetensors"), _use_adapter, text=False),
    Target("SentencePiece", _vocabulary("tokenizer.model", _pieces), _use_tokenizer, text=False),
    Target("tiktoken", _vocabulary("qwen.tiktoken", _tiktoken), _use_tokenizer, text=True),
    Target("vocab.json", _vocabulary("vocab.json", _vocab_json, merges=b"h e\nhe l\nl o\n"), _use_tokenizer, text=True),
    Target("vocab.txt", _vocabulary("vocab.txt", _vocab_txt), _use_tokenizer, text=True),
    Target("chat template", _template, _use_template, text=True),
    Target("recipe", _recipe, _use_recipe, text=True),
)


# -- spoiling ---------------------------------------------------------------------------------------------------------


def spoiled(data: bytes, generator: random.Random, text: bool) -> bytes:
    """`data` with one to four changes: bytes turned, cut, doubled, moved, put in; in text words and numbers swapped for others."""
    for _ in range(generator.choice((1, 1, 2, 4))):
        if not data:
            return data
        at = generator.randrange(len(data))
        size = min(len(data) - at, generator.choice((1, 2, 8, 64)))
        kind = generator.randrange(8 if text else 6)
        if kind == 0:
            data = data[:at] + bytes([data[at] ^ 1 << generator.randrange(8)]) + data[at + 1 :]
        elif kind == 1:
            data = data[:at] + generator.randbytes(size) + data[at + size :]
        elif kind == 2:
            data = data[:at] if generator.random() < 0.3 else data[:at] + data[at + size :]
        elif kind == 3:
            data = data[:at] + data[at : at + size] * generator.choice((2, 3, 50)) + data[at + size :]
        elif kind == 4:
            other = generator.randrange(len(data))
            data = data[:at] + data[other : other + size] + data[at + size :]
        elif kind == 5:
            data = data[:at] + generator.choice((b"\x00", b"\xff", b"\x7f")) * generator.choice((1, 4, 8)) + data[at + 8 :]
        else:
            words = list(re.finditer(rb'-?\d+(?:\.\d+)?|"[^"]{0,60}"|\btrue\b|\bfalse\b|\bnull\b', data[:65536]))
            if words:
                word = generator.choice(words)
                new = generator.choice(_EXTREMES) if kind == 6 else generator.choice(words)[0]
                data = data[: word.start()] + new + data[word.end() :]
    return data


def changed(target: Target, seed: int, number: int, right: bytes) -> bytes:
    """The spoiled file `number` of a kind: the same whenever it is asked for."""
    return spoiled(right, random.Random(f"{seed} {target.name} {number}"), target.text)


# -- the work ---------------------------------------------------------------------------------------------------------


class _TookTooLong(BaseException):
    pass


def _alarmed(number: int, frame: Any) -> None:
    raise _TookTooLong


def _memory() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def _work(name: str, seed: int, first: int, last: int, told: Any) -> None:
    """In a child: open the spoiled files first … last − 1 of a kind, and tell what became of each."""
    import torch

    target = next(t for t in TARGETS if t.name == name)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="bimo-fuzz-") as folder:
        file, opened = target.make(Path(folder))
        right = file.read_bytes()
        target.use(opened)
        signal.signal(signal.SIGALRM, _alarmed)
        with contextlib.redirect_stdout(sys.stderr):
            resource.setrlimit(resource.RLIMIT_AS, (_memory() + MEMORY, resource.RLIM_INFINITY))
            for number in range(first, last):
                told.send((number, "begun", ""))
                file.write_bytes(changed(target, seed, number, right))
                told.send((number, *_outcome(target, opened)))
    told.send((last, "end", ""))


def _outcome(target: Target, opened: Path) -> tuple[str, str]:
    """opened, refused, or what went wrong, and what was said."""
    from bimo.core.errors import BimoError

    signal.alarm(SECONDS)
    try:
        target.use(opened)
    except BimoError as error:
        return "refused", str(error)
    except _TookTooLong:
        return "slow", f"more than {SECONDS} s"
    except MemoryError as error:
        return "memory", repr(error)
    except BaseException as error:
        return "wrong", f"{type(error).__name__}: {error}"[:300]
    finally:
        signal.alarm(0)
    return "opened", ""


def run(files: int, seed: int = 0, only: str | None = None, at_once: int = 500) -> dict[str, Any]:
    """Spoil and open `files` files, the kinds in turn; how many opened and were refused, and each that went wrong."""
    targets = [t for t in TARGETS if only in (None, t.name)]
    counts: dict[str, Counter[str]] = {t.name: Counter() for t in targets}
    wrong: list[dict[str, Any]] = []
    started = time.perf_counter()
    for place, target in enumerate(targets):
        wanted = files * (place + 1) // len(targets) - files * place // len(targets)
        for first in range(0, wanted, at_once):
            for number, what, said in _outcomes(target.name, seed, first, min(wanted, first + at_once)):
                counts[target.name][what] += 1
                if what not in ("opened", "refused"):
                    wrong.append({"kind": target.name, "number": number, "what": what, "said": said})
    return {
        "files": files, "seed": seed, "seconds_each": SECONDS, "memory_bytes": MEMORY, "wrong": wrong,
        "kinds": {name: dict(found) for name, found in counts.items()}, "seconds": round(time.perf_counter() - started, 1),
    }  # fmt: skip


def _outcomes(name: str, seed: int, first: int, last: int) -> Iterator[tuple[int, str, str]]:
    """What became of each file, from children that go on where one died."""
    context = multiprocessing.get_context("spawn")
    while first < last:
        ours, theirs = context.Pipe(duplex=False)
        child = context.Process(target=_work, args=(name, seed, first, last, theirs), daemon=True)
        child.start()
        theirs.close()
        begun: int | None = None
        while True:
            try:
                if not ours.poll(SECONDS * 12):
                    child.kill()
                    break
                number, what, said = ours.recv()
            except EOFError:
                break
            if what == "begun":
                begun = number
            elif what == "end":
                begun, first = None, last
                break
            else:
                begun, first = None, number + 1
                yield number, what, said
        child.join(30)
        if begun is not None:
            yield begun, "died", f"exit code {child.exitcode}"
            first = begun + 1
        elif first < last and child.exitcode:
            raise RuntimeError(f"{name}: the work on the file that is right ended with exit code {child.exitcode}")


def fuzzing(desk: Desk) -> dict[str, Any]:
    """The evidence run."""
    found = desk.module("benchmarks.fuzzing", "--files", FILES, "--seed", desk.seed)
    return {**found, "reached": not found["wrong"]}


def main() -> None:
    """Spoil files, print what became of them as JSON; exit code 1 where something went wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=[t.name for t in TARGETS])
    parser.add_argument("--keep", type=Path, help="a folder to write each file that went wrong to")
    options = parser.parse_args()
    found = run(options.files, options.seed, options.only)
    if options.keep:
        _keep(found, options.seed, options.keep)
    print(json.dumps(found, indent=2, ensure_ascii=False))
    sys.exit(bool(found["wrong"]))


def _keep(found: dict[str, Any], seed: int, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for one in found["wrong"]:
        target = next(t for t in TARGETS if t.name == one["kind"])
        with tempfile.TemporaryDirectory(prefix="bimo-fuzz-") as place:
            file, _ = target.make(Path(place))
            name = f"{re.sub(r'[^a-z0-9]+', '-', target.name.lower())}-{one['number']}{file.suffix}"
            (folder / name).write_bytes(changed(target, seed, one["number"], file.read_bytes()))
            shutil.copystat(file, folder / name)


if __name__ == "__main__":
    main()
