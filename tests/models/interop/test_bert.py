"""Encoders and transformers' BERT: the same logits and features both ways, on random weights."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

from bimo.core import store
from bimo.core.errors import CapabilityError, ModelError
from bimo.core.recipe import AdapterSection
from bimo.models.adapters import adapt, adapted
from bimo.models.encoder import Encoder, EncoderConfig
from bimo.models.interop.peft import read_adapter, write_adapter
from bimo.text.vocabulary import Vocabulary

transformers = pytest.importorskip("transformers")

VOCABULARY = Vocabulary(37, bos=0, eos=1, pad=2, suppressed=(0, 2))
BERT = {"layers": 2, "heads": 4, "width": 16, "feed_forward": 24, "context": 32, "norm": "layer", "norm_first": False,
        "embedding_norm": True, "positions": "learned", "token_types": 2, "activation": "gelu", "bias": True}  # fmt: skip
OURS: dict[str, dict[str, Any]] = {
    "bert": {**BERT, "norm_epsilon": 1e-12},
    "untied, relu, one segment": {**BERT, "tied": False, "activation": "relu", "token_types": 1},
    "tanh": {**BERT, "activation": "gelu_tanh", "mask_token_id": 5},
    "without a head": {**BERT, "fills": False},
}
THEIRS: dict[str, dict[str, Any]] = {
    "bert": {},
    "untied": {"tie_word_embeddings": False, "hidden_act": "gelu_new"},
    "wide": {"intermediate_size": 40, "type_vocab_size": 3, "layer_norm_eps": 1e-5},
}


def shaken(model: Any) -> Any:
    torch.manual_seed(5)
    for parameter in model.parameters():
        torch.nn.init.uniform_(parameter, -0.4, 0.4)
    return model.eval()


def config_of(**fields: Any) -> Any:
    return transformers.BertConfig(**{"vocab_size": 37, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2,
                                      "num_attention_heads": 4, "max_position_embeddings": 32, **fields})  # fmt: skip


def theirs(folder: Path, dtype: torch.dtype, head: bool) -> Any:
    kind = transformers.AutoModelForMaskedLM if head else transformers.AutoModel
    return kind.from_pretrained(folder, dtype=dtype, local_files_only=True).eval()


def assert_same(ours: Encoder, other: Any, tolerance: float) -> None:
    """Logits (features, without a head) of ragged rows, padding left out."""
    generator = torch.Generator().manual_seed(1)
    tokens, lengths = torch.randint(0, ours.vocab_size, (3, 20), generator=generator), torch.tensor([20, 1, 13])
    inside = torch.arange(20) < lengths[:, None]
    with torch.no_grad():
        answer = other(tokens, attention_mask=inside.long())
        if ours.filler is None:
            found, wanted = ours.features(tokens, lengths), answer.last_hidden_state
        else:
            ids = [i for i in range(ours.vocab_size) if i not in ours.vocabulary.suppressed]
            found, wanted = ours.fill(tokens, lengths)[..., ids], answer.logits[..., ids]
    assert wanted.abs().max() > 0.2
    assert float((found - wanted)[inside].abs().max()) < tolerance


def as_transformers_wrote_it(model: Any, folder: Path) -> Encoder:
    model.save_pretrained(folder)
    return Encoder.from_tensors(store.read_json(folder / "config.json"), store.read_tensors(folder / "model.safetensors"))


@pytest.mark.parametrize("name", OURS)
def test_our_folder_opens_there(name, tmp_path):
    model = shaken(Encoder.build(EncoderConfig(**OURS[name]), VOCABULARY))
    model.save(tmp_path)
    config = store.read_json(tmp_path / "config.json")
    assert (config["model_type"], config["mask_token_id"]) == ("bert", OURS[name].get("mask_token_id", 2))
    head = model.filler is not None
    assert_same(model, theirs(tmp_path, torch.float32, head), 1e-3)
    assert_same(copy.deepcopy(model).double(), theirs(tmp_path, torch.float64, head), 1e-8)
    again = Encoder.from_tensors(config, store.read_tensors(tmp_path / "model.safetensors"))
    assert again.config == model.config


@pytest.mark.parametrize("name", THEIRS)
def test_their_folder_opens_here(name, tmp_path):
    model = shaken(transformers.BertForMaskedLM(config_of(**THEIRS[name])))
    if name != "untied":
        model.tie_weights()
    ours = as_transformers_wrote_it(model, tmp_path)
    assert (ours.vocabulary.suppressed, ours.mask_id) == ((), None)
    assert_same(ours, model, 1e-3)
    assert_same(copy.deepcopy(ours).double(), theirs(tmp_path, torch.float64, True), 1e-8)
    ours.save(tmp_path / "again")
    assert_same(ours, theirs(tmp_path / "again", torch.float32, True), 1e-3)
    assert torch.equal(ours.types.weight, model.bert.embeddings.token_type_embeddings.weight)


def test_a_sentence_encoder_opens_and_gives_features(tmp_path):
    """As all-MiniLM comes: a BertModel with its pooler, no head."""
    model = shaken(transformers.BertModel(config_of()))
    ours = as_transformers_wrote_it(model, tmp_path)
    assert_same(ours, model, 1e-3)
    assert_same(copy.deepcopy(ours).double(), theirs(tmp_path, torch.float64, False), 1e-8)
    with pytest.raises(CapabilityError, match="no head"):
        ours.fill(torch.zeros(1, 2, dtype=torch.int64))
    ours.save(tmp_path / "again")
    assert_same(ours, theirs(tmp_path / "again", torch.float32, False), 1e-3)


def test_pretraining_files_and_old_names_open():
    """bert-base as Google's came over: gamma and beta, next-sentence head, pooler, position ids."""
    config = config_of()
    model = shaken(transformers.BertForPreTraining(config))
    model.tie_weights()
    tensors = {n.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): t
               for n, t in model.state_dict().items() if not n.startswith("cls.predictions.decoder")}  # fmt: skip
    tensors["bert.embeddings.position_ids"] = torch.arange(32)[None]
    ours = Encoder.from_tensors(config.to_dict(), tensors)
    tokens = torch.randint(0, 37, (2, 9))
    with torch.no_grad():
        assert torch.allclose(ours.fill(tokens), model(tokens).prediction_logits, atol=1e-3)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"position_embedding_type": "relative_key"}, "position_embedding_type"),
        ({"is_decoder": True, "architectures": ["BertLMHeadModel"]}, "BertLMHeadModel"),
        ({"hidden_act": "prelu"}, "hidden_act"),
        ({"quantization_config": {"bits": 4}}, "quantization_config"),
        ({"vocab_size": None}, "vocab_size"),
    ],
)
def test_what_would_change_the_result_is_refused_by_name(change, word):
    model = transformers.BertForMaskedLM(config_of())
    with pytest.raises(ModelError, match=word):
        Encoder.from_tensors({**model.config.to_dict(), **change}, model.state_dict())


