"""The command line: each mistake is one clear line and exit code 2; what must work works; results and progress apart."""

from __future__ import annotations

import gzip
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from bimo.core import store
from tests.conftest import Ran, small

Cli = Callable[..., Ran]


def refused(ran: Ran, *said: str) -> None:
    """One clear line on standard error, nothing on standard output, exit code 2."""
    assert ran.code == 2, ran
    assert ran.out == ""
    assert ran.err.count("\n") == 1, ran.err
    assert ran.err.startswith("bimo: ")
    assert "Traceback" not in ran.err
    assert "bug" not in ran.err
    for words in said:
        assert words in ran.err


# -- mistakes ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["prepare", "train", "compare", "plan"])
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"),
        (b"a", "too short"),
        (b"  \n \n", "blank"),
        (bytes(range(256)) * 9, "binary"),
        (None, "no such file"),
        ("folder", "nothing readable"),
    ],
)
def test_text_that_is_none(bimo_cli: Cli, tmp_path: Path, verb: str, content: Any, said: str) -> None:
    source = tmp_path / "source.txt"
    if content == "folder":
        source.mkdir()
        (source / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(99))
    elif content is not None:
        source.write_bytes(content)
    out = [] if verb == "plan" else ["--out", tmp_path / "out"]
    refused(bimo_cli(verb, source, *out), said, "source.txt")
    assert not (tmp_path / "out" / "corpus").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["model.lyers=2"], "model.lyers: unknown key; did you mean layers?"),
        (["seed=2"], "did you mean training.seed?"),
        (["training.lr=2"], "training.lr: unknown key; did you mean learning_rate?"),
        (["lr=2"], "lr: unknown key; did you mean training.learning_rate?"),
        (["training.epochs=2"], "did you mean budget?"),
        (["model.num_layers=2", *small("decoder"), "--family", "decoder"], "model.num_layers: unknown key; did you mean layers?"),
        (["text=3"], "text: "),
        (["--family", "lsmt"], "did you mean lstm?"),
        (["--family", "ngram", "model.order=0"], "model.order: "),
        (["--budget", "0s"], "budget: must be more than nothing"),
        (["--budget", "soon"], "budget: cannot read 'soon'"),
        (["--tokenizer", "bep"], "text.tokenizer: "),
        (["--documents", "lines"], "text.documents: "),
        (["--vocab-size", "0"], "text.vocab_size: "),
        (["--vocab-size", "many"], "--vocab-size"),
        (["--seed", "-1"], "training.seed: "),
        (["--sede", "1"], "--seed"),
        (["training.learning_rate=nan"], "training.learning_rate"),
        (["training.context=999", *small("decoder")], "training.context: 999 is more than the model's context"),
        (["training.device=gpu7"], "training.device: "),
        (["model.heads=3", "model.width=16"], "width 16"),
        (["=3"], "expected section.key=value"),
        (["recipe.yaml"], "give one recipe, or text"),
        (["--valid", "none.txt"], "none.txt: no such file"),
    ],
)
def test_options_that_cannot_be_meant(bimo_cli: Cli, place: Path, tmp_path: Path, words: list[str], said: str) -> None:
    refused(bimo_cli("train", place / "text.txt", "--out", tmp_path / "out", *words), said)
    assert not (tmp_path / "out" / "model.safetensors").exists()


def test_words_that_are_no_command(bimo_cli: Cli) -> None:
    refused(bimo_cli("trian"), "train", "bimo --help")
    refused(bimo_cli("train"), "no text given")
    refused(bimo_cli("generate"), "generate --help")
    assert bimo_cli().code == 2
    assert bimo_cli("--version").out.startswith("bimo ")


def test_a_prepared_corpus_keeps_its_tokenizer(bimo_cli: Cli, place: Path, tmp_path: Path) -> None:
    ran = bimo_cli("train", place / "corpus", "--out", tmp_path / "out", "--tokenizer", "bpe")
    refused(ran, "is prepared already: text.tokenizer is char there, not bpe; it can only be chosen in bimo prepare")


