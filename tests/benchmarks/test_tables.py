"""Tables come from the evidence files, and the pages agree with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks import tables
from bimo.core import store
from bimo.core.errors import UserError


def test_every_page_agrees_with_the_evidence() -> None:
    differ = [page.name for page in tables.rewrite_all(write=False)]
    assert not differ, f"run python -m benchmarks.tables: {differ}"


def test_every_table_can_be_made_of_nothing_and_of_what_there_is() -> None:
    for found in ({}, tables.read_all()):
        for name in tables.TABLES:
            text = f"a\n<!-- evidence:{name} -->\nold\n<!-- /evidence -->\nb"
            new = tables.rewritten(text, found)
            assert "old" not in new
            assert new.startswith("a\n")
            assert new.endswith("\n<!-- /evidence -->\nb")
            assert tables.rewritten(new, found) == new


def figures() -> dict[str, dict[str, Any]]:
    """A record of each entry, with what its table reads."""
    row = {
        "label": "LSTM",
        "bits_per_byte": 1.5,
        "perplexity": 100.0,
        "parameters": 5e6,
        "training_tokens_per_second": 1e4,
        "used_seconds": 9,
    }
    ptb = {**row, "documents": "stream", "tokens": 1000, "perplexity_low": 105.0, "perplexity_high": 115.0}
    use = {"documents": 50, "kl": 7.0, "exchanged": 4.2, "exchanged_error": 0.2, "active_units": 12, "units": 32, "bound": 101.5}
    vae = {**ptb, "label": "VAE", "documents": "line", "seed": 1, "latent": use, "bound_nats": 4800.0, "samples": 20, "over_the_lstm": 1.02}
    saved = {name: {"estimate": 0.0434, "low": 0.03, "high": 0.05} for name in ("decoder-small", "decoder-middle")}
    gain = {"over": "lstm", "estimate": 0.0213, "low": 0.018, "high": 0.025, "perplexity_share": 0.0931}
    parts = [{"family": "lstm", "label": "LSTM", "weight": 0.85}, {"family": "cache", "label": "cache", "weight": 0.15}]
    mixed = {**row, "label": "LSTM + cache", "name": "lstm+cache", "perplexity": 90.7, "gain": gain, "parts": parts}
    chosen = {
        "chosen_on_dev": "supervised",
        "test": {name: {"spearman": {"estimate": e}} for name, e in (("encoder", 0.3), ("supervised", 0.3712))},
    }
    runs = [{"gap": gap} for gap in (-0.07, None, -0.0786)]
    widths = [{"text": "lm-zh-wiki", "asked": 1e12, "width": width, "bits_per_byte": 2.0 + width / 1000} for width in (32, 48)]
    step = {
        "precision": "fp32",
        "ours_seconds_per_step": 1.0,
        "theirs_seconds_per_step": 1.5,
        "ratio": 1.5,
        "ratio_of_fastest": 1.4,
        "target": 1.3,
    }
    shares = {"ours_share_of_matrix_rate": 0.6, "theirs_share_of_matrix_rate": 0.4}
    speeds = {f"{side}_{form}_megabytes_per_s": 3.0 for side in ("ours", "theirs") for form in ("one", "lines")}
    found: dict[str, dict[str, Any]] = {
        "ptb-ngram": {"5-gram": {"perplexity": 141.186}, "3-gram": {"perplexity": 148.281}},
        "ptb-lstm": {**row, "perplexity": 113.9, "capped": True},
        "tinyshakespeare-147": {"loss": 1.4651, "parameters": 2e6, "used_seconds": 870, "capped": False},
        "multi30k": {"bleu": {"score": 33.31, "low": 31.9, "high": 34.8}},
        "contrast": {
            "en": {"gain": {"estimate": 0.0712, "low": 0.05, "high": 0.09}, **chosen},
            "zh": {"gain": {"estimate": -0.01, "low": -0.02, "high": 0.01}, **chosen},
        },
        "ptb-recurrent": {"rows": [{**ptb, "seed": n, "perplexity": 110.0 + n} for n in (2, 0, 1)]},
        "ptb-decoder": {"rows": [{**ptb, "label": "Transformer", "seed": 0}]},
        "ptb-vae": {"samples": 20, "rows": [{**ptb, "documents": "line"}, vae]},
        "features": {
            "rows": [
                {**row, "text": "Penn Treebank, stream", "given": "plain"},
                {**row, "text": "Penn Treebank, stream", "given": "tags", "saved": {"estimate": 0.0123, "low": -0.004, "high": 0.03}},
                {"label": "LSTM", "error": "no memory", "text": "lm-zh-wiki, words", "given": "tags"},
            ]
        },
        "adversarial": {
            "names": {"runs": runs, "mean": -0.0743, "standard_error": 0.0024, "winner": "likelihood"},
            "poems": {"runs": runs[:1], "mean": None, "standard_error": None, "winner": "neither"},
        },
        "scaling": {
            "rows": widths,
            "best": [{"text": "lm-zh-wiki", "asked": 1e12, "parameters": 250_000.0, "operations": 1e12}],
            "power": 0.5,
        },
        "ptb-hybrids": {
            "rows": [
                {**row, "name": "lstm"},
                mixed,
                {**mixed, "name": "ngram+lstm, gate", "mixture": "gate"},
                {**mixed, "name": "ngram+lstm, gate", "mixture": "linear"},
            ],
            "cache_asked": 0.08,
        },
        "wikitext2-hybrids": {"rows": [{**row, "name": "lstm"}, mixed], "cache_asked": 0.15},
        "long-writing": {
            "rows": [
                {
                    "name": "ngram+lstm, gate",
                    "written": [{"bytes": 1e9, "seconds_a_token": 0.002}, {"bytes": 1.02e9, "seconds_a_token": 0.003}],
                    "grown": 1.02,
                }
            ],
            "neighbours": {"faiss": {"hybrid_seconds_a_token": 0.004, "part_seconds_a_token": 0.003, "ratio": 1.333, "entries": 1e6}},
        },
        **{
            name: {
                "rows": [
                    *({**row, "who": who, "seed": 0, "bits_per_byte": 2.1} for who in ("decoder-small", "decoder-middle")),
                    {**row, "label": "7-gram + Transformer", "who": "dial", "seed": 0, "bits_per_byte": 2.0123, "saved": saved},
                ]
            }
            for name in ("dial-en", "dial-zh")
        },
        "smollm2": {
            **{side: {"largest_difference": 7.1e-5, "same_ids": 10, "same_answers": 9, "of": 12} for side in tables._SIDES},
            "llama.cpp": {"f16": {"kl_per_token": 0.0004, "same_tokens": True}},
        },
        "smollm2-lora": {"falls": 0.4848},
        "minilm": {"spearman": 82.03},
        "fuzzing": {"files": 100_000, "wrong": [{}]},
        "adapter-speed": {
            "precision": "fp32",
            "ours_tokens_per_second": 154.0,
            "theirs_tokens_per_second": 108.0,
            "ratio": 1.42,
            "target": 1.3,
            "whole_tokens_per_second": 119.0,
            "whole_ratio": 1.1,
        },
        "kills": {"bit_equal": 100, "runs": 100, "part_files_left": 37},
        "quickstart": {"seconds": 150.0, "rows": [row]},
        "wikitext2": {"rows": [row]},
        "chinese": {
            "budgeted": True,
            "lm-zh-wiki char": {"rows": [row]},
            "lm-zh-wiki word": {"rows": [{**row, "bits_per_byte": None, "bytes": 200, "lost_bytes": 25}]},
        },
        "conformance": {"seconds": 150.4},
        "cli-start": {"help_seconds": 0.3},
        "ngram-kenlm": {"seconds_to_model": 0.9, "peak_mib_above_imports": 300.0, "ours_words_per_s_1": 5e6, "ours_words_per_s_N": 1e7},
        "nanogpt-cpu": {"theirs_seconds": 130.0, "ours_seconds": 32.5, "ratio": 4.0, "at_least": False, "target": 3.5},
        "training-speed": {**step, **shares},
        "recurrent-speed": {**step, "ratio": 1.1, "reached": False},
        "encoder-speed": step,
        "translation-speed": {**step, "ratio_shuffled": 1.75},
        "tokenizer-speed": {"manual": {**speeds, "ratio_one": 3.0, "ratio_lines": 2.0}},
    }
    machine = {"processor": "P", "cores": 2, "memory_bytes": 8e9, "torch": "2", "python": "3", "load_before": 0.1}
    machines = {"scaling": {**machine, "cores": 6, "at_once": 3, "cuda": ["a card"]}}
    return {
        name: {"figures": f, "machine": machines.get(name, machine), "date": "2026-01-02", "command": "again", "budget": "1 round"}
        for name, f in found.items()
    }


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        (
            "quality",
            [
                "| 141.19 |",
                "| 113.90 (5.00 M, 9.00 s, ended by its cap, one seed) |",
                "nats a character of the text that settings were chosen on | ≤ 1.47 | 1.4651 (2.00 M, 14 min 30 s, one seed) |",
                "| 33.3 (31.9–34.8) |",
                "| of which inside a save | ≥ 30 | 37 |",
                "| ≤ 0.001 | 7e-05 |",
                "| 12 / 12 | 9 / 12 |",
                "| F16 < 0.001, 16 same greedy tokens | F16 0.0004, 16 |",
                "| ≥ 0.15 | 0.485 |",
                "| 99,999 / 100,000 |",
                "| +0.071 (+0.050 … +0.090), supervised: 0.300 → 0.371 |",
                "| < 180 s | 150 s |",
                "`make bench ONLY=cli-start`",
            ],
        ),
        (
            "ptb-hybrids",
            [
                "| LSTM | 100.0 |  |  |  |",
                "| LSTM + cache | 90.70 | LSTM 0.85, cache 0.15 | 2.1\u00a0% (1.8\u00a0% … 2.5\u00a0%) |",
                "| LSTM, 9.3\u00a0% (asked: 8\u00a0%) |",
                "| LSTM + cache (a gate) | 90.70 |  | 2.1",
                "| LSTM + cache (a gate, given up) | 90.70 | LSTM 0.85, cache 0.15 | 2.1",
            ],
        ),
        (
            "dial-en",
            [
                "| decoder-small (LSTM) | 2.100 |  |",
                "| dial (7-gram + Transformer) | 2.012 | 4.3\u00a0% at least (interval from 3.0\u00a0%), decoder-small; 4.3",
            ],
        ),
        (
            "speed",
            [
                "| 32.5 s | CPU recipe of nanoGPT: 2 min 10 s | 4.00× | ≥ 3.5× |",
                "| 1.50× (1.40×) | ≥ 1.3× |",
                "| 1.10× (1.40×) | ≥ 1.3× (missed) |",
                "| 1.75× |",
                "KenLM: – | – | ≥ 2× |",
                "| lines in memory to estimated 5-gram | 900 ms |  |",
                "60\u00a0%",
            ],
        ),
        ("wikitext2", ["| LSTM | 1.500 | 100.0 | 5.00 M | 10.0 k | 9.00 s |"]),
        ("chinese", ["| lm-zh-wiki | characters | 1.500 |", "| lm-zh-wiki | words (12.5\u00a0% of the bytes lost) | – |"]),
        (
            "ptb",
            [
                "| LSTM | stream | 111.0 (105.0–115.0) | 112.0, 110.0, 111.0 | 5.00 M |",
                "| Transformer | stream | 100.0 (105.0–115.0) |  |",
                "| VAE | line | ≤ 121.5 (105.0–115.0), bound, 20 samples |  |",
            ],
        ),
        (
            "features",
            [
                "| Penn Treebank, stream | LSTM | plain | 100.0 | 1.500 | – | 9.00 s |",
                "| LSTM | tags | 100.0 | 1.500 | +1.2 % (-0.4 % … +3.0 %) | 9.00 s |",
                "| lm-zh-wiki, words | LSTM | tags | – | – | – | – |",
            ],
        ),
        (
            "long-writing",
            [
                "| ngram+lstm, gate | 1.00 GB, 1.02 GB | +2.0% | ≤ 10 % | 3.00 ms |",
                "| neighbours among a million entries, faiss (1.00 M) |  | 1.33× | ≤ 2× | 4.00 ms (the decoder alone 3.00 ms) |",
            ],
        ),
        (
            "adversarial",
            ["| names | -0.070, –, -0.079 | -0.074 ± 0.002 | likelihood |", "| lines of Tang poems | -0.070 | – | neither |"],
        ),
        (
            "scaling",
            [
                "| lm-zh-wiki | 1.0e+12 | 32: 2.032, 48: 2.048 | 250 k | 0.25 |",
                "2026-01-02: `make evidence ONLY=scaling` (3 runs side by side, 2 CPU each, a card)",
            ],
        ),
        ("latents", ["| 1 | 101.5 | 7.0 | +4.2 ± 0.2 | 12 / 32 | 96.0 | 1.020 |"]),
        ("machine", ["P, 2 × CPU, 8.00 GB, torch 2, Python 3 (2026-01-02)"]),  # three runs of six processors had two each
    ],
)
def test_figures_stand_in_their_tables(name: str, wanted: list[str]) -> None:
    made = tables.rewritten(f"<!-- evidence:{name} -->\n<!-- /evidence -->", figures())
    assert "not measured" not in made
    for cell in wanted:
        assert cell in made, made


@pytest.mark.parametrize("name", [name for name in tables.TABLES if name != "machine"])
def test_every_table_says_when_it_was_measured(name: str) -> None:
    found = figures()
    made = tables.rewritten(f"<!-- evidence:{name} -->\n<!-- /evidence -->", found)
    assert "2026-01-02" in made
    if name in ("quality", "speed"):
        rows = [line for line in made.splitlines() if line.startswith("| ")][1:]
        assert all("| 2026-01-02 |" in row for row in rows)


def test_timings_of_a_busy_machine_are_marked() -> None:
    found = figures()
    for name in ("cli-start", "training-speed", "ptb-lstm", "ptb-ngram"):
        found[name]["machine"] = {**found[name]["machine"], "load_before": 0.6}
    found["ptb-lstm"]["budget"] = "57m"
    for name, marked in {
        "quality": ["Penn Treebank, LSTM, 57 min: test perplexity", "bimo --help"],
        "speed": ["training step, 6 layers of 384 (fp32)", "share of the best matrix rate"],
    }.items():
        made = tables.rewritten(f"<!-- evidence:{name} -->\n<!-- /evidence -->", found)
        assert [row.split(" | ")[0].removeprefix("| ") for row in made.splitlines() if "2026-01-02 †" in row] == marked
        assert "† the machine was at other work in the minute before" in made
        assert "†" not in tables.rewritten(f"<!-- evidence:{name} -->\n<!-- /evidence -->", figures())


def test_a_record_that_went_on_and_what_is_noted_of_it_are_told() -> None:
    found = figures()
    found["wikitext2"] |= {"went_on": True, "note": "one run was made twice"}
    made = tables.rewritten("<!-- evidence:wikitext2 -->\n<!-- /evidence -->", found)
    assert "`make evidence ONLY=wikitext2` (gone on with after a stop, one run was made twice)" in made


def test_pages_do_not_depend_on_the_code_of_the_day() -> None:
    """Whether a record is of older code is for the list to say: a page that said it would be wrong from the next change on."""
    found = figures()
    for record in found.values():
        record["code_hash"] = "older"
    for name in tables.TABLES:
        marked = f"<!-- evidence:{name} -->\n<!-- /evidence -->"
        assert tables.rewritten(marked, found) == tables.rewritten(marked, figures())


def test_chinese_pages_have_chinese_headings() -> None:
    for name in tables.TABLES:
        made = tables.rewritten(f"<!-- evidence:{name} -->\n<!-- /evidence -->", figures(), chinese_words=True)
        for english in (
            "bits per byte",
            "perplexity",
            "measured",
            "tokenizer |",
            "ratio",
            "share of",
            "characters",
            "memory",
            "documents",
            "bound",
        ):
            assert english not in made, made


def test_pages_are_rewritten_or_only_checked(tmp_path: Path) -> None:
    (tmp_path / "docs" / "guide").mkdir(parents=True)
    marked = "<!-- evidence:wikitext2 -->\n<!-- /evidence -->\n"
    for page in ("README.md", "README.zh-CN.md", "docs/guide/start.md"):
        (tmp_path / page).write_text(marked, encoding="utf-8")
    store.write_json(tmp_path / "evidence" / "wikitext2.json", figures()["wikitext2"])
    assert len(tables.rewrite_all(tmp_path, write=False)) == 3
    assert (tmp_path / "README.md").read_text(encoding="utf-8") == marked
    assert len(tables.rewrite_all(tmp_path)) == 3
    assert tables.rewrite_all(tmp_path) == []
    assert "每字节比特" in (tmp_path / "README.zh-CN.md").read_text(encoding="utf-8")
    assert "bits per byte" in (tmp_path / "docs" / "guide" / "start.md").read_text(encoding="utf-8")


def test_an_unknown_table_is_an_error_that_names_the_known() -> None:
    with pytest.raises(UserError, match=r"README.md: no table 'wikitext'; did you mean wikitext2"):
        tables.rewritten("<!-- evidence:wikitext -->\n<!-- /evidence -->", {}, where="README.md")
