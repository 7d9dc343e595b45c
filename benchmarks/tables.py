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

from benchmarks import dial, features, hybrids, long_writing
from benchmarks.desk import ROOT
from benchmarks.quality import budget_of
from benchmarks.record import read_all
from benchmarks.shown import CHINESE, Records, Say, again, dated, day, each, explained, missing, table
from benchmarks.speeds import speed
from bimo.core import store
from bimo.core.budget import Budget
from bimo.core.errors import UserError, did_you_mean
from bimo.evaluation import display

MARKED = re.compile(r"(<!-- evidence:([\w-]+) -->\n).*?(<!-- /evidence -->)", re.DOTALL)


def quality(found: Records, say: Say) -> str:
    """What was asked of quality and robustness, and what was measured."""
    lines: list[tuple[str, str, str, Callable[[Any], Any]]] = [
        ("ptb-ngram", "Penn Treebank, 5-gram: test perplexity", "141.19 ± 0.1 %", lambda f: f"{f['5-gram']['perplexity']:.2f}"),
        ("ptb-ngram", "Penn Treebank, 3-gram: test perplexity", "148.28 ± 0.1 %", lambda f: f"{f['3-gram']['perplexity']:.2f}"),
        ("ptb-lstm", "Penn Treebank, LSTM, {} min: test perplexity", "≤ 114.5", lambda f: f"{f['perplexity']:.2f}"),
        (
            "tinyshakespeare-147",
            "tinyshakespeare, decoder, {} min: nats a character of the text that settings were chosen on",
            "≤ 1.47",
            lambda f: f"{f['loss']:.4f}",
        ),
        ("multi30k", "Multi30k, English to German, {} min: BLEU", "≥ 30", _bleu),
        ("contrast", "STS-B, English: Spearman by contrast over mean pooling", "≥ 0.05", lambda f: _gain(f["en"], say)),
        ("contrast", "STS-B, Chinese: Spearman by contrast over mean pooling", "≥ 0.05", lambda f: _gain(f["zh"], say)),
        ("smollm2", "SmolLM2-135M, fp32: largest difference of logits from transformers'", "≤ 0.001", _farthest),
        ("smollm2", "ten chat prompts and two second ones: greedy answers, 48 tokens at most, that are transformers'", "12 / 12", _answers),
        (
            "smollm2",
            "our GGUF export in llama.cpp: KL a token from Bimo's reading of the same file",
            "F16 < 0.001, 16 same greedy tokens",
            _llama,
        ),
        (
            "smollm2-lora",
            "SmolLM2-135M, LoRA on 1,000 instructions, 10 min: nats saved on each token of held-out answers",
            "≥ 0.15",
            lambda f: f"{f['falls']:.3f}",
        ),
        ("minilm", "all-MiniLM-L6-v2, STS-B test: Spearman × 100", "about 82", lambda f: f"{f['spearman']:.1f}"),
        ("fuzzing", "spoiled files that opened or were refused in words", "100,000 / 100,000", _spoiled),
        ("kills", "killed runs that end with the same bits", "100 / 100", lambda f: f"{f['bit_equal']} / {f['runs']}"),
        ("kills", "of which inside a save", "≥ 30", lambda f: f.get("part_files_left")),
        (
            "conformance",
            "the conformance test of all families, with its mutants, two processes",
            "< 180 s",
            lambda f: f"{f['seconds']:.0f} s",
        ),
        ("quickstart", "the main job, from command to report", "< 240 s", lambda f: f"{f['seconds']:.0f} s"),
        ("cli-start", "bimo --help", "< 0.5 s", lambda f: f"{f['help_seconds']:.2f} s"),
    ]
    recipes = {"ptb-lstm": "ptb-lstm", "tinyshakespeare-147": "tinyshakespeare", "multi30k": "multi30k"}
    minutes = {name: _minutes(recipe) for name, recipe in recipes.items()}
    rows = [[say(what).format(minutes.get(name)), say(asked), *_measured(found, name, show, say)] for name, what, asked, show in lines]
    return explained(table([say(h) for h in ("what", "asked", "measured", "measured on", "given again by")], rows), say)


_SIDES = ("its own reading of the file", "our export")


def _farthest(f: Mapping[str, Any]) -> str:
    return f"{max(f[side]['largest_difference'] for side in _SIDES):.1g}"


def _llama(f: Mapping[str, Any]) -> str | None:
    rows = f.get("llama.cpp") or {}
    told = (
        f"{dtype.upper()} {rows[dtype]['kl_per_token']:.1g}{', 16' * rows[dtype]['same_tokens']}"
        for dtype in ("f16", "q8_0")
        if dtype in rows
    )
    return "; ".join(told) or None


def _answers(f: Mapping[str, Any]) -> str:
    return f"{min(f[side]['same_answers'] for side in _SIDES)} / {f[_SIDES[0]]['of']}"


def _spoiled(f: Mapping[str, Any]) -> str:
    return f"{f['files'] - len(f['wrong']):,} / {f['files']:,}"


def _minutes(recipe: str) -> str:
    """The budget of a recipe file, in minutes."""
    return f"{(Budget.parse(budget_of(recipe)).seconds or 0) / 60:g}"


def _measured(found: Records, name: str, show: Callable[[Any], Any], say: Say) -> list[str]:
    figures = found[name]["figures"] if name in found else {}
    shown = show(figures) if figures else None
    if shown is None:
        return [say("not measured yet"), "", again(name)]
    return [f"{shown}{_how(figures, say)}", day(found, name), again(name)]


