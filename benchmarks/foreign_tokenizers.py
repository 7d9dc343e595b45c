"""Tokenizers that transformers saves, drawn at random, opened by Bimo: equal ids, equal ends, equal decoding, or a refusal by name.

A folder is drawn by its seed alone: a class that Bimo names as opened, every argument of its constructor (enumerated from its signature)
at its default or at another value, the files of the class's own or a tokenizer.json, and a tokenizer_config.json which may contradict it.
Run: python -m benchmarks.foreign_tokenizers --folders 500 [--seed 0] [--show]
"""

from __future__ import annotations

import argparse
import inspect
import io
import json
import random
import shutil
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from benchmarks.desk import Desk
from bimo.core.errors import BimoError
from bimo.text.special_ids import special_ids
from bimo.text.tokenizer import Tokenizer
from bimo.text.vocabularies.classes import CLASSES

TEXTS = (
    "The cat sat on the mat.", "今天天气很好，我们去公园看花。", "Hello 世界! It's 3,14 o'clock", "🙂👩\u200d👩\u200d👧 ok",
    "  leading", "trailing  ", "a  b   c", "one\ntwo\n\nthree\r\n", "\ttab\tbed", "naïve café Ünïcödé", "UPPER Case", "", " ", "x",
    "ｆｕｌｌ　ｗｉｄｔｈ ①½", "don't we're n't .",
    "unknown: ☃ ツ й", "cafe\u0301 か\u3099", "a<b>c [x] ▁ ##s", "12345 67 8",
)  # fmt: skip
LEARNED = [
    "the cat sat on the mat and the dog ate 12 apples", "hello world it is a good day to walk in the park",
    "don't you say we're late",
    "今天天气很好，我们去公园看花。", "你好世界，他们在图书馆读书。", "Naïve café",
    "upper case and lower case letters: abcdefghijklmnopqrstuvwxyz",
    "ABCDEFGHIJKLMNOPQRSTUVWXYZ 0123456789 . , ! ? ' \" ( ) [ ] < > # : ; -",
] * 6  # fmt: skip
SPECIALS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
TYPES = {  # types of models whose folders hold such tokenizers
    "BertTokenizer": ["bert", "distilbert", None], "GPT2Tokenizer": ["gpt2", "llama", None], "LlamaTokenizer": ["llama", None],
    "Qwen2Tokenizer": ["qwen2", "qwen3", "llama", None], "RobertaTokenizer": ["roberta", None],
    "GPTNeoXTokenizer": ["gpt_neox", "llama", None],
    "GemmaTokenizer": ["gemma", "llama"], "XLMRobertaTokenizer": ["bert", "xlm-roberta", None], "T5Tokenizer": ["t5", None],
    "PreTrainedTokenizerFast": ["llama", "gpt2", "qwen3", "bert", None],
}  # fmt: skip
FAST_ONLY = ("PreTrainedTokenizerFast",)
NAMES = tuple(TYPES)
FOLDERS, MOST_REFUSED = 500, 0.1


@dataclass
class Outcome:
    """What became of one folder: equal, refused, skipped (transformers itself does not open it) or different."""

    seed: int
    name: str
    form: str
    verdict: str
    differences: list[str] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)


# -- small vocabularies -----------------------------------------------------------------------------------------------


