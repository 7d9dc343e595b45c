"""The hybrids' section of the report: a bar of weights for each, and what it gains with its interval, on one scale."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from markupsafe import Markup

from bimo.evaluation import display
from bimo.evaluation.hybrids import Gain, gain_said, gains, signed
from bimo.evaluation.report import plots
from bimo.evaluation.results import Comparison, Row

Words = Callable[..., str]
_NOTES = {"product": "hybrids_product", "gate": "hybrids_gate", "documents": "hybrids_documents"}  # of a mixture
_ROOM = 0.06  # of the scale, left and right of what is drawn


def mixtures(comparison: Comparison, placed: Sequence[tuple[int, Row]], t: Words) -> dict[str, Any]:
    """Every hybrid with its weights in words and as a bar, its gain in words and as a mark with a whisker; in the order of `placed`."""
    order = {slot: at for at, (slot, _) in enumerate(placed)}
    found = sorted(gains(comparison), key=lambda gain: order[gain.index])
    kinds = {gain.row.mixture for gain in found}
    known = any(gain.best is not None for gain in found)
    low, high = _span(found)
    alone = t("hybrid_alone") if len(comparison.rows) > 1 else ""
    return {
        "note": "".join([t("hybrids_note"), *([t("hybrids_saved")] if known else []), *(t(k) for of, k in _NOTES.items() if of in kinds)]),
        "known": known,
        "lines": [
            {
                "label": gain.row.label,
                "slot": gain.index,
                "shares": shares(gain),
                "weights": [
                    {
                        "label": part.label,
                        "swatch": plots.swatch(place) if place is not None else "",
                        "weight": display.NONE if part.weight is None else f"{part.weight:.2f}",
                    }
                    for part, place in gain.parts
                ],
                "drawn": whisker(gain, low, high),
                "value": display.NONE if gain.bits is None else signed(gain.bits),
                "sure": bool(gain.interval and gain.interval.low > 0),
                "said": gain_said(gain, t) or alone,
            }
            for gain in found
        ],
    }


def shares(gain: Gain) -> Markup:
    """The weights as one bar, a stretch a part in the ink of its row; grey for what has no row. The exponents of a product fill it too."""
    weights = [max(0.0, part.weight or 0.0) for part, _ in gain.parts]
    total = sum(weights)
    if total <= 0:
        return Markup("")
    drawn, at = [], 0.0
    for weight, (_, place) in zip(weights, gain.parts, strict=True):
        wide = 100 * weight / total
        inked = "none" if place is None else plots.ink(place)
        drawn.append(f'<rect class="{inked}" x="{at:.2f}%" width="{wide:.2f}%" height="100%"/>')
        at += wide
        if at < 99.9:
            drawn.append(f'<line class="gap" x1="{at:.2f}%" x2="{at:.2f}%" y1="0" y2="100%"/>')
    return Markup(f'<svg class="bar" width="100%" height="18" aria-hidden="true">{"".join(drawn)}</svg>')


def whisker(gain: Gain, low: float, high: float) -> Markup:
    """The gain as a mark between `low` and `high` bits per byte, its interval as a line through it, zero as an upright line."""

    def at(value: float) -> str:
        return f"{100 * (value - low) / (high - low):.2f}%"

    if gain.bits is None:
        return Markup("")
    parts = [f'<line class="zero" x1="{at(0)}" x2="{at(0)}" y1="0" y2="100%"/>']
    if gain.interval:
        ends = [at(gain.interval.low), at(gain.interval.high)]
        parts.append(f'<line class="whisker" x1="{ends[0]}" x2="{ends[1]}" y1="50%" y2="50%"/>')
        parts += [f'<line class="whisker" x1="{x}" x2="{x}" y1="28%" y2="72%"/>' for x in ends]
    parts.append(f'<circle class="{plots.ink(gain.index)}" cx="{at(gain.bits)}" cy="50%" r="5"/>')
    return Markup(f'<svg class="bar" width="100%" height="22" aria-hidden="true">{"".join(parts)}</svg>')


def _span(found: Sequence[Gain]) -> tuple[float, float]:
    values = [0.0]
    for gain in found:
        values += [] if gain.bits is None else [gain.bits]
        values += [gain.interval.low, gain.interval.high] if gain.interval else []
    low, high = min(values), max(values)
    room = _ROOM * (high - low) or 1.0
    return low - room, high + room
