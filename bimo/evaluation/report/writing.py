"""What the models wrote, side by side, and how various it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from bimo.evaluation import display
from bimo.evaluation.results import Row

Words = Callable[..., str]
_LONGEST = 1500  # characters of a sample; what is cut off is counted on the page
_MEASURES = ("distinct_1", "distinct_2", "repetition_4", "self_bleu")


def writing(placed: Sequence[tuple[int, Row]], t: Words) -> dict[str, Any]:
    """The samples of every row, in their order; the prompt and the settings that all share stand once."""
    rows = [(slot, row) for slot, row in placed if row.samples]
    every = [sample for _, row in rows for sample in row.samples]
    prompts, settings = {sample.prompt for sample in every}, {sample.settings for sample in every}
    prompt = prompts.pop() if len(rows) > 1 and len(prompts) == 1 else ""
    setting = settings.pop() if len(rows) > 1 and len(settings) == 1 else ""
    parts = [
        {
            "label": row.label,
            "slot": slot,
            "samples": [
                {
                    "prompt": "" if prompt else sample.prompt,
                    "text": sample.continuation[:_LONGEST],
                    "more": t("cut_sample", n=f"{over:,}") if (over := len(sample.continuation) - _LONGEST) > 0 else "",
                    "settings": "" if setting else sample.settings,
                }
                for sample in row.samples
            ],
        }
        for slot, row in rows
    ]
    return {"parts": parts, "prompt": prompt, "settings": setting, "variety": _variety(placed, t)}


def _variety(placed: Sequence[tuple[int, Row]], t: Words) -> dict[str, Any]:
    """A table of what is known of the variety of each row's texts."""
    rows = [(slot, row) for slot, row in placed if any(v is not None for v in row.measures.values())]
    found = {name for _, row in rows for name, value in row.measures.items() if value is not None}
    names = [*(n for n in _MEASURES if n in found), *sorted(found - set(_MEASURES))]
    texts = {row.self_bleu_texts for _, row in rows if row.measures.get("self_bleu") is not None and row.self_bleu_texts}
    note = "" if not texts else t("variety_texts", n=next(iter(texts))) if len(texts) == 1 else t("variety_mixed")
    return {
        "heads": [t(name) if name in _MEASURES else name for name in names],
        "lines": [
            {"label": row.label, "slot": slot, "cells": [_measure(row, name, counted=len(texts) > 1) for name in names]}
            for slot, row in rows
        ],
        "note": note,
    }


def _measure(row: Row, name: str, counted: bool) -> str:
    value = row.measures.get(name)
    if value is None:
        return display.NONE
    return f"{value:.2f}" + (f" ({row.self_bleu_texts})" if counted and name == "self_bleu" and row.self_bleu_texts else "")
