"""The table of speeds: Bimo beside public peers, and what was asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from benchmarks.shown import Records, Say, day, explained, missing, table
from bimo.evaluation import display


def speed(found: Records, say: Say) -> str:
    """Bimo beside public peers: medians of interleaved rounds, of steps also the ratio of each side's fastest."""
    rows: list[list[str]] = []
    for name, make in SPEEDS.items():
        if name in found:
            rows += [[*cells, day(found, name)] for cells in make(found[name]["figures"], say)]
        else:
            rows.append([missing(name, say), "", "", "", "", ""])
    return explained(table([say("what"), "Bimo", say("peer"), say("ratio"), say("asked"), say("measured on")], rows), say)


def _kenlm(f: Mapping[str, Any], say: Say) -> list[list[str]]:
    theirs = display.count(f.get("kenlm_words_per_s"))
    scored = [
        [
            say(f"scored words/s, {threads}"),
            display.count(f[f"ours_words_per_s_{n}"]),
            f"KenLM: {theirs}",
            _ratio(f.get(f"ratio_{n}")),
            asked,
        ]
        for threads, n, asked in (("one thread", "1", "≥ 1×"), ("two threads", "N", "≥ 2×"))
    ]
    return [
        [say("lines in memory to estimated 5-gram"), display.seconds(f["seconds_to_model"]), "", "", "≤ 2 s"],
        [say("memory for it above the imports"), f"{f['peak_mib_above_imports']:.0f} MiB", "", "", "≤ 500 MiB"],
        *scored,
    ]


def _nanogpt(f: Mapping[str, Any], say: Say) -> list[list[str]]:
    peer = f"{say('CPU recipe of nanoGPT')}: {'> ' if f['at_least'] else ''}{display.seconds(f['theirs_seconds'])}"
    sign = "≥ " if f["at_least"] else ""
    return [[say("time to 1.88 nats a character"), display.seconds(f["ours_seconds"]), peer, sign + _ratio(f["ratio"]), _asked(f, say)]]


def _training(what: str, peer: str) -> Callable[[Mapping[str, Any], Say], list[list[str]]]:
    def rows(f: Mapping[str, Any], say: Say) -> list[list[str]]:
        ours, theirs = (f"{display.seconds(f[f'{side}_seconds_per_step'])}" for side in ("ours", "theirs"))
        made = [
            [
                f"{say(what)} ({f['precision']})",
                ours,
                f"{peer}: {theirs}",
                f"{_ratio(f['ratio'])} ({_ratio(f['ratio_of_fastest'])})",
                _asked(f, say),
            ]
        ]
        if "ours_share_of_matrix_rate" in f:
            shares = (display.percent(f[f"{side}_share_of_matrix_rate"], 0) for side in ("ours", "theirs"))
            made.append([say("share of the best matrix rate"), *shares, "", ""])
        if "ratio_shuffled" in f:
            made.append([say("the same, text tokens/s with each side's own loader"), "", "", _ratio(f["ratio_shuffled"]), ""])
        return made

    return rows


def _tokenizers(f: Mapping[str, Any], say: Say) -> list[list[str]]:
    return [
        [
            f"{say(what)} ({name})",
            f"{t[f'ours_{form}_megabytes_per_s']:.1f} MB/s",
            f"tokenizers: {t[f'theirs_{form}_megabytes_per_s']:.1f} MB/s",
            _ratio(t[f"ratio_{form}"]),
            "",
        ]
        for name, t in f.items()
        for what, form in (("byte-level BPE, a text", "one"), ("byte-level BPE, lines", "lines"))
    ]


def _asked(f: Mapping[str, Any], say: Say) -> str:
    if "target" not in f:
        return ""
    return f"≥ {f['target']:g}×" + (f" ({say('missed')})" if f.get("reached") is False else "")


def _ratio(value: float | None) -> str:
    return display.NONE if value is None else f"{value:.2f}×"


def _adapters(f: Mapping[str, Any], say: Say) -> list[list[str]]:
    ours, theirs = (display.count(f[f"{side}_tokens_per_second"]) for side in ("ours", "theirs"))
    what = f"{say('LoRA fine-tuning of SmolLM2, tokens of conversations/s')} ({f['precision']})"
    made = [[what, ours, f"transformers + peft: {theirs}", _ratio(f["ratio"]), _asked(f, say)]]
    if "whole_ratio" in f:
        read = display.count(f["whole_tokens_per_second"])
        made.append([say("the same, with the template's beginning read in each conversation"), read, "", _ratio(f["whole_ratio"]), ""])
    return made


SPEEDS: dict[str, Callable[[Mapping[str, Any], Say], list[list[str]]]] = {
    "ngram-kenlm": _kenlm,
    "nanogpt-cpu": _nanogpt,
    "training-speed": _training("training step, 6 layers of 384", "transformers GPT-2"),
    "recurrent-speed": _training("training step, LSTM", "torch.nn.LSTM"),
    "encoder-speed": _training("training step, encoder", "transformers BERT"),
    "translation-speed": _training("training step, encoder–decoder", "torch.nn.Transformer"),
    "adapter-speed": _adapters,
    "tokenizer-speed": _tokenizers,
}
