"""The tokenizer classes of transformers that Bimo opens: what each makes of a vocabulary, its merges and its settings.

`tokenizer_config.json` names a class. transformers (5.23, whose ids are the reference) takes vocabulary, merges, added tokens and
post-processor from `tokenizer.json`, or from the class's own files, and builds the rest anew from the class and the settings: where
`tokenizer.json` says otherwise, the class decides. `PreTrainedTokenizerFast` is the exception: `tokenizer.json` is used as it is.

Each class is one entry of `CLASSES`; those that transformers builds anew and Bimo cannot are in `OTHERS`, and are refused by name.
A test holds both against the constructors of the transformers that is installed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bimo.core.errors import ModelError
from bimo.text.vocabularies.added import written
from bimo.text.vocabularies.bytelevel import PARTINGS, pre_tokenizer

SPACE = "▁"
Settings = Mapping[str, Any]
Piece = tuple[str, float]


@dataclass(frozen=True)
class Parts:
    """What a class builds: the model's own options, and the steps around it (None: no such step)."""

    options: dict[str, Any]
    normalizer: Any
    pre_tokenizer: Any
    decoder: Any


@dataclass(frozen=True)
class TokenizerClass:
    """One class.

    model: its type in the tokenizers library; special: its special tokens by name, where the settings name none; settings: what else
    its constructor takes and what that means where it is left out; parts: of the settings and SentencePiece's table of normalisation;
    ends: its own post-processor, of the settings and the tokens' ids (None: that of tokenizer.json); pieces: how it numbers the pieces
    of a SentencePiece file; required: special tokens that must not be null.
    """

    name: str
    model: str
    special: Mapping[str, str]
    settings: Mapping[str, Any]
    parts: Callable[[Settings, bytes], Parts]
    ends: Callable[[Settings, Callable[[str], int]], Any] | None = None
    pieces: Callable[[list[Piece], Settings], list[Piece]] = field(default=lambda pieces, settings: pieces)
    required: tuple[str, ...] = ()


# -- parts ------------------------------------------------------------------------------------------------------------


def _bpe(unk: str | None = None, fuse: bool = False, bytes_too: bool = False) -> dict[str, Any]:
    return {"unk_token": unk, "fuse_unk": fuse, "byte_fallback": bytes_too}


def _bert(s: Settings, charsmap: bytes) -> Parts:
    from tokenizers import decoders, normalizers, pre_tokenizers

    normalizer = normalizers.BertNormalizer(True, s["tokenize_chinese_chars"], s["strip_accents"], s["do_lower_case"])
    return Parts({"unk_token": s["unk_token"]}, normalizer, pre_tokenizers.BertPreTokenizer(), decoders.WordPiece("##"))


def _byte_level(s: Settings, charsmap: bytes) -> Parts:
    from tokenizers import decoders, pre_tokenizers

    return Parts(_bpe(), None, pre_tokenizers.ByteLevel(add_prefix_space=s["add_prefix_space"]), decoders.ByteLevel())


def _neox(s: Settings, charsmap: bytes) -> Parts:
    from tokenizers import decoders, normalizers, pre_tokenizers

    before = pre_tokenizers.ByteLevel(add_prefix_space=s["add_prefix_space"], trim_offsets=s["trim_offsets"])
    return Parts(_bpe(), normalizers.NFC(), before, decoders.ByteLevel())


def _qwen2(s: Settings, charsmap: bytes) -> Parts:
    from tokenizers import decoders, normalizers

    before = pre_tokenizer(PARTINGS["qwen2"].patterns)
    before[1].add_prefix_space = bool(s["add_prefix_space"])
    return Parts(_bpe(), normalizers.NFC(), before, decoders.ByteLevel())


