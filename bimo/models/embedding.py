"""What a neural family reads of a token: its embedding, and that of its tag where the vocabulary has tags.

Shapes: V vocabulary, K tags, E embedding width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from bimo.text.vocabulary import Vocabulary


class TokenEmbedding(nn.Embedding):
    """Embeddings of tokens; with tags, what is read of a token is the sum of its own embedding and its tag's.

    `weight` [V, E] stays the tokens' own, which an output matrix may be tied to: no tag says anything of the token that is to be predicted.

    >>> vocabulary = Vocabulary(3, tags=("<special>", "<unknown>", "NOUN"), tag_of=(0, 1, 2))
    >>> embedding = TokenEmbedding(vocabulary, 4)
    >>> bool((embedding(torch.tensor([2])) == embedding.weight[2] + embedding.tags.weight[2]).all())
    True
    """

    tag_of: Tensor  # int64 [V], with tags

    def __init__(self, vocabulary: Vocabulary, width: int) -> None:
        super().__init__(vocabulary.size, width)
        self.tags = nn.Embedding(len(vocabulary.tags), width) if vocabulary.tags else None
        if vocabulary.tags:
            table = torch.tensor(vocabulary.tag_of) if vocabulary.tag_of else torch.zeros(vocabulary.size, dtype=torch.int64)
            self.register_buffer("tag_of", table)
            self.register_load_state_dict_pre_hook(_check_table)

    def forward(self, input: Tensor) -> Tensor:
        """[..., E] of tokens int64 [...]."""
        x = super().forward(input)
        return x if self.tags is None else x + self.tags(self.tag_of[input])

    def every(self) -> Tensor:
        """What is read of each id, [V, E]."""
        return self.weight if self.tags is None else self.weight + self.tags(self.tag_of)


def _check_table(module: TokenEmbedding, tensors: dict[str, Tensor], prefix: str, *_: Any) -> None:
    table = tensors.get(f"{prefix}tag_of")
    if table is None or table.is_meta or module.tags is None:
        return
    most = module.tags.num_embeddings
    if table.dtype != torch.int64 or int(table.min()) < 0 or int(table.max()) >= most:
        raise ValueError(f"tensor {prefix}tag_of must hold int64 places of {most} tags, found {table.dtype} {table.min()}…{table.max()}")


NONE = -1  # stands where a document has no token before
_FACTOR = 6364136223846793005  # Knuth's multiplier of 64 bits


class NgramEmbedding(nn.Module):
    """What is read of the last tokens together: for each n from 2 to `order` a row of a table, by a hash of the last n tokens.

    An n-gram's features in a neural model: words that came one after the other have a place of their own, which the layers need not
    work out (hashed, as in Joulin et al. 2017, section 3; beside the input, as in Huang et al. 2025). Tables begin at zero; two n-grams
    may share a row.
    """

    def __init__(self, order: int, buckets: int, width: int) -> None:
        super().__init__()
        self.order = order
        self.tables = nn.ModuleList(nn.Embedding(buckets, width) for _ in range(2, order + 1))

    def forward(self, ids: Tensor) -> Tensor:
        """[..., E] of the last tokens, int64 [..., order], the newest last; `NONE` where there are fewer."""
        key = ids[..., -1] + 2
        found = None
        for n, table in enumerate(self.tables, 2):
            key = (key * _FACTOR) ^ (ids[..., -n] + 2)
            rows = ((key ^ (key >> 29)) * _FACTOR >> 33).remainder(table.num_embeddings)  # type: ignore[operator]
            found = table(rows) if found is None else found + table(rows)
        assert found is not None
        return found


def last_tokens(tokens: Tensor, order: int, read: Tensor, before: Tensor | None = None) -> Tensor:
    """The last `order` tokens at each place of `tokens` [B, T], int64 [B, T, order], the newest last.

    read: int64 [B, T] or [1, T], how many tokens of its document stand before each; before: int64 [B, order − 1], those before the row.

    >>> last_tokens(torch.tensor([[5, 6, 7]]), 2, torch.tensor([[0, 1, 0]])).tolist()
    [[[-1, 5], [5, 6], [-1, 7]]]
    """
    before = tokens.new_full((len(tokens), order - 1), NONE) if before is None else before
    ids = torch.cat([before, tokens], 1).unfold(1, order, 1)  # [B, T, order]
    back = torch.arange(order - 1, -1, -1, device=tokens.device)
    return ids.masked_fill(back > read[..., None], NONE)


def reads_tags(model: Any) -> bool:
    """Whether a model reads tags beside its tokens."""
    return isinstance(model, nn.Module) and any(isinstance(m, TokenEmbedding) and m.tags is not None for m in model.modules())