def _how(f: Mapping[str, Any], say: Say) -> str:
    """Of a run: its size, its time, whether the cap ended it, and that it is one run."""
    if "used_seconds" not in f:
        return ""
    ended = [say("ended by its cap")] if f.get("capped") else []
    return f" ({', '.join([display.count(f['parameters']), display.seconds(f['used_seconds']), *ended, say('one seed')])})"


def _bleu(f: Mapping[str, Any]) -> str:
    bleu = f["bleu"]
    return f"{bleu['score']:.1f} ({bleu['low']:.1f}–{bleu['high']:.1f})"


def _gain(f: Mapping[str, Any], say: Say) -> str:
    """What contrast gains, its interval, the kind that the development pairs chose, and what it is a gain on."""
    gain, kind = f["gain"], f["chosen_on_dev"]
    before, after = (f["test"][name]["spearman"]["estimate"] for name in ("encoder", kind))
    return f"{gain['estimate']:+.3f} ({gain['low']:+.3f} … {gain['high']:+.3f}), {say(kind)}: {before:.3f} → {after:.3f}"


PTB = ("ptb-recurrent", "ptb-decoder", "ptb-vae")


def _rows(name: str) -> Callable[[Records, Say], str]:
    """The table of a comparison: one row a family."""

    def make(found: Records, say: Say) -> str:
        if name not in found:
            return missing(name, say)
        heads = ("model", "bits per byte", "perplexity", "parameters", "training tokens/s", "time used")
        return dated(table([say(h) for h in heads], [_family(row) for row in found[name]["figures"]["rows"]]), found, [name], say)

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
    return dated(table([say("text"), say("tokenizer"), *labels], rows), found, ["chinese"], say)


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
    heads = ("model", "documents", "test perplexity (95 %)", "of each seed", "parameters")
    return dated(table([say(h) for h in heads], rows), found, PTB, say)


def _of_seeds(label: str, documents: str, runs: Sequence[Mapping[str, Any]], say: Say) -> list[str]:
    middle = sorted(runs, key=_ptb_perplexity)[len(runs) // 2]
    shown = display.perplexity(_ptb_perplexity(middle))
    if "perplexity_low" in middle:
        shown += f" ({display.perplexity(middle['perplexity_low'])}–{display.perplexity(middle['perplexity_high'])})"
    if "bound_nats" in middle:
        shown = f"≤ {shown}, {say('bound')}, {middle['samples']} {say('samples')}"
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
    heads = (*(say(h) for h in heads), f"{say('bound')}, {tight} {say('samples')}", say("over the LSTM's nats"))
    return dated(table(heads, rows), found, ["ptb-vae"], say)


def scaling(found: Records, say: Say) -> str:
    """Bits per byte of each width, the best size, and what that is of the power of the operations."""
    if "scaling" not in found:
        return missing("scaling", say)
    figures, rows = found["scaling"]["figures"], []
    for best in figures["best"]:
        runs = [row for row in figures["rows"] if (row["text"], row["asked"]) == (best["text"], best["asked"])]
        widths = ", ".join(f"{row['width']}: {display.bits(row['bits_per_byte'], 3)}" for row in runs)
        share = best["parameters"] / best["operations"] ** figures["power"]
        rows.append([best["text"], f"{best['asked']:.1e}", widths, display.count(round(best["parameters"])), f"{share:.2f}"])
    heads = ("text", "operations", "width: bits per byte", "best size", f"over C^{figures['power']:g}")
    return dated(table([say(head) for head in heads], rows), found, ["scaling"], say)


def game(found: Records, say: Say) -> str:
    """Of each text, how much better the GAN writes than the likelihood alone at equal diversity, each run and the mean, and who wins."""
    if "adversarial" not in found:
        return missing("adversarial", say)
    names = {"names": say("names"), "poems": say("lines of Tang poems")}
    rows = []
    for name, case in found["adversarial"]["figures"].items():
        runs = ", ".join(display.NONE if run["gap"] is None else f"{run['gap']:+.3f}" for run in case["runs"])
        mean = display.NONE if case["mean"] is None else f"{case['mean']:+.3f}"
        error = "" if case["standard_error"] is None else f" ± {case['standard_error']:.3f}"
        rows.append([names.get(name, name), runs, mean + error, say({"gan": "the GAN"}.get(case["winner"], case["winner"]))])
    heads = ("text", "nats a token that the GAN is better by, each run", "mean ± standard error", "winner")
    return dated(table([say(head) for head in heads], rows), found, ["adversarial"], say)


Show = Callable[[Mapping[str, Any], Say], tuple[list[str], list[list[str]]]]  # heads and rows of a record's figures


def _shown(name: str, show: Show) -> Callable[[Records, Say], str]:
    """The table of one record."""

    def make(found: Records, say: Say) -> str:
        if name not in found:
            return missing(name, say)
        return dated(table(*show(found[name]["figures"], say)), found, [name], say)

    return make


def machine(found: Records, say: Say) -> str:
    """Where and when the figures were made."""
    told = {
        f"{m['processor']}, {each(m)} × CPU, {display.size(m['memory_bytes'])}, torch {m['torch']}, Python {m['python']}"
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
    "adversarial": game,
    "features": _shown("features", features.shown),
    "scaling": scaling,
    "dial-en": _shown("dial-en", dial.shown),
    "dial-zh": _shown("dial-zh", dial.shown),
    "ptb-hybrids": _shown("ptb-hybrids", hybrids.shown),
    "wikitext2-hybrids": _shown("wikitext2-hybrids", hybrids.shown),
    "long-writing": _shown("long-writing", long_writing.shown),
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