def _llama(s: Settings, charsmap: bytes) -> Parts:
    from tokenizers import decoders, pre_tokenizers

    spaced = s["add_prefix_space"] is not False
    scheme = ("always" if s["legacy"] else "first") if spaced else "never"
    steps: list[Any] = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    decoder = decoders.Sequence([*steps, decoders.Strip(" ", 1, 0)] if spaced else steps)
    return Parts(_bpe(fuse=True, bytes_too=True), None, pre_tokenizers.Metaspace(SPACE, scheme, split=False), decoder)


def _gemma(s: Settings, charsmap: bytes) -> Parts:
    from tokenizers import decoders, normalizers, pre_tokenizers

    decoder = decoders.Sequence([decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()])
    before = pre_tokenizers.Split(" ", "merged_with_previous")
    return Parts(_bpe(s["unk_token"], fuse=True, bytes_too=True), normalizers.Replace(" ", SPACE), before, decoder)


def _unigram(unk: int, scheme: Callable[[Settings], str]) -> Callable[[Settings, bytes], Parts]:
    def parts(s: Settings, charsmap: bytes) -> Parts:
        from tokenizers import decoders, normalizers, pre_tokenizers

        steps = [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(SPACE, scheme(s))]
        normalizer = normalizers.Precompiled(charsmap) if charsmap else None
        options = {"unk_id": unk, "byte_fallback": False}
        return Parts(options, normalizer, pre_tokenizers.Sequence(steps), decoders.Metaspace(SPACE, scheme(s)))

    return parts


def _xlmr_pieces(pieces: list[Piece], s: Settings) -> list[Piece]:
    """fairseq's numbers: <s>, <pad>, </s>, <unk>, the pieces from the fourth on, and the mask."""
    first: list[Piece] = [(str(s[f"{name}_token"]), 0.0) for name in ("bos", "pad", "eos", "unk")]
    return [*first, *pieces[3:], (str(s["mask_token"]), 0.0)]


def _t5_pieces(pieces: list[Piece], s: Settings) -> list[Piece]:
    return [*pieces, *((f"<extra_id_{i}>", 0.0) for i in range(s["extra_ids"] - 1, -1, -1))]


Ids = Callable[[str], int]


def template(single: Sequence[str], pair: Sequence[str], ids: Ids) -> Any:
    """A post-processor that puts special tokens around one text and around two; `$A` and `$B` stand for the texts."""
    from tokenizers import processors

    names = [part.removesuffix(":0").removesuffix(":1") for part in pair if not part.startswith("$")]
    return processors.TemplateProcessing(list(single), list(pair), [(name, ids(name)) for name in dict.fromkeys(names)])


def _bert_ends(s: Settings, ids: Ids) -> Any:
    cls, sep = s["cls_token"], s["sep_token"]
    single = [f"{cls}:0", "$A:0", f"{sep}:0"]
    return template(single, [*single, "$B:1", f"{sep}:1"], ids)


def _roberta_ends(s: Settings, ids: Ids) -> Any:
    from tokenizers import processors

    cls, sep = s["cls_token"], s["sep_token"]
    return processors.RobertaProcessing((sep, ids(sep)), (cls, ids(cls)), s["trim_offsets"], s["add_prefix_space"])


def _xlmr_ends(s: Settings, ids: Ids) -> Any:
    bos, eos = s["bos_token"], s["eos_token"]
    return template([bos, "$A", eos], [bos, "$A", eos, eos, "$B", eos], ids)


def _t5_ends(s: Settings, ids: Ids) -> Any:
    eos = s["eos_token"]
    return template(["$A", eos], ["$A", eos, "$B", eos], ids)


def flag_ends(s: Settings, ids: Ids) -> Any:
    """What `add_bos_token` and `add_eos_token` say; None where they put nothing around a text."""
    bos, eos = ([token] if s.get(f"add_{name}_token") and (token := written(s.get(f"{name}_token"))) else [] for name in ("bos", "eos"))
    if not bos and not eos:
        return None
    first, second = ([*(f"{token}:{i}" for token in bos), f"${'AB'[i]}:{i}", *(f"{token}:{i}" for token in eos)] for i in (0, 1))
    return template(first, [*first, *second], ids)


