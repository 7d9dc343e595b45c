"""Draws ngram-smoothing.svg from the model itself: `python docs/principles/draw_ngram_smoothing.py`."""

from __future__ import annotations

import html
import math
from pathlib import Path

import numpy as np
import torch

from bimo.models.ngram import NGram, NGramConfig
from bimo.text.kernels import WordIndex
from bimo.text.vocabulary import Vocabulary

TEXT = ["the cat sat", "the dog sat", "a cat ran"]
WORDS = ["<s>", "</s>", "<unk>", "a", "cat", "dog", "ran", "sat", "the"]
PICTURE = Path(__file__).with_name("ngram-smoothing.svg")
SHOWN = ["sat", "ran", "cat", "</s>", "the", "a", "dog", "<unk>"]


def model(smoothing: str = "kneser-ney") -> NGram:
    """The bigram model of the page's three lines."""
    found = NGram.build(NGramConfig(order=2, smoothing=smoothing), Vocabulary(len(WORDS), bos=0, eos=1, unk=2, suppressed=(0,)))
    found.count([WordIndex(WORDS).ids(TEXT, bos=0, eos=1, unknown=2)[0]])
    found.estimate()
    return found


def after(context: str, smoothing: str = "kneser-ney") -> dict[str, float]:
    """p(w | context) of every word; the empty context gives the unigrams."""
    known = model(smoothing)
    if not context:
        return dict(zip(WORDS, np.exp(known.trie.logprob[: len(WORDS)]).tolist(), strict=True))
    logits, _ = known.advance(known.start(1), torch.tensor([[WORDS.index(context)]]))
    return dict(zip(WORDS, logits[0, 0].double().exp().tolist(), strict=True))


def draw() -> str:
    """The picture as SVG: for each word after `cat`, its own part and the part from the unigrams."""
    known = model()
    gamma = math.exp(float(known.trie.backoff[WORDS.index("cat")]))
    lower, whole = after(""), after("cat")
    title = "p(w | cat) under Kneser-Ney: " + ", ".join(f"{word} {whole[word]:.5f}" for word in SHOWN)
    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 620 270" width="620" height="270" role="img" '
        f'aria-label="{html.escape(title)}" font-family="Inter, Helvetica Neue, Liberation Sans, Arial, sans-serif" font-size="13">',
        '<rect width="620" height="270" fill="#faf8f3"/>',
        '<text x="16" y="22" fill="#625d54">p(w │ cat)</text>',
        '<rect x="330" y="12" width="12" height="12" fill="#1f4e79"/><text x="348" y="23" fill="#1b1a17">own count, discounted</text>',
        '<rect x="330" y="32" width="12" height="12" fill="#c9a227"/>'
        '<text x="348" y="43" fill="#1b1a17">γ(cat) · p(w), from the unigrams</text>',
        '<line x1="330" x2="342" y1="58" y2="58" stroke="#a8271c" stroke-width="2"/>'
        '<text x="348" y="63" fill="#1b1a17">maximum likelihood</text>',
    ]
    for tick in range(6):
        y = 220 - 36 * tick
        stroke = "#d9d3c5" if tick else "#1b1a17"
        end = 310 if y < 70 else 604
        parts.append(
            f'<line x1="44" x2="{end}" y1="{y}" y2="{y}" stroke="{stroke}"/><text x="36" y="{y + 4}" text-anchor="end" fill="#625d54">'
            f"0.{tick}</text>"
        )
    counted = after("cat", "mle")
    for place, word in enumerate(SHOWN):
        x, shared = 58 + 69 * place, gamma * lower[word]
        own = whole[word] - shared
        for name, colour, height, below in (("own", "#1f4e79", own, 0.0), ("shared", "#c9a227", shared, own)):
            if height > 1e-6:
                y = 220 - 360 * (below + height)
                parts.append(
                    f'<rect class="{name}" data-word="{html.escape(word)}" data-p="{height:.5f}" x="{x}" y="{y:.1f}" '
                    f'width="44" height="{360 * height:.1f}" fill="{colour}"/>'
                )
        y = 220 - 360 * counted[word]
        parts.append(f'<line x1="{x - 5}" x2="{x + 49}" y1="{y:.1f}" y2="{y:.1f}" stroke="#a8271c" stroke-width="2"/>')
        parts.append(f'<text x="{x + 22}" y="240" text-anchor="middle" fill="#1b1a17">{html.escape(word)}</text>')
        parts.append(f'<text x="{x + 22}" y="257" text-anchor="middle" fill="#625d54" font-size="12">{whole[word]:.5f}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


if __name__ == "__main__":
    PICTURE.write_text(draw(), encoding="utf-8")
