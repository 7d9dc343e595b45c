"""Recipes: layers, presets, overrides, and errors that name the key, what was found and what was meant."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from bimo.core import registry
from bimo.core.budget import Budget
from bimo.core.errors import RecipeError
from bimo.core.recipe import Recipe, default_preset, make_recipe, merge, parse_overrides, preset, presets, read_recipe
from bimo.core.validation import Section


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"famly": "lstm"}, "famly: unknown key; did you mean family?"),
        ({"seed": 1}, "seed: unknown key; did you mean training.seed?"),
        ({"training": {"sede": 1}}, "training.sede: unknown key; did you mean seed"),
        ({"text": {"tokeniser": "bpe"}}, "text.tokeniser: unknown key; did you mean tokenizer?"),
        ({"model": {"lyers": 2}}, "model.lyers: unknown key; did you mean layers?"),
        ({"family": "ngram", "model": {"order": 0}}, "model.order: .* found 0"),
        ({"training": {"learning_rate": -1}}, "training.learning_rate: .*more than 0, found -1"),
        ({"training": {"budget": "0s"}}, "budget: must be more than nothing"),
        ({"text": {"documents": "lines"}}, "text.documents: .*'file', 'line'.* found 'lines'"),
        ({"family": "lsmt"}, "did you mean lstm"),
        ({"preset": "lstm-smal"}, "lstm-small"),
        ({"family": "lstm", "preset": "gru-small"}, "gru-small is for family gru"),
        ({"model": 3}, "model: .* found 3"),
    ],
)
def test_mistakes_are_named(values: dict[str, object], said: str) -> None:
    with pytest.raises(RecipeError, match=said) as found:
        make_recipe(values)
    assert "\n" not in str(found.value)


def test_later_layers_win_and_all_win_over_the_preset() -> None:
    recipe = make_recipe({"family": "lstm", "training": {"seed": 1, "batch_size": 3}}, {"training": {"seed": 2}}, {"model": {"width": 7}})
    assert (recipe.training.seed, recipe.training.batch_size, recipe.model["width"]) == (2, 3, 7)
    base = preset(str(recipe.preset))
    assert recipe.training.learning_rate == base["training"]["learning_rate"]


@pytest.mark.parametrize(("budget", "size"), [("30s", "small"), ("119s", "small"), ("2m", "middle"), ("300steps", "middle")])
def test_the_dial_picks_by_time(budget: str, size: str) -> None:
    assert default_preset("decoder", Budget.parse(budget)) == f"decoder-{size}"


@pytest.mark.parametrize("name", presets())
def test_each_preset_is_a_valid_recipe(name: str) -> None:
    recipe = make_recipe({"preset": name, "family": preset(name).get("family", "decoder")})
    assert recipe.preset == name
    assert recipe.family in registry.families()


@pytest.mark.parametrize("family", registry.families())
def test_a_saved_recipe_reads_back_as_it_was(tmp_path: Path, family: str) -> None:
    recipe = make_recipe({"family": family, "text": {"sources": ["书 a=b.txt"]}})
    recipe.save(tmp_path / "recipe.yaml")
    assert make_recipe(read_recipe(tmp_path / "recipe.yaml")).model_dump() == recipe.model_dump()


@pytest.mark.parametrize(
    ("family", "word"),
    [
        ("lstm", "training.learning_rate=inf"),
        ("lstm", "training.weight_decay=nan"),
        ("lstm", "training.betas=[2, 3]"),
        ("lstm", "training.betas=[0.9, 1]"),
        ("lstm", "training.betas=[-0.1, 0.9]"),
        ("decoder", "model.rope_theta=inf"),
        ("vae", "objective.free_bits=inf"),
    ],
)
def test_numbers_lie_in_their_range_and_are_finite(family: str, word: str) -> None:
    with pytest.raises(RecipeError, match=word.partition("=")[0].replace(".", r"\.")):
        make_recipe({"family": family}, parse_overrides([word]))


def test_overrides_are_read_as_yaml() -> None:
    words = ["model.order=5", "training.learning_rate=1e-3", "training.betas=[0.8, 0.9]", "text.valid=a=b.txt", "training.compile=true"]
    assert parse_overrides(words) == {
        "model": {"order": 5},
        "training": {"learning_rate": 1e-3, "betas": [0.8, 0.9], "compile": True},
        "text": {"valid": "a=b.txt"},
    }


@pytest.mark.parametrize("word", ["order", "=3", "model.x=[", "model.x={a: b: c}"])
def test_an_override_that_cannot_be_read_is_named(word: str) -> None:
    with pytest.raises(RecipeError, match=r"expected|cannot read"):
        parse_overrides([word])


@pytest.mark.parametrize("content", ["family: [", "- 1", "", "a: !!python/object:os.system {}", "3"])
def test_a_recipe_file_that_is_none_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(content)
    with pytest.raises(RecipeError, match=r"r\.yaml: "):
        read_recipe(path)
    with pytest.raises(RecipeError, match="no such recipe"):
        read_recipe(tmp_path / "missing.yaml")


def test_every_field_is_documented_where_it_is_declared() -> None:
    def check(section: type[Section]) -> None:
        for name, field in section.model_fields.items():
            inner = field.annotation
            if isinstance(inner, type) and issubclass(inner, Section):
                check(inner)
            else:
                assert field.description, f"{section.__name__}.{name}"

    check(Recipe)


def test_merging_leaves_its_parts_alone() -> None:
    base, over = {"a": {"x": 1}}, {"a": {"y": 2}, "b": 3}
    assert merge(base, over) == {"a": {"x": 1, "y": 2}, "b": 3}
    assert (base, over) == ({"a": {"x": 1}}, {"a": {"y": 2}, "b": 3})
    assert yaml.safe_load(make_recipe({"family": "decoder"}).dump())["family"] == "decoder"
