"""What all pages are made of: the templates, one script that the page's policy allows by its hash, and text made visible."""

from __future__ import annotations

import base64
import functools
import hashlib
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from bimo.evaluation import display
from bimo.evaluation.report import plots

TEMPLATES = Path(__file__).parent / "templates"


@functools.cache
def environment() -> jinja2.Environment:
    """Where templates are found; what they show is escaped, and characters that cannot be seen are spelled out."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: display.visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value,
    )


@functools.cache
def script() -> tuple[Markup, Markup]:
    """The one script of every page, and its hash as a content security policy has it."""
    source = (TEMPLATES / "page.js").read_text(encoding="utf-8")
    return Markup(source), Markup("sha256-" + base64.b64encode(hashlib.sha256(source.encode()).digest()).decode())


def shared(lang: str) -> dict[str, Any]:
    """What every page's template reads beside its own: language, colours, marks, the script."""
    source, source_hash = script()
    return {
        "html_lang": "zh-CN" if lang == "zh" else "en",
        "palette": plots.PALETTE,
        "slots": plots.SLOTS,
        "colours": plots.COLOURS,
        "swatch": plots.swatch,
        "script": source,
        "script_hash": source_hash,
    }