def test_folders_in_the_way(bimo_cli: Cli, place: Path, tmp_path: Path) -> None:
    text = place / "text.txt"
    refused(bimo_cli("train", text, "--out", place / "ngram"), "holds a run already", "--resume")
    refused(bimo_cli("train", "--resume", tmp_path), "no run to resume")
    refused(bimo_cli("train", text, "--resume", place / "ngram"), "leave out sources")
    refused(bimo_cli("train", text, "--out", text), "a file is in the way", "--out")
    (tmp_path / "mine.doc").write_text("precious")
    refused(bimo_cli("prepare", text, "--out", tmp_path), "exists and is not a prepared corpus")
    assert (tmp_path / "mine.doc").read_text() == "precious"


def test_a_run_that_failed_before_its_first_checkpoint_is_in_nobodys_way(bimo_cli: Cli, place: Path, tmp_path: Path) -> None:
    words = ["train", place / "corpus", "--out", tmp_path / "run", "--budget", "2steps", "--family"]
    refused(bimo_cli(*words, "seq2seq"), "prepare with --documents line")
    assert (tmp_path / "run" / "recipe.yaml").exists()
    refused(bimo_cli(*words, "lstm", *small("lstm"), "training.device=nowhere"), "training.device")
    assert bimo_cli(*words, "lstm", *small("lstm")).code == 0
    refused(bimo_cli(*words, "lstm", *small("lstm")), "holds a run already")


@pytest.mark.parametrize("content", ["family: [", "- 3", "modle: {}", "family: decoder\ntext: 3", "family: decoder\nmodel: x", "\x00"])
def test_recipes_that_are_none(bimo_cli: Cli, tmp_path: Path, content: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(content)
    refused(bimo_cli("train", path, "--out", tmp_path / "out"))
    refused(bimo_cli("train", tmp_path / "missing.yaml"), "no such recipe")


def _without(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def _with(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(content)


def _truncated(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-500])


def _config(**changes: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, **changes}))

    return change


CORRUPTIONS: dict[str, Callable[[Path], object]] = {
    "truncated weights": _truncated,
    "no weights": _without("model.safetensors"),
    "weights that are text": _with("model.safetensors", b"weights"),
    "no config": _without("config.json"),
    "config cut": _with("config.json", b'{"model_type": '),
    "config a list": _with("config.json", b"[]"),
    "config binary": _with("config.json", bytes(range(256))),
    "config empty": _with("config.json", b"{}"),
    "config nested without end": _with("config.json", b"[" * 200_000),
    "layers without end": _config(num_hidden_layers=10**7, layers=10**7),
    "unknown model type": _config(model_type="bert-like"),
    "wrong shapes": _config(vocab_size=77),
    "huge vocabulary": _config(vocab_size=10**9),
    "negative vocabulary": _config(vocab_size=-4),
    "special out of range": _config(eos_token_id=10**6),
    "no tokenizer": _without("tokenizer.json"),
    "tokenizer cut": _with("tokenizer.json", b'{"version": "1.0"'),
    "tokenizer of nothing": _with("tokenizer.json", b"{}"),
    "tokenizer settings a list": _with("tokenizer_config.json", b"[1]"),
    "own settings cut": _with("bimo.json", b"{"),
    "own settings a list": _with("bimo.json", b"[]"),
    "own settings wrong": _with("bimo.json", b'{"documents": 7, "context": "x"}'),
}


@pytest.mark.parametrize("family", ["decoder", "lstm", "ngram"])
@pytest.mark.parametrize("harm", CORRUPTIONS)
def test_a_corrupt_model(bimo_cli: Cli, place: Path, tmp_path: Path, family: str, harm: str) -> None:
    folder = tmp_path / "model"
    shutil.copytree(place / family, folder, ignore=shutil.ignore_patterns("corpus", "checkpoint*"))
    CORRUPTIONS[harm](folder)
    ran = bimo_cli("generate", folder, "The", "--max-new-tokens", "3")
    refused(ran)


def _unfinished(place: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    shutil.copytree(place / "decoder", folder)
    (folder / "model.safetensors").unlink()
    told = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**told, "status": "running"}))
    return folder


