"""The tables of the README and the docs, made from evidence/*.json: `python -m benchmarks.tables [--check]`.

The text between `<!-- evidence:NAME -->` and `<!-- /evidence -->` in README*.md and docs/**/*.md is replaced by table NAME; a file whose
name or folder says `zh` gets Chinese headings. What has not been measured yet says so, and how to measure it.
"""

from __future__ import annotations

import argparse
import math
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.quality import budget_of
from benchmarks.record import ROOT, read_all
from bimo.core import store
from bimo.core.budget import Budget
from bimo.core.errors import UserError, did_you_mean
from bimo.evaluation import display

MARKED = re.compile(r"(<!-- evidence:([\w-]+) -->\n).*?(<!-- /evidence -->)", re.DOTALL)
Records = Mapping[str, Mapping[str, Any]]
Say = Callable[[str], str]

CHINESE = {
    "what": "内容", "asked": "要求", "measured": "实测", "given again by": "重做命令", "model": "模型", "bits per byte": "每字节比特",
    "perplexity": "困惑度", "parameters": "参数量", "time used": "所用时间", "training tokens/s": "训练词元/秒", "text": "文本",
    "tokenizer": "分词器", "peer": "对照", "ratio": "比值", "characters": "字", "words": "词", "not measured yet": "尚未测量",
    "of the bytes lost": "的字节丢失",
    "Penn Treebank, 5-gram: test perplexity": "Penn Treebank，5-gram：测试困惑度",
    "Penn Treebank, 3-gram: test perplexity": "Penn Treebank，3-gram：测试困惑度",
    "Penn Treebank, LSTM, {} min: test perplexity": "Penn Treebank，LSTM，{} 分钟：测试困惑度",
    "tinyshakespeare, decoder, {} min: nats a character": "tinyshakespeare，decoder，{} 分钟：每字符奈特",
    "Multi30k, English to German, {} min: BLEU": "Multi30k，英译德，{} 分钟：BLEU",
    "STS-B, English: Spearman by contrast over mean pooling": "STS-B 英文：对比学习较均值池化的 Spearman 增益",
    "STS-B, Chinese: Spearman by contrast over mean pooling": "STS-B 中文：对比学习较均值池化的 Spearman 增益",
    "the same, text tokens/s with each side's own loader": "同上，各用自己的装载器，文本词元/秒",
    "killed runs that end with the same bits": "被杀后恢复、权重逐位相同的运行", "of which inside a save": "其中在保存途中被杀",
    "the main job, from command to report": "主要任务：从命令到报告", "text to estimated 5-gram": "从文本到 5-gram 模型",
    "memory for it above the imports": "所需内存（导入之外）", "scored words/s, one thread": "评分词/秒，单线程",
    "scored words/s, two threads": "评分词/秒，双线程", "time to 1.88 nats a character": "达到每字符 1.88 奈特的时间",
    "training step, 6 layers of 384": "训练一步，6 层宽 384", "training step, LSTM": "训练一步，LSTM",
    "training step, encoder": "训练一步，编码器", "training step, encoder–decoder": "训练一步，编码器–解码器",
    "share of the best matrix rate": "占最佳矩阵速率", "byte-level BPE, a text": "字节级 BPE，整篇",
    "byte-level BPE, lines": "字节级 BPE，逐行",
    "CPU recipe of nanoGPT": "nanoGPT 的 CPU 配方", "documents": "文档",
    "test perplexity (95 %)": "测试困惑度（95 %）", "of each seed": "各种子",
    "bound": "上界", "samples": "个样本", "seed": "种子", "negative ELBO": "负 ELBO", "latents exchanged": "交换潜变量",
    "active units": "活跃维数",
    "over the LSTM's nats": "与 LSTM 奈特之比",
}  # fmt: skip


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table.

    >>> print(table(["a", "b"], [["1", "2"]]))
    | a | b |
    |---|---|
    | 1 | 2 |
    """
    lines = ["| " + " | ".join(row) + " |" for row in (heads, *rows)]
    return "\n".join([lines[0], "|---" * len(heads) + "|", *lines[1:]])


def missing(name: str, say: Say) -> str:
    """What stands where a record is absent."""
    return f"*{say('not measured yet')}: {again(name)}*"


def again(name: str) -> str:
    """The command that makes a record."""
    return f"`make {'bench' if name in BENCHES else 'evidence'} ONLY={name}`"


def quality(found: Records, say: Say) -> str:
    """What was asked of quality and robustness, and what was measured."""
    lines: list[tuple[str, str, str, Callable[[Any], str]]] = [
        ("ptb-ngram", "Penn Treebank, 5-gram: test perplexity", "141.19 ± 0.1 %", lambda f: f"{f['5-gram']['perplexity']:.2f}"),
        ("ptb-ngram", "Penn Treebank, 3-gram: test perplexity", "148.28 ± 0.1 %", lambda f: f"{f['3-gram']['perplexity']:.2f}"),
        ("ptb-lstm", "Penn Treebank, LSTM, {} min: test perplexity", "≤ 114.5", _lstm),
        ("tinyshakespeare-147", "tinyshakespeare, decoder, {} min: nats a character", "≤ 1.47", _shakespeare),
        ("multi30k", "Multi30k, English to German, {} min: BLEU", "≥ 30", _bleu),
        ("contrast", "STS-B, English: Spearman by contrast over mean pooling", "≥ 0.05", lambda f: _gain(f["en"])),
        ("contrast", "STS-B, Chinese: Spearman by contrast over mean pooling", "≥ 0.05", lambda f: _gain(f["zh"])),
        ("kills", "killed runs that end with the same bits", "100 / 100", lambda f: f"{f['bit_equal']} / {f['runs']}"),
        ("kills", "of which inside a save", "≥ 30", lambda f: str(f["inside_a_save"])),
        ("quickstart", "the main job, from command to report", "< 240 s", lambda f: f"{f['seconds']:.0f} s"),
        ("cli-start", "bimo --help", "< 0.5 s", lambda f: f"{f['help_seconds']:.2f} s"),
    ]
    recipes = {"ptb-lstm": "ptb-lstm", "tinyshakespeare-147": "tinyshakespeare", "multi30k": "multi30k"}
    minutes = {name: _minutes(recipe) for name, recipe in recipes.items()}
    rows = [[say(what).format(minutes.get(name)), asked, *_measured(found, name, show, say)] for name, what, asked, show in lines]
    return table([say(h) for h in ("what", "asked", "measured", "given again by")], rows)


def _minutes(recipe: str) -> str:
    """The budget of a recipe file, in minutes."""
    return f"{(Budget.parse(budget_of(recipe)).seconds or 0) / 60:g}"


def _measured(found: Records, name: str, show: Callable[[Any], str], say: Say) -> list[str]:
    if name not in found:
        return [say("not measured yet"), again(name)]
    return [show(found[name]["figures"]), again(name)]


def _lstm(f: Mapping[str, Any]) -> str:
    return f"{f['perplexity']:.2f} ({display.count(f['parameters'])}, {display.seconds(f['used_seconds'])})"


def _bleu(f: Mapping[str, Any]) -> str:
    bleu = f["bleu"]
    return f"{bleu['score']:.1f} ({bleu['low']:.1f}–{bleu['high']:.1f})"


def _gain(f: Mapping[str, Any]) -> str:
    gain = f["gain"]
    return f"{gain['estimate']:+.3f} ({gain['low']:+.3f} … {gain['high']:+.3f})"


def _shakespeare(f: Mapping[str, Any]) -> str:
    return f"{f['loss']:.4f} ({display.seconds(f['used_seconds'])})"


def speed(found: Records, say: Say) -> str:
    """Bimo beside public peers: medians of interleaved rounds."""
    rows: list[list[str]] = []
    for name, make in SPEEDS.items():
        rows += make(found[name]["figures"], say) if name in found else [[missing(name, say), "", "", ""]]
    return table([say("what"), "Bimo", say("peer"), say("ratio")], rows)


def _kenlm(f: Mapping[str, Any], say: Say) -> list[list[str]]:
    theirs = display.count(f.get("kenlm_words_per_s"))
    scored = [
        [say(f"scored words/s, {threads}"), display.count(f[f"ours_words_per_s_{n}"]), f"KenLM: {theirs}", _ratio(f.get(f"ratio_{n}"))]
        for threads, n in (("one thread", "1"), ("two threads", "N"))
    ]
    return [
        [say("text to estimated 5-gram"), display.seconds(f["seconds_to_model"]), "lmplz: 1.5 s", ""],
        [say("memory for it above the imports"), f"{f['peak_mib_above_imports']:.0f} MiB", "lmplz: 230 MiB", ""],
        *scored,
    ]


def _nanogpt(f: Mapping[str, Any], say: Say) -> list[list[str]]:
    peer = f"{say('CPU recipe of nanoGPT')}: {display.seconds(f['theirs_seconds'])}"
    sign = "≥ " if f["at_least"] else ""
    return [[say("time to 1.88 nats a character"), display.seconds(f["ours_seconds"]), peer, sign + _ratio(f["ratio"])]]


def _training(what: str, peer: str) -> Callable[[Mapping[str, Any], Say], list[list[str]]]:
    def rows(f: Mapping[str, Any], say: Say) -> list[list[str]]:
        ours, theirs = (f"{display.seconds(f[f'{side}_seconds_per_step'])}" for side in ("ours", "theirs"))
        made = [[f"{say(what)} ({f['precision']})", ours, f"{peer}: {theirs}", _ratio(f["ratio"])]]
        if "ours_share_of_matrix_rate" in f:
            shares = (display.percent(f[f"{side}_share_of_matrix_rate"], 0) for side in ("ours", "theirs"))
            made.append([say("share of the best matrix rate"), *shares, ""])
        if "ratio_shuffled" in f:
            made.append([say("the same, text tokens/s with each side's own loader"), "", "", _ratio(f["ratio_shuffled"])])
        return made

    return rows


def _tokenizers(f: Mapping[str, Any], say: Say) -> list[list[str]]:
    return [
        [
            f"{say(what)} ({name})",
            f"{t[f'ours_{form}_megabytes_per_s']:.1f} MB/s",
            f"tokenizers: {t[f'theirs_{form}_megabytes_per_s']:.1f} MB/s",
            _ratio(t[f"ratio_{form}"]),
        ]
        for name, t in f.items()
        for what, form in (("byte-level BPE, a text", "one"), ("byte-level BPE, lines", "lines"))
    ]


def _ratio(value: float | None) -> str:
    return display.NONE if value is None else f"{value:.2f}×"


SPEEDS: dict[str, Callable[[Mapping[str, Any], Say], list[list[str]]]] = {
    "ngram-kenlm": _kenlm,
    "nanogpt-cpu": _nanogpt,
    "training-speed": _training("training step, 6 layers of 384", "transformers GPT-2"),
    "recurrent-speed": _training("training step, LSTM", "torch.nn.LSTM"),
    "encoder-speed": _training("training step, encoder", "transformers BERT"),
    "translation-speed": _training("training step, encoder–decoder", "torch.nn.Transformer"),
    "tokenizer-speed": _tokenizers,
}
BENCHES = (*SPEEDS, "cli-start")
PTB = ("ptb-recurrent", "ptb-decoder", "ptb-vae")


def _rows(name: str) -> Callable[[Records, Say], str]:
    """The table of a comparison: one row a family."""

    def make(found: Records, say: Say) -> str:
        if name not in found:
            return missing(name, say)
        heads = ("model", "bits per byte", "perplexity", "parameters", "training tokens/s", "time used")
        return table([say(h) for h in heads], [_family(row) for row in found[name]["figures"]["rows"]])

    return make


def _family(row: Mapping[str, Any]) -> list[str]:
    given = row.get
    return [row["label"], display.bits(given("bits_per_byte")), display.perplexity(given("perplexity")), display.count(given("parameters")),
            display.count(given("training_tokens_per_second")), display.seconds(given("used_seconds"))]  # fmt: skip


def chinese(found: Records, say: Say) -> str:
    """Bits per byte of each family on each Chinese text with each tokenizer."""
    if "chinese" not in found:
        return missing("chinese", say)
    cells = {name: case for name, case in found["chinese"]["figures"].items() if isinstance(case, Mapping)}
    labels = [row["label"] for row in next(iter(cells.values()))["rows"]]
    names = {"char": say("characters"), "bpe": "BPE", "word": say("words")}
    rows = []
    for name, case in cells.items():
        text, _, tokenizer = name.partition(" ")
        share = max((row.get("lost_bytes", 0) / row["bytes"] for row in case["rows"] if row.get("bytes")), default=0.0)
        lost = f" ({display.percent(share)} {say('of the bytes lost')})" if share else ""
        rows.append([text, f"{names.get(tokenizer, tokenizer)}{lost}", *(display.bits(row.get("bits_per_byte")) for row in case["rows"])])
    return table([say("text"), say("tokenizer"), *labels], rows)


def ptb(found: Records, say: Say) -> str:
    """Test perplexity of every family on Penn Treebank: of the middle seed with its interval, and of all seeds."""
    rows: list[list[str]] = []
    for name in PTB:
        if name not in found:
            rows.append([missing(name, say), "", "", "", ""])
            continue
        groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
        for row in found[name]["figures"]["rows"]:
            groups.setdefault((row["label"], row["documents"]), []).append(row)
        rows += [_of_seeds(label, documents, runs, say) for (label, documents), runs in groups.items()]
    return table([say(h) for h in ("model", "documents", "test perplexity (95 %)", "of each seed", "parameters")], rows)


def _of_seeds(label: str, documents: str, runs: Sequence[Mapping[str, Any]], say: Say) -> list[str]:
    middle = sorted(runs, key=_ptb_perplexity)[len(runs) // 2]
    shown = display.perplexity(_ptb_perplexity(middle))
    if "bound_nats" in middle:
        shown = f"≤ {shown} ({say('bound')}, {middle['samples']} {say('samples')})"
    elif "perplexity_low" in middle:
        shown += f" ({display.perplexity(middle['perplexity_low'])}–{display.perplexity(middle['perplexity_high'])})"
    seeds = ", ".join(display.perplexity(_ptb_perplexity(run)) for run in runs) if len(runs) > 1 else ""
    return [label, documents, shown, seeds, display.count(middle["parameters"])]


def _ptb_perplexity(row: Mapping[str, Any]) -> float:
    return math.exp(row["bound_nats"] / row["tokens"]) if "bound_nats" in row else row["perplexity"]


def latents(found: Records, say: Say) -> str:
    """How each VAE uses its latent, and its bound beside the LSTM's nats; nats a sentence."""
    if "ptb-vae" not in found:
        return missing("ptb-vae", say)
    rows = [
        [str(row["seed"]), f"{use['bound']:.1f}", f"{use['kl']:.1f}", f"{use['exchanged']:+.1f} ± {use['exchanged_error']:.1f}",
         f"{use['active_units']} / {use['units']}", f"{row['bound_nats'] / use['documents']:.1f}", f"{row['over_the_lstm']:.3f}"]
        for row in found["ptb-vae"]["figures"]["rows"] if (use := row.get("latent"))
    ]  # fmt: skip
    tight = found["ptb-vae"]["figures"]["samples"]
    heads = ("seed", "negative ELBO", "KL", "latents exchanged", "active units")
    return table([*(say(h) for h in heads), f"{say('bound')}, {tight} {say('samples')}", say("over the LSTM's nats")], rows)


