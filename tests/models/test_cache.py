"""Keys and values of rows of different lengths in one block."""

from __future__ import annotations

import pytest
import torch

from bimo.models.cache import KeyValueCache, Layout, join

LAYOUT = Layout(layers=2, heads=1, width=2, context=100)


def read(cache: KeyValueCache, values: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Read numbers [B, T]; layer n keeps number + n."""
    positions, mask = cache.open(values.shape[1], lengths, lambda _: None)
    new = values[:, None, :, None].double().expand(-1, 1, -1, 2)
    for layer in range(2):
        cache.append(layer, new + layer, -new - layer)
    cache.close(lengths)
    return positions, mask


def rows(cache: KeyValueCache, layer: int = 0) -> list[list[float]]:
    return [cache.keys[layer, b, 0, :n, 0].tolist() for b, n in enumerate(cache.lengths.tolist())]


def empty(batch: int) -> KeyValueCache:
    return KeyValueCache.empty(LAYOUT, batch, torch.device("cpu"), torch.float64)


def test_rows_of_different_lengths_grow_in_place():
    cache = empty(3)
    positions, mask = read(cache, torch.tensor([[1, 2, 3], [4, 9, 9], [5, 6, 9]]), torch.tensor([3, 1, 2]))
    assert mask is None
    assert rows(cache) == [[1, 2, 3], [4], [5, 6]]
    positions, mask = read(cache, torch.tensor([[7], [8], [10]]), torch.tensor([1, 1, 1]))
    assert positions.tolist() == [[3], [1], [2]]
    assert mask is not None
    assert mask[:, 0, 0].tolist() == [[True] * 4, [True, True, False, False], [True, True, True, False]]
    assert rows(cache) == [[1, 2, 3, 7], [4, 8], [5, 6, 10]]
    assert rows(cache, 1) == [[2, 3, 4, 8], [5, 9], [6, 7, 11]]
    read(cache, torch.tensor([[1, 2], [3, 9], [4, 5]]), torch.tensor([2, 1, 2]))
    assert rows(cache) == [[1, 2, 3, 7, 1, 2], [4, 8, 3], [5, 6, 10, 4, 5]]
    assert (cache.shortest, cache.longest) == (3, 6)


def test_even_rows_need_no_mask_step_by_step():
    cache = empty(2)
    for step in range(70):
        positions, mask = read(cache, torch.tensor([[step], [-step]]), torch.tensor([1, 1]))
        assert mask is None
        assert positions.tolist() == [[step]]
    assert rows(cache) == [list(range(70)), [-n for n in range(70)]]
    _, mask = read(cache, torch.tensor([[1, 2], [3, 4]]), torch.tensor([2, 2]))
    assert mask is not None
    assert mask.shape == (1, 1, 2, 72)
    assert mask[0, 0, :, 70:].tolist() == [[True, False], [True, True]]


def test_capacity_doubles_up_to_the_context():
    cache, capacities = empty(1), []
    for _ in range(100):
        read(cache, torch.tensor([[0]]), torch.tensor([1]))
        capacities.append(cache.capacity)
    assert sorted(set(capacities)) == [32, 64, 128]
    assert cache.bytes_per_row() == 2 * 2 * 128 * 2 * 8 + 8


def test_select_join_and_rewind():
    cache = empty(2)
    read(cache, torch.tensor([[1, 2, 3], [4, 5, 9]]), torch.tensor([3, 2]))
    twice = cache.select(torch.tensor([1, 0, 1]))
    assert rows(twice) == [[4, 5], [1, 2, 3], [4, 5]]
    read(twice, torch.tensor([[6], [7], [8]]), torch.tensor([1, 1, 1]))
    assert rows(cache) == [[1, 2, 3], [4, 5]]
    longer = empty(1)
    read(longer, torch.arange(40)[None], torch.tensor([40]))
    both = join([twice, longer])
    assert rows(both) == [[4, 5, 6], [1, 2, 3, 7], [4, 5, 8], list(range(40))]
    back = both.rewind(torch.tensor([1, 4, 0, 2]))
    assert rows(back) == [[4], [1, 2, 3, 7], [], [0, 1]]
    read(back, torch.tensor([[9], [9], [9], [9]]), torch.tensor([1, 1, 1, 1]))
    assert rows(back) == [[4, 9], [1, 2, 3, 7, 9], [9], [0, 1, 9]]


def test_the_check_comes_before_anything_is_kept():
    cache = empty(1)

    def refuse(length: int) -> None:
        raise ValueError(length)

    with pytest.raises(ValueError, match="5"):
        cache.open(5, torch.tensor([5]), refuse)
    assert cache.capacity == 0
