"""Numbers and picture of programs.md: `python docs/principles/draw_programs.py` draws it anew."""

from __future__ import annotations

import gzip
import math
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from drawing import BLUE, GREY, RED, arrow, box, label, picture
from numpy.typing import NDArray
from poems import ROWS, TOKENIZER, fresh, learn
from torch import Tensor

from bimo.generation.sampling import GenerationConfig
from bimo.generation.search import generate
from bimo.models.ngram import NGram, NGramConfig
from bimo.text.kernels import WordIndex
from bimo.text.vocabulary import Vocabulary

PICTURE = Path(__file__).with_name("programs.svg")
SHAPES = {
    "decoder": {"layers": 2, "heads": 2, "width": 32, "context": 32},
    "lstm": {"layers": 1, "width": 64, "tied": False},
}
STOP = frozenset(["the", "of", "and", "to", "in", "a", "is", "that", "for", "it", "was", "on", "as", "with", "be", "by", "at"])


# -- programs 2 and 3: what stands opposite what ------------------------------------------------------------------------------


def pairs(shift: int) -> tuple[Tensor, Tensor]:
    """Inputs and targets [10, T] of the poems: shift 1 is right, 0 gives the model its own input, 2 skips a character."""
    return ROWS[:, : ROWS.shape[1] - shift], ROWS[:, shift:]


@dataclass
class Learned:
    """What a model reached on its own pairs, what it then says of the next character, and what it writes after 春."""

    nats: float
    accuracy: float
    next_nats: float
    next_accuracy: float
    text: str


def learned(family: str, shift: int, steps: int = 80) -> Learned:
    """A small model of a family after `steps` steps on the pairs of a shift."""
    model = fresh(family, **SHAPES[family])
    inputs, targets = pairs(shift)
    nats = learn(model, inputs, targets, steps)
    with torch.no_grad():
        hidden, _ = model.hidden(inputs)
        weight, bias = model.head()
        logits = torch.nn.functional.linear(hidden, weight, bias)
        told, _ = model.advance(model.start(len(ROWS)), ROWS[:, :-1])
    found = float(model.score(ROWS).nats.sum()) / ROWS[:, 1:].numel()
    asked = GenerationConfig.of(max_new_tokens=24, temperature=0)
    written = generate(model, [TOKENIZER.encode_document("春")[:2].tolist()], asked, eos=TOKENIZER.vocabulary.eos).ids[0]
    own, right = (logits.argmax(-1) == targets).double().mean(), (told.argmax(-1) == ROWS[:, 1:]).double().mean()
    return Learned(nats, float(own), found, float(right), "春" + TOKENIZER.decode(written))


def one_sentence(steps: int = 80) -> tuple[float, float]:
    """Nats a character of the one poem that was repeated, and of the nine others."""
    model = fresh("decoder", **SHAPES["decoder"])
    nats = learn(model, ROWS[:1, :-1], ROWS[:1, 1:], steps)
    others = model.score(ROWS[1:])
    return nats, float(others.nats.sum()) / int(others.scored.sum())


def integer_label_loss(p: Tensor, label_id: int) -> float:
    """A categorical loss −Σ y log p into which the label's number went instead of its one-hot row."""
    return float(-(label_id * p.log()).sum())


# -- programs 1 and 4: real text ----------------------------------------------------------------------------------------------


