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


def reads_tags(model: Any) -> bool:
    """Whether a model reads tags beside its tokens."""
    return isinstance(model, nn.Module) and any(isinstance(m, TokenEmbedding) and m.tags is not None for m in model.modules())
