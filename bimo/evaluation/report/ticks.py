"""Round numbers along an axis."""

from __future__ import annotations

import math

_CLOCK = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800)  # seconds that are said in few words


def ticks(low: float, high: float, about: int = 6, clock: bool = False) -> list[float]:
    """Round numbers in low … high: steps of 1, 2, 2.5 or 5 times a power of ten; with `clock` (seconds) of a minute or an hour.

    >>> ticks(0, 30), ticks(2.2, 2.71, 4)
    ([0.0, 5.0, 10.0, 15.0, 20.0, 25.0, 30.0], [2.2, 2.4, 2.6])
    >>> ticks(0, 600, clock=True)
    [0.0, 120.0, 240.0, 360.0, 480.0, 600.0]
    """
    if not high > low:
        return [low]
    unit = 1.0 if not clock or high < 100 else 60.0 if high < 7200 else 3600.0
    low, high = low / unit, high / unit
    raw = (high - low) / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = next((m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw * 0.999), 10 * power)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(i * step * unit, 12) for i in range(first, last + 1)]


def log_ticks(low: float, high: float, clock: bool = False) -> list[float]:
    """1, 2, 5 times powers of ten in low … high; only the powers where that is many; with `clock` seconds, minutes and hours.

    >>> log_ticks(800, 30_000)
    [1000.0, 2000.0, 5000.0, 10000.0, 20000.0]
    >>> log_ticks(1.3, 800, clock=True)
    [2.0, 10.0, 30.0, 120.0, 600.0]
    """
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    round_ones = [m * 10.0**p for p in powers for m in (1, 2, 5)]
    if clock:
        round_ones = [v for v in round_ones if v < 1] + [float(v) for v in _CLOCK] + [3600 * v for v in round_ones if v >= 1]
    fine = [v for v in round_ones if low * 0.999 <= v <= high * 1.001]
    coarse = [] if clock else [10.0**p for p in powers if low * 0.999 <= 10.0**p <= high * 1.001]
    return fine if len(fine) <= 6 else coarse if len(coarse) >= 2 else fine[:: math.ceil(len(fine) / 6)]
