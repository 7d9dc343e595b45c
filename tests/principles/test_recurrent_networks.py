"""Recomputes every number of docs/principles/recurrent-networks.md by the code that the page names."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from tests.principles.pages import missing, page, script

numbers = script("draw_recurrent_networks")
vector = script("drawing").vector
PAGE = page("recurrent-networks")


def test_the_textbooks_rnn() -> None:
    before = numbers.W_Y @ numbers.H_1 + numbers.B_Y
    soft, sigmoid = before.softmax(0), before.sigmoid()
    inside = numbers.W_X @ numbers.X_1 + numbers.W_H @ numbers.H_0 + numbers.B_H
    said = [
        f"| W_y h₁ + b_y | {before[0]:.4f} | {before[1]:.4f} | |",
        f"| softmax | {soft[0]:.4f} | {soft[1]:.4f} | {soft.sum():.4f} |",
        f"| σ, as printed | {sigmoid[0]:.4f} | {sigmoid[1]:.4f} | {sigmoid.sum():.4f} |",
        f"| {vector(sigmoid)} sums to {sigmoid.sum():.4f};",
        f"W_x x₁ + W_h h₀ + b_h = {vector(inside)}; tanh gives h₁ = {vector(numbers.rnn_state())}.",
        f"h₁ would be {vector(inside.sigmoid())} |",
    ]
    assert missing(PAGE, said) == []
    joined = torch.cat([numbers.H_0, numbers.X_1])
    with pytest.raises(RuntimeError, match="size mismatch"):
        _ = numbers.W_H @ joined
    assert torch.allclose(torch.cat([numbers.W_H, numbers.W_X], dim=1) @ joined + numbers.B_H, inside)


def test_a_sigmoid_is_no_distribution() -> None:
    """Ten words that come equally often, learned through −ln σ of the right one: the ten biases rise together."""
    bias = torch.zeros(10)
    assert float(torch.zeros(10_000).sigmoid().sum()) == 5_000
    for _ in range(1_000):
        bias += 0.1 * torch.sigmoid(-bias)  # the gradient of the mean of ln σ(b) over ten even words
    told = math.exp(-float(bias.sigmoid().log().mean()))
    assert f'a "perplexity" of {told:.4f}, the ten "probabilities" summing to {float(bias.sigmoid().sum()):.4f}' in PAGE
    assert math.exp(-float(bias.log_softmax(0).mean())) == pytest.approx(10)


def test_one_lstm_unit() -> None:
    h, c = numbers.lstm_step(1.0, 0.5, 0.8)
    pre = [w * 1.0 + u * 0.5 + b for w, u, b in zip(*(numbers.LSTM[name] for name in "wub"), strict=True)]
    i, f, o = (1 / (1 + math.exp(-pre[k])) for k in (0, 1, 3))
    g = math.tanh(pre[2])
    assert f"| {i:.4f} | {f:.4f} | {g:.4f} | {o:.4f} | {c:.4f} | {h:.4f} |" in PAGE
    cell = nn.LSTMCell(1, 1).double()
    with torch.no_grad():
        for parameter, values in zip(cell.parameters(), ("w", "u", "b", None), strict=True):
            parameter.copy_(torch.tensor(numbers.LSTM[values]).view_as(parameter) if values else torch.zeros(4))
        found = cell(torch.ones(1, 1).double(), (torch.full((1, 1), 0.5).double(), torch.full((1, 1), 0.8).double()))
    assert [float(v) for v in found] == pytest.approx([h, c])
    kept = 0.8
    for _ in range(20):
        kept = f * kept + i * g
    assert f"c after 20 steps is {0.8 + 20 * i * g:.1f} and h is stuck at o; with f it settles at {kept:.1f}" in PAGE


def test_two_gru_units() -> None:
    part = numbers.gru_parts()
    torchs, cho, flipped = (numbers.gru_step(form) for form in ("torch", "cho", "flipped"))
    said = [
        f"r = {vector(part['r'])}, z = {vector(part['z'])}.",
        f"| torch, Bimo: r ⊙ (U_n h + b_n) | {vector(part['after'])} | {vector(torchs)} |",
        f"| Cho: U_n(r ⊙ h) + b_n | {vector(part['before'])} | {vector(cho)} |",
        f"as many print it | {vector(part['after'])} | {vector(flipped)} |",
        f"{cho[0]:.4f} for {torchs[0]:.4f} in one step",
    ]
    assert missing(PAGE, said) == []
    cell = nn.GRUCell(2, 2).double()
    with torch.no_grad():
        biases = (torch.zeros(6), torch.cat([torch.zeros(4), numbers.GRU_B]))
        for parameter, values in zip(cell.parameters(), (numbers.GRU_W, numbers.GRU_U, *biases), strict=True):
            parameter.copy_(values)
        assert torch.allclose(cell(numbers.GRU_X[None], numbers.GRU_H[None])[0], torchs)


def test_weights_of_one_form_are_not_weights_of_another() -> None:
    """Trained, so near and not equal on another machine."""
    found = numbers.misread()
    assert found["torch"] == pytest.approx(found["bimo"], abs=1e-4)
    assert [found[form] for form in ("torch", "cho", "flipped")] == [
        pytest.approx(0.10, abs=0.02), pytest.approx(0.67, abs=0.2), pytest.approx(3.8, abs=0.6),
    ]  # fmt: skip
    for said in ("about 0.10 nats a character for them", "Cho's form about 0.67, and with z turned around about 3.8."):
        assert said in PAGE


def test_how_long_it_is_remembered() -> None:
    found = numbers.curves()
    for name, values in found.items():
        shown = " | ".join(f"{values[k]:.1e}" for k in (1, 5, 10, 20))
        said = {"RNN, σ": "RNN, σ, as printed", "LSTM, forget bias 1": "LSTM, forget bias 1 (the default)"}.get(name, name)
        assert f"| {said} | {shown} |" in PAGE
    assert f"{found['RNN, σ'][20]:.1e} is heard instead of {found['RNN, tanh'][20]:.1e}" in PAGE


def test_the_picture_is_what_the_script_draws() -> None:
    assert numbers.PICTURE.read_text(encoding="utf-8") == numbers.draw()
