"""Tokenizers of other programs' folders: their class and settings are obeyed as transformers obeys them, or refused by name."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer as Hub
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

from bimo.core.errors import BimoWarning, ModelError
from bimo.text.special_ids import special_ids
from bimo.text.tokenizer import Tokenizer
from bimo.text.vocabularies.classes import AS_IT_IS, CLASSES, OTHERS, find_class
from bimo.text.vocabularies.opening import opens_otherwise
from bimo.text.vocabularies.settings import unknown_keys

transformers = pytest.importorskip("transformers")
pytest.importorskip("sentencepiece")
from benchmarks import foreign_tokenizers as foreign  # noqa: E402 - it needs both

WORDS = "[PAD] [UNK] [CLS] [SEP] [MASK] the The cat Cat ##s 天 气 ##气 很 ##很".split()  # noqa: SIM905 - shorter so
OWN = sorted({one.name for one in CLASSES.values()})


@pytest.fixture(autouse=True, scope="module")
def _quiet() -> None:
    transformers.logging.set_verbosity_error()


def test_folders_drawn_at_random_give_the_same_ids_or_are_refused_by_name() -> None:
    outcomes = [foreign.compare(seed) for seed in range(7_000, 7_040)]
    assert [one for one in outcomes if one.verdict == "different"] == []
    refused = [one for one in outcomes if one.verdict == "refused"]
    assert len(refused) <= foreign.MOST_REFUSED * len(outcomes), refused
    assert [one for one in refused if not one.settings] == [], "a default configuration is never refused"
    assert sum(one.verdict == "equal" for one in outcomes) >= 0.8 * len(outcomes), "the others transformers itself does not open"


@pytest.mark.parametrize("name", OWN)
def test_every_argument_of_a_constructor_is_known(name: str) -> None:
    kind = CLASSES[name]
    left = ("self", "vocab", "merges", "kwargs", "_spm_precompiled_charsmap", "additional_special_tokens")
    arguments = {key: one.default for key, one in inspect.signature(getattr(transformers, name).__init__).parameters.items()}
    arguments = {key: usual for key, usual in arguments.items() if key not in left}
    assert unknown_keys(arguments) == []
    assert {key: usual for key, usual in arguments.items() if key in kind.settings} == kind.settings
    special = {key: usual for key, usual in arguments.items() if key.endswith("_token") and not key.startswith("add_")}
    assert {key: usual for key, usual in special.items() if usual is not None} == kind.special


def test_every_class_of_transformers_is_opened_or_refused() -> None:
    from transformers.models.auto.tokenization_auto import TOKENIZER_MAPPING_NAMES

    named = {name.removesuffix("Fast") for name in TOKENIZER_MAPPING_NAMES.values() if name} - {"MistralCommonBackend"}
    assert not {name for name in named if name not in CLASSES and name not in AS_IT_IS and name.removesuffix("Tokenizer") not in OTHERS}


# -- BERT -------------------------------------------------------------------------------------------------------------


def bert_folder(folder: Path, config: dict[str, Any] | None, lower: bool | None = None) -> Path:
    """A BERT's folder: vocab.txt, or a tokenizer.json that lowers case or does not."""
    (folder / "config.json").write_text('{"model_type": "bert"}')
    if config is not None:
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
    if lower is None:
        (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")
        return folder
    hub = Hub(models.WordPiece({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    hub.normalizer, hub.pre_tokenizer = normalizers.BertNormalizer(True, True, None, lower), pre_tokenizers.BertPreTokenizer()
    hub.decoder = decoders.WordPiece("##")
    hub.add_special_tokens(WORDS[:5])
    hub.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    hub.save(str(folder / "tokenizer.json"))
    return folder


@pytest.mark.parametrize(
    "config",
    [
        {"do_lower_case": True, "model_max_length": 512},
        {"tokenizer_class": "BertTokenizer"},
        {"tokenizer_class": "PreTrainedTokenizerFast"},
    ],
)
def test_bert_has_its_ends_where_no_setting_names_them(tmp_path: Path, config: dict[str, Any]) -> None:
    tokenizer = Tokenizer.load(bert_folder(tmp_path, config, True))
    assert tokenizer.encode_document("the cats").tolist() == [2, 5, 7, 9, 3] == tokenizer.encode("the cats", add_special_tokens=True)
    assert special_ids(tokenizer)["mask"] == 4


@pytest.mark.parametrize(
    ("config", "lower", "text", "ids"),
    [
        ({"do_lower_case": False, "tokenize_chinese_chars": False}, None, "天气很", [10, 12, 14]),
        ({"do_lower_case": False}, True, "The Cats", [6, 8, 9]),
        ({"do_lower_case": True}, False, "The Cats", [5, 7, 9]),
        ({"strip_accents": False}, True, "thé", [1]),
        ({}, None, "The", [5]),
    ],
)
def test_settings_go_before_tokenizer_json(tmp_path: Path, config: dict[str, Any], lower: bool | None, text: str, ids: list[int]) -> None:
    folder = bert_folder(tmp_path, {"tokenizer_class": "BertTokenizer", **config}, lower)
    assert (
        Tokenizer.load(folder).encode(text)
        == ids
        == transformers.AutoTokenizer.from_pretrained(folder)(text, add_special_tokens=False)["input_ids"]
    )


def test_of_two_equal_lines_the_last_counts(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nthe\ncat\nthe\n##s\n")
    assert Tokenizer.load(tmp_path).encode("the cats") == [7, 6, 8]
    assert Tokenizer.load(tmp_path).decode([7, 6, 8]) == "the cats"


# -- the other files --------------------------------------------------------------------------------------------------


def gpt2_files(folder: Path, config: dict[str, Any]) -> Path:
    vocab, merges = foreign.byte_level()
    (folder / "vocab.json").write_text(json.dumps({**vocab, "<|endoftext|>": len(vocab)}))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(map(" ".join, merges)) + "\n")
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "GPT2Tokenizer", **config}))
    return folder


def test_added_tokens_json_is_read(tmp_path: Path) -> None:
    folder = gpt2_files(tmp_path, {})
    size = len(foreign.byte_level()[0]) + 1
    (folder / "added_tokens.json").write_text(json.dumps({"<pad>": size, "<user>": size + 1, "ordinary": size + 2}))
    (folder / "special_tokens_map.json").write_text(json.dumps({"pad_token": "<pad>", "additional_special_tokens": ["<user>"]}))
    tokenizer = Tokenizer.load(folder)
    assert {name: token.id for name, token in tokenizer.special_tokens.items()} == {
        "<|endoftext|>": size - 1,
        "<pad>": size,
        "<user>": size + 1,
    }
    assert tokenizer.vocabulary.pad == size
    assert size + 2 in tokenizer.encode("an ordinary word")
    assert size + 1 not in tokenizer.encode("<user>")
    (folder / "added_tokens.json").write_text(json.dumps({"<pad>": size + 5}))
    with pytest.raises(ModelError, match=r"added_tokens.json: '<pad>' has the id \d+ there, and \d+ in the vocabulary"):
        Tokenizer.load(folder)
    (folder / "added_tokens.json").write_text(json.dumps({"<pad>": "x"}))
    with pytest.raises(ModelError, match=r"added_tokens.json: '<pad>': 'x' is no token and its id"):
        Tokenizer.load(folder)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"tokenizer_class": "AlbertTokenizer"}, "tokenizer_class AlbertTokenizer is built by transformers in a way of its own"),
        ({"tokenizer_class": "SomeTokenizer"}, "tokenizer_class SomeTokenizer is not known, and there is no tokenizer.json"),
        ({"add_prefix_space": "yes"}, "add_prefix_space must be true or false, found 'yes'"),
        ({"extra_special_tokens": "<x>"}, "extra_special_tokens must be a list"),
        ({"tokenizer_class": "BertTokenizer"}, "not a vocabulary of BertTokenizer, the class of this folder"),
        ({"fix_mistral_regex": True}, "fix_mistral_regex = True would change the ids"),
        ({"pad_token": ["<pad>"]}, r"pad_token must be a token, found \['<pad>'\]"),
        ({"model_specific_special_tokens": 1}, "model_specific_special_tokens must be a mapping"),
        ({"tokenizer_class": "XLMRobertaTokenizer", "eos_token": None}, "eos_token must be a token of a XLMRobertaTokenizer, found None"),
    ],
)
def test_what_cannot_be_obeyed_is_refused_by_name(tmp_path: Path, config: dict[str, Any], said: str) -> None:
    folder = gpt2_files(tmp_path, config)
    if config.get("tokenizer_class") == "XLMRobertaTokenizer":
        (folder / "sentencepiece.bpe.model").write_bytes(foreign.sentencepiece_bytes("unigram", 1))
    with pytest.raises(ModelError, match=rf"{tmp_path}.*{said}"):
        Tokenizer.load(folder)


