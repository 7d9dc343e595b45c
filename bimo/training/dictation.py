"""What a model that counts learns from a teacher: text that the teacher writes, counted beside the text itself.

Source: Deoras et al. 2011, "Variational approximation of long-span language models for LVCSR": of all n-gram models, the one whose
counts are the teacher's own expectations is nearest to it in KL(teacher ‖ n-gram); drawn text estimates them.
"""

from __future__ import annotations

import math
import time
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bimo.core.errors import RecipeError
from bimo.data.split import Split
from bimo.generation.reader import Reader
from bimo.generation.sampling import draw
from bimo.training.plan import CountedPlan
from bimo.training.teacher import Teacher

_ROWS = 256  # texts written together, fewer where the vocabulary is large
_LOGITS = 1 << 22  # that they may have
_LONGEST = 4096  # tokens of a text that does not end


def tokens_to_write(share: float, tokens: int) -> int:
    """How many tokens make the teacher's text `share` of all that is counted, beside a text of `tokens`; as many, where it is all.

    >>> tokens_to_write(0.5, 1000), tokens_to_write(0.8, 1000), tokens_to_write(1.0, 1000), tokens_to_write(0.0, 1000)
    (1000, 4000, 1000, 0)
    """
    return tokens if share == 1 else round(share / (1 - share) * tokens)


class Dictation:
    """What the teacher is to write. wanted: tokens; keeps_text: whether the text itself is counted too; written: tokens, once it wrote."""

    def __init__(self, teacher: Teacher, split: Split, share: float, seed: int, stream: bool) -> None:
        bundle = teacher.bundle
        self.teacher, self.seed = teacher, seed
        self.wanted, self.keeps_text, self.written = tokens_to_write(share, split.tokens), share < 1, 0
        self.notices: list[str] = []
        self._begin = bundle.tokenizer.encode_document("").tolist()[:1]
        self._end = None if stream else bundle.tokenizer.vocabulary.eos
        if not self._begin:
            raise RecipeError(
                "objective.name: a teacher's text begins with <s>, which this tokenizer does not have; choose another tokenizer"
            )
        lengths = np.diff(split.starts, append=split.tokens)
        rows = max(16, min(_ROWS, _LOGITS // teacher.model.vocab_size))
        self._rows = max(1, min(rows, math.ceil(self.wanted / float(lengths.mean()))))
        self._limit = int(min(lengths.max() - 1, _LONGEST, max(64, math.ceil(self.wanted / self._rows))))

    def write(self, until: float = math.inf) -> NDArray[np.int32]:
        """Documents end to end, ids int32 [N], of about `wanted` tokens: the same for the same seed; fewer at `until` (perf_counter)."""
        torch.manual_seed(self.seed)
        documents: list[NDArray[np.int32]] = []
        self.written = 0
        while self.written < self.wanted and time.perf_counter() < until:
            for document in self._together(self._limit, until):
                if self.written >= self.wanted:
                    break
                documents.append(document)
                self.written += len(document)
        if self.written < self.wanted:
            self.notices.append(f"the teacher wrote {self.written:,} of {self.wanted:,} tokens: the budget has no time for more")
        return np.concatenate(documents) if documents else np.zeros(0, np.int32)

    @torch.no_grad()
    def _together(self, limit: int, until: float = math.inf) -> list[NDArray[np.int32]]:
        """As many documents as are written together, each to its end or to `limit` tokens after its first."""
        reader = Reader(self.teacher.model, [self._begin] * self._rows)
        written = torch.full((self._rows, limit), -1, dtype=torch.int64, device=reader.history.device)
        live = torch.arange(self._rows, device=reader.history.device)
        for at in range(limit):
            token: Tensor = draw(reader.logits, torch.rand(len(live), dtype=torch.float64, device=live.device))
            written[live, at] = token
            going = torch.ones_like(token, dtype=torch.bool) if self._end is None else token != self._end
            if at + 1 == limit or not bool(going.any()) or time.perf_counter() > until:
                break
            if not bool(going.all()):
                stay = going.nonzero().squeeze(1)
                reader.select(stay)
                live, token = live[stay], token[stay]
            reader.read(token)
        return [np.array(self._begin + [id for id in row if id >= 0], dtype=np.int32) for row in written.tolist()]

    def speed(self, steps: int = 8) -> float:
        """Tokens that it writes in a second, measured on the first few of its texts."""
        torch.manual_seed(self.seed)
        self._together(1)  # what is made once
        begin = time.perf_counter()
        found = self._together(min(steps, self._limit))
        return sum(map(len, found)) / max(1e-9, time.perf_counter() - begin)

    def in_plan(self, plan: CountedPlan) -> CountedPlan:
        """The plan of counting the text alone, with the writing and the counting of what is written."""
        counted = self.wanted + (plan.tokens if self.keeps_text else 0)
        share = counted / plan.tokens
        seconds = plan.seconds * share + (self.wanted / self.speed() if self.wanted else 0.0)
        return replace(
            plan, parameters=round(plan.parameters * share), memory_bytes=round(plan.memory_bytes * max(1.0, share)),
            disk_bytes=round(plan.disk_bytes * share), tokens=counted, seconds=seconds, tokens_per_second=counted / seconds,
        )  # fmt: skip
