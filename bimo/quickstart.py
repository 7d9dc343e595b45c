"""The main job: a real text, three families, the same time each, one table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bimo import api, console
from bimo.core import progress, registry, store

if TYPE_CHECKING:
    from bimo.evaluation.results import Comparison


def built_in_text() -> str:
    """The language manual that every Python carries (pydoc_data.topics): about 465 kB of English."""
    from pydoc_data.topics import topics

    return "\n\n".join(topics[name] for name in sorted(topics))


def quickstart(
    sources: Sequence[str] = (),
    *,
    budget: str = "30s",
    out: str | Path = "runs/quickstart",
    lang: str | None = None,
    overrides: Sequence[str] = (),
) -> Comparison:
    """Train an n-gram, an LSTM and a Transformer on a text for `budget` each; show who won and write a report.

    Without sources the text is Python's own language manual; nothing is downloaded.
    """
    out = Path(out)
    listed = list(sources)
    if not listed:
        text = out / "python-manual.txt"
        store.write_text(text, built_in_text())
        listed = [str(text)]
        progress.say(f"text: the language manual that Python carries, written to {text}")
    result = api.compare(listed, families=registry.FIRST, budget=budget, out=out, lang=lang, overrides=overrides)
    console.show_comparison(result, lang or "en")
    if lang == "zh":
        print("换成自己的文本：bimo train my.txt --budget 10m，或 bimo compare my.txt --budget 2m")
        return result
    print("and on your own text: bimo train my.txt --budget 10m, or bimo compare my.txt --budget 2m")
    return result