@lru_cache(None)
def byte_level() -> tuple[dict[str, int], list[tuple[str, str]]]:
    from tokenizers import Tokenizer as Hub
    from tokenizers import models, pre_tokenizers, trainers

    hub = Hub(models.BPE())
    hub.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(vocab_size=420, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    hub.train_from_iterator(LEARNED, trainer)
    model = json.loads(hub.to_str())["model"]
    return model["vocab"], [tuple(pair) for pair in model["merges"]]


@lru_cache(None)
def words() -> dict[str, int]:
    from tokenizers import Tokenizer as Hub
    from tokenizers import models, normalizers, pre_tokenizers, trainers

    hub = Hub(models.WordPiece(unk_token="[UNK]"))
    hub.normalizer, hub.pre_tokenizer = normalizers.BertNormalizer(True, True, False, False), pre_tokenizers.BertPreTokenizer()
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[unused0]"]
    hub.train_from_iterator(LEARNED, trainers.WordPieceTrainer(vocab_size=420, special_tokens=names, show_progress=False))
    return hub.get_vocab()


@lru_cache(None)
def sentencepiece_bytes(kind: str, variant: int) -> bytes:
    import sentencepiece

    held = io.BytesIO()
    options: dict[str, Any] = [
        {"byte_fallback": True, "normalization_rule_name": "identity", "remove_extra_whitespaces": False},
        {},
        {"user_defined_symbols": ["<sep>", "fox"], "control_symbols": ["<ctl>"]},
        {"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1},
    ][variant]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(LEARNED),
        model_writer=held,
        vocab_size=420,
        hard_vocab_limit=False,
        minloglevel=3,
        model_type=kind,
        **options,
    )
    return held.getvalue()


# -- drawing ----------------------------------------------------------------------------------------------------------


def arguments(cls: type) -> dict[str, Any]:
    """The arguments of a constructor with their defaults, so that a new one in a later transformers is drawn as well."""
    left = ("self", "vocab", "merges", "args", "kwargs", "_spm_precompiled_charsmap", "additional_special_tokens")
    found = inspect.signature(cls.__init__).parameters
    return {name: one.default for name, one in found.items() if name not in left}


def drawn_token(rng: random.Random, name: str, usual: Any) -> Any:
    from tokenizers import AddedToken

    made = f"<own_{name.removesuffix('_token')}>"
    content = rng.choice([made, usual or made])
    flags = {flag: rng.random() < 0.3 for flag in ("lstrip", "rstrip", "single_word")}
    return rng.choice([content, content, AddedToken(content, special=True, normalized=rng.random() < 0.3, **flags)])


def drawn_settings(rng: random.Random, cls: type, share: float) -> dict[str, Any]:
    """Each argument left alone, or at another value, by chance."""
    from tokenizers import AddedToken

    chosen: dict[str, Any] = {}
    for name, usual in arguments(cls).items():
        if rng.random() >= share:
            continue
        if name in SPECIALS:
            chosen[name] = drawn_token(rng, name, usual)
        elif isinstance(usual, bool):
            chosen[name] = not usual if rng.random() < 0.8 else usual
        elif usual is None:
            chosen[name] = rng.choice([True, False, None])
        elif isinstance(usual, int):
            chosen[name] = rng.choice([0, 3, 7])
        else:
            chosen[name] = usual
    extras = [["<x1>", "<x2>"], [AddedToken("<x3>", special=True, lstrip=True)], {"image_token": "<im>"}]
    common = {
        "add_bos_token": lambda: rng.random() < 0.5, "add_eos_token": lambda: rng.random() < 0.5,
        "clean_up_tokenization_spaces": lambda: rng.random() < 0.5, "split_special_tokens": lambda: rng.random() < 0.5,
        "padding_side": lambda: rng.choice(["left", "right"]), "model_max_length": lambda: rng.choice([16, 512, 10**30]),
        "extra_special_tokens": lambda: rng.choice(extras),
        "additional_special_tokens": lambda: ["<y1>", AddedToken("<y2>", special=True, rstrip=True)],
        "image_token": lambda: "<image>", "chat_template": lambda: "{{ messages[0].content }}",
    }  # fmt: skip
    chosen |= {name: draw() for name, draw in common.items() if rng.random() < share / 2 and name not in chosen}
    if "extra_special_tokens" in chosen or "extra_ids" in chosen:
        chosen.pop("additional_special_tokens", None)
    return chosen


def write_own_files(rng: random.Random, name: str, folder: Path) -> str:
    """The files that a class has of its own; which they are, in a word."""
    kind = CLASSES[name].model
    if kind == "WordPiece":
        ordered = sorted(words(), key=words().__getitem__)
        more = [rng.choice(ordered[6:])] if rng.random() < 0.2 else []  # a line that stands twice
        (folder / "vocab.txt").write_text("\n".join([*ordered, *more]) + "\n", encoding="utf-8")
        return "vocab.txt"
    if kind == "Unigram" or name in ("LlamaTokenizer", "GemmaTokenizer"):
        file = {"XLMRobertaTokenizer": "sentencepiece.bpe.model", "T5Tokenizer": "spiece.model"}.get(name, "tokenizer.model")
        model = "unigram" if kind == "Unigram" else "bpe"
        (folder / file).write_bytes(sentencepiece_bytes(model, rng.randrange(4)))
        return file
    vocab, merges = byte_level()
    vocab = dict(vocab) | ({"<|endoftext|>": len(vocab)} if rng.random() < 0.7 else {})
    (folder / "vocab.json").write_text(json.dumps(vocab), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(map(" ".join, merges)) + "\n", encoding="utf-8")
    return "vocab.json"


def plain_fast(rng: random.Random, settings: dict[str, Any]) -> Any:
    """A PreTrainedTokenizerFast of steps that no class has."""
    import transformers
    from tokenizers import Tokenizer as Hub
    from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

    vocab, merges = byte_level()
    hub = Hub(models.BPE(dict(vocab), list(merges)))
    spaced = rng.random() < 0.5
    digits = [pre_tokenizers.Digits(individual_digits=rng.random() < 0.5)] if rng.random() < 0.5 else []
    hub.pre_tokenizer = pre_tokenizers.Sequence([*digits, pre_tokenizers.ByteLevel(add_prefix_space=spaced)])
    hub.normalizer = rng.choice([None, normalizers.NFKC(), normalizers.Lowercase(), normalizers.NFC()])
    hub.decoder = decoders.ByteLevel()
    if rng.random() < 0.5:
        hub.add_special_tokens(["<s>", "</s>"])
        ids = [("<s>", hub.token_to_id("<s>")), ("</s>", hub.token_to_id("</s>"))]
        single = rng.choice(["<s> $A", "$A </s>", "<s> $A </s>"])
        used = [pair for pair in ids if pair[0] in single]
        hub.post_processor = processors.TemplateProcessing(single, f"{single} $B", used)
    hub.add_tokens(["ordinary"])
    return transformers.PreTrainedTokenizerFast(tokenizer_object=hub, **settings)


def draw(seed: int, folder: Path) -> Outcome:
    """Write the folder of a seed; the verdict is open."""
    import transformers

    rng = random.Random(seed)
    name = NAMES[seed % len(NAMES)]
    share = rng.choice([0.0, 0.2, 0.6])
    cls = getattr(transformers, name)
    own = name not in FAST_ONLY and rng.random() < 0.45
    settings = drawn_settings(rng, cls, share)
    kind = rng.choice(TYPES[name])
    if own:
        form = write_own_files(rng, name, folder)
        written = transformers.PreTrainedTokenizerBase.convert_added_tokens(dict(settings), save=True)
        older = {}
        if rng.random() < 0.4:  # as older versions wrote them
            older = {key: settings[key] for key in SPECIALS if isinstance(settings.get(key), str)}
            (folder / "special_tokens_map.json").write_text(json.dumps(older))
            written = {key: value for key, value in written.items() if key not in older}
        write_config(rng, folder, written, name)
        if rng.random() < 0.3 and "<own" not in str(written) and not older:
            size = transformers.AutoTokenizer.from_pretrained(folder).vocab_size if opens(folder, kind) else None
            if size is not None:
                (folder / "added_tokens.json").write_text(json.dumps({"<one>": size, "two": size + 1}))
    else:
        form = "tokenizer.json"
        if name in FAST_ONLY:
            tokenizer = plain_fast(rng, settings)
        else:
            with tempfile.TemporaryDirectory() as place:
                write_own_files(rng, name, Path(place))
                tokenizer = cls.from_pretrained(place, **settings)
        if rng.random() < 0.3:
            tokenizer.add_tokens(["added one", "zwei"])
        tokenizer.save_pretrained(folder)
        if rng.random() < 0.5:  # settings that contradict tokenizer.json
            config = json.loads((folder / "tokenizer_config.json").read_text())
            changed = drawn_settings(rng, cls, 0.4)
            changed = {key: value for key, value in changed.items() if key not in SPECIALS and "special" not in key and key != "extra_ids"}
            config |= transformers.PreTrainedTokenizerBase.convert_added_tokens(changed, save=True)
            form += " contradicted"
            if rng.random() < 0.3 and kind is not None:
                config.pop("tokenizer_class", None)
            elif rng.random() < 0.3:
                config["tokenizer_class"] = f"{name.removesuffix('Fast')}Fast"
            if rng.random() < 0.3:
                config = {key: value for key, value in config.items() if key not in SPECIALS}
            (folder / "tokenizer_config.json").write_text(json.dumps(config))
        form += older_files(rng, tokenizer, folder)
    if kind is not None:
        (folder / "config.json").write_text(json.dumps({"model_type": kind}))
    return Outcome(seed, name, f"{form} ({kind})", "", settings={key: str(value) for key, value in settings.items()})


def older_files(rng: random.Random, tokenizer: Any, folder: Path) -> str:
    """Beside a tokenizer.json what older versions wrote, or a tokenizer.json of other steps; which, in words."""
    path, form = folder / "tokenizer_config.json", ""
    config, hub = json.loads(path.read_text()), json.loads((folder / "tokenizer.json").read_text())
    if rng.random() < 0.2:
        held = {i: token.__getstate__() for i, token in tokenizer.added_tokens_decoder.items()}
        if rng.random() < 0.3 and held:
            held.pop(max(held))
        config["added_tokens_decoder"] = held
        form += " added_tokens_decoder"
    if rng.random() < 0.2:
        named = {key: config[key] for key in SPECIALS if key in config and rng.random() < 0.7}
        (folder / "special_tokens_map.json").write_text(json.dumps(named | {"additional_special_tokens": ["<z1>"]}))
        form += " special_tokens_map"
    if rng.random() < 0.2:
        step = rng.choice(("normalizer", "pre_tokenizer", "post_processor", "decoder"))
        hub[step] = None
        form += f" no {step}"
    if rng.random() < 0.2 and hub["model"]["type"] == "BPE":
        key = rng.choice(("byte_fallback", "fuse_unk", "ignore_merges"))
        hub["model"][key] = not hub["model"][key]
        form += f" {key}"
    if rng.random() < 0.2:
        others = [name for name, one in CLASSES.items() if one.name == config.get("tokenizer_class")]
        if config.get("tokenizer_class") == "GPT2Tokenizer":
            others += ["LlamaTokenizer"]  # as Llama 3's files name it
        config["tokenizer_class"] = rng.choice([*others, "NoSuchTokenizer"])
        form += f" as {config['tokenizer_class']}"
    (folder / "tokenizer.json").write_text(json.dumps(hub))
    path.write_text(json.dumps(config))
    return form


def write_config(rng: random.Random, folder: Path, settings: dict[str, Any], name: str) -> None:
    settings = {"tokenizer_class": name + rng.choice(["", "", "Fast"]), **settings}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def opens(folder: Path, kind: str | None) -> bool:
    import transformers

    if kind is not None:
        (folder / "config.json").write_text(json.dumps({"model_type": kind}))
    try:
        transformers.AutoTokenizer.from_pretrained(folder)
    except Exception:
        return False
    return True


# -- comparing --------------------------------------------------------------------------------------------------------


def differences(theirs: Any, ours: Tokenizer) -> Iterator[str]:
    """Where Bimo's ids, ends or texts are not those of transformers."""
    special = set(theirs.all_special_tokens) | set(ours.special_tokens)
    plain = [text for text in TEXTS if not any(token in text for token in special)]
    for text in plain:
        wanted = theirs(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        if (found := ours.encode(text)) != wanted:
            yield f"{text!r}: {wanted} there, {found} here"
        around = theirs(text, split_special_tokens=True)["input_ids"]
        if (found := ours.encode(text, add_special_tokens=True)) != around:
            yield f"{text!r} with special tokens: {around} there, {found} here"
        ends = {theirs.bos_token_id, theirs.eos_token_id, theirs.pad_token_id, theirs.cls_token_id, theirs.sep_token_id}
        if not ends & set(wanted):
            said = theirs.decode(wanted)
            if (found := ours.decode(wanted)) != said:
                yield f"decoded {wanted}: {said!r} there, {found!r} here"
    unknown = set(ours.encode("ツ☃"))  # some vocabularies have one id for these and for a special token
    for token in special:
        if (i := theirs.convert_tokens_to_ids(token)) != (mine := ours.hub.token_to_id(token)):
            yield f"the token {token}: {i} there, {mine} here"
        if token in ours.special_tokens and ours.special_tokens[token].id in {*ours.encode(f"a{token}b")} - unknown:
            yield f"a text that holds {token} becomes the special token"
    names = {name: getattr(theirs, f"{name}_token_id") for name in ("bos", "eos", "unk", "pad", "sep", "cls", "mask")}
    found = special_ids(ours)
    for name, i in names.items():
        mine = found.get(name, found.get({"bos": "cls", "eos": "sep", "cls": "bos", "sep": "eos"}.get(name, "")))
        if i is not None and mine != i:
            yield f"{name}: {i} there, {mine} here"


def compare(seed: int) -> Outcome:
    """Draw a folder, open it in both, save it by Bimo and open that in transformers."""
    import transformers

    with tempfile.TemporaryDirectory(prefix="foreign-") as place:
        folder = Path(place) / "theirs"
        folder.mkdir()
        try:
            outcome = draw(seed, folder)
            theirs = transformers.AutoTokenizer.from_pretrained(folder)
            theirs(list(TEXTS))
        except Exception as cause:
            return Outcome(seed, NAMES[seed % len(NAMES)], "", "skipped", [f"{type(cause).__name__}: {cause}"[:200]])
        try:
            ours = Tokenizer.load(folder)
        except BimoError as refused:
            outcome.verdict, outcome.differences = "refused", [str(refused).replace(place, "")]
            return outcome
        outcome.differences = list(differences(theirs, ours))
        ours.save(Path(place) / "ours")
        if (folder / "config.json").exists():
            shutil.copy(folder / "config.json", Path(place) / "ours")
        again = transformers.AutoTokenizer.from_pretrained(Path(place) / "ours")
        outcome.differences += [f"saved by Bimo: {one}" for one in differences(again, ours)]
        outcome.verdict = "different" if outcome.differences else "equal"
        return outcome


def quiet() -> None:
    import transformers

    transformers.logging.set_verbosity_error()
    warnings.simplefilter("ignore")


def folders(number: int, seed: int = 0) -> dict[str, Any]:
    """What became of `number` folders, by class, and those that differ."""
    quiet()
    found: dict[str, Counter[str]] = {name: Counter() for name in NAMES}
    wrong = []
    for place in range(number):
        outcome = compare(seed + place)
        found[outcome.name][outcome.verdict] += 1
        if outcome.verdict == "different":
            wrong.append({"seed": outcome.seed, "class": outcome.name, "form": outcome.form, "found": outcome.differences[:3]})
    total = sum(found.values(), Counter())
    return {"folders": number, "classes": {name: dict(counts) for name, counts in found.items()}, **total, "wrong": wrong}


def evidence(desk: Desk) -> dict[str, Any]:
    """The evidence run."""
    found = desk.module("benchmarks.foreign_tokenizers", "--folders", FOLDERS, "--seed", desk.seed)
    return {**found, "reached": not found["wrong"] and found.get("refused", 0) <= MOST_REFUSED * FOLDERS}


def main() -> None:
    """Draw folders and print what became of them as JSON; with --show those that are not equal, one a line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folders", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--show", action="store_true")
    options = parser.parse_args()
    if not options.show:
        print(json.dumps(folders(options.folders, options.seed), indent=2, ensure_ascii=False))
        return
    quiet()
    for seed in range(options.seed, options.seed + options.folders):
        outcome = compare(seed)
        if outcome.verdict != "equal":
            print(outcome.verdict, seed, outcome.name, outcome.form, outcome.differences[:3], outcome.settings, flush=True)


if __name__ == "__main__":
    main()
