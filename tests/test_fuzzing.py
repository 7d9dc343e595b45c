"""Spoiled files: two thousand of them open or are refused in words; what once broke stays."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import fuzzing
from bimo.core import store
from bimo.core.errors import BimoError, ModelError
from bimo.models.bundle import Bundle
from bimo.models.interop import peft
from bimo.text.runners import told_panics
from bimo.text.tokenizer import Tokenizer


@pytest.mark.slow
def test_two_thousand_spoiled_files_open_or_are_refused() -> None:
    found = fuzzing.run(2000, seed=0, at_once=1)  # beside other tests: a file that takes long is to be told by itself
    assert found["wrong"] == []
    for name, outcomes in found["kinds"].items():
        assert outcomes["refused"] > 20, name
        assert sum(outcomes.values()) >= 2000 // len(fuzzing.TARGETS)


@pytest.mark.parametrize("target", fuzzing.TARGETS, ids=lambda t: t.name)
def test_a_file_that_is_right_opens_and_is_the_same_when_made_again(target: fuzzing.Target, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    file, opened = target.make(tmp_path / "a")
    target.use(opened)
    right = file.read_bytes()
    assert fuzzing.changed(target, 0, 5, right) == fuzzing.changed(target, 0, 5, right) != fuzzing.changed(target, 0, 6, right)


def test_what_goes_wrong_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    target = next(t for t in fuzzing.TARGETS if t.name == "recipe")
    _, opened = target.make(tmp_path)

    def outcome(work: Any) -> str:
        return fuzzing._outcome(fuzzing.Target("x", target.make, work, text=True), opened)[0]

    def endless(path: Path) -> None:
        while True:
            pass

    def hungry(path: Path) -> None:
        raise MemoryError

    def refused(path: Path) -> None:
        raise ModelError("said")

    monkeypatch.setattr(fuzzing, "SECONDS", 1)
    monkeypatch.setattr(fuzzing.signal, "signal", fuzzing.signal.signal)
    before = fuzzing.signal.signal(fuzzing.signal.SIGALRM, fuzzing._alarmed)
    try:
        assert [outcome(work) for work in (endless, hungry, refused, lambda path: None, lambda path: [][1])] == [
            "slow", "memory", "refused", "opened", "wrong",
        ]  # fmt: skip
    finally:
        fuzzing.signal.signal(fuzzing.signal.SIGALRM, before)


# -- what once broke --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", ["a byte is missing", "two tokens have one id", "a letter that stands for no byte"])
def test_bytes_that_tiktokens_core_would_stumble_over(change: str, tmp_path: Path) -> None:
    """Its core ended the process' thread with a panic, which no `except Exception` sees."""
    Tokenizer.train("bpe", ["to be or not to be " * 30], 300).save(tmp_path)
    told = json.loads((tmp_path / "tokenizer.json").read_text(encoding="utf-8"))
    vocab = told["model"]["vocab"]
    if change == "a byte is missing":
        vocab["neverseen"] = vocab.pop("Á")
    elif change == "two tokens have one id":
        vocab["Á"] = vocab["Â"]
    else:
        vocab["ʨ"] = vocab.pop("Á")
    (tmp_path / "tokenizer.json").write_text(json.dumps(told), encoding="utf-8")
    with contextlib.suppress(BimoError):  # refused in words, or run by the other library
        Tokenizer.load(tmp_path).encode("to be Á 你好")


def test_a_panic_of_the_library_is_told() -> None:
    panic = type("PanicException", (BaseException,), {})
    with pytest.raises(ModelError, match="gave up on it"), told_panics():
        raise panic("index out of range")
    with pytest.raises(KeyboardInterrupt), told_panics():
        raise KeyboardInterrupt


def test_a_tokenizer_that_makes_the_library_panic_is_refused(tmp_path: Path) -> None:
    """`continuing_subword_prefix` that a merge does not have: the library cuts a slice before its beginning."""
    target = next(t for t in fuzzing.TARGETS if t.name == "tokenizer.json")
    file, opened = target.make(tmp_path)
    told = json.loads(file.read_text(encoding="utf-8"))
    told["model"]["continuing_subword_prefix"] = "a prefix that is longer than any token"
    file.write_text(json.dumps(told), encoding="utf-8")
    with pytest.raises(ModelError, match="not a tokenizer"):
        Bundle.load(opened)


def spoil_config(name: str, folder: Path, **fields: Any) -> Path:
    """A folder of that kind whose config.json says so."""
    file, opened = next(t for t in fuzzing.TARGETS if t.name == name).make(folder)
    file.write_text(json.dumps({**json.loads(file.read_text(encoding="utf-8")), **fields}), encoding="utf-8")
    return opened


@pytest.mark.parametrize("layers", [10_000, 10_000.0, "10000", int("1" * 400)])
def test_layers_that_no_tensor_is_for_are_refused_before_they_are_made(layers: float | str, tmp_path: Path) -> None:
    """A number with a point, or in quotes, is a number of layers too, and ten thousand took more than ten seconds."""
    with pytest.raises(ModelError, match="num_hidden_layers is 1"):
        Bundle.load(spoil_config("config.json of Qwen2", tmp_path, num_hidden_layers=layers))


@pytest.mark.parametrize("mask", [259, int("2" * 50)])
def test_a_mask_that_is_no_token_is_refused(mask: int, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="mask_token_id"):
        Bundle.load(spoil_config("config.json of BERT", tmp_path, mask_token_id=mask))


@pytest.mark.parametrize("samples", [99_999_999_999, int("1" * 50)])
def test_samples_that_nobody_has_room_for_are_refused(samples: int, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="score_samples"):
        Bundle.load(spoil_config("config.json of a VAE", tmp_path, score_samples=samples))


@pytest.mark.parametrize(("rank", "says"), [(3, "but r is 3"), (60_000, "but r is 60000"), (int("9" * 400), "rank: must be 65536 or less")])
def test_a_rank_that_is_not_the_tensors_is_refused_before_maps_of_it_are_made(
    rank: int, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = next(t for t in fuzzing.TARGETS if t.name == "adapter_config.json")
    opened = spoil_config(target.name, tmp_path, r=rank)
    monkeypatch.setattr(peft, "adapt", lambda *_: pytest.fail("maps are made"))
    with pytest.raises(ModelError, match=says):
        target.use(opened)


def test_adapters_without_a_rank_to_compare_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = next(t for t in fuzzing.TARGETS if t.name == "adapter_model.safetensors")
    file, opened = target.make(tmp_path)
    store.write_tensors(file, {name.replace("lora_A", "lora_C"): tensor for name, tensor in store.read_tensors(file).items()})
    monkeypatch.setattr(peft, "adapt", lambda *_: pytest.fail("maps are made"))
    with pytest.raises(ModelError, match="holds no lora_A"):
        target.use(opened)


def test_an_index_that_names_files_which_no_folder_can_hold_is_refused(tmp_path: Path) -> None:
    target = next(t for t in fuzzing.TARGETS if t.name == "safetensors index")
    file, opened = target.make(tmp_path)
    told = json.loads(file.read_text(encoding="utf-8"))
    told["weight_map"] = dict.fromkeys(told["weight_map"], "a" * 300 + ".safetensors")
    file.write_text(json.dumps(told), encoding="utf-8")
    with pytest.raises(ModelError, match="no such file"):
        target.use(opened)
