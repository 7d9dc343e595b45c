"""Model folders that transformers saves, with every field of its configuration classes drawn at random: opened by both, held side by side.

Each must give equal logits and equal ends of text, or be refused by name. The fields are those of the classes themselves: one that a later
transformers adds has no values here, and `unknown_fields` names it.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import random
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from benchmarks.desk import Desk
from bimo.core.errors import BimoError
from bimo.models.base import load_model
from bimo.models.bundle import Bundle, generation_of
from bimo.text.tokenizer import Tokenizer

VOCABULARY, LENGTH, CLOSE = 64, 20, 1e-3
FOLDERS, MOST_REFUSED = 500, 0.1
POINTWISE = ("gelu", "gelu_new", "gelu_pytorch_tanh", "gelu_10", "relu", "relu6", "silu", "tanh", "quick_gelu", "relu2", "mish")
Draw = Callable[[random.Random, dict[str, Any]], Any]


def _of(*values: Any) -> Draw:
    return lambda draw, _: draw.choice(values)


def _dropout(draw: random.Random, _: dict[str, Any]) -> float:
    return draw.choice((0.0, 0.1, 0.2, 0.5))


def _eos(draw: random.Random, _: dict[str, Any]) -> Any:
    one, two = draw.sample(range(VOCABULARY), 2)
    return draw.choice((None, one, [one], [one, two], 50256, [one, 50256]))


def _id(draw: random.Random, _: dict[str, Any]) -> int | None:
    return draw.choice((None, draw.randrange(VOCABULARY)))


def _layer_types(draw: random.Random, drawn: dict[str, Any]) -> Any:
    kinds = ("full_attention", "sliding_attention") if drawn["use_sliding_window"] else ("full_attention",)
    return draw.choice((None, [draw.choice(kinds) for _ in range(drawn["num_hidden_layers"])]))


def _rope(draw: random.Random, drawn: dict[str, Any]) -> Any:
    """Every type of rotary scaling that these models have, with all that each may say."""
    kind = draw.choice((None, "default", "linear", "dynamic", "yarn", "llama3", "longrope"))
    if kind is None:
        return None
    rope: dict[str, Any] = {"rope_type": kind, "rope_theta": draw.choice((10000.0, 500.0, 500000.0))}
    if kind != "default":
        rope["factor"] = draw.choice((1.0, 1.5, 2.0, 4.0, 8.0))
    if kind in ("yarn", "llama3", "longrope"):
        rope["original_max_position_embeddings"] = draw.choice((8, 16, 32))
    if kind == "llama3":
        rope |= {"low_freq_factor": draw.choice((1.0, 2.0)), "high_freq_factor": draw.choice((4.0, 8.0))}
    if kind == "longrope":
        half = drawn["head_dim"] // 2
        rope |= {name: [draw.uniform(1.0, 4.0) for _ in range(half)] for name in ("short_factor", "long_factor")}
    more = {"attention_factor": (0.7, 1.3), "beta_fast": (32, 8.0), "beta_slow": (1, 0.5), "mscale": (0.7, 1.0),
            "mscale_all_dim": (0.5, 1.0), "truncate": (True, False)} if kind == "yarn" else {}  # fmt: skip
    more = {"attention_factor": (0.7, 1.3)} if kind == "longrope" else more
    rope |= {name: draw.choice(values) for name, values in more.items() if draw.random() < 0.4}
    return rope


COMMON: dict[str, Draw | None] = {  # None: the program itself says it
    "transformers_version": None, "architectures": None, "vocab_size": lambda draw, _: VOCABULARY,
    "output_hidden_states": _of(False, True), "return_dict": _of(True, False), "dtype": _of(None, "float32", "bfloat16", "float16"),
    "chunk_size_feed_forward": _of(0, LENGTH // 2), "is_encoder_decoder": _of(False, False, True),
    "id2label": _of(None, {0: "no", 1: "yes", 2: "perhaps"}), "label2id": _of(None, {"no": 0, "yes": 1}),
    "problem_type": _of(None, "regression", "multi_label_classification"), "initializer_range": _of(0.02, 0.3),
    "use_cache": _of(True, False), "bos_token_id": _id, "eos_token_id": _eos, "pad_token_id": _id, "tie_word_embeddings": _of(True, False),
}  # fmt: skip
LLAMA: dict[str, Draw | None] = {
    "num_hidden_layers": _of(1, 2, 3), "num_attention_heads": _of(2, 4), "hidden_size": _of(16, 32), "intermediate_size": _of(24, 32),
    "num_key_value_heads": lambda draw, drawn: draw.choice((None, 1, 2, drawn["num_attention_heads"])), "head_dim": _of(4, 8, 16),
    "hidden_act": _of("silu", "silu", *POINTWISE), "max_position_embeddings": _of(32, 48, 64), "rms_norm_eps": _of(1e-6, 1e-5, 1e-3),
    "attention_dropout": _dropout, "attention_bias": _of(False, True), "mlp_bias": _of(False, True), "pretraining_tp": _of(1, 2),
    "use_sliding_window": _of(False, True), "sliding_window": _of(None, 3, 8, 4096), "max_window_layers": _of(0, 1, 28),
    "layer_types": _layer_types, "rope_parameters": _rope,
}  # fmt: skip
GPT2: dict[str, Draw | None] = {
    "n_positions": _of(24, 32, 64), "n_embd": _of(16, 32), "n_layer": _of(1, 2, 3), "n_head": _of(1, 2, 4), "n_inner": _of(None, 24),
    "activation_function": _of("gelu_new", *POINTWISE), "resid_pdrop": _dropout, "embd_pdrop": _dropout, "attn_pdrop": _dropout,
    "layer_norm_epsilon": _of(1e-5, 1e-3), "summary_type": _of("cls_index", "mean"), "summary_use_proj": _of(True, False),
    "summary_activation": _of(None, "tanh"), "summary_proj_to_labels": _of(True, False), "summary_first_dropout": _dropout,
    "scale_attn_weights": _of(True, False), "scale_attn_by_inverse_layer_idx": _of(False, True),
    "reorder_and_upcast_attn": _of(False, True), "add_cross_attention": _of(False, True),
}  # fmt: skip
BERT: dict[str, Draw | None] = {
    "hidden_size": _of(16, 32), "num_hidden_layers": _of(1, 2, 3), "num_attention_heads": _of(1, 2, 4), "intermediate_size": _of(24, 32),
    "hidden_act": _of("gelu", *POINTWISE), "hidden_dropout_prob": _dropout, "attention_probs_dropout_prob": _dropout,
    "max_position_embeddings": _of(24, 32, 64), "type_vocab_size": _of(1, 2, 3), "layer_norm_eps": _of(1e-12, 1e-5),
    "classifier_dropout": _of(None, 0.3), "is_decoder": _of(False, True),
    "add_cross_attention": lambda draw, drawn: drawn["is_decoder"] and draw.random() < 0.2,
}  # fmt: skip
CLASSES: dict[str, tuple[str, tuple[str, ...], dict[str, Draw | None]]] = {  # configuration, models, values of its own fields
    "gpt2": ("GPT2Config", ("GPT2LMHeadModel", "GPT2Model"), GPT2),
    "llama": ("LlamaConfig", ("LlamaForCausalLM", "LlamaModel"), LLAMA),
    "qwen2": ("Qwen2Config", ("Qwen2ForCausalLM", "Qwen2Model"), LLAMA),
    "qwen3": ("Qwen3Config", ("Qwen3ForCausalLM", "Qwen3Model"), LLAMA),
    "bert": ("BertConfig", ("BertForMaskedLM", "BertModel"), BERT),
}


def fields_of(kind: str) -> list[str]:
    """The fields of a model type's configuration, as its class has them."""
    import transformers

    return [field.name for field in dataclasses.fields(getattr(transformers, CLASSES[kind][0]))]


