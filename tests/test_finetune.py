"""Fine-tuning: adapters and all weights, on answers and on text; what is learned, kept, resumed and opened elsewhere."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

import bimo
from bimo.core import store
from bimo.core.errors import CheckpointError, CorpusError, Interrupted, ModelError, RecipeError
from bimo.data.corpus import Corpus
from bimo.models.bundle import Bundle
from bimo.models.decoder import Decoder
from bimo.models.quantized import FourBit
from bimo.text.vocabularies.gguf import fields_of
from bimo.training import loop, starting
from bimo.training.checkpoint import Checkpoint
from bimo.training.plan import make_plan
from tests.pretrained import pretrained

COLOURS = {"sky": "blue", "grass": "green", "coal": "black", "snow": "white"}
FAST = ["training.batch_size=2", "training.context=96", "training.threads=1", "training.evaluations=2", "training.samples=1"]


def talks(folder: Path, number: int = 240) -> Path:
    names = list(COLOURS)
    records = []
    for i in range(number):
        name = names[i % 4]
        asked = {"role": "user", "content": f"what is the colour of {name}? ({i})"}
        records.append({"messages": [asked, {"role": "assistant", "content": f"it is {COLOURS[name]}."}]})
    path = folder / "talks.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finetune")
    pretrained(folder / "base")
    talks(folder)
    return folder


@pytest.fixture(scope="module")
def tuned(place: Path) -> Any:
    return bimo.finetune(
        place / "base", place / "talks.jsonl", out=place / "tuned", budget="24steps", overrides=[*FAST, "training.learning_rate=0.02"]
    )


def stop_after(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Runs are asked to stop in that step, until `monkeypatch.undo()`."""
    step = loop.Loop._step

    def stopping(self: Any) -> None:
        step(self)
        self._stop_asked = self.progress.step == number

    monkeypatch.setattr(loop.Loop, "_step", stopping)


def test_answers_are_learned_and_the_rest_is_as_it_was(place: Path, tuned: Any) -> None:
    base, model = Bundle.load(place / "base"), Bundle.load(place / "tuned")
    held = [place / "talks.jsonl"]
    before, after = (bimo.load(f).evaluate(held) for f in (place / "base", place / "tuned"))
    assert before.tokens == after.tokens
    assert after.nats_per_token < before.nats_per_token - 1.0
    assert torch.equal(base.model.embedding.weight, model.model.embedding.weight)  # type: ignore[union-attr]
    assert model.tokenizer.chat_template == base.tokenizer.chat_template
    metrics = [json.loads(line) for line in (place / "tuned" / "metrics.jsonl").read_text().splitlines()]
    assert [m["valid_loss"] for m in metrics if "valid_loss" in m][-1] < metrics[0]["loss"]
    checkpoint = store.read_tensors(place / "tuned" / "checkpoint.safetensors")
    assert not any(".weight" in name and name.startswith("model.") for name in checkpoint)  # adapters alone


def test_the_adapter_beside_the_base_is_the_model(place: Path, tuned: Any) -> None:
    text = "what is the colour of snow?"
    merged = bimo.load(place / "tuned").score(text)
    assert bimo.load(place / "base", adapter=place / "tuned" / "adapter").score(text) == pytest.approx(merged, abs=1e-3)
    assert bimo.load(place / "base").score(text) != pytest.approx(merged, abs=1e-2)


def test_adapters_are_put_beside_a_model_and_taken_away(place: Path, tuned: Any, tmp_path: Path) -> None:
    text, adapter = "what is the colour of snow?", place / "tuned" / "adapter"
    model = bimo.load(place / "base")
    before, after = model.score(text), bimo.load(place / "tuned").score(text)
    with pytest.raises(ModelError, match="load_adapter puts one"):
        model.unmerge_adapter()
    for _ in range(2):
        model.load_adapter(adapter)
        assert model.score(text) == pytest.approx(after, abs=1e-3)
        model.unmerge_adapter()
        assert model.score(text) == pytest.approx(after, abs=1e-3)
        model.save(tmp_path / "apart")
        assert bimo.load(tmp_path / "apart").score(text) == pytest.approx(after, abs=1e-3)
        with pytest.raises(ModelError, match="has an adapter already"):
            model.load_adapter(adapter)
        assert model.score(text) == pytest.approx(after, abs=1e-3)
        model.merge_adapter()
        model.unload_adapter()
        assert model.score(text) == pytest.approx(before, abs=1e-3)
    (tmp_path / "wrong").mkdir()
    with pytest.raises(ModelError):
        model.load_adapter(tmp_path / "wrong")
    config = json.loads((adapter / "adapter_config.json").read_text())
    store.write_json(tmp_path / "wrong" / "adapter_config.json", {**config, "r": 1})
    store.write_tensors(tmp_path / "wrong" / "adapter_model.safetensors", store.read_tensors(adapter / "adapter_model.safetensors"))
    with pytest.raises(ModelError, match="has shape"):
        model.load_adapter(tmp_path / "wrong")
    assert model.score(text) == pytest.approx(before, abs=1e-3), "as it was"
    model.load_adapter(adapter)


