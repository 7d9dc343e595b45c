"""nanoGPT's recipe, written again: the same function as GPT-2's, the recipe's schedule, and one evaluator for both sides."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from benchmarks import nanogpt, nanogpt_cpu, shakespeare


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def options(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    nanogpt.add_options(parser)
    return parser.parse_args(words)


def test_it_is_gpt2_without_biases() -> None:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    ours = nanogpt.GPT(vocab=11, context=8, layers=2, heads=2, width=16)
    config = transformers.GPT2Config(vocab_size=11, n_positions=8, n_layer=2, n_head=2, n_embd=16, activation_function="gelu")
    theirs = transformers.GPT2LMHeadModel(config).eval()
    names = {
        "norm_1": "ln_1",
        "norm_2": "ln_2",
        "attend": "attn.c_attn",
        "project": "attn.c_proj",
        "widen": "mlp.c_fc",
        "narrow": "mlp.c_proj",
    }
    with torch.no_grad():
        for p in theirs.parameters():
            p.zero_()
        pairs = {"tokens": "wte", "places": "wpe", "norm": "ln_f"}
        pairs |= {f"blocks.{i}.{mine}": f"h.{i}.{name}" for i in range(2) for mine, name in names.items()}
        for mine, name in pairs.items():
            weight = ours.get_submodule(mine).weight
            assert isinstance(weight, torch.Tensor)
            weight.mul_(5) if weight.dim() == 2 else weight.add_(torch.randn_like(weight) * 0.1)
            turned = any(part in mine for part in ("attend", "project", "widen", "narrow"))
            theirs.transformer.get_submodule(name).weight.copy_(weight.t() if turned else weight)
        ids = torch.randint(11, (3, 8))
        assert torch.allclose(ours(ids), theirs(ids).logits, atol=1e-5)


def test_it_has_the_size_that_its_author_tells() -> None:
    model = nanogpt.GPT(65, 64, 4, 4, 128)
    assert sum(p.numel() for p in model.parameters()) - model.places.weight.numel() == 795_904  # "0.80M" without positions


def test_the_learning_rate_rises_over_100_steps_and_falls_to_a_tenth() -> None:
    rates = [nanogpt.learning_rate(step, 2000) for step in range(2001)]
    assert rates[0] == pytest.approx(1e-3 / 101)
    assert rates[100] == max(rates) == pytest.approx(1e-3)
    assert rates[1050] == pytest.approx(5.5e-4)
    assert rates[2000] == pytest.approx(1e-4)


def test_every_character_but_the_first_is_scored_once() -> None:
    ids = torch.arange(30) % 7
    seen: list[int] = []

    def logits(x: torch.Tensor) -> torch.Tensor:
        seen.extend(x.flatten().tolist())
        assert x.shape[1] <= 4
        return torch.nn.functional.one_hot((x + 1) % 7, 7) * 100.0  # the truth

    assert shakespeare.validation_loss(logits, ids, context=4, rows=2) == pytest.approx(0.0, abs=1e-6)
    assert seen == ids[:-1].tolist()


def test_the_text_is_cut_where_nanogpt_cuts_it(tmp_path: Path) -> None:
    (tmp_path / "all.txt").write_text("abcdé" * 21, encoding="utf-8")
    train, valid = (p.read_text(encoding="utf-8") for p in shakespeare.split(tmp_path / "all.txt", tmp_path / "parts"))
    assert (len(train), len(valid)) == (94, 11)
    assert train + valid == "abcdé" * 21


def test_it_learns_and_stops_at_the_first_look_that_is_at_the_target(tmp_path: Path) -> None:
    (tmp_path / "all.txt").write_text("the cat sat on the mat; " * 60, encoding="utf-8")
    shakespeare.split(tmp_path / "all.txt", tmp_path)
    small = (
        "--layers",
        "1",
        "--heads",
        "2",
        "--width",
        "16",
        "--context",
        "16",
        "--steps",
        "60",
        "--check-every",
        "20",
        "--check-from",
        "20",
    )
    found = nanogpt.train(tmp_path, options(*small, "--target", "2.55"), time.monotonic() - 5)
    assert found["reached"]
    assert found["step"] in (20, 40)
    assert 5 < found["seconds"] < 60  # type: ignore[operator]
    missed = nanogpt.train(tmp_path, options(*small, "--target", "0"), time.monotonic())
    assert (missed["reached"], missed["step"], len(missed["curve"])) == (False, 60, 3)  # type: ignore[arg-type]


def test_our_runs_are_measured_by_the_same_evaluator(tmp_path: Path) -> None:
    import bimo

    (tmp_path / "all.txt").write_text("the cat sat on the mat; " * 60, encoding="utf-8")
    train, valid = shakespeare.split(tmp_path / "all.txt", tmp_path)
    tiny = ["model.layers=1", "model.width=16", "model.heads=2", "model.context=8", "training.evaluations=0", "training.samples=0"]
    bimo.train(
        str(train), valid=valid, test=valid, tokenizer="char", documents="file", budget="3steps", out=tmp_path / "run", overrides=tiny
    )
    loss, characters = shakespeare.loss_of_run(tmp_path / "run", valid)
    assert characters == 143
    evaluation = bimo.load(tmp_path / "run").evaluate(valid)
    assert evaluation.tokens == 145  # the first character and the end too
    assert loss == pytest.approx(evaluation.nats / evaluation.tokens, rel=0.05)


def test_both_sides_take_turns_and_a_missed_target_gives_no_ratio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "all.txt").write_text("text " * 20)
    turns: list[str] = []
    reached = {"theirs": True, "ours": True}

    def side(name: str, seconds: float) -> None:
        def run(folder: Path, seed: int, asked: argparse.Namespace) -> dict[str, object]:
            assert (folder / "train.txt").is_file()
            turns.append(f"{name} {seed}")
            return {"seconds": seconds + seed, "loss": 1.8, "reached": reached[name]}

        monkeypatch.setattr(nanogpt_cpu, name, run)

    side("theirs", 99.0)
    side("ours", 24.0)
    asked = argparse.Namespace(runs=3, target=1.88)
    found = nanogpt_cpu.measure(asked, tmp_path / "all.txt")
    assert turns == ["theirs 0", "ours 0", "theirs 1", "ours 1", "theirs 2", "ours 2"]
    assert (found["ratio"], found["at_least"]) == (4.0, False)
    reached["theirs"] = False
    assert nanogpt_cpu.measure(asked, tmp_path / "all.txt")["at_least"]
    reached["ours"] = False
    assert nanogpt_cpu.measure(asked, tmp_path / "all.txt")["ratio"] is None
