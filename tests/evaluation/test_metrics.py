"""Perplexity, variety and bootstrap intervals against figures worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bimo.core.errors import UserError
from bimo.evaluation.metrics import bits_per_byte, bootstrap_interval, distinct_n, paired_bootstrap, perplexity, repetition


def test_perplexity_is_the_geometric_mean_of_inverse_probabilities():
    probabilities = [0.5, 0.25, 0.125, 0.5]
    nats = -sum(math.log(p) for p in probabilities)
    assert perplexity(nats, 4) == pytest.approx(math.prod(probabilities) ** (-1 / 4))
    assert bits_per_byte(nats, 12) == pytest.approx(7 / 12)


def test_probability_zero_and_huge_losses_are_infinite_not_errors():
    assert perplexity(math.inf, 5) == math.inf
    assert perplexity(1e6, 5) == math.inf
    assert bits_per_byte(math.inf, 5) == math.inf


@pytest.mark.parametrize("function", [perplexity, bits_per_byte])
def test_nothing_scored_is_a_clear_error(function):
    with pytest.raises(UserError, match="at least one"):
        function(1.0, 0)


def test_distinct_and_repetition_by_hand():
    texts = [list("abab"), list("aa")]
    assert distinct_n(texts, 1) == pytest.approx(2 / 6)
    assert distinct_n(texts, 2) == pytest.approx(3 / 4)  # ab ba ab aa
    assert repetition(texts, 2) == pytest.approx((1 / 3 + 0) / 2)
    assert distinct_n([[]], 1) is None
    assert repetition([["a"]], 4) is None
    with pytest.raises(UserError, match="n: expected"):
        distinct_n(texts, 0)


def test_interval_covers_the_truth_about_as_often_as_it_says():
    generator = np.random.default_rng(1)
    covered = 0
    for trial in range(120):
        sizes = generator.uniform(50, 150, 80)
        nats = sizes * math.log(2) * 2.0 + generator.normal(0, 20, 80)
        interval = bootstrap_interval(nats, sizes, resamples=400, seed=trial)
        assert interval is not None
        covered += interval.low <= 2.0 <= interval.high
    assert 0.87 <= covered / 120 <= 1.0


def test_pairing_sees_a_small_steady_lead_that_two_separate_intervals_would_not():
    generator = np.random.default_rng(2)
    hard = generator.uniform(100, 1000, 60)
    ours, theirs = hard * 0.98, hard * generator.normal(1.0, 0.005, 60)
    lead = paired_bootstrap(ours, theirs)
    assert lead is not None
    assert not lead.holds_zero
    assert lead.estimate == pytest.approx(0.02, abs=0.003)
    alone = [bootstrap_interval(x, np.full(60, 300.0)) for x in (ours, theirs)]
    assert alone[0].high > alone[1].low  # the separate ones overlap


def test_pairing_calls_chance_chance_and_is_reproducible():
    generator = np.random.default_rng(3)
    a, b = generator.normal(100, 10, (2, 50))
    lead = paired_bootstrap(a, b, seed=5)
    assert lead == paired_bootstrap(a, b, seed=5)
    assert lead.holds_zero


def test_infinite_nats_give_no_interval_and_bad_shapes_are_errors():
    assert paired_bootstrap([math.inf, 1.0], [1.0, 2.0]) is None
    assert bootstrap_interval([math.inf, 1.0], [1, 2]) is None
    with pytest.raises(UserError, match="equally long"):
        paired_bootstrap([1.0], [1.0, 2.0])
    with pytest.raises(UserError, match="equally long"):
        bootstrap_interval([], [])
    with pytest.raises(UserError, match="byte counts"):
        bootstrap_interval([1.0, 2.0], [0, 0])


def test_many_units_stay_within_a_second_and_small_memory():
    nats = np.random.default_rng(0).uniform(10, 20, 20_000)
    assert paired_bootstrap(nats, nats * 1.01, resamples=300) is not None