@pytest.mark.parametrize("harm", ["cut", "empty", "text", "recipe", "run", "run a list", "no corpus", "other corpus"])
def test_a_corrupt_run(bimo_cli: Cli, place: Path, tmp_path: Path, harm: str) -> None:
    folder = _unfinished(place, tmp_path)
    saved = folder / "checkpoint.safetensors"
    if harm in ("cut", "empty", "text"):
        saved.write_bytes({"cut": saved.read_bytes()[:-99], "empty": b"", "text": b"not tensors"}[harm])
    elif harm == "recipe":
        (folder / "recipe.yaml").write_text("family: [")
    elif harm.startswith("run"):
        (folder / "run.json").write_text("{" if harm == "run" else "[]")
    else:
        told = json.loads((folder / "run.json").read_text())
        elsewhere = {"corpus": str(tmp_path / "gone")} if harm == "no corpus" else {"corpus_fingerprint": "another"}
        (folder / "run.json").write_text(json.dumps({**told, **elsewhere}))
    refused(bimo_cli("train", "--resume", folder))


@pytest.mark.parametrize("harm", ["gone", "empty", "cut"])
def test_a_run_goes_on_without_its_curve(bimo_cli: Cli, place: Path, tmp_path: Path, harm: str) -> None:
    folder = _unfinished(place, tmp_path)
    metrics = folder / "metrics.jsonl"
    first, second, *_ = metrics.read_bytes().splitlines(keepends=True)
    metrics.write_bytes(first + second[:20] if harm == "cut" else b"")
    if harm == "gone":
        metrics.unlink()
    ran = bimo_cli("train", "--resume", folder, "--json")
    assert ran.code == 0, ran.err
    assert any("metrics.jsonl" in notice for notice in ran.json["notices"])
    assert metrics.read_bytes() == (first if harm == "cut" else b"")


def test_an_unfinished_run_says_how_to_go_on(bimo_cli: Cli, place: Path, tmp_path: Path) -> None:
    folder = _unfinished(place, tmp_path)
    refused(bimo_cli("generate", folder, "x"), f"bimo train --resume {folder}")
    assert bimo_cli("train", "--resume", folder).code == 0
    assert (folder / "model.safetensors").read_bytes() == (place / "decoder" / "model.safetensors").read_bytes()
    ran = bimo_cli("train", "--resume", folder)
    assert (ran.code, "already finished" in ran.out) == (0, True)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--temperature", "nan"], "temperature"),
        (["--temperature", "-1"], "temperature"),
        (["--top-p", "1.5"], "top_p"),
        (["--max-new-tokens", "0"], "max_new_tokens"),
        (["--num-beams", "3", "--temperature", "0.5"], "temperature: beam search does not draw"),
        (["--num-return-sequences", "2", "--temperature", "0"], "num_return_sequences"),
        (["minp=3"], "did you mean min_p?"),
        (["oops"], "expected section.key=value"),
        (["bad_words_ids=[[99999]]"], "bad_words_ids"),
        (["--seed", "-4"], "seed"),
    ],
)
def test_generation_options_that_cannot_be_meant(bimo_cli: Cli, place: Path, words: list[str], said: str) -> None:
    refused(bimo_cli("generate", place / "decoder", "The", *words), said)


@pytest.mark.parametrize(
    ("model", "words", "said"),
    [
        ("decoder", ["--stride", "99"], "stride: must lie in 1…16"),
        ("decoder", ["--stride", "0"], "stride: must lie in 1…16"),
        ("lstm", ["--stride", "5"], "leave --stride out"),
        ("decoder", ["--documents", "lines"], "did you mean line?"),
        ("nowhere", [], "no such model folder"),
        ("corpus", [], "not a model folder"),
    ],
)
def test_evaluations_that_cannot_be_meant(bimo_cli: Cli, place: Path, model: str, words: list[str], said: str) -> None:
    refused(bimo_cli("evaluate", place / model, place / "text.txt", *words), said)