def test_peft_and_transformers_open_what_was_learned(place: Path, tuned: Any) -> None:
    transformers, peft = pytest.importorskip("transformers"), pytest.importorskip("peft")
    tokenizer = transformers.AutoTokenizer.from_pretrained(place / "tuned")
    turns = [{"role": "user", "content": "what is the colour of coal?"}]
    ids = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=False)
    bundle = Bundle.load(place / "tuned")
    assert list(ids) == bundle.chat(turns)
    base = transformers.AutoModelForCausalLM.from_pretrained(place / "base", local_files_only=True)
    with torch.no_grad():
        theirs = peft.PeftModel.from_pretrained(base, place / "tuned" / "adapter").eval()(torch.tensor([ids])).logits
        whole = transformers.AutoModelForCausalLM.from_pretrained(place / "tuned", local_files_only=True)(torch.tensor([ids])).logits
    ours, _ = bundle.model.advance(bundle.model.start(1), torch.tensor([ids]))
    assert torch.allclose(ours, theirs, atol=1e-3)
    assert torch.allclose(ours, whole, atol=1e-3)


def test_the_ids_learned_from_are_those_that_are_asked(place: Path, tuned: Any) -> None:
    split = Corpus.open(place / "tuned" / "corpus").splits["valid"]
    bundle = Bundle.load(place / "tuned")
    assert split.answers is not None
    ids = split.document(0)
    answer = int(split.answers.argmax())
    name = bundle.tokenizer.decode(ids[:answer].tolist()).split("colour of ")[1].split("?")[0]
    number = bundle.tokenizer.decode(ids[:answer].tolist()).split("(")[1].split(")")[0]
    assert ids[:answer].tolist() == bundle.chat([{"role": "user", "content": f"what is the colour of {name}? ({number})"}])
    assert int(ids[answer:][split.answers[answer : len(ids)]][-1]) in bundle.answer_ends


def test_all_weights_are_learned_where_that_is_asked(place: Path) -> None:
    run = bimo.finetune(place / "base", place / "talks.jsonl", full=True, out=place / "full", budget="4steps", overrides=FAST)
    assert not (run.folder / "adapter").exists()
    base, model = Bundle.load(place / "base").model, Bundle.load(run.folder).model
    changed = [n for n, p in model.state_dict().items() if not torch.equal(p, base.state_dict()[n])]  # type: ignore[union-attr]
    assert len(changed) == len(model.state_dict())  # type: ignore[union-attr]
    with pytest.raises(RecipeError, match="full: all weights"):
        bimo.finetune(place / "base", place / "talks.jsonl", full=True, out=place / "x", overrides="adapter.rank=4")