def test_of_an_unknown_key_the_user_is_warned(tmp_path: Path) -> None:
    folder = gpt2_files(
        tmp_path, {"split_digits_otherwise": True, "model_max_length": 5, "image_token": "<im>", "added_tokens_decoder": {}}
    )
    (folder / "special_tokens_map.json").write_text(json.dumps({"pad_token": "<pad>"}))
    with pytest.warns(BimoWarning) as told:
        Tokenizer.load(folder)
    assert [str(one.message) for one in told] == [
        f"{tmp_path / 'special_tokens_map.json'}: pad_token '<pad>' is not used, since tokenizer_config.json has added_tokens_decoder; "
        "name it there",
        f"{tmp_path / 'tokenizer_config.json'}: split_digits_otherwise = True is not known and not used",
    ]


def test_the_class_of_a_sentencepiece_file_numbers_its_pieces(tmp_path: Path) -> None:
    (tmp_path / "sentencepiece.bpe.model").write_bytes(foreign.sentencepiece_bytes("unigram", 1))
    own = Tokenizer.load(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "XLMRobertaTokenizer"}))
    fairseqs = Tokenizer.load(tmp_path)
    text = "the cat sat"
    assert fairseqs.encode(text, add_special_tokens=True) == [0, *(i + 1 for i in own.encode(text)), 2]
    assert special_ids(fairseqs) == {"cls": 0, "sep": 2, "pad": 1, "unk": 3, "mask": own.vocabulary.size + 1}
    assert not {0, 2} & set(fairseqs.encode("a</s>b<s>c"))  # what people write stays text
    assert [one.tolist() for one in fairseqs.encode_batch(["a</s>", "b"])] == [fairseqs.encode("a</s>"), fairseqs.encode("b")]