def machine(found: Records, say: Say) -> str:
    """Where and when the figures were made."""
    told = {
        f"{m['processor']}, {m['cores']} × CPU, {display.size(m['memory_bytes'])}, torch {m['torch']}, Python {m['python']}"
        for m in (record["machine"] for record in found.values())
    }
    dates = sorted(record["date"] for record in found.values())
    when = "" if not dates else f" ({dates[0]})" if dates[0] == dates[-1] else f" ({dates[0]} – {dates[-1]})"
    return "; ".join(sorted(told)) + when if told else f"*{say('not measured yet')}*"


TABLES: dict[str, Callable[[Records, Say], str]] = {
    "quality": quality,
    "speed": speed,
    "wikitext2": _rows("wikitext2"),
    "quickstart": _rows("quickstart"),
    "chinese": chinese,
    "ptb": ptb,
    "latents": latents,
    "machine": machine,
}


def rewritten(text: str, found: Records, chinese_words: bool = False, where: str = "") -> str:
    """`text` with every marked place filled from the records."""

    def say(words: str) -> str:
        return CHINESE.get(words, words) if chinese_words else words

    def fill(place: re.Match[str]) -> str:
        name = place.group(2)
        if name not in TABLES:
            raise UserError(f"{where}: no table {name!r}; {did_you_mean(name, TABLES)}")
        return f"{place.group(1)}{TABLES[name](found, say)}\n{place.group(3)}"

    return MARKED.sub(fill, text)


def pages(root: Path = ROOT) -> list[Path]:
    """The pages that may hold tables and exist."""
    return [p for p in (root / "README.md", root / "README.zh-CN.md", *sorted((root / "docs").glob("**/*.md"))) if p.is_file()]


def rewrite_all(root: Path = ROOT, write: bool = True) -> list[Path]:
    """Fill every page from the records; the pages that did not agree with them."""
    found, differ = read_all(root), []
    for page in pages(root):
        old = page.read_text(encoding="utf-8")
        new = rewritten(old, found, "zh" in page.relative_to(root).as_posix().lower(), page.name)
        if new != old:
            differ.append(page)
            if write:
                store.write_text(page, new)
    return differ


def main() -> int:
    """Rewrite the pages; with --check change nothing and end with 1 where a page does not agree."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; tell which pages do not agree with the evidence")
    check = parser.parse_args().check
    differ = rewrite_all(write=not check)
    for page in differ:
        print(f"{page.relative_to(ROOT)}: {'does not agree with evidence/; run python -m benchmarks.tables' if check else 'rewritten'}")
    return 1 if check and differ else 0


if __name__ == "__main__":
    sys.exit(main())