@dataclass
class Counted:
    """A smoothed n-gram model, its words and their index."""

    model: NGram
    names: list[str]
    index: WordIndex

    def nats(self, lines: list[str]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Nats of each token of the lines, `<s>` (0 nats) and `</s>` among them, and the tokens."""
        ids, offsets = self.index.ids(lines, bos=0, eos=1, unknown=2)
        return self.model.score_documents(ids, offsets), ids


def counted(lines: list[str], order: int) -> Counted:
    """Interpolated modified Kneser-Ney on lines."""
    names = ["<s>", "</s>", "(unknown)", *sorted({word for line in lines for word in line.split()})]
    index = WordIndex(names)
    model = NGram.build(NGramConfig(order=order), Vocabulary(len(names), bos=0, eos=1, unk=2, suppressed=(0,)))
    model.count([index.ids(lines, bos=0, eos=1)[0]])
    model.estimate()
    return Counted(model, names, index)


def penn(folder: Path) -> tuple[list[str], list[str]]:
    """The lines of Penn Treebank's training and test file."""
    train = gzip.decompress((folder / "lm-ptb/ptb.train.txt.gz").read_bytes()).decode()
    return train.splitlines(), (folder / "lm-ptb/ptb.test.txt").read_text(encoding="utf-8").splitlines()


def greedy(model: Counted, prompt: str, words: int, no_repeat: int) -> list[str]:
    """The prompt and the likeliest continuation, word by word, without an end."""
    ids = [model.names.index(word) for word in prompt.split()]
    asked = GenerationConfig.of(max_new_tokens=words, min_new_tokens=words, temperature=0, no_repeat_ngram_size=no_repeat)
    return [model.names[i] for i in [*ids, *generate(model.model, [[0, *ids]], asked, eos=1).ids[0]]]


def repeating(lines: list[str], width: int) -> float:
    """The share of windows of so many words in which a pair of words comes twice."""
    text = [word for line in lines for word in [*line.split(), "</s>"]]
    windows = [text[at : at + width] for at in range(0, len(text) - width + 1, width)]
    return sum(len(set(pairwise(w))) < width - 1 for w in windows) / len(windows)


def without_stop_words(lines: list[str]) -> list[str]:
    """The lines without the seventeen commonest English words."""
    return [" ".join(word for word in line.split() if word not in STOP) for line in lines]


def bits(nats: float, byte_count: int) -> float:
    """Nats as bits per byte of the text as it was."""
    return nats / math.log(2) / byte_count


Tagged = list[tuple[str, str]]  # words, in small letters, with their parts of speech


def tagged_sentences(file: Path) -> list[Tagged]:
    """The sentences of a gzipped CoNLL-U file."""
    sentences: list[Tagged] = [[]]
    for line in gzip.decompress(file.read_bytes()).decode().splitlines():
        fields = line.split("\t")
        if not line:
            sentences.append([])
        elif fields[0].isdigit():
            sentences[-1].append((fields[1].lower().replace(" ", ""), fields[3]))
    return [sentence for sentence in sentences if sentence]


def with_tags(folder: Path, tags: str) -> tuple[float, float]:
    """Nats a word of the words, and of the tags, on UD English EWT's test file; one word before is in sight in each.

    tags: "none"; "before": each word's own tag stands before it; "after": behind it, so that only that of the word before is seen.
    """

    def lines(name: str) -> list[str]:
        made = {"none": "{0}", "before": "_{1} {0}", "after": "{0} _{1}"}[tags]
        file = folder / f"pos-ud-en-ewt/en_ewt-ud-{name}.conllu.gz"
        return [" ".join(made.format(*pair) for pair in sentence) for sentence in tagged_sentences(file)]

    model = counted(lines("train"), 2 if tags == "none" else 3)
    nats, ids = model.nats(lines("test"))
    tag = np.array([name.startswith("_") and len(name) > 1 and name[1:].isupper() for name in model.names])[ids]
    words = int((~tag & (ids != 0)).sum())
    return float(nats[~tag].sum()) / words, float(nats[tag].sum()) / words


# -- the picture --------------------------------------------------------------------------------------------------------------


def draw() -> str:
    """Which character stands opposite which: shifted, not shifted, shifted twice."""
    parts = []
    shown = [("right: the next character", 1, BLUE), ("labels not shifted, or the target in the input", 0, RED), ("shifted twice", 2, RED)]
    for place, (title, shift, colour) in enumerate(shown):
        x = 16 + 262 * place
        inputs, targets = (TOKENIZER.decode(row[0, 1:].tolist()) for row in pairs(shift))
        parts.append(label(x, 24, title, fill=GREY if shift == 1 else RED))
        for k in range(5):
            left = x + 46 * k
            parts += [box(left, 44, 38, 30, inputs[k]), arrow(left + 19, 76, left + 19, 104, stroke=colour)]
            parts.append(box(left, 106, 38, 30, targets[k], ink=colour))
    parts += [label(16, 164, "above: what the model has just read; below: what it is asked to say", fill=GREY)]
    return picture(800, 180, "Inputs and their targets: shifted by one, not shifted, shifted by two", parts)


if __name__ == "__main__":
    PICTURE.write_text(draw(), encoding="utf-8")
