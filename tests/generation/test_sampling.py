"""Options that cannot be meant are refused, by name."""

from __future__ import annotations

import pytest

from bimo.core.errors import RecipeError, UserError
from bimo.core.recipe import parse_overrides
from bimo.generation.sampling import GenerationConfig, row_generators


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"temprature": 1}, "did you mean temperature"),
        ({"temperature": -1}, "generation.temperature"),
        ({"temperature": float("nan")}, "generation.temperature"),
        ({"top_p": 1.5}, "generation.top_p"),
        ({"max_new_tokens": 0}, "generation.max_new_tokens"),
        ({"min_new_tokens": 9, "max_new_tokens": 3}, "more than max_new_tokens=3"),
        ({"stop": ""}, "generation.stop"),
        ({"stop": ["a", ""]}, "generation.stop"),
        ({"bad_words_ids": [[]]}, "generation.bad_words_ids"),
        ({"bad_words_ids": [[-1]]}, "generation.bad_words_ids"),
        ({"num_beams": 2, "num_return_sequences": 3}, "more than num_beams=2"),
        ({"num_beams": 2, "top_k": 5}, "generation.top_k: beam search does not draw"),
        ({"num_beams": 2, "temperature": 0.5}, "generation.temperature: beam search does not draw"),
        ({"length_penalty": 2.0}, "generation.length_penalty: is for beam search"),
        ({"early_stopping": True}, "generation.early_stopping: is for beam search"),
        ({"early_stopping": "maybe", "num_beams": 2}, "generation.early_stopping"),
    ],
)
def test_wrong_options_are_named(options, told):
    with pytest.raises(RecipeError, match=told):
        GenerationConfig.of(**options)


def test_every_option_is_described():
    for name, field in GenerationConfig.model_fields.items():
        assert field.description, name


def test_lists_that_are_left_empty_hold_nothing():
    config = GenerationConfig.of(**parse_overrides(["stop=", "bad_words_ids="]))
    assert (config.stop, config.bad_words_ids) == ([], [])
    with pytest.raises(RecipeError, match=r"generation\.stop: must be a list, found 3"):
        GenerationConfig.of(**parse_overrides(["stop=3"]))


def test_one_stop_string_is_a_list():
    assert GenerationConfig.of(stop="\n").stop == ["\n"]


def test_bad_words_are_checked_against_the_vocabulary():
    with pytest.raises(UserError, match="ids must lie in 0…4, found 5"):
        GenerationConfig.of(bad_words_ids=[[2, 5]]).check_ids(5, ())
    with pytest.raises(UserError, match="use min_new_tokens"):
        GenerationConfig.of(bad_words_ids=[[1]]).check_ids(5, (1,))


def test_generators_belong_to_prompts_not_to_places():
    def first(prompts, copies=1, seed=3):
        return [g.random() for g in row_generators(prompts, copies, seed)]

    a, b = first([[1, 2]])[0], first([[3]])[0]
    assert first([[3], [1, 2]]) == [b, a]
    assert first([[1, 2], [1, 2]]) == first([[1, 2]], copies=2)
    assert len({*first([[1, 2], [1, 2], [3]]), *first([[1, 2]], seed=4)}) == 4
