"""An explanation in a terminal: one line a token, readable without colour."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from bimo.evaluation import display
from bimo.evaluation.report.explained import answer, kind_note
from bimo.evaluation.report.reasons import brief, chance, inked, level
from bimo.evaluation.report.wording import words
from bimo.explanation.results import Explanation, Reasons, Token

if TYPE_CHECKING:
    from rich.console import RenderableType

_STYLES = ("dim", "", "", "yellow", "red", "bold red")  # of levels of surprise
_BLOCKS = " ▏▎▍▌▋▊▉█"
_CELLS = 6  # of the bar, for 12 bits and more


def gauge(bits: float | None) -> str:
    """A bar of blocks, two bits a column.

    >>> gauge(5.0), gauge(99.0), gauge(0.0), gauge(None)
    ('██▌', '██████', '', '')
    """
    eighths = round(8 * min(max(bits or 0.0, 0.0) / 2, _CELLS))
    return ("█" * (eighths // 8) + _BLOCKS[eighths % 8]).rstrip()


class _Table:
    """A row a token; what it might have been, and why, fold where the terminal is narrow."""

    def __init__(self, explanation: Explanation, lang: str) -> None:
        self.explanation, self.t = explanation, words(lang)
        self.ranked = any(token.rank is not None for token in explanation.tokens)
        self.reasoned = any(token.reasons != Reasons() for token in explanation.tokens)

    def __rich_console__(self, console: Any, options: Any) -> Iterator[Any]:
        from rich import box
        from rich.table import Table
        from rich.text import Text

        t = self.t
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1), header_style="dim")
        table.add_column(Text(t("col_token")), no_wrap=True, overflow="ellipsis", max_width=18)
        table.add_column(Text(t("col_bits")), justify="right", no_wrap=True, min_width=5)
        table.add_column("", no_wrap=True, min_width=_CELLS)
        table.add_column(Text(t("col_probability")), justify="right", no_wrap=True)
        if self.ranked:
            table.add_column(Text(t("col_rank")), justify="right", no_wrap=True)
            table.add_column(Text(t("col_likeliest")), overflow="fold", ratio=2, min_width=10)
        if self.reasoned:
            table.add_column(Text(t("col_why")), overflow="fold", ratio=3, min_width=12)
        table.expand = self.ranked or self.reasoned
        for place, token in enumerate(self.explanation.tokens):
            if token.nats is not None:
                table.add_row(*self._cells(token, place))
        yield Text(answer(self.explanation, t), style="bold")
        yield Text(kind_note(self.explanation, t), style="dim")
        if self.explanation.context is not None:
            yield Text(
                t("fact_windows") + t("colon") + t("windows_n", n=self.explanation.windows, context=self.explanation.context), style="dim"
            )
        if self.explanation.unknown_tokens:
            yield Text(t("unknown", n=f"{self.explanation.unknown_tokens:,}"), style="dim")
        yield Text("")
        yield table

    def _cells(self, token: Token, place: int) -> Iterator[Any]:
        from rich.text import Text

        style = _STYLES[level(token.bits)]
        yield Text(inked(token.shown), style=style)
        yield Text(display.bits(token.bits, 2), style=style)
        yield Text(gauge(token.bits), style=style)
        yield Text(chance(token.probability))
        if self.ranked:
            yield Text(display.NONE if token.rank is None else f"{token.rank:,}")
            yield Text("  ".join(f"{inked(likely.text)} {chance(likely.probability)}" for likely in token.top))
        if self.reasoned:
            yield Text(brief(token, place, self.t))


def explained_table(explanation: Explanation, lang: str = "en") -> RenderableType:
    """The answer, and a line a token, for a terminal of 80 columns or more."""
    return _Table(explanation, lang)