def unknown_fields() -> list[str]:
    """Fields of transformers' configurations that nothing here draws."""
    return [f"{kind}.{name}" for kind in CLASSES for name in fields_of(kind) if name not in COMMON and name not in CLASSES[kind][2]]


def drawn_config(kind: str, draw: random.Random) -> dict[str, Any]:
    """Values of all fields; those that a rotary scaling or a window depends on first."""
    values = {**COMMON, **CLASSES[kind][2]}
    drawn: dict[str, Any] = {}
    for name in sorted(fields_of(kind), key=lambda name: name in ("rope_parameters", "layer_types")):
        if (value := values[name]) is not None:
            drawn[name] = value(draw, drawn | ({} if "head_dim" in drawn else {"head_dim": _head_width(drawn)}))
    return drawn


def _head_width(drawn: Mapping[str, Any]) -> int:
    return int(drawn.get("hidden_size", 0)) // int(drawn.get("num_attention_heads", 1))


def make(folder: Path, kind: str, config: Mapping[str, Any], draw: random.Random) -> None:
    """A folder of a random model, as transformers saves it, and sometimes as other programs change such folders."""
    import transformers
    from safetensors.torch import load_file, save_file

    name, classes, _ = CLASSES[kind]
    base = draw.random() < 0.15 and (kind == "bert" or config["tie_word_embeddings"])
    torch.manual_seed(draw.randrange(1 << 30))
    model = getattr(transformers, classes[base])(getattr(transformers, name)(**config)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.uniform_(-0.4, 0.4)
    model.to(getattr(torch, config["dtype"] or "float32")).save_pretrained(folder)
    if base and kind != "bert":
        _edit(folder / "config.json", lambda said: said.update(architectures=[classes[0]]))
    elif draw.random() < 0.2:  # a head of its own, whatever is said
        _edit(folder / "config.json", lambda said: said.update(tie_word_embeddings=True))
    if kind not in ("gpt2", "bert") and config["rope_parameters"] and draw.random() < 0.4:
        old = draw.random() < 0.5
        _edit(folder / "config.json", lambda said: said.update(_older_rope(said, old)))
    if draw.random() < 0.2:
        path = folder / "model.safetensors"
        renamed = {name.removeprefix("transformer.").removeprefix("bert."): t for name, t in load_file(path).items()}
        save_file({n.removeprefix("model."): t for n, t in renamed.items()}, path, metadata={"format": "pt"})
    if draw.random() < 0.4 and kind != "bert":
        said = {"eos_token_id": _eos(draw, {}), "temperature": 0.6, "do_sample": True}
        (folder / "generation_config.json").write_text(json.dumps({k: v for k, v in said.items() if v is not None}))


def _edit(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    said = json.loads(path.read_text())
    change(said)
    path.write_text(json.dumps(said))


def _older_rope(said: dict[str, Any], old: bool) -> dict[str, Any]:
    """As transformers 4 said it; or with a rotary scaling that someone put beside `rope_parameters`."""
    rope = dict(said["rope_parameters"])
    if old:
        theta, kind = rope.pop("rope_theta"), rope.pop("rope_type")
        return {"rope_parameters": None, "rope_theta": theta, "rope_scaling": None if kind == "default" else {"type": kind, **rope}}
    return {"rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}}


def opened(folder: Path) -> Bundle:
    """What Bimo makes of a folder; its tokenizer is the concern of `foreign_tokenizers`."""
    model = load_model(folder)
    ends, generation = generation_of(folder, model)
    return Bundle(model, Tokenizer.of_words([f"w{i}" for i in range(VOCABULARY)]), ends=ends, generation=generation)


@torch.no_grad()
def theirs(folder: Path, kind: str, tokens: torch.Tensor) -> tuple[torch.Tensor, set[int]]:
    """Logits, or features of a model without a head, and the ids that end a text, as transformers has them."""
    import transformers

    said = json.loads((folder / "config.json").read_text())
    auto = transformers.AutoModelForCausalLM
    if kind == "bert":
        auto = transformers.AutoModel if said["architectures"] == ["BertModel"] else transformers.AutoModelForMaskedLM
    # without return_dict transformers' own heads fail
    model = auto.from_pretrained(folder, dtype=torch.float32, local_files_only=True, return_dict=True).eval()
    ends = model.generation_config.eos_token_id if kind != "bert" else None
    found = model(tokens, use_cache=False) if kind != "bert" else model(tokens)
    return found[0], {i for i in (ends if isinstance(ends, list) else [ends]) if i is not None and i < VOCABULARY}


@torch.no_grad()
def ours(bundle: Bundle, tokens: torch.Tensor) -> torch.Tensor:
    """The same of Bimo; a text is read in two pieces where that can be."""
    model: Any = bundle.model
    if not model.continues_text:
        return model.fill(tokens) if "fill" in model.capabilities else model.features(tokens)
    first, state = model.advance(model.start(len(tokens)), tokens[:, :-2])
    parts = [first]
    for place in range(tokens.shape[1] - 2, tokens.shape[1]):
        logits, state = model.advance(state, tokens[:, place : place + 1])
        parts.append(logits)
    whole, _ = model.advance(model.start(len(tokens)), tokens)
    pieces = torch.cat(parts, dim=1)
    assert float((whole - pieces).abs().max()) < CLOSE, "in pieces otherwise than at once"
    return whole


def examine(kind: str, draw: random.Random) -> tuple[str, str]:
    """How a drawn folder went: "equal", "refused" (by Bimo, with its words), "invalid" (for transformers) or "different"."""
    config = drawn_config(kind, draw)
    tokens = torch.randint(0, VOCABULARY, (2, LENGTH), generator=torch.Generator().manual_seed(draw.randrange(1 << 30)))
    with tempfile.TemporaryDirectory() as place, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folder, again = Path(place) / "theirs", Path(place) / "ours"
        try:
            make(folder, kind, config, draw)
            wanted, ends = theirs(folder, kind, tokens)
        except Exception as cause:  # whatever transformers says
            return "invalid", f"{type(cause).__name__}: {cause}"
        try:
            bundle = opened(folder)
            if (bundle.model.context or LENGTH) < LENGTH:
                tokens = tokens[:, : bundle.model.context]
                wanted, ends = theirs(folder, kind, tokens)
            found = ours(bundle, tokens)
            bundle.save(again)
        except BimoError as cause:
            return "refused", str(cause)
        back, saved_ends = theirs(again, kind, tokens)
    for what, one in (("logits", found), ("logits of the folder that Bimo saved", back)):
        if not float((one - wanted).abs().max()) < CLOSE:
            return "different", f"{what}: {float((one - wanted).abs().max()):.3g}; {config}"
    if kind != "bert" and (not ends <= set(bundle.text_ends) or not ends <= saved_ends):
        return "different", f"ends: {ends} {bundle.text_ends} {saved_ends}; {config}"
    return "equal", ""


def folders(number: int, seed: int = 0) -> dict[str, Any]:
    """Draw `number` valid folders, of each architecture alike; how they went, and why those that were refused were."""
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    draw, counts, reasons, valid = random.Random(seed), Counter[str](), Counter[str](), 0
    different: list[str] = []
    while valid < number:
        kind = list(CLASSES)[valid % len(CLASSES)]
        how, why = examine(kind, draw)
        counts[how] += 1
        valid += how != "invalid"
        if how == "different":
            different.append(f"{kind}: {why}")
        elif how != "equal":
            reasons[f"{how}: {kind}: {why[:100]}"] += 1
    return {"folders": number, **counts, "why": dict(reasons.most_common(20)), "differences": different[:5]}


def evidence(desk: Desk) -> dict[str, Any]:
    """The evidence run."""
    found = desk.module("benchmarks.foreign_folders", "--folders", FOLDERS, "--seed", desk.seed)
    return {**found, "reached": not found["differences"] and found.get("refused", 0) <= MOST_REFUSED * FOLDERS}


def main() -> None:
    """Draw folders and print what became of them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folders", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print(json.dumps(folders(options.folders, options.seed), indent=2, ensure_ascii=False))


if __name__ == "__main__":
    main()