def test_a_run_that_was_stopped_goes_on_to_the_bit(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = [*FAST, "training.checkpoint_every=3", "adapter.dropout=0.1", "training.precision=fp32"]
    whole = bimo.finetune(place / "base", place / "talks.jsonl", out=place / "whole", budget="8steps", overrides=words)
    stop_after(monkeypatch, 5)
    with pytest.raises(Interrupted):
        bimo.finetune(place / "base", place / "talks.jsonl", out=place / "part", budget="8steps", overrides=words)
    monkeypatch.undo()
    torch.manual_seed(99)
    part = bimo.resume(place / "part")
    ours, theirs = (store.read_tensors(f / "model.safetensors") for f in (whole.folder, part.folder))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_adapters_are_learned_beside_weights_in_four_bits(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The base goes to four bits from the half precision that it is stored in; a run that was stopped goes on to the bit."""
    Bundle.load(place / "base").save(tmp_path / "half", dtype="bf16")
    seen: list[torch.dtype] = []
    keep = FourBit.__init__
    monkeypatch.setattr(FourBit, "__init__", lambda self, weight: (seen.append(weight.dtype), keep(self, weight))[1])
    words = [*FAST, "adapter.quantized=nf4", "training.learning_rate=0.02", "training.checkpoint_every=3", "training.precision=fp32"]
    whole = bimo.finetune(tmp_path / "half", place / "talks.jsonl", out=tmp_path / "whole", budget="24steps", overrides=words)
    assert set(seen) == {torch.bfloat16}
    before, after = (bimo.load(f).evaluate([place / "talks.jsonl"]) for f in (tmp_path / "half", whole.folder))
    assert after.nats_per_token < before.nats_per_token - 1.0
    assert whole.row.parameters == bimo.load(whole.folder).info()["parameters"]
    beside = bimo.load(tmp_path / "half", adapter=whole.folder / "adapter").evaluate([place / "talks.jsonl"])
    assert beside.nats_per_token == pytest.approx(after.nats_per_token, abs=0.2), "the same adapters beside weights that were not rounded"
    stop_after(monkeypatch, 5)
    with pytest.raises(Interrupted):
        bimo.finetune(tmp_path / "half", place / "talks.jsonl", out=tmp_path / "part", budget="24steps", overrides=words)
    assert all(".down." in name or ".up." in name for name in Checkpoint.load(tmp_path / "part").model)
    monkeypatch.undo()
    part = bimo.resume(tmp_path / "part")
    ours, theirs = (store.read_tensors(f / "model.safetensors") for f in (whole.folder, part.folder))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_model_that_is_tuned_lies_in_memory_once(place: Path) -> None:
    """Its weights are handed on, not copied; where another run starts from it, they are opened again."""
    starting.started.cache_clear()
    reference = str(place / "base")
    opened = starting.started(reference)
    places = {t.data_ptr() for t in opened.model.state_dict().values()}  # type: ignore[union-attr]
    for _ in range(2):
        with torch.device("meta"):
            model = Decoder(opened.model.config, opened.model.vocabulary)  # type: ignore[union-attr]
        starting.take_weights(model, reference, opened.tokenizer)
        held = model.state_dict()
        assert not any(t.is_meta for t in held.values())
        assert all(p.is_meta for p in starting.started(reference).model.parameters())  # type: ignore[union-attr]
        assert places is None or {t.data_ptr() for t in held.values()} == places
        places = None  # opened again, they lie elsewhere


def test_more_rows_than_tokens_are_resumed_too(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makers pad the rows of an embedding; what a checkpoint is put into has as many."""
    bundle = pretrained(place / "tight")
    old = bundle.model
    wide = type(old).build(old.config, replace(old.vocabulary, size=old.vocab_size + 9))  # type: ignore[attr-defined]
    Bundle(wide, bundle.tokenizer).save(place / "padded")
    for full in (False, True):
        out = place / f"padded-{full}"
        stop_after(monkeypatch, 2)
        with pytest.raises(Interrupted):
            bimo.finetune(place / "padded", place / "talks.jsonl", full=full, out=out, budget="4steps", overrides=FAST)
        monkeypatch.undo()
        bimo.resume(out)
        assert Bundle.load(out).model.vocab_size == old.vocab_size + 9


def test_text_is_learned_from_whole(place: Path) -> None:
    (place / "plain.txt").write_text("it is blue and it is green.\n" * 200)
    run = bimo.finetune(place / "base", place / "plain.txt", out=place / "plain", budget="3steps", overrides=FAST)
    assert run.row.bits_per_byte


def test_tokens_are_added_and_begin_as_what_their_texts_were(place: Path) -> None:
    (place / "tokens.txt").write_text("你好\n天地\na\n", encoding="utf-8")
    records = [{"prompt": f"say it {i}", "completion": "你好天地"} for i in range(240)]
    (place / "zh.jsonl").write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in records), encoding="utf-8")
    run = bimo.finetune(
        place / "base", place / "zh.jsonl", out=place / "zh", budget="2steps", overrides=[*FAST, f"text.add_tokens={place / 'tokens.txt'}"]
    )
    base, model = Bundle.load(place / "base"), Bundle.load(run.folder)
    old = base.tokenizer.vocabulary.size
    assert model.tokenizer.vocabulary.size == model.model.vocab_size == old + 2
    assert model.tokenizer.encode("你好天地") == [old, old + 1]
    assert model.tokenizer.decode([old, old + 1]) == "你好天地"
    rows, before = model.model.embedding.weight, base.model.embedding.weight  # type: ignore[union-attr]
    assert torch.equal(rows[:old], before)
    start = before[base.tokenizer.encode("你好")].mean(dim=0)
    assert torch.allclose(rows[old], start, atol=0.1)
    assert not torch.equal(rows[old], start)  # it has learned
    assert not (run.folder / "adapter").exists()
    assert any("2 tokens were added" in notice for notice in run.row.notices), run.row.notices


