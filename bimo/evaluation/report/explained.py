"""A page on one text: what each token cost, what else was likely, and what that rests on; for hybrids who said it. Nothing from outside."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

import bimo
from bimo.core import store
from bimo.core.errors import UserError
from bimo.core.registry import Kind
from bimo.evaluation import display
from bimo.evaluation.metrics import perplexity
from bimo.evaluation.report import frame, plots
from bimo.evaluation.report.reasons import Words, chance, facts, inked, share, weight
from bimo.evaluation.report.strips import END, height, scale
from bimo.evaluation.report.wording import words
from bimo.explanation.results import Explanation, Reasons, Said, Token
from bimo.text.words import guess_language

_MOST_MARKED = 20_000  # tokens of the text that are coloured
_MOST_ROWS = 2_000  # tokens that have a row
_LONGEST_NAME = 60  # columns
FULL = 16.0  # bits of the longest bar
_NOTES = {
    Kind.PSEUDO: "note_pseudo",
    Kind.UNNORMALISED: "note_unnormalised",
    Kind.CONDITIONAL: "note_conditional",
    Kind.BOUND: "note_bound",
}


def write_explanation(explanation: Explanation, path: Path, lang: str | None = None) -> Path:
    """Write the page to `path`, whole or not at all, and return the path; lang: en, zh, or that of the text if None."""
    path = Path(path)
    if path.is_dir():
        raise UserError(f"{path}: a folder; name the HTML file to write, as in --out {path / 'text.html'}")
    store.write_text(path, render_explanation(explanation, lang or ("zh" if guess_language(explanation.text) == "zh" else "en")))
    return path


def render_explanation(explanation: Explanation, lang: str = "en") -> str:
    """The page as a string."""
    t = words(lang)
    whole = marked(explanation.tokens[:_MOST_MARKED], t)
    return frame.environment().get_template("explained.html.jinja").render(
        t=t,
        **frame.shared(lang),
        version=bimo.__version__,
        name=display.shorten(explanation.model, _LONGEST_NAME),
        answer=answer(explanation, t),
        note=kind_note(explanation, t),
        facts=_facts(explanation, t),
        pieces=[(ground(piece.bits), piece) for piece in whole],
        piece_notes=_piece_notes(whole, t),
        left_unmarked=max(0, len(explanation.tokens) - _MOST_MARKED),
        scale=scale(FULL),
        parts=[(slot, name) for slot, name in enumerate(explanation.parts)],
        row_notes=_row_notes(explanation, t),
        rows=[_row(token, place, t) for place, token in enumerate(explanation.tokens[:_MOST_ROWS]) if token.nats is not None],
        left_out=max(0, len(explanation.tokens) - _MOST_ROWS),
        ranked=any(token.rank is not None for token in explanation.tokens),
        reasoned=any(token.reasons != Reasons() for token in explanation.tokens),
    )  # fmt: skip


def answer(explanation: Explanation, t: Words) -> str:
    """The whole text's cost in a sentence."""
    scored, model = explanation.scored, display.shorten(explanation.model, _LONGEST_NAME)
    impossible = sum(math.isinf(token.nats or 0.0) for token in scored)
    if impossible:
        return t("needs_impossible", model=model, n=f"{impossible:,}", all=f"{len(scored):,}")
    key = "needs_most" if explanation.kind == Kind.BOUND else "needs"
    return t(key, model=model, bits=f"{explanation.bits:,.1f}", each=f"{explanation.bits / len(scored):.2f}")


def kind_note(explanation: Explanation, t: Words) -> str:
    """What the scores mean, in a sentence."""
    return t(_NOTES.get(Kind(explanation.kind), "note_exact"))


def _facts(explanation: Explanation, t: Words) -> list[tuple[str, str]]:
    windows = t("windows_n", n=f"{explanation.windows:,}", context=f"{explanation.context:,}") if explanation.context else ""
    each = perplexity(explanation.nats, len(explanation.scored))
    facts = [
        (t("fact_score"), t(f"kind_{explanation.kind}")),
        (t("fact_scored"), f"{len(explanation.scored):,}"),
        (t("fact_perplexity"), display.perplexity(each)),
        (t("fact_parts"), t("comma").join(explanation.parts)),
        (t("fact_windows"), windows),
        (t("fact_unknown"), f"{explanation.unknown_tokens:,}" if explanation.unknown_tokens else ""),
        (t("fact_given"), explanation.given or ""),
    ]
    return [(name, value) for name, value in facts if value]


def _piece_notes(pieces: list[Marked], t: Words) -> list[str]:
    ends = [t("surprise_ends")] if any(piece.end for piece in pieces) else []
    return ends + ([t("surprise_lines")] if any("\n" in piece.text for piece in pieces) else [])


