"""Adapters: what they add, what learns, merging, and the peft library's own figures on the same weights."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

import bimo
from bimo.core import registry
from bimo.core.errors import BimoWarning, CapabilityError, ModelError
from bimo.core.recipe import AdapterSection
from bimo.data.batches import Given
from bimo.model import Model
from bimo.models import adapters
from bimo.models.adapters import AdaptedLinear, adapt, adapted, merge, merged, strip, unmerge
from bimo.models.bundle import Bundle
from bimo.models.decoder import Decoder, DecoderConfig
from bimo.models.interop.peft import CONFIG, WEIGHTS, read_adapter, write_adapter
from bimo.models.quantized import FourBit
from bimo.models.recurrent import Recurrent
from bimo.text.tokenizer import Tokenizer
from bimo.text.vocabulary import Vocabulary

VOCABULARY = Vocabulary(41)
SMALL = {"layers": 2, "heads": 4, "kv_heads": 2, "width": 16, "feed_forward": 24, "context": 64, "qk_norm": False, "tied": False}
GPT2 = {"layers": 2, "heads": 2, "width": 16, "context": 64, "norm": "layer", "positions": "learned", "activation": "gelu_tanh",
        "bias": True, "qk_norm": False}  # fmt: skip
SHAPES = {"llama": SMALL, "qwen2": {**SMALL, "bias": "qkv"}, "qwen3": {**SMALL, "qk_norm": True}, "gpt2": GPT2}
OURS = {**SHAPES, "squared ReLU": {**SMALL, "activation": "relu2"}, "gated GELU": {**SMALL, "activation": "geglu"}}
TOKENS = torch.randint(0, 41, (3, 40), generator=torch.Generator().manual_seed(3))


def fresh(shape: str = "llama") -> Decoder:
    torch.manual_seed(0)
    model = Decoder.build(DecoderConfig(**OURS[shape]), VOCABULARY)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def shaken(model: Decoder) -> Decoder:
    torch.manual_seed(1)
    for _, layer in adapted(model):
        for parameter in (*layer.down.values(), *layer.up.values()):
            torch.nn.init.normal_(parameter, std=0.3)
    return model


def logits(model: Decoder, tokens: torch.Tensor = TOKENS) -> torch.Tensor:
    return model.advance(model.start(len(tokens)), tokens)[0]


@pytest.mark.parametrize("rows", [4, 200])  # by two products, and by their sum first
@pytest.mark.parametrize("chosen", [("q", "v"), ("k",), ("q", "k", "v")])
def test_output_and_gradients_are_those_of_the_formula(rows: int, chosen: tuple[str, ...]) -> None:
    torch.manual_seed(0)
    base = torch.nn.Linear(5, 9).double()
    layer = AdaptedLinear(base, {"q": slice(0, 4), "k": slice(4, 6), "v": slice(6, 9)}, dict.fromkeys(chosen, 2), scale=1.5)
    for parameter in layer.up.values():
        torch.nn.init.normal_(parameter)
    x = torch.randn(rows, 5, dtype=torch.float64, requires_grad=True)
    weight = base.weight.detach().clone()
    pairs = {n: (layer.down[n].detach().clone().requires_grad_(), layer.up[n].detach().clone().requires_grad_()) for n in chosen}
    summed = torch.cat([weight[s] + (1.5 * pairs[n][1] @ pairs[n][0] if n in pairs else 0)
                        for n, s in (("q", slice(0, 4)), ("k", slice(4, 6)), ("v", slice(6, 9)))])  # fmt: skip
    x2 = x.detach().clone().requires_grad_()
    wanted = F.linear(x2, summed, base.bias.detach())
    found = layer(x)
    assert torch.allclose(found, wanted, atol=1e-12)
    up = torch.randn_like(wanted)
    found.backward(up)
    wanted.backward(up)
    assert torch.allclose(x.grad, x2.grad, atol=1e-12)
    for name, (down, upper) in pairs.items():
        assert torch.allclose(layer.down[name].grad, down.grad, atol=1e-12)
        assert torch.allclose(layer.up[name].grad, upper.grad, atol=1e-12)
    assert base.weight.grad is None


@pytest.mark.parametrize("shape", OURS)
def test_a_fresh_adapter_changes_nothing_and_alone_learns(shape: str) -> None:
    model, before = fresh(shape), fresh(shape)
    adapt(model, AdapterSection(rank=2))
    assert torch.allclose(logits(model), logits(before), atol=1e-5)
    learned = {name for name, p in model.named_parameters() if p.requires_grad}
    assert learned
    assert all(".down." in name or ".up." in name for name in learned)
    names = {adapters.short(part) for parts in model.linear_names().values() for part in parts}
    assert {name.rpartition(".")[2] for name in learned} == names


def test_targets_choose_and_unknown_ones_are_told() -> None:
    model = fresh()
    adapt(model, AdapterSection(targets=["q_proj", "v_proj"]))
    assert {name: list(layer.rows) for name, layer in adapted(model)} == {
        f"blocks.{i}.attention.qkv": ["q_proj", "v_proj"] for i in range(2)
    }
    with pytest.raises(ModelError, match="adapters already"):
        adapt(model, AdapterSection())
    with pytest.raises(ModelError, match=r"adapter\.targets: q_prj is no linear map .*did you mean q_proj"):
        adapt(fresh(), AdapterSection(targets=["q_prj"]))


def test_a_model_without_linear_maps() -> None:
    model = Recurrent.build(Recurrent.Config(cell="lstm", layers=1, width=8), VOCABULARY)
    with pytest.raises(CapabilityError, match="no linear maps"):
        adapt(model, AdapterSection())


def test_merged_unmerged_and_stripped() -> None:
    model = fresh()
    plain = logits(model)
    adapt(model, AdapterSection(rank=3, alpha=5.0))
    with_adapters = logits(shaken(model))
    assert not torch.allclose(plain, with_adapters, atol=0.1)
    merge(model)
    merge(model)  # a second time changes nothing
    assert torch.allclose(logits(model), with_adapters, atol=1e-4)
    unmerge(model)
    assert torch.allclose(logits(model), with_adapters, atol=1e-4)
    merge(model)
    strip(model)
    assert not list(adapted(model))
    assert all(p.requires_grad for p in model.parameters())
    assert set(model.state_dict()) == set(fresh().state_dict())
    assert torch.allclose(logits(model), with_adapters, atol=1e-4)


def test_one_step_and_many_are_the_same() -> None:
    model = fresh()
    adapt(model, AdapterSection(rank=2))
    whole = logits(shaken(model), TOKENS[:1])
    state, steps = model.start(1), []
    for token in TOKENS[0]:
        out, state = model.advance(state, token.view(1, 1))
        steps.append(out)
    assert torch.allclose(torch.cat(steps, dim=1), whole, atol=1e-4)


def test_dropout_falls_on_what_adapters_read_alone() -> None:
    model = fresh()
    adapt(model, AdapterSection(rank=2, dropout=0.9))
    still = logits(shaken(model))
    model.train()
    torch.manual_seed(0)
    moved = model.hidden(TOKENS)[0] @ model.head()[0].T
    assert not torch.allclose(moved, still, atol=0.1)
    for _, layer in adapted(model):
        for up in layer.up.values():
            torch.nn.init.zeros_(up)
    assert torch.allclose(model.hidden(TOKENS)[0] @ model.head()[0].T, logits(fresh()), atol=1e-4)


def test_what_is_written_of_a_model_with_adapters_is_as_it_acts() -> None:
    model = fresh()
    plain = model.tensors()
    adapt(model, AdapterSection(rank=3, alpha=5.0))
    with_adapters = logits(shaken(model))
    weights = {name: layer.weight.detach().clone() for name, layer in adapted(model)}
    with merged(model):
        written = {name: tensor.clone() for name, tensor in model.tensors().items()}
        assert torch.allclose(logits(model), with_adapters, atol=1e-4)
    assert set(written) == set(plain)
    again = type(model).from_tensors(model.config_dict(), written)
    assert torch.allclose(logits(again), with_adapters, atol=1e-4)
    for name, layer in adapted(model):
        assert not layer.merged
        assert torch.equal(layer.weight, weights[name]), "to the bit"
    merge(model)
    assert set(model.tensors()) == set(plain)
    with merged(model):
        pass
    assert all(layer.merged for _, layer in adapted(model))


@pytest.mark.parametrize("family", ["seq2seq", "encoder", "vae"])
def test_families_whose_maps_have_no_other_names(family: str, tmp_path: Path) -> None:
    """Their adapters go by our own names of the maps; written and read again they do the same."""
    kind: Any = registry.family(family).load()
    shape = {"width": 16, "heads": 2, **({"body": "transformer"} if family == "vae" else {})}

    def made() -> Any:
        torch.manual_seed(0)
        return kind.build(kind.Config(**shape), Vocabulary(41, bos=0, eos=1, pad=2))

    def nats(model: Any) -> torch.Tensor:
        torch.manual_seed(2)
        tokens = TOKENS[:, :9].clamp(min=4)
        if family == "encoder":
            return model.features(tokens, torch.tensor([9, 9, 9]))
        given = Given(tokens.flip(1), torch.tensor([9, 7, 5])) if family == "seq2seq" else None
        return model.score(tokens, given=given).nats

    model = made()
    plain = nats(model)
    adapt(model, AdapterSection(rank=2, alpha=8.0))
    for _, layer in adapted(model):
        for parameter in (*layer.down.values(), *layer.up.values()):
            torch.nn.init.normal_(parameter, std=0.3)
    with_adapters = nats(model)
    assert not torch.allclose(plain, with_adapters, atol=1e-2)
    write_adapter(model, tmp_path)
    again = made()
    read_adapter(again, tmp_path)
    assert torch.allclose(nats(again), with_adapters, atol=1e-5)
    merge(again)
    assert torch.allclose(nats(again), with_adapters, atol=1e-3)


# -- the peft library -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("targets", [None, ["q_proj", "down_proj"]])
def test_written_adapters_open_in_peft_and_its_own_open_here(shape: str, targets: list[str] | None, tmp_path: Path) -> None:
    transformers, peft = pytest.importorskip("transformers"), pytest.importorskip("peft")
    targets = ["c_attn", "c_proj"] if targets and shape == "gpt2" else targets
    model = fresh(shape)
    model.save(tmp_path / "base")
    adapt(model, AdapterSection(rank=3, alpha=5.0, targets=targets))
    ours = logits(shaken(model))
    write_adapter(model, tmp_path / "adapter", str(tmp_path / "base"))

    base = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "base", local_files_only=True)
    theirs = peft.PeftModel.from_pretrained(base, tmp_path / "adapter").eval()
    with torch.no_grad():
        assert torch.allclose(theirs(TOKENS).logits, ours, atol=1e-4)
    theirs.save_pretrained(tmp_path / "again")
    again = fresh(shape)
    read_adapter(again, tmp_path / "again")
    assert torch.allclose(logits(again), ours, atol=1e-5)
    merged = theirs.merge_and_unload()
    merge(again)
    strip(again)
    with torch.no_grad():
        assert torch.allclose(merged(TOKENS).logits, logits(again), atol=1e-4)


def test_gradients_are_pefts(tmp_path: Path) -> None:
    transformers, peft = pytest.importorskip("transformers"), pytest.importorskip("peft")
    model = fresh()
    model.save(tmp_path / "base")
    adapt(model, AdapterSection(rank=3))
    shaken(model)
    write_adapter(model, tmp_path / "adapter", str(tmp_path / "base"))
    base = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "base", local_files_only=True)
    theirs = peft.PeftModel.from_pretrained(base, tmp_path / "adapter", is_trainable=True)
    theirs(TOKENS, labels=TOKENS).loss.backward()
    hidden, _ = model.hidden(TOKENS[:, :-1])
    F.cross_entropy((hidden @ model.head()[0].T).flatten(0, 1), TOKENS[:, 1:].flatten()).backward()
    wanted = {n: p.grad for n, p in theirs.named_parameters() if p.grad is not None}
    names, compared = model.linear_names(), 0
    for name, layer in adapted(model):
        for part in names[name]:
            for kind, held in (("A", layer.down), ("B", layer.up)):
                grad = wanted[f"base_model.model.{part}.lora_{kind}.default.weight"]
                assert torch.allclose(held[adapters.short(part)].grad, grad, atol=1e-5), part
                compared += 1
    assert compared == len(wanted)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"use_dora": True}, "use_dora"),
        ({"peft_type": "IA3"}, "peft_type"),
        ({"r": 0}, "rank"),
        ({"r": 4}, r"lora_A.*has shape \[3, 24\], but r is 4"),
        ({"target_modules": ["q_proj"]}, "unknown tensors"),
        ({"target_modules": ["nothing"]}, "nothing is no linear map"),
        ({"target_modules": "regex.*"}, "target_modules = .* chooses no linear map"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"rank_pattern": {"q_proj": 4}}, r"lora_A of .*q_proj has shape .*, but r is 4"),
        ({"init_lora_weights": "pissa_niter_4"}, "init_lora_weights = 'pissa_niter_4' is not supported"),
        ({"alora_invocation_tokens": [1, 2]}, "alora_invocation_tokens"),
        ({"what_comes_next": 1}, "what_comes_next = 1 is not supported and could change what the adapter does; it must be left out"),
    ],
)
def test_what_is_not_supported_or_does_not_fit_is_told(change: dict[str, object], says: str, tmp_path: Path) -> None:
    from bimo.core import store

    model = fresh()
    adapt(model, AdapterSection(rank=3))
    write_adapter(model, tmp_path)
    store.write_json(tmp_path / CONFIG, {**store.read_json(tmp_path / CONFIG), **change})
    with pytest.raises(ModelError, match=says):
        read_adapter(fresh(), tmp_path)


def test_a_missing_tensor_is_named(tmp_path: Path) -> None:
    from bimo.core import store

    model = fresh()
    adapt(model, AdapterSection(rank=3))
    write_adapter(model, tmp_path)
    tensors = store.read_tensors(tmp_path / WEIGHTS)
    store.write_tensors(tmp_path / WEIGHTS, {n: t for n, t in tensors.items() if "layers.1.mlp.up_proj.lora_B" not in n})
    with pytest.raises(ModelError, match=r"layers\.1\.mlp\.up_proj\.lora_B\.weight is missing"):
        read_adapter(copy.deepcopy(fresh()), tmp_path)
    with pytest.raises(ModelError, match="no adapters to write"):
        write_adapter(fresh(), tmp_path)


# -- beside weights in four bits --------------------------------------------------------------------------------------


QUANTIZED = AdapterSection(rank=3, alpha=5.0, quantized="nf4")


@pytest.mark.parametrize("shape", OURS)
def test_beside_quantised_weights_they_do_what_they_do_beside_plain_ones(shape: str) -> None:
    """The reference: a plain model whose layers' weights are what four bits made of them, with plain adapters."""
    model, plain = fresh(shape), fresh(shape)
    for name in plain.linear_names():
        layer = plain.get_submodule(name)
        layer.weight.data = FourBit(layer.weight).dense()
    adapt(model, QUANTIZED)
    adapt(plain, AdapterSection(rank=3, alpha=5.0))
    ours, theirs = logits(shaken(model)), logits(shaken(plain))
    assert torch.allclose(ours, theirs, atol=1e-4)
    for each in (model, plain):
        each.zero_grad()
        hidden, _ = each.hidden(TOKENS[:, :-1])
        F.cross_entropy((hidden @ each.head()[0].T).flatten(0, 1), TOKENS[:, 1:].flatten()).backward()
    wanted = {name: p.grad for name, p in plain.named_parameters() if p.requires_grad}
    found = {name: p.grad for name, p in model.named_parameters() if p.requires_grad}
    assert found.keys() == wanted.keys()
    assert all(torch.allclose(found[name], wanted[name], atol=1e-5) for name in wanted)
    assert model.parameter_count() == plain.parameter_count()


