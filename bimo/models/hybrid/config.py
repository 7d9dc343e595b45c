"""What a hybrid is made of."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, computed_field, field_validator, model_validator

from bimo.core import registry
from bimo.core.errors import RecipeError
from bimo.core.recipe import known_of, make_recipe, read_recipe
from bimo.models.base import ModelConfig

Weight = Annotated[float, Field(ge=0)]


class Part(ModelConfig):
    """A part of a hybrid: a family that is learned with it, the folder of a model that has learned before, or a memory of another part."""

    family: str | None = Field(None, description="a family, learned as a part of this run")
    folder: str | None = Field(None, description="a model that has learned before over the same tokenizer")
    memory: str | None = Field(None, description="cache or knn: tokens seen before, found by the hidden states of the part before it")
    called: str | None = Field(None, description="of a folder: the name of what is in it, as in a+b")
    label: str | None = Field(None, description="of a folder: what people call what is in it")
    preset: str | None = Field(None, description="of a family: a file of bimo/recipes; as for the family alone, if not given")
    model: dict[str, Any] = Field(default_factory=dict, description="the family's, or the memory's, own fields")
    objective: dict[str, Any] = Field(default_factory=dict, description="of a family: what it minimises")
    training: dict[str, Any] = Field(default_factory=dict, description="of a family: how it learns; as the whole, if not given")

    @model_validator(mode="before")
    @classmethod
    def _word(cls, data: Any) -> Any:
        return spelled(data) if isinstance(data, str) else data

    @field_validator("called")
    @classmethod
    def _plain(cls, name: str | None) -> str | None:
        """A name of which folders are made must not lead out of them: the recipe may be somebody else's."""
        if name is not None and (name in ("", ".", "..") or not all(map(_is_plain, name))):
            raise RecipeError(f"model.parts: called must be a plain name, without / or \\, found {name!r}")
        return name

    @model_validator(mode="after")
    def _one_thing(self) -> Part:
        if sum(what is not None for what in (self.family, self.folder, self.memory)) != 1:
            raise RecipeError("model.parts: a part is a family, a folder or a memory: give one of the three")
        if self.memory is not None:
            registry.load_memory(self.memory)
        if self.family is not None:
            make_recipe(self.recipe())  # what is wrong with a part is told with the whole
        return self

    @property
    def name(self) -> str:
        """What it is called in a+b."""
        if self.folder is not None:
            return self.called or known_of(self.folder)[0] or _called_as(self.folder)
        return self.family or self.memory or ""

    @property
    def title(self) -> str:
        """What people call it."""
        if self.memory is not None:
            return registry.memory_label(self.memory)
        if self.folder is not None:
            return self.label or known_of(self.folder)[1] or _called_as(self.folder)
        return make_recipe(self.recipe()).label

    def recipe(self) -> dict[str, Any]:
        """The recipe of a part that is a family, as it stands alone; text and budget are the whole's."""
        made = {"family": self.family, "preset": self.preset, "model": self.model, "objective": self.objective, "training": self.training}
        return {key: value for key, value in made.items() if value is not None}


def _is_plain(letter: str) -> bool:
    return letter.isprintable() and letter not in "/\\"


def _called_as(folder: str) -> str:
    """The folder's own name, wherever it lies; signs that no name of ours may hold are dashes."""
    return "".join(letter if _is_plain(letter) else "-" for letter in Path(folder).resolve().name) or "model"


def spelled(word: str) -> dict[str, Any]:
    """A part that is one word: a family, a memory, a recipe file or a model's folder.

    >>> spelled("lstm"), spelled("cache")
    ({'family': 'lstm'}, {'memory': 'cache'})
    """
    word = word.strip()
    if word in registry.families():
        return {"family": word}
    if word in registry.memories():
        return {"memory": word}
    if word.endswith((".yaml", ".yml")):
        recipe = read_recipe(Path(word))
        return {key: recipe[key] for key in ("family", "preset", "model", "objective", "training") if key in recipe}
    if Path(word).is_dir():
        return {"folder": word}
    known = ", ".join([*registry.families(), *registry.memories()])
    raise RecipeError(f"model.parts: {word!r} is no family, memory, recipe or model folder; known: {known}")


class HybridConfig(ModelConfig):
    """How several models tell the next token together."""

    parts: list[Part] = Field(default=[], description="families, trained models' folders, cache, knn; a+b on the command line")
    mixture: Literal["linear", "product", "documents", "average"] = Field(
        "linear",
        description="linear: probabilities are mixed; product: their logarithms are, and made to sum to one; "
        "documents: those of whole documents, and bounds on them; average: the weights of models of one shape, into one such model",
    )
    weights: Literal["learned", "gate"] | list[Weight] = Field(
        "learned",
        description="learned: on validation text; gate: learned, and depending on a part's hidden states; or one number a part",
    )

    @model_validator(mode="after")
    def _fits(self) -> HybridConfig:
        if len(self.parts) < 2:
            raise RecipeError(f"model.parts: {len(self.parts)} given, a hybrid has two or more; write --family ngram+lstm, say")
        if self.parts[0].memory is not None:
            raise RecipeError(
                f"model.parts: {self.parts[0].memory} comes first; it needs a neural part before it, whose hidden states it keeps"
            )
        if isinstance(self.weights, list):
            if len(self.weights) != len(self.parts) or sum(self.weights) <= 0:
                raise RecipeError(f"model.weights: {len(self.weights)} numbers for {len(self.parts)} parts; give one for each, not all 0")
        elif self.weights == "gate" and self.mixture != "linear":
            raise RecipeError(f"model.weights: a gate goes with mixture=linear, not with {self.mixture}")
        if self.mixture == "product" and self.weights == "learned" and (memory := next((p.memory for p in self.parts if p.memory), None)):
            raise RecipeError(
                f"model.weights: {memory} gives most tokens no chance, so that no exponent of it can be learned; "
                "give model.weights as numbers, or take mixture=linear"
            )
        if self.mixture in ("average", "documents") and (memory := next((p.memory for p in self.parts if p.memory), None)):
            raise RecipeError(f"model.mixture: {memory} goes with linear and product, not with {self.mixture}")
        return self

    @property
    def name(self) -> str:
        """Its parts, as in a+b."""
        return "+".join(part.name for part in self.parts)

    @computed_field
    @property
    def title(self) -> str:
        """What people call it: its parts, joined."""
        joined = " + ".join(part.title for part in self.parts)
        return f"mean of {joined}" if self.mixture == "average" else joined


def numbered(words: Sequence[str]) -> list[str]:
    """Parts by name, with a number where one comes again.

    >>> numbered(["lstm", "cache", "lstm"])
    ['lstm', 'cache', 'lstm-2']
    """
    words = list(words)
    return [word if (n := words[: i + 1].count(word)) == 1 else f"{word}-{n}" for i, word in enumerate(words)]