def test_tensors_that_do_not_fit_are_named():
    model = Encoder.build(EncoderConfig(**OURS["bert"]), VOCABULARY)
    config, tensors = model.config_dict(), model.tensors()
    with pytest.raises(ModelError, match=r"encoder\.layer\.0\.attention\.self\.key\.weight is missing"):
        Encoder.from_tensors(config, {n: t for n, t in tensors.items() if "self.key" not in n})
    with pytest.raises(ModelError, match="unknown tensors surprise"):
        Encoder.from_tensors(config, {**tensors, "surprise": torch.zeros(1)})
    with pytest.raises(ModelError, match=r"embeddings\.LayerNorm\.weight.*\[3\]"):
        Encoder.from_tensors(config, {**tensors, "bert.embeddings.LayerNorm.weight": torch.zeros(3)})


def test_shapes_of_no_other_program_are_written_as_our_own():
    for change in ({"activation": "geglu"}, {"token_types": 0}, {"norm_first": True}, {"qk_norm": True}, {"norm": "rms"}):
        model = shaken(Encoder.build(EncoderConfig(**{**BERT, **change}), VOCABULARY))
        assert model.config_dict()["model_type"] == "bimo-encoder"
        opened = Encoder.from_tensors(model.config_dict(), model.tensors())
        tokens = torch.randint(0, 37, (2, 9))
        assert torch.equal(opened.fill(tokens), model.fill(tokens))
        with pytest.raises(ModelError, match=r"blocks\.0\.attention\.qkv\.weight is missing"):
            Encoder.from_tensors(model.config_dict(), {n: t for n, t in model.tensors().items() if n != "blocks.0.attention.qkv.weight"})


@pytest.mark.parametrize("name", ["bert", "without a head"])
def test_adapters_open_in_peft_and_its_own_open_here(name: str, tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    plain = shaken(Encoder.build(EncoderConfig(**OURS[name]), VOCABULARY))
    plain.save(tmp_path / "base")
    model = copy.deepcopy(plain)
    adapt(model, AdapterSection(rank=3))
    for _, layer in adapted(model):
        for parameter in layer.up.values():
            torch.nn.init.uniform_(parameter, -0.2, 0.2)
    write_adapter(model, tmp_path / "adapter")
    other = peft.PeftModel.from_pretrained(theirs(tmp_path / "base", torch.float32, model.filler is not None), tmp_path / "adapter").eval()
    assert_same(model, other, 1e-4)
    config = peft.LoraConfig(r=2, target_modules=["query", "value"], init_lora_weights=False)
    own = peft.get_peft_model(theirs(tmp_path / "base", torch.float32, model.filler is not None), config).eval()
    own.save_pretrained(tmp_path / "own")
    again = copy.deepcopy(plain)
    read_adapter(again, tmp_path / "own")
    assert_same(again, own, 1e-4)
