"""Fills the tables of the guide from the fields themselves: `python docs/guide/tables.py` (a test checks that they agree).

A table stands between `<!-- table:NAME -->` and `<!-- /table -->`. Descriptions are written where a field is declared; their Chinese
is in `zh/descriptions.yaml`, by the English sentence, so that a changed sentence asks for a new translation.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import yaml
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from bimo.core import registry
from bimo.core.recipe import AdapterSection, CleanSection, Recipe, TextSection, TrainingSection
from bimo.generation.sampling import GenerationConfig
from bimo.models.hybrid import HybridConfig, Part
from bimo.models.rotary import RopeScaling

HERE = Path(__file__).parent
HEADS = {"en": ("field", "default", "meaning"), "zh": ("字段", "默认值", "含义")}
NONE = {"en": "–", "zh": "–"}


def schemas() -> dict[str, type[BaseModel]]:
    """The tables by name; a family's is `model-<family>`, an objective's `objective-<name>`."""
    named: dict[str, type[BaseModel]] = {"recipe": Recipe, "text": TextSection, "clean": CleanSection, "training": TrainingSection}
    named |= {"adapter": AdapterSection, "rope": RopeScaling, "generation": GenerationConfig}
    models = {f"model-{name}": registry.family(name).load().Config for name in registry.families()}
    models |= {f"model-{registry.HYBRID}": HybridConfig, "part": Part}
    models |= {f"memory-{name}": registry.load_memory(name).Config for name in registry.memories()}
    return {**named, **models, **{f"objective-{name}": registry.load_objective(name).Config for name in registry.objectives()}}


def translations() -> dict[str, str]:
    """Chinese descriptions by their English ones."""
    return yaml.safe_load((HERE / "zh" / "descriptions.yaml").read_text(encoding="utf-8"))


def description(field: Any) -> str:
    """A field's own words, or the first line of its section's."""
    return field.description or (field.annotation.__doc__ or "").partition("\n")[0]


def missing() -> list[str]:
    """English descriptions that have no Chinese yet."""
    known = translations()
    return sorted({description(f) for schema in schemas().values() for f in schema.model_fields.values()} - set(known))


def table(name: str, lang: str) -> str:
    """One table as Markdown."""
    schema = schemas()[name]
    known = translations() if lang == "zh" else {}
    fixed = registry.family(name.removeprefix("model-")).preset if name.startswith("model-") else {}
    rows = [HEADS[lang], ("---", "---", "---")]
    for key, field in schema.model_fields.items():
        if key in fixed:
            continue
        text = known.get(description(field), description(field))
        choices = _choices(field.annotation)
        text += f" ({' · '.join(choices)})" if choices and not all(c in text for c in choices) else ""
        rows.append((f"`{key}`", _shown(field, lang), _escaped(text)))
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _choices(annotation: Any) -> list[str]:
    """The words a field takes, where they are listed."""
    if get_origin(annotation) is Literal:
        return [str(a) for a in get_args(annotation)]
    return [c for a in get_args(annotation) for c in _choices(a)] if get_origin(annotation) is not list else []


def _shown(field: Any, lang: str) -> str:
    default = field.get_default(call_default_factory=True)
    if default is None or default is PydanticUndefined or default in ([], {}) or isinstance(default, BaseModel):
        return NONE[lang]
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    return f"`{list(default) if isinstance(default, tuple) else default}`"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def filled(text: str, lang: str) -> str:
    """A page with its tables filled in."""

    def fill(found: re.Match[str]) -> str:
        return f"<!-- table:{found[1]} -->\n{table(found[1], lang)}\n<!-- /table -->"

    return re.sub(r"<!-- table:([\w-]+) -->\n(?:.*?\n)??<!-- /table -->", fill, text, flags=re.S)


def pages() -> list[tuple[Path, str]]:
    """The pages of the guide, with their language."""
    return [(path, lang) for lang in HEADS for path in sorted((HERE / lang).glob("*.md"))]


def main() -> None:
    """Fill all pages."""
    for sentence in missing():
        print(f"zh/descriptions.yaml: no Chinese for {sentence!r}")
    for path, lang in pages():
        path.write_text(filled(path.read_text(encoding="utf-8"), lang), encoding="utf-8")


if __name__ == "__main__":
    main()
