"""Typed settings, and what is wrong with a value in words: each key by its name, what was found, what was meant."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from bimo.core.errors import USUAL, RecipeError, did_you_mean


class Section(BaseModel):
    """A part of a recipe or of a model's settings; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True, allow_inf_nan=False)


def validated(schema: type[BaseModel], values: Mapping[str, Any], where: str = "") -> Any:
    """An instance of `schema`, or a `RecipeError` that names each wrong key, what was found and what was meant.

    >>> class Shape(Section):
    ...     width: int = 8
    >>> validated(Shape, {"witdh": 1}, "model")
    Traceback (most recent call last):
    bimo.core.errors.RecipeError: model.witdh: unknown key; did you mean width? Known: width
    """
    try:
        return schema(**values)
    except ValidationError as error:
        raise RecipeError("; ".join(_complaint(schema, e, where) for e in error.errors())) from None


def _complaint(schema: type[BaseModel], error: Any, where: str) -> str:
    path = ([where] if where else []) + [str(part) for part in error["loc"]]
    name = ".".join(path)
    if error["type"] == "extra_forbidden":
        for part in error["loc"][:-1]:
            inner = schema.model_fields[str(part)].annotation
            if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
                break
            schema = inner
        key = str(error["loc"][-1])
        inside = {s: f.annotation for s, f in schema.model_fields.items()
                  if isinstance(f.annotation, type) and issubclass(f.annotation, BaseModel)}  # fmt: skip
        homes = [f"{s}.{k}" for k in (key, *USUAL.get(key, ())) for s, section in inside.items() if k in section.model_fields]
        hint = f"did you mean {homes[0]}? " if homes else ""
        return f"{name}: unknown key; {hint}{did_you_mean(key, schema.model_fields)}"
    cause = error.get("ctx", {}).get("error")
    if isinstance(cause, RecipeError):
        return str(cause)
    ours = _SAID.get(error["type"])
    said = ours.format_map(error.get("ctx", {})) if ours else error["msg"][0].lower() + error["msg"][1:]
    return f"{name}: {said}, found {error.get('input')!r}"


_SAID = {  # by pydantic's types of error
    "greater_than": "must be more than {gt:g}",
    "greater_than_equal": "must be {ge:g} or more",
    "less_than": "must be less than {lt:g}",
    "less_than_equal": "must be {le:g} or less",
    "literal_error": "must be one of {expected}",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "int_type": "must be a whole number",
    "finite_number": "must be a finite number",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "bool_parsing": "must be true or false",
    "list_type": "must be a list",
    "string_type": "must be text",
    "missing": "is missing",
}