# -- tables -----------------------------------------------------------------------------------------------------------

_BERT = {"unk_token": "[UNK]", "sep_token": "[SEP]", "pad_token": "[PAD]", "cls_token": "[CLS]", "mask_token": "[MASK]"}
_FAIRSEQ = {
    "bos_token": "<s>", "eos_token": "</s>", "sep_token": "</s>", "cls_token": "<s>", "unk_token": "<unk>", "pad_token": "<pad>",
    "mask_token": "<mask>",
}  # fmt: skip
_END = "<|endoftext|>"
_LLAMA = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
_GEMMA = {"unk_token": "<unk>", "bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>", "mask_token": "<mask>"}
_T5 = {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}

_OPENED = (
    TokenizerClass(
        "BertTokenizer", "WordPiece", _BERT, {"do_lower_case": True, "tokenize_chinese_chars": True, "strip_accents": None}, _bert,
        ends=_bert_ends, required=("unk_token", "cls_token", "sep_token"),
    ),
    TokenizerClass(
        "GPT2Tokenizer", "BPE", {"unk_token": _END, "bos_token": _END, "eos_token": _END}, {"add_prefix_space": False}, _byte_level,
    ),
    TokenizerClass(
        "RobertaTokenizer", "BPE", _FAIRSEQ, {"add_prefix_space": False, "trim_offsets": True}, _byte_level,
        ends=_roberta_ends, required=("cls_token", "sep_token"),
    ),
    TokenizerClass(
        "GPTNeoXTokenizer", "BPE", {"unk_token": _END, "bos_token": _END, "eos_token": _END, "pad_token": "<|padding|>"},
        {"add_prefix_space": False, "trim_offsets": True}, _neox, ends=flag_ends,
    ),
    TokenizerClass(
        "Qwen2Tokenizer", "BPE", {"unk_token": _END, "eos_token": _END, "pad_token": _END}, {"add_prefix_space": None}, _qwen2,
    ),
    TokenizerClass("LlamaTokenizer", "BPE", _LLAMA, {"legacy": False, "add_prefix_space": None}, _llama),
    TokenizerClass("GemmaTokenizer", "BPE", _GEMMA, {}, _gemma, required=("unk_token",)),
    TokenizerClass(
        "XLMRobertaTokenizer", "Unigram", _FAIRSEQ, {"add_prefix_space": True},
        _unigram(3, lambda s: "always" if s["add_prefix_space"] else "never"), ends=_xlmr_ends, pieces=_xlmr_pieces,
        required=("bos_token", "eos_token"),
    ),
    TokenizerClass(
        "T5Tokenizer", "Unigram", _T5, {"extra_ids": 100}, _unigram(2, lambda s: "always"), ends=_t5_ends, pieces=_t5_pieces,
        required=("eos_token",),
    ),
)  # fmt: skip
CLASSES: dict[str, TokenizerClass] = {one.name: one for one in _OPENED}
_SAME = {  # other names of the same classes
    "BertTokenizer": "DistilBertTokenizer ElectraTokenizer LxmertTokenizer MobileBertTokenizer SqueezeBertTokenizer",
    "RobertaTokenizer": "BartTokenizer LEDTokenizer LongformerTokenizer MvpTokenizer",
}
CLASSES |= {name: CLASSES[known] for known, names in _SAME.items() for name in names.split()}
# Classes by which transformers uses tokenizer.json as it is; so it does under names that it does not know.
AS_IT_IS = ("PreTrainedTokenizerFast", "PreTrainedTokenizer", "TokenizersBackend", "PythonBackend", "BloomTokenizer", "ParakeetTokenizer")
# Classes that transformers builds anew, from code of their own, and Bimo does not know.
_OTHERS = (
    "Albert Barthez Bartpho BertGeneration BertJapanese Bertweet BigBird BioGpt Blenderbot "
    "BlenderbotSmall ByT5 CLIP CTRL Camembert Canine Clvp CodeGen CodeLlama Cohere ConvBert Cpm CpmAnt "
    "DPRContextEncoder DPRQuestionEncoder DPRReader Deberta DebertaV2 Dia Esm Esmc FNet FSMT "
    "FastSpeech2Conformer Flaubert Funnel GPTNeoXJapanese GPTSw3 Herbert Lasr LayoutLM LayoutLMv2 "
    "LayoutLMv3 LayoutXLM Luke M2M100 MBart MBart50 MLuke MPNet Marian MarkupLM Mgpstr MyT5 Nllb Nougat "
    "OpenAIGPT PLBart Pegasus Perceiver Phobert ProphetNet Qwen3_5 Rag Reformer RemBert RoCBert RoFormer "
    "SeamlessM4T Siglip Siglip2 Speech2Text SpeechT5 Splinter Tapas Tapex Tipsv2 Udop VideoPrism Vits "
    "Wav2Vec2 Wav2Vec2CTC Wav2Vec2PhonemeCTC Whisper XGLM XLM XLMProphetNet XLNet "
)
OTHERS = frozenset(_OTHERS.split())
# The class of a model's type: used where none is named, and where the one that is named is no class but `AS_IT_IS`.
OF_MODELS = {
    "bert": "BertTokenizer", "distilbert": "BertTokenizer", "electra": "BertTokenizer", "gpt2": "GPT2Tokenizer",
    "gpt_neox": "GPTNeoXTokenizer", "roberta": "RobertaTokenizer", "xlm-roberta": "XLMRobertaTokenizer", "t5": "T5Tokenizer",
    "gemma": "GemmaTokenizer", "gemma2": "GemmaTokenizer", "qwen2": "Qwen2Tokenizer", "qwen3": "Qwen2Tokenizer",
    "mistral": "TokenizersBackend", "mixtral": "TokenizersBackend", "phi3": "TokenizersBackend",
}  # fmt: skip
FORCED = ("qwen2",)  # types of models whose files name a wrong class: that of the type goes before it