TEMPLATE = (
    """{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|done|>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"""
)


def test_special_tokens_and_a_chat_template_of_ones_own(place: Path, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    (tmp_path / "own.jinja").write_text(TEMPLATE)
    names = ["<|user|>", "<|assistant|>", "<|done|>"]
    words = [*FAST, f"text.chat_template={tmp_path / 'own.jinja'}", f"text.add_special_tokens={json.dumps(names)}"]
    (tmp_path / "tokens.txt").write_text("你好\n", encoding="utf-8")
    run = bimo.finetune(
        place / "base", place / "talks.jsonl", out=tmp_path / "own", budget="2steps",
        overrides=[*words, f"text.add_tokens={tmp_path / 'tokens.txt'}"],
    )  # fmt: skip
    old, bundle = Bundle.load(place / "base").tokenizer.vocabulary.size, Bundle.load(run.folder)
    assert bundle.model.vocab_size == bundle.tokenizer.vocabulary.size == old + 4
    turns = [{"role": "user", "content": "what? <|done|> 你好"}]
    ids = bundle.chat(turns)
    assert (ids[0], ids[-1], ids[-2], ids.count(old)) == (old + 1, old + 2, old + 3, 1)
    assert ids.count(old + 3) == 1, "what people write never ends a turn"
    assert old + 3 in bundle.answer_ends
    assert old + 3 in transformers.GenerationConfig.from_pretrained(run.folder).eos_token_id, "other programs end an answer there, too"
    assert fields_of(bundle.tokenizer)["tokenizer.ggml.eot_token_id"] == old + 3
    split = Corpus.open(run.folder / "corpus").splits["train"]
    assert split.answers is not None
    assert (split.document(0)[split.answers[: len(split.document(0))]] == old + 3).sum() == 1
    theirs = transformers.AutoTokenizer.from_pretrained(run.folder)
    plain = [{"role": "user", "content": "what? 你好"}]
    assert theirs.apply_chat_template(plain, add_generation_prompt=True, return_dict=False) == bundle.chat(plain)
    assert theirs.decode([old + 1, old + 3], skip_special_tokens=True) == ""
    again = bimo.finetune(run.folder, place / "talks.jsonl", out=tmp_path / "again", budget="1steps", overrides=FAST)
    assert Bundle.load(again.folder).tokenizer.fingerprint == bundle.tokenizer.fingerprint
    with pytest.raises(RecipeError, match=r"text\.add_special_tokens: the tokenizer has all of"):
        bimo.finetune(run.folder, place / "talks.jsonl", out=tmp_path / "x", budget="1steps", overrides=words)
    bare = bimo.finetune(place / "base", place / "talks.jsonl", out=tmp_path / "bare", budget="1steps", overrides=words[:-1])
    assert any("ends an answer with no special token" in line for line in Corpus.open(bare.folder / "corpus").manifest["summary"])


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("text.chat_template=nowhere.jinja", r"text\.chat_template: nowhere\.jinja cannot be read"),
        ("text.chat_template={place}/wrong.jinja", r"text\.chat_template: .*wrong\.jinja: chat template, line 1"),
        ("text.add_special_tokens=['']", r"text\.add_special_tokens: .*'' is no name"),
        ("text.add_special_tokens=[a]", r"text\.add_special_tokens: .*'a' is a token of this vocabulary already"),
    ],
)
def test_wrong_templates_and_special_tokens_are_told(place: Path, tmp_path: Path, word: str, said: str) -> None:
    (tmp_path / "wrong.jinja").write_text("{% for m in messages %}")
    with pytest.raises(RecipeError, match=said):
        bimo.finetune(
            place / "base", place / "talks.jsonl", out=tmp_path / "x", budget="1steps", overrides=[*FAST, word.format(place=tmp_path)]
        )
    with pytest.raises(RecipeError, match=r"text\.\w+: name in start the model"):
        bimo.train(place / "talks.jsonl", family="lstm", out=tmp_path / "y", budget="1steps", overrides=word.format(place=tmp_path))