def test_which_class_is_meant() -> None:
    def name(declared: str | None, model_type: str | None, text: str | None) -> str | None:
        found = find_class(declared, model_type, text, "x")
        return found and found.name

    assert name("LlamaTokenizerFast", "llama", "{}") == "LlamaTokenizer"
    assert name("LlamaTokenizer", "llama", '{"type": "ByteLevel"}') is None  # Llama 3's files name the class of Llama 2
    assert name("PreTrainedTokenizerFast", "qwen2", "{}") == "Qwen2Tokenizer"  # as in transformers 5
    assert name("PreTrainedTokenizerFast", "qwen3", "{}") is None
    assert name(None, "bert", None) == name("ElectraTokenizer", None, None) == "BertTokenizer"
    assert name("LlamaTokenizer", "mistral", "{}") is None
    assert name("SomeTokenizer", "llama", "{}") is None


def test_decoding_cleans_up_where_the_settings_say_so(tmp_path: Path) -> None:
    folder = bert_folder(tmp_path, {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": True}, True)
    hub = json.loads((folder / "tokenizer.json").read_text())
    hub["decoder"]["cleanup"] = False
    hub["model"]["vocab"] |= {",": 15}
    (folder / "tokenizer.json").write_text(json.dumps(hub))
    assert Tokenizer.load(folder).decode([5, 15, 7]) == "the, cat" == transformers.AutoTokenizer.from_pretrained(folder).decode([5, 15, 7])
    Tokenizer.load(folder).save(tmp_path / "again")
    assert Tokenizer.load(tmp_path / "again").decode([5, 15, 7]) == "the, cat"


def test_several_tokens_before_a_text_are_refused(tmp_path: Path) -> None:
    folder = bert_folder(tmp_path, {"tokenizer_class": "PreTrainedTokenizerFast"}, True)
    hub = Hub.from_file(str(folder / "tokenizer.json"))
    hub.post_processor = processors.TemplateProcessing("[CLS] [MASK] $A", "$A $B", [("[CLS]", 2), ("[MASK]", 4)])
    hub.save(str(folder / "tokenizer.json"))
    with pytest.raises(ModelError, match=r"puts \[CLS\], \[MASK\] at one end of a text"):
        Tokenizer.load(folder)


@pytest.mark.parametrize(("model_type", "otherwise"), [("qwen2", True), ("qwen3", False), ("llama", False)])
def test_what_transformers_opens_otherwise_is_known(tmp_path: Path, model_type: str, otherwise: bool) -> None:
    own = Tokenizer.train("bpe", ["the quick brown fox 1234 doesn't jump\n"] * 20, 400)
    own.save(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    text = "DOESN'T 1234"
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)(text, add_special_tokens=False)["input_ids"]
    assert opens_otherwise(tmp_path, model_type) == otherwise == (theirs != own.encode(text))
    plain = transformers.PreTrainedTokenizerFast.from_pretrained(tmp_path)
    assert plain(text, add_special_tokens=False)["input_ids"] == own.encode(text)