def test_quantised_weights_are_whole_in_what_is_written() -> None:
    model = fresh()
    plain = model.tensors()
    adapt(model, QUANTIZED)
    with_adapters = logits(shaken(model))
    assert not any(name.endswith("qkv.weight") for name in model.state_dict()), "what a checkpoint would hold"
    with merged(model):
        written = {name: tensor.clone() for name, tensor in model.tensors().items()}
    assert {name: t.shape for name, t in written.items()} == {name: t.shape for name, t in plain.items()}
    assert torch.allclose(logits(type(model).from_tensors(model.config_dict(), written)), with_adapters, atol=1e-4)
    assert torch.equal(logits(model), with_adapters), "as it was"
    merge(model)
    merge(model)
    assert torch.allclose(logits(model), with_adapters, atol=1e-4)
    unmerge(model)
    assert torch.equal(logits(model), with_adapters)
    merge(model)
    strip(model)  # whole again, with what was added
    assert not list(adapted(model))
    assert torch.allclose(logits(model), with_adapters, atol=1e-4)
    assert all(torch.allclose(model.tensors()[name], written[name], atol=1e-6) for name in written)


def test_maps_that_have_no_adapter_are_quantised_too(tmp_path: Path) -> None:
    model = fresh()
    adapt(model, AdapterSection(rank=2, targets=["v_proj"], quantized="nf4"))
    before = logits(shaken(model))
    assert not [name for name, p in model.named_parameters() if p.dim() == 2 and "embedding" not in name and "output" not in name
                and not p.requires_grad]  # fmt: skip
    write_adapter(model, tmp_path)
    again = fresh()
    adapt(again, AdapterSection(rank=2, targets=["v_proj"], quantized="nf4"))
    strip(again)  # what four bits made of its maps
    read_adapter(again, tmp_path)
    assert torch.allclose(logits(again), before, atol=1e-4)


