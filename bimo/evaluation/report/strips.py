"""A passage under every model, token by token, as a picture made of its own text: the more bits, the redder and the higher the bar."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from markupsafe import Markup, escape

from bimo.evaluation import display
from bimo.evaluation.report.tables import Line, kind_said
from bimo.evaluation.results import Comparison, Passage, Real

Words = Callable[..., str]
LEVELS = 8  # of ground and bar, above none
_TOPS = (2, 4, 6, 8, 10, 12, 16, 20, 24, 32, 48, 64)  # bits at the highest level
END = "¶"


def strips(comparison: Comparison, table: Sequence[Line], t: Words) -> dict[str, Any]:
    """The passage under each row that was asked, in the order of the table; without lines where none was."""
    passage = comparison.passage
    told = [(line, bits) for line in table if (bits := comparison.surprise_of(line.row))]
    if passage is None or not told:
        return {"lines": []}
    top = top_bits([bits for _, bits in told])
    pieces = [_shown(piece) for piece in passage.pieces]
    kinds = {line.row.kind for line, _ in told}
    notes = [
        *([t("surprise_both")] if "pseudo" in kinds and len(kinds) > 1 else []),
        *([t("surprise_bound")] if "bound" in kinds else []),
        *([t("surprise_ends")] if "" in passage.pieces else []),
        *([t("surprise_lines")] if any("\n" in piece for piece in passage.pieces) else []),
    ]
    return {
        "split": t(f"split_{passage.split}") if passage.split in ("valid", "test") else passage.split,
        "before": _context(passage, t),
        "notes": notes,
        "legend": scale(top),
        "lines": [
            {
                "label": line.row.label,
                "slot": line.index,
                "kind": kind_said(line.row, t) if line.row.kind != "exact" else "",
                "total": t("surprise_total", n=_bits(math.fsum(map(_number, bits)), 0)),
                "strip": _strip(pieces, bits, top, t),
            }
            for line, bits in told
        ],
        "heads": [(line.row.label, line.index) for line, _ in told],
        "table": [
            (piece if piece.strip() else "␣" * len(piece), [_bits(_number(bits[i])) for _, bits in told]) for i, piece in enumerate(pieces)
        ],
    }


def _shown(piece: str) -> str:
    """A piece as it is read: nothing invisible, a document's end and new lines as signs."""
    return display.in_line(piece) if piece else END


def _context(passage: Passage, t: Words) -> list[tuple[str, str]]:
    found = ((t("surprise_given"), passage.given), (t("surprise_before"), passage.before))
    return [(name, " ".join(text.split())) for name, text in found if text.strip()]


def _number(bits: Real) -> float:
    """null, which came from infinity, is infinity again."""
    return math.inf if bits is None else bits


def top_bits(rows: Sequence[Sequence[Real]]) -> float:
    """Bits at the highest level: a round number that all but the most surprising twentieth of the pieces stay below."""
    finite = sorted(bits for row in rows for bits in row if bits is not None and math.isfinite(bits))
    wanted = finite[int(0.95 * (len(finite) - 1))] if finite else 0.0
    return next((float(top) for top in _TOPS if top >= wanted), float(_TOPS[-1]))


def height(bits: float, top: float) -> int:
    """How high the bar of a piece is, 0 … LEVELS."""
    return LEVELS if bits >= top else max(0, round(LEVELS * bits / top))


def _bits(value: float, decimals: int = 1) -> str:
    return "∞" if math.isinf(value) else f"{value:.{decimals}f}"


def scale(top: float) -> list[tuple[int, str]]:
    """What some of the levels stand for.

    >>> scale(16)
    [(0, '0'), (2, '4'), (4, '8'), (6, '12'), (8, '16+')]
    """
    return [(level, f"{top * level / LEVELS:g}" + "+" * (level == LEVELS)) for level in range(0, LEVELS + 1, 2)]


def _strip(pieces: Sequence[str], bits: Sequence[Real], top: float, t: Words) -> Markup:
    made = []
    for piece, value in zip(pieces, map(_number, bits), strict=True):
        level = "x" if math.isinf(value) else height(value, top)
        made.append(f'<i class="b{level}" title="{escape(t("surprise_bits", n=_bits(value)))}">{escape(piece)}</i>')
    return Markup("".join(made))
