"""What is spoiled (`fuzzing`): a kind of file each, how one that is right is made, and what is done with it once it opens."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Target:
    """A kind of file: `make` writes one that is right and returns it and what is to be opened; `use` opens it and does a little with it."""

    name: str
    make: Callable[[Path], tuple[Path, Path]]
    use: Callable[[Path], None]
    text: bool  # numbers and words are swapped, too


def _tiny_decoder(folder: Path, **shape: Any) -> Any:
    from bimo.models.bundle import Bundle
    from bimo.models.decoder import Decoder, DecoderConfig
    from bimo.text.tokenizer import Tokenizer

    tokenizer = Tokenizer.train("bpe", ["to be or not to be, that is the question 你好 " * 20], 300)
    settings = {"layers": 1, "heads": 2, "width": 16, "feed_forward": 24, "context": 32, "qk_norm": False, **shape}
    bundle = Bundle(Decoder.build(DecoderConfig(**settings), tokenizer.vocabulary), tokenizer)
    bundle.save(folder)
    return bundle


def _of_folder(file: str, **shape: Any) -> Callable[[Path], tuple[Path, Path]]:
    def make(place: Path) -> tuple[Path, Path]:
        _tiny_decoder(place / "model", **shape)
        return place / "model" / file, place / "model"

    return make


_GPT2 = {"norm": "layer", "positions": "learned", "activation": "gelu_tanh", "bias": True}
_T5 = {"encoder_layers": 1, "decoder_layers": 1, "heads": 2, "width": 16, "context": 32}
_BERT = {
    "layers": 1, "heads": 2, "width": 16, "feed_forward": 24, "context": 32, "norm": "layer", "norm_first": False, "embedding_norm": True,
    "positions": "learned", "token_types": 2, "activation": "gelu", "bias": True,
}  # fmt: skip


def _config_of(family: str, **shape: Any) -> Callable[[Path], tuple[Path, Path]]:
    """The config.json of a family's tiny model, and its folder."""

    def make(place: Path) -> tuple[Path, Path]:
        from bimo.core import registry
        from bimo.models.bundle import Bundle
        from bimo.text.tokenizer import Tokenizer

        tokenizer = Tokenizer.train("byte", ["x"])
        row = registry.family(family)
        kind: Any = row.load()
        Bundle(kind.build(kind.Config(**{**shape, **row.preset}), tokenizer.vocabulary), tokenizer).save(place / "model")
        return place / "model" / "config.json", place / "model"

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

    from bimo.models.base import Kind
    from bimo.models.bundle import Bundle

    bundle = Bundle.load(path)
    given = bundle.given(["to be"]) if bundle.model.kind is Kind.CONDITIONAL else None
    bundle.model.score(torch.tensor([bundle.prompt("to be 你好")[:8] or [0, 0]]), given=given)
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
    Target("config.json of GPT-2", _of_folder("config.json", **_GPT2), _use_model, text=True),
    Target("config.json of Qwen2", _of_folder("config.json", bias="qkv"), _use_model, text=True),
    Target("config.json of Qwen3", _of_folder("config.json", qk_norm=True), _use_model, text=True),
    Target("config.json of BERT", _config_of("encoder", **_BERT), _use_model, text=True),
    Target("config.json of an LSTM", _config_of("lstm", layers=1, width=8), _use_model, text=True),
    Target("config.json of an encoder–decoder", _config_of("seq2seq", **_T5), _use_model, text=True),
    Target("config.json of a VAE", _config_of("vae", width=16), _use_model, text=True),
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