def find_class(declared: str | None, model_type: str | None, text: str | None, where: str) -> TokenizerClass | None:
    """The class by which a folder's tokenizer is built; None: tokenizer.json as it is, or where there is none, by the form of its files.

    declared: `tokenizer_class`; model_type: of config.json; text: tokenizer.json, if there is one. Raises `ModelError` for a class that
    transformers builds in a way that Bimo does not know.

    >>> find_class("LlamaTokenizerFast", "llama", "{}", "x").name, find_class("PreTrainedTokenizerFast", "llama", "{}", "x")
    ('LlamaTokenizer', None)
    """
    usual = OF_MODELS.get(model_type or "")
    name = (declared or "").removesuffix("Fast")
    if name == "LlamaTokenizer" and usual not in AS_IT_IS and model_type not in FORCED and '"ByteLevel"' in (text or ""):
        return None  # Llama 3's files name the class of Llama 2
    if not name:
        name = usual or ""
    elif usual in AS_IT_IS and usual != name:
        return None
    elif model_type in FORCED:
        name = usual or name
    if name in CLASSES:
        return CLASSES[name]
    if name.removesuffix("Tokenizer") in OTHERS:
        raise ModelError(
            f"{where}: tokenizer_class {declared} is built by transformers in a way of its own, which Bimo does not know; open it there "
            f"and save its backend as a PreTrainedTokenizerFast, or give a tokenizer of one of {', '.join(one.name for one in _OPENED)}"
        )
    if text is None and name and name.removesuffix("Tokenizer") != "PreTrained" and name not in AS_IT_IS:
        raise ModelError(
            f"{where}: tokenizer_class {declared} is not known, and there is no tokenizer.json to use as it is; convert it to one, or give "
            f"a tokenizer of one of {', '.join(one.name for one in _OPENED)}"
        )
    return None