@pytest.mark.parametrize("family", ["seq2seq", "encoder", "vae"])
def test_families_whose_maps_have_no_other_names_in_four_bits(family: str, tmp_path: Path) -> None:
    kind: Any = registry.family(family).load()
    shape = {"width": 16, "heads": 2, **({"body": "transformer"} if family == "vae" else {})}
    model = kind.build(kind.Config(**shape), Vocabulary(41, bos=0, eos=1, pad=2))
    plain = {name: t.shape for name, t in model.tensors().items()}
    adapt(model, AdapterSection(rank=2, quantized="nf4"))
    write_adapter(model, tmp_path)
    with merged(model):
        assert {name: t.shape for name, t in model.tensors().items()} == plain


def test_dropout_beside_quantised_weights() -> None:
    model = fresh()
    adapt(model, AdapterSection(rank=2, dropout=0.5, quantized="nf4"))
    shaken(model)
    model.train()
    hidden, _ = model.hidden(TOKENS)
    hidden.square().sum().backward()
    assert all(p.grad is not None and bool(torch.isfinite(p.grad).all()) for p in model.parameters() if p.requires_grad)


def test_a_weight_that_is_not_finite_is_named() -> None:
    model = fresh()
    model.blocks[1].feed_forward.outer.weight.data[0, 0] = float("nan")
    with pytest.raises(ModelError, match=r"adapter\.quantized: blocks\.1\.feed_forward\.outer: a weight is infinite or not a number"):
        adapt(model, QUANTIZED)