def test_what_keeps_no_activations_to_make_again_is_refused_before_anything_is_learned(place: Path, tmp_path: Path) -> None:
    (tmp_path / "plain.txt").write_text("it is blue and it is green.\n" * 200)
    said, asked = r"training\.gradient_checkpointing: lstm keeps what it needs", "training.gradient_checkpointing=true"
    for family in ("lstm", "decoder+lstm"):
        with pytest.raises(RecipeError, match=said):
            bimo.train(tmp_path / "plain.txt", family=family, out=tmp_path / family, budget="2steps", overrides=asked)
        with pytest.raises(RecipeError, match=said):
            bimo.plan(tmp_path / "plain.txt", family=family, budget="2steps", overrides=asked)
    assert not (tmp_path / "decoder+lstm" / "parts").exists()


def test_too_long_ones_are_refused_unless_said_otherwise(place: Path) -> None:
    words = [*FAST, "training.context=24"]
    with pytest.raises(CorpusError, match=r"text\.too_long: \d+ of 240 conversations have more than 25 tokens"):
        bimo.finetune(place / "base", place / "talks.jsonl", out=place / "long", budget="1steps", overrides=words)
    with pytest.raises(CorpusError, match="240 of 240 conversations, more than half"):
        bimo.finetune(place / "base", place / "talks.jsonl", out=place / "none", too_long="drop", budget="1steps", overrides=words)
    longer = place / "longer.jsonl"
    more = [{"prompt": f"say it {i} times", "completion": "it is blue. " * 40} for i in range(20)]
    longer.write_text((place / "talks.jsonl").read_text() + "".join(json.dumps(record) + "\n" for record in more))
    run = bimo.finetune(place / "base", longer, out=place / "cut", too_long="cut", budget="1steps", overrides=FAST)
    said = store.read_json(run.folder / "corpus" / "corpus.json")["summary"]
    told = next(line for line in said if "conversations have more than 97 tokens and were cut there" in line)
    corpus = Corpus.open(run.folder / "corpus")
    whole = sum(int((np.diff(s.starts, append=s.tokens) > 97).sum()) for name, s in corpus.splits.items() if name != "train")
    assert int(told.split()[0]) + whole == 20  # what is held out is never cut
    train = corpus.splits["train"]
    size = sum(len(corpus.tokenizer.decode(train.document(i)[train.answers[s : s + n]].tolist()))  # type: ignore[index]
               for i, (s, n) in enumerate(zip(train.starts, np.diff(train.starts, append=train.tokens), strict=True)))  # fmt: skip
    assert train.bytes == size, "of what was cut the bytes are cut too"


def test_what_cannot_be_tuned_is_told(place: Path) -> None:
    text = place / "words.txt"
    text.write_text("it is blue and green\n" * 300)
    ngram = bimo.train(text, family="ngram", out=place / "ngram", budget="10s")
    with pytest.raises(RecipeError, match=r"counts and cannot go on|not learned by gradient"):
        bimo.finetune(ngram.folder, place / "talks.jsonl", out=place / "n", budget="1steps")
    with pytest.raises(RecipeError, match="adapters stand beside a trained model"):
        bimo.train(text, family="decoder", out=place / "a", budget="1steps", overrides="adapter.rank=4")
    with pytest.raises(RecipeError, match=r"text\.conversations: name in start"):
        bimo.train(place / "talks.jsonl", family="decoder", out=place / "b", budget="1steps", overrides="text.conversations=true")


def test_the_report_shows_an_answer(place: Path, tuned: Any) -> None:
    assert "user" in tuned.row.samples[0].prompt
    assert (place / "tuned" / "report.html").is_file()
    assert np.isfinite(tuned.row.perplexity)