def test_empty_text_cannot_be_evaluated(bimo_cli: Cli, place: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("")
    refused(bimo_cli("evaluate", place / "decoder", tmp_path / "empty.txt"), "empty")
    refused(bimo_cli("info", tmp_path), "neither a model")
    refused(bimo_cli("compare", place / "text.txt", "--families", "ngram,lsmt", "--out", tmp_path / "c"), "did you mean lstm?")
    for family, said in (("vae", "vae reads each document whole"), ("gan", "judges whole texts would never see it")):
        for verb in ("train", "plan"):
            out = ["--out", tmp_path / "run"] if verb == "train" else []
            refused(bimo_cli(verb, place / "text.txt", "--tokenizer", "char", "--family", family, *out, "text.documents=file"), said)
            shutil.rmtree(tmp_path / "run", ignore_errors=True)
    refused(bimo_cli("compare", place / "text.txt", "--families", ","), "families: none given")


# -- the machine ------------------------------------------------------------------------------------------------------------


def test_a_full_disk_is_the_machines(bimo_cli: Cli, place: Path, tmp_path: Path) -> None:
    def full(stage: str, path: Path) -> None:
        if path.name == "model.safetensors":
            raise OSError(28, "No space left on device")

    with store.observe_saves(full):
        ran = bimo_cli("train", place / "corpus", "--out", tmp_path / "run", "--budget", "3steps", *small("lstm"), "--family", "lstm")
    assert ran.code == 1
    assert "no space left on the device" in ran.err.splitlines()[-1]
    assert "Traceback" not in ran.err
    assert bimo_cli("train", "--resume", tmp_path / "run").code == 0
    assert (tmp_path / "run" / "model.safetensors").exists()


def test_an_unwritable_folder_is_the_users_to_choose(bimo_cli: Cli, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", denied)
    refused(bimo_cli("prepare", place / "text.txt", "--out", tmp_path / "out"), "cannot be written", "--out")
    refused(bimo_cli("train", place / "corpus", "--out", tmp_path / "out"), "cannot be written", "--out")


def test_ctrl_c_ends_with_130(bimo_cli: Cli, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import signal

    from bimo.training import loop

    step = loop.Loop._step

    def interrupted(self: loop.Loop) -> None:
        if self.progress.step == 1:
            os.kill(os.getpid(), signal.SIGINT)
        step(self)

    monkeypatch.setattr(loop.Loop, "_step", interrupted)
    ran = bimo_cli("train", place / "corpus", "--family", "lstm", "--out", tmp_path / "run", "--budget", "9steps", *small("lstm"))
    assert ran.code == 130
    assert ran.err.splitlines()[-1].endswith(f"bimo train --resume {tmp_path / 'run'}")


def test_want_of_memory_is_no_bug(bimo_cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    from bimo import api

    monkeypatch.setattr(api, "env", lambda: torch.empty(1 << 50))
    ran = bimo_cli("env")
    assert (ran.code, ran.err.count("\n")) == (1, 1)
    assert "not enough memory" in ran.err


def test_a_bug_is_called_one(bimo_cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    from bimo import api

    monkeypatch.setattr(api, "env", lambda: 1 / 0)
    ran = bimo_cli("env")
    assert ran.code == 1
    assert "this is a bug" in ran.err
    assert ran.err.count("\n") == 1


# -- what must work ---------------------------------------------------------------------------------------------------------


def test_results_go_to_standard_output_and_progress_to_standard_error(bimo_cli: Cli, place: Path, tmp_path: Path) -> None:
    ran = bimo_cli("train", place / "corpus", "--family", "lstm", "--out", tmp_path / "run", "--budget", "4steps", *small("lstm"), "--json")
    assert ran.json["family"] == "lstm"
    assert ran.json["folder"] == str(tmp_path / "run")
    assert "loss" in ran.err
    asked: list[list[object]] = [
        ["evaluate", place / "ngram", place / "text.txt"],
        ["generate", place / "lstm", "A"],
        ["prepare", place / "text.txt", "--out", tmp_path / "corpus"],
        ["plan", place / "corpus", "--family", "ngram"],
        ["info", place / "decoder"],
        ["env"],
    ]
    for words in asked:
        assert isinstance(bimo_cli(*words, "--json").json, dict), words


def test_evaluation_as_json(bimo_cli: Cli, place: Path) -> None:
    found = bimo_cli("evaluate", place / "decoder", place / "text.txt", "--stride", "4", "--json").json
    assert {"perplexity", "bits_per_byte", "nats", "tokens", "bytes", "kind", "unknown_tokens"} <= set(found)
    assert found["bytes"] == (place / "text.txt").stat().st_size
    assert (found["context"], found["stride"]) == (16, 4)
    assert any("overlap" in notice for notice in found["notices"])


def test_generation_in_all_its_forms(bimo_cli: Cli, place: Path) -> None:
    model = place / "decoder"
    one = bimo_cli("generate", model, "The ", "--max-new-tokens", "9", "--seed", "1", "min_new_tokens=9")
    again = bimo_cli("generate", model, "The ", "--max-new-tokens", "9", "--seed", "1", "min_new_tokens=9", "--json").json
    assert one.out == "The " + again["texts"][0] + "\n"
    assert again["generated_tokens"] == 9
    beams = bimo_cli("generate", model, "The ", "--max-new-tokens", "5", "--num-beams", "3", "--num-return-sequences", "2")
    assert beams.out.startswith("[1] The ")
    assert len(bimo_cli("generate", model, "x", "--num-return-sequences", "3", "--max-new-tokens", "4", "--json").json["texts"]) == 3
    assert bimo_cli("generate", model, "-", "--max-new-tokens", "3", stdin=b"From afar\n").out.startswith("From afar")
    refused(bimo_cli("generate", model, "-", stdin=b"\xff\xfe\xfa"), "not UTF-8")


def test_prompts_that_are_odd(bimo_cli: Cli, place: Path) -> None:
    model = place / "decoder"
    assert bimo_cli("generate", model, "", "--max-new-tokens", "4").code == 0
    huge = bimo_cli("generate", model, "x" * 30_000, "--max-new-tokens", "4")
    assert huge.code == 0
    assert "the model sees 16 tokens at most" in huge.err
    unknown = bimo_cli("generate", model, "中文", "--max-new-tokens", "4")
    assert "2 of the prompt's 3 tokens are unknown" in unknown.err
    assert bimo_cli("generate", place / "lstm", "x" * 30_000, "--max-new-tokens", "4").code == 0


def test_names_with_signs_blanks_and_chinese(bimo_cli: Cli, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a=b c 中文.txt").write_bytes((place / "text.txt").read_bytes())
    out = tmp_path / "出 去=x"
    ran = bimo_cli("train", "a=b c 中文.txt", "--family", "ngram", "--out", out, "--tokenizer", "char", "model.order=2")
    assert ran.code == 0, ran.err
    assert bimo_cli("evaluate", out, "a=b c 中文.txt").code == 0
    assert f"'{out}'" in ran.out, "the command to go on with is quoted"
    assert bimo_cli("train", "a=b c 中文.txt", "--family", "ngram", "--tokenizer", "char", "model.order=2").code == 0
    assert [p.name for p in Path("runs").iterdir()] == ["a-b-c-中文-1"]


def test_names_that_are_no_utf8(bimo_cli: Cli, place: Path, tmp_path: Path) -> None:
    folder, odd = tmp_path / "zip", tmp_path / os.fsdecode("出去".encode("gb18030"))
    folder.mkdir()
    poem = folder / os.fsdecode("唐诗.txt".encode("gb18030"))
    poem.write_bytes((place / "text.txt").read_bytes())
    ran = bimo_cli("train", folder, "--family", "ngram", "--tokenizer", "char", "--out", tmp_path / "run", "model.order=2")
    assert ran.code == 0, ran.err
    assert r"\xcc\xc6" in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert bimo_cli("evaluate", tmp_path / "run", poem).code == 0
    ran = bimo_cli("prepare", poem, "--out", odd, "--valid", poem, "--json")
    assert r"\xcc\xc6" in ran.json["reading"]["valid"]["files"][0]["name"]
    told = bimo_cli("train", odd, "--family", "ngram", "--valid", poem, "--out", tmp_path / "odd", "--json")
    assert told.code == 0, told.err
    assert json.loads((tmp_path / "odd" / "run.json").read_text(encoding="utf-8"))["corpus"] == str(odd)
    refused(bimo_cli("train", folder, "--out", odd), r"\xb3\xf6", "its name is not UTF-8")
    refused(bimo_cli("train", os.fsdecode(b"\xff.txt")), r"\xff.txt: no such file")


def test_a_line_of_ten_megabytes_and_gb18030(bimo_cli: Cli, place: Path, tmp_path: Path) -> None:
    (tmp_path / "long.txt").write_bytes(b"an endless line " * 655_360)
    ran = bimo_cli("prepare", tmp_path / "long.txt", "--out", tmp_path / "long", "--documents", "line", "--tokenizer", "char", "--json")
    assert ran.code == 0, ran.err
    assert sum(s["bytes"] for s in ran.json["splits"].values()) == 10_485_760
    text = "春眠不觉晓，处处闻啼鸟。夜来风雨声，花落知多少。\n" * 60
    (tmp_path / "poem.txt").write_bytes(text.encode("gb18030"))
    ran = bimo_cli("train", tmp_path / "poem.txt", "--family", "ngram", "--tokenizer", "char", "--out", tmp_path / "poem", "--json")
    assert ran.code == 0, ran.err
    assert "春" in (tmp_path / "poem" / "tokenizer.json").read_text(encoding="utf-8")
    assert "gb18030" in (tmp_path / "poem" / "corpus" / "corpus.json").read_text()


def test_a_folder_of_mixed_formats_with_unreadable_files_among_them(bimo_cli: Cli, place: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mixed"
    folder.mkdir()
    text = (place / "text.txt").read_text()
    (folder / "a.txt").write_text(text)
    (folder / "b.jsonl").write_text("\n".join(json.dumps({"text": part}) for part in text.split("\n\n")))
    (folder / "c.csv").write_text('text\n"one, two"\n"three"\n')
    (folder / "d.txt.gz").write_bytes(gzip.compress(text.encode()))
    (folder / "e.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(200))
    (folder / "f.gz").write_bytes(b"\x1f\x8bbroken")
    (folder / "g.txt").write_bytes(b"")
    ran = bimo_cli("prepare", folder, "--out", tmp_path / "out")
    assert ran.code == 0, ran.err
    assert "read 4 file(s)" in ran.out
    for name in ("e.png", "f.gz", "g.txt"):
        assert f"skipped {folder / name}: " in ran.out


def test_standard_input(bimo_cli: Cli, place: Path, tmp_path: Path) -> None:
    text = (place / "text.txt").read_bytes()
    ran = bimo_cli("train", "-", "--family", "ngram", "--tokenizer", "char", "--out", tmp_path / "run", "--json", stdin=text)
    assert ran.code == 0, ran.err
    assert json.loads((tmp_path / "run" / "result.json").read_text())["text"]["name"] == "standard input"
    assert bimo_cli("evaluate", tmp_path / "run", "-", "--json", stdin=text).json["bytes"] == len(text)
    refused(bimo_cli("train", "-", "--family", "ngram", "--out", tmp_path / "none"), "standard input (standard input: empty)")


def test_no_standard_input(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    from bimo.cli import main

    for words in (["train", "-", "--out", tmp_path / "run"], ["evaluate", place / "ngram", "-"], ["generate", place / "ngram", "-"]):
        monkeypatch.setattr("sys.argv", ["bimo", *map(str, words)])
        monkeypatch.setattr("sys.stdin", None)
        with pytest.raises(SystemExit) as ended:
            main()
        assert (ended.value.code, capfd.readouterr().err.startswith("bimo: standard input: closed")) == (2, True)


def test_info_of_everything(bimo_cli: Cli, place: Path) -> None:
    model = bimo_cli("info", place / "decoder").out
    assert "family" in model
    assert "bits_per_byte" in model
    assert "splits:" in bimo_cli("info", place / "corpus").out
    assert max(map(len, (model + bimo_cli("info", place / "corpus").out).splitlines())) < 400


def test_a_plan_names_what_it_needs(bimo_cli: Cli, place: Path) -> None:
    for family in ("ngram", "decoder"):
        found = bimo_cli("plan", place / "corpus", "--family", family, *small(family), "--budget", "10s", "--json")
        assert {"parameters", "memory_bytes", "disk_bytes", "tokens", "seconds", "tokens_per_second", "threads"} <= set(found.json)
        assert found.err == ""