# -- folders of adapters ----------------------------------------------------------------------------------------------


def write_fresh(folder: Path) -> None:
    model = fresh()
    adapt(model, AdapterSection(rank=2))
    write_adapter(model, folder)


def bundle_of(template: str | None = None) -> Bundle:
    tokenizer = Tokenizer.of_words(["<s>", "</s>", "<unk>", *(f"w{i}" for i in range(38))])
    tokenizer.chat_template = template
    return Bundle(fresh(), tokenizer)


@pytest.mark.parametrize("own", [None, "own {{ messages[0].content }}"])
@pytest.mark.parametrize("place", ["tokenizer_config.json", "chat_template.jinja"])
def test_the_chat_template_of_an_adapter_is_used_while_it_is_there(own: str | None, place: str, tmp_path: Path) -> None:
    held = bundle_of(own)
    write_fresh(tmp_path)
    theirs = "theirs {{ messages[0].content }}"
    (tmp_path / place).write_text(theirs if place.endswith("jinja") else json.dumps({"chat_template": theirs}))
    model = Model(held)
    with pytest.warns(BimoWarning, match="the adapter's chat template is used"):
        model.load_adapter(tmp_path)
    assert held.tokenizer.chat_template == theirs
    model.unload_adapter()
    assert held.tokenizer.chat_template == own
    with pytest.raises(ModelError, match="the model has none"):
        model.unload_adapter()


def test_an_adapter_without_a_template_or_with_the_same_one_says_nothing(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    write_fresh(tmp_path)
    for template in (None, "own"):
        if template is not None:
            (tmp_path / "chat_template.jinja").write_text(template)
        opened = Model(bundle_of("own"))
        opened.load_adapter(tmp_path)
        assert opened.bundle.tokenizer.chat_template == "own"
    assert not [w for w in recwarn if issubclass(w.category, BimoWarning)]


def test_adapters_that_are_pickled_or_given_as_a_model_are_named(tmp_path: Path) -> None:
    write_fresh(tmp_path)
    with pytest.raises(ModelError, match=r"not a model but LoRA adapters; name the model .* --adapter"):
        bimo.load(tmp_path)
    (tmp_path / WEIGHTS).rename(tmp_path / "adapter_model.bin")
    with pytest.raises(ModelError, match=r"adapter_model\.bin: a pickle"):
        read_adapter(fresh(), tmp_path)
