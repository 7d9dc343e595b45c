"""What a token's probability rests on, in words: counts, recalled places, the parts of a hybrid."""

from __future__ import annotations

import math
from collections.abc import Callable

from bimo.evaluation import display
from bimo.explanation.results import Counted, Reasons, Remembered, Said, Token

Words = Callable[..., str]
LEVELS = (1, 2, 4, 8, 12)  # bits at which a token is shown as more surprising
_LONGEST = 28  # columns of a context


def level(bits: float | None) -> int:
    """How surprising: 0, the least, to 5.

    >>> [level(bits) for bits in (0.2, 1.0, 11.9, 99.0, float("inf"))]
    [0, 1, 4, 5, 5]
    """
    return sum((bits or 0.0) >= least for least in LEVELS)


def chance(probability: float | None) -> str:
    """A probability: percent, or one in so many.

    >>> [chance(p).replace("\\u00a0", " ") for p in (0.5172, 0.0123, 0.0001, 0.0)], chance(None)
    (['51.7 %', '1.23 %', '1/10,000', '0'], '–')
    """
    if probability is None:
        return display.NONE
    if probability >= 0.001:
        return display.percent(probability, 1 if probability >= 0.1 else 2)
    if not probability or 1 / probability > 1e15:
        return "0" if not probability else "<1/10¹⁵"
    return "1/" + (f"{1 / probability:,.0f}" if probability > 1e-6 else display.count(1 / probability).replace(" ", ""))


def inked(text: str) -> str:
    """A token with its white space made visible, in one line.

    >>> inked(" the"), inked("\\n"), inked("a b "), inked("\\x1b[1m")
    ('␣the', '↵', 'a b␣', '␛[1m')
    """
    inner = text.strip(" ")
    before, after = len(text) - len(text.lstrip(" ")), len(text) - len(text.rstrip(" ")) if inner else 0
    return display.in_line("␣" * before + inner + "␣" * after)


def tail(text: str, columns: int = _LONGEST) -> str:
    """The end of a text, in one line.

    >>> tail("the end of a long context", 12)
    '…ong context'
    """
    line = inked(text)
    short = line
    while display.width(short) > columns - 1:
        short = short[1:]
    return line if display.width(line) <= columns else "…" + short


def rung(counted: Counted, t: Words) -> str:
    """A count in words."""
    context = tail(counted.context)
    if counted.count is None and counted.total is None:
        return t("came_unknown", n=counted.order, context=context) if counted.order > 1 else t("came_alone_unknown")
    count, total = (display.NONE if n is None else f"{n:,}" for n in (counted.count, counted.total))
    if counted.order > 1:
        said = t("came", n=counted.order, count=count, total=total, context=context)
    else:
        said = t("came_alone", count=count, total=total)
    return said if counted.left is None else said + t("came_continued", left=f"{counted.left:,}", total=f"{counted.left_total or 0:,}")


def recollection(recalled: tuple[Remembered, ...], place: int, t: Words) -> str:
    """What a memory recalled, in words; place: of the token that was predicted."""
    said = []
    for one in recalled:
        share, text = display.percent(one.share, 0), inked(one.text)
        if one.place is None:
            said.append(f"“{text}” {share}")
        else:
            said.append(t("back_n", text=text, n=place - one.place, share=share))
    return t("comma").join(said)


def facts(reasons: Reasons, place: int, t: Words) -> list[str]:
    """Counts, a line each, and what was recalled."""
    recalled = [recollection(reasons.recalled, place, t)] if reasons.recalled else []
    return [*(rung(counted, t) for counted in reasons.counts), *recalled]


def brief(token: Token, place: int, t: Words) -> str:
    """All that a line of the terminal has room for: the n-gram that decides, or the shares of parts, the largest's reason with it."""
    return _brief(token.reasons, place, t)


def _brief(reasons: Reasons, place: int, t: Words) -> str:
    if not reasons.parts:
        return "".join(facts(reasons, place, t)[-1:])
    parts = sorted(reasons.parts, key=_said_most)
    deeper = _brief(parts[0].reasons, place, t)
    heard = [part for part in parts if part.share is None or part.share >= 0.005] or parts
    return t("comma").join(f"{display.shorten(part.name, 24)} {share(part)}" for part in heard) + (f" ({deeper})" if deeper else "")


def _said_most(part: Said) -> float:
    if part.share is not None:
        return -part.share
    return math.inf if part.nats is None else part.nats


def weight(part: Said) -> str:
    """How much a part counts, never in powers of ten.

    >>> weight(Said("a", 0.98765, None, None, None, Reasons())), weight(Said("a", 3e-8, None, None, None, Reasons()))
    ('0.988', '<0.001')
    """
    return f"{part.weight:.3f}" if part.weight >= 0.0005 or part.weight == 0 else "<0.001"


def share(part: Said) -> str:
    """A part's share of a token, or where there is none its own probability."""
    return chance(part.probability) if part.share is None else display.percent(part.share, 0)