def _row_notes(explanation: Explanation, t: Words) -> list[str]:
    """How the column of reasons is read, as far as it has any."""
    inner = [deep for token in explanation.tokens for deep in _all(token.reasons)]
    shared = explanation.parts and all(part.share is None for token in explanation.scored for part in token.reasons.parts)
    notes = [t("product_note" if shared else "parts_note")] if explanation.parts else []
    notes += [t("counts_note")] if any(reasons.counts for reasons in inner) else []
    return notes + ([t("recalled_note")] if any(reasons.recalled for reasons in inner) else [])


def _all(reasons: Reasons) -> list[Reasons]:
    return [reasons, *(deep for part in reasons.parts for deep in _all(part.reasons))]


# -- the text -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Marked:
    """A piece of the text in whole characters, its bits (None: not scored), and what is told of it; end: a sign, not the text's own."""

    text: str
    bits: float | None
    title: str
    end: bool = False


def marked(tokens: list[Token], t: Words) -> list[Marked]:
    """The text in pieces that can be coloured: tokens that are one character together are one piece."""
    found: list[Marked] = []
    held: list[Token] = []
    for token in tokens:
        held.append(token)
        if not token.text and not token.special and token is not tokens[-1]:
            continue  # within a character
        scored = [one.bits for one in held if one.bits is not None]
        bits, end = sum(scored) if scored else None, not token.text
        if bits is not None or not end:  # a beginning is not shown
            found.append(Marked(END if end else token.text.replace("\n", "↵\n"), bits, _title(held, bits, t), end))
        held = []
    return found


def _title(tokens: list[Token], bits: float | None, t: Words) -> str:
    shown, last = " ".join(inked(token.shown) for token in tokens), tokens[-1]
    if bits is None:
        return shown
    alone = len(tokens) == 1
    probability = f" · {chance(last.probability)}" if last.probability is not None and alone else ""
    rank = f" · {t('col_rank')} {last.rank:,}" if last.rank is not None and alone else ""
    return f"{shown} · {t('surprise_bits', n=display.bits(bits, 2))}{probability}{rank}"


def ground(bits: float | None) -> str:
    """The class of a piece by its bits: of ground and bar.

    >>> ground(0.1), ground(8.0), ground(99.0), ground(math.inf), ground(None)
    ('b0', 'b4', 'b8', 'bx', 'b0')
    """
    return "bx" if bits == math.inf else f"b{height(bits or 0.0, FULL)}"


# -- the rows -------------------------------------------------------------------------------------------------------------


def _row(token: Token, place: int, t: Words) -> dict[str, Any]:
    bits = token.bits or 0.0
    return {
        "shown": inked(token.shown),
        "bits": display.bits(token.bits, 2),
        "ground": ground(token.bits),
        "bar": _bar(bits),
        "probability": chance(token.probability),
        "rank": display.NONE if token.rank is None else f"{token.rank:,}",
        "top": [(inked(likely.text), chance(likely.probability), likely.id == token.id) for likely in token.top],
        "stack": _stack(token.reasons.parts),
        "why": list(_whys(token.reasons, place, t)),
    }


def _bar(bits: float) -> Markup:
    width = 100 * min(max(bits, 0.0), FULL) / FULL
    return Markup(
        f'<svg class="bar" width="100%" height="10" aria-hidden="true"><rect class="cost" width="{width:.1f}%" height="100%" rx="1"/></svg>'
    )


def _stack(parts: tuple[Said, ...]) -> Markup:
    """Shares side by side, each in its part's colour and with its mark where there is room; told in words beside."""
    drawn, at = [], 0.0
    for slot, part in enumerate(parts):
        if part.share is None:
            return Markup("")
        width = 100 * part.share
        if width >= 0.5:
            drawn.append(f'<rect class="{plots.ink(slot)}" x="{at:.2f}%" width="{width:.2f}%" height="100%"/>')
        if at > 0 and width >= 0.5:
            drawn.append(f'<line class="gap" x1="{at:.2f}%" x2="{at:.2f}%" y1="0" y2="100%"/>')
        at += width
    return Markup(f'<svg class="bar stack" width="100%" height="12" aria-hidden="true">{"".join(drawn)}</svg>') if drawn else Markup("")


def _whys(reasons: Reasons, place: int, t: Words, depth: int = 0) -> list[dict[str, Any]]:
    """Lines of reasons: depth, a part's slot (of the outermost hybrid alone), its name, and what is said."""
    lines = [{"depth": depth, "slot": None, "name": "", "said": said} for said in facts(reasons, place, t)]
    for slot, part in enumerate(reasons.parts):
        own = t("says_nothing") if part.nats is None and part.probability is None and part.weight == 0 else share(part)
        if part.share is not None and part.probability is not None:
            own += f" = {weight(part)} × {chance(part.probability)} ∕ Σ"
        lines.append({"depth": depth, "slot": slot % plots.SLOTS if depth == 0 else None, "name": part.name, "said": own})
        lines += _whys(part.reasons, place, t, depth + 1)
    return lines