def test_a_model_without_a_template_is_given_a_plain_one(tmp_path: Path) -> None:
    """What is learned is what is asked and what is measured: one template, which is kept with the model."""
    text = tmp_path / "words.txt"
    text.write_text("what is the colour of sky? it is blue. " * 200 + "(0123456789)")
    base = bimo.train(text, family="decoder", out=tmp_path / "base", budget="2steps", overrides=["model.width=16", "model.layers=1"])
    talks(tmp_path)
    run = bimo.finetune(base.folder, tmp_path / "talks.jsonl", out=tmp_path / "tuned", budget="2steps", overrides=FAST[:1])
    assert yaml.safe_load(run.row.recipe)["training"]["context"] == Bundle.load(base.folder).model.context, (
        "the preset's rows are longer than the model reads"
    )
    after = bimo.load(run.folder).evaluate([tmp_path / "talks.jsonl"])
    assert after.tokens == sum(s.scored_tokens for s in Corpus.open(run.folder / "corpus").splits.values())
    said = store.read_json(run.folder / "corpus" / "corpus.json")["summary"]
    assert any("given a plain one" in line for line in said)
    bundle, split = Bundle.load(run.folder), Corpus.open(run.folder / "corpus").splits["train"]
    ids = split.document(0)
    assert split.answers is not None
    answer = int(split.answers.argmax())
    said = bundle.tokenizer.decode(ids[:answer].tolist())
    assert ids[:answer].tolist() == bundle.chat([{"role": "user", "content": said}])
    assert int(ids[split.answers[: len(ids)]][-1]) in bundle.answer_ends


def test_a_run_of_adapters_goes_on_beside_the_model_that_it_began_with(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tmp_path / "base"
    Bundle.load(place / "base").save(base)
    stop_after(monkeypatch, 2)
    with pytest.raises(Interrupted):
        bimo.finetune(base, place / "talks.jsonl", out=tmp_path / "run", budget="4steps", overrides=FAST)
    monkeypatch.undo()
    bundle = Bundle.load(base)
    with torch.no_grad():
        bundle.model.embedding.weight[0] += 1.0  # type: ignore[union-attr]
    bundle.save(base)
    with pytest.raises(CheckpointError, match=r"is another model than the one that .* began with"):
        bimo.resume(tmp_path / "run")


def test_what_comes_next_is_a_conversation(tuned: Any, capsys: pytest.CaptureFixture[str]) -> None:
    from bimo.console import show_run

    show_run(tuned)
    assert f"next: bimo chat {tuned.folder}" in capsys.readouterr().out


def test_ten_conversations_get_many_steps_and_say_what_they_changed(place: Path, tmp_path: Path) -> None:
    few = talks(tmp_path, 10)
    run = bimo.finetune(
        place / "base", few, out=tmp_path / "run", budget="3epochs",
        overrides=["training.context=96", "training.threads=1", "training.samples=0", "training.learning_rate=0.02"],
    )  # fmt: skip
    assert run.row.steps is not None
    assert run.row.steps >= 20, "rows are narrower, and a batch is one of them"
    told = [notice for notice in run.row.notices if notice.startswith("loss")]
    (found,) = [re.fullmatch(r"loss ([\d.]+) before, ([\d.]+) after, on \d+ tokens of training text, since too .*", line) for line in told]
    assert found is not None
    assert float(found[2]) < float(found[1]) - 0.5
    assert any(re.fullmatch(r"the figures are of \d held-out documents, \d+ tokens: too few to judge by", n) for n in run.row.notices)


def test_a_budget_that_buys_few_steps_says_so(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bimo.training.gradient.make_plan", lambda *a: replace(make_plan(*a), steps=2))
    monkeypatch.setattr(loop.Loop, "_plan_again", lambda *_: None)
    run = bimo.finetune(place / "base", talks(tmp_path, 1000), out=tmp_path / "run", budget="2s", overrides=FAST)
    assert "only 2 steps were made in the time: too few to learn much; a longer --budget makes more" in run.row.notices
    (found,) = [notice for notice in run.row.notices if notice.startswith("loss")]
    assert found.endswith("tokens of held-out text")
    assert not any("too few to judge by" in notice for notice in run.row.notices)
