"""A small model that others made, for tests: Llama's shape, byte-level BPE, turns in ChatML, as a Hugging Face folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from bimo.models.bundle import Bundle
from bimo.models.decoder import Decoder, DecoderConfig
from bimo.text.tokenizer import Tokenizer

TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
TEXTS = ["what is the colour of the sky? it is blue. what is the colour of grass? it is green. 你好，世界。"] * 8


def chat_tokenizer() -> Tokenizer:
    """Byte-level BPE with ChatML's special tokens, as a loaded one."""
    from tokenizers import Tokenizer as Hub
    from tokenizers import decoders, models, pre_tokenizers, trainers

    hub = Hub(models.BPE())
    hub.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    hub.decoder = decoders.ByteLevel()
    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=320, special_tokens=specials, initial_alphabet=alphabet, show_progress=False)
    hub.train_from_iterator(TEXTS, trainer)
    settings = {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>", "pad_token": "<|im_end|>", "unk_token": "<|endoftext|>"}
    return Tokenizer(hub, "loaded", {**settings, "add_bos_token": False, "chat_template": TEMPLATE})


def pretrained(folder: Path, **shape: Any) -> Bundle:
    """The model, saved in `folder`; its weights are random."""
    tokenizer = chat_tokenizer()
    torch.manual_seed(0)
    settings = {"layers": 2, "heads": 4, "kv_heads": 2, "width": 32, "feed_forward": 48, "context": 128, "qk_norm": False, **shape}
    model = Decoder.build(DecoderConfig(**settings), tokenizer.vocabulary)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3.0)
    bundle = Bundle(model, tokenizer)
    bundle.save(folder)
    (folder / "bimo.json").unlink()  # which other programs do not write
    return Bundle.load(folder)
