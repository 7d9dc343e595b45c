"""A model that another one learns from: opened from its folder, checked, and read in bulk beside the one that learns.

It is read without dropout or gradient and belongs to no checkpoint: a run keeps its folder and its fingerprint. B rows, T tokens,
V vocabulary, D the teacher's width.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map_only

from bimo.core.errors import ModelError, RecipeError, UserError
from bimo.data.batches import Batch
from bimo.data.masking import MaskedBatch
from bimo.models.base import Kind, LanguageModel, NeuralLanguageModel, State
from bimo.models.bundle import Bundle
from bimo.text.tokenizer import Tokenizer

_CHUNK = 1 << 22  # most logits that a piece holds: 16 MiB in fp32; eight times as many on a GPU

Piece = tuple[Tensor, Tensor]  # places int64 [n] among all that are told of, and the teacher's logits there, float32 [n, V]


@dataclass
class Reading:
    """What a teacher says of one batch. carry is what it goes on from in the next one, known once all pieces were taken."""

    pieces: Iterator[Piece]
    carry: Any = None


class Teacher:
    """A bundle that teaches. folder: where it lies, absolute; fingerprint: SHA-256 of its files."""

    def __init__(self, bundle: Bundle, folder: Path, fingerprint: str, device: torch.device) -> None:
        self.bundle, self.folder, self.fingerprint = bundle, folder, fingerprint
        self.model: LanguageModel = bundle.model
        if isinstance(self.model, NeuralLanguageModel):
            self.model = self.model.to(device).eval().requires_grad_(False)

    @classmethod
    def open(cls, folder: str, tokenizer: Tokenizer, device: torch.device, fingerprint: str | None = None) -> Self:
        """The model of `folder`, which has to have this tokenizer and, where one is given, this fingerprint; else a `RecipeError`."""
        place = Path(folder).resolve()
        try:
            bundle = Bundle.load(place)
            found = fingerprint_of(place)
        except ModelError as cause:
            raise RecipeError(f"objective.teacher: {cause}") from None
        if fingerprint is not None and fingerprint != found:
            raise RecipeError(
                f"objective.teacher: {place} is not the model that this run learns from (fingerprint {found[:12]}, not "
                f"{fingerprint[:12]}); put that one back, or start a new run without objective.fingerprint"
            )
        theirs = bundle.tokenizer
        if theirs.fingerprint != tokenizer.fingerprint or bundle.model.vocab_size != tokenizer.vocabulary.size:
            raise RecipeError(
                f"objective.teacher: {place} has {_named(theirs)} and {bundle.model.vocab_size:,} logits, the text {_named(tokenizer)}; "
                "teacher and student need one vocabulary: train both on one prepared folder"
            )
        return cls(bundle, place, found, device)

    @property
    def tells_gaps(self) -> bool:
        """Whether it tells hidden tokens, and not the next one."""
        return not self.model.continues_text

    def check(self, student: NeuralLanguageModel, pairs: bool) -> None:
        """A `RecipeError` where the two do not tell the same: the next token, or a hidden one. pairs: each text is given another."""
        model, where = self.model, f"objective.teacher: {self.folder}"
        if model.kind is Kind.BOUND:
            raise RecipeError(f"{where} has no distribution of the next token but a bound on whole texts; choose a teacher that has")
        if model.continues_text != student.continues_text:
            kinds = ("tells hidden tokens", "tells the next one")
            theirs, ours = kinds if self.tells_gaps else kinds[::-1]
            raise RecipeError(f"{where} {theirs}, and the model that is to learn {ours}; choose a teacher of its kind")
        if self.tells_gaps:
            masks = [getattr(m, "mask_id", None) for m in (model, student)]
            if "fill" not in model.capabilities or masks[0] != masks[1]:
                raise RecipeError(
                    f"{where} hides tokens behind id {masks[0]}, the model that is to learn behind {masks[1]}; set model.mask_token_id"
                )
        elif not pairs:
            self.check_sourceless()

    def check_sourceless(self) -> None:
        """A `RecipeError` where it reads nothing without a source."""
        if self.model.kind is Kind.CONDITIONAL:
            try:
                self.model.start(1)
            except UserError as cause:
                raise RecipeError(f"objective.teacher: {self.folder} needs a source for each text, and there is none ({cause})") from None

    def check_carried(self) -> None:
        """A `RecipeError` where its state cannot be kept in a checkpoint, which a student that carries its own needs."""
        if self.model.context is None and not isinstance(self.model, NeuralLanguageModel):
            kept = (Tensor, int, float, str, type(None))
            if not all(isinstance(leaf, kept) for leaf in tree_leaves(self.model.start(1))):
                raise RecipeError(f"objective.teacher: {self.folder}: what it remembers of a text cannot be kept in a checkpoint")

    # -- reading ------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def read(self, batch: Batch, carry: Any = None, carries: bool = False) -> Reading:
        """What it says of each scored target of `batch`, whose places are those of B · T, row after row.

        carries: the rows go on from those of the batch before, which left `carry`: a state; or, where the teacher has a context, as many
        of the tokens before as that has room for, at most as many again as a row has. They are read once more.
        """
        tokens, begins, scored = batch.tokens[:, :-1], batch.boundaries, batch.targets_scored
        places = torch.arange(scored.numel(), device=scored.device).view(scored.shape).masked_fill(~scored, -1)
        after, width, context = None, tokens.shape[1], self.model.context
        if context is not None and carries:
            if carry is not None:
                past, past_begins = carry
                tokens, begins = torch.cat([past, tokens], 1), torch.cat([past_begins, begins], 1)
                places = torch.cat([torch.full_like(past, -1), places], 1)
            room = min(context - width, width)
            after, carry = (tokens[:, tokens.shape[1] - room :], begins[:, begins.shape[1] - room :]) if room else None, None
        given = batch.given if self.model.kind is Kind.CONDITIONAL else None
        if isinstance(self.model, NeuralLanguageModel):
            hidden, state = self.model.hidden(tokens, carry, begins, **({} if given is None else {"given": given}))
            after = state if carries and context is None else after
            chosen = (places.flatten() >= 0).nonzero().squeeze(1)
            return Reading(self._of_hidden(hidden.flatten(0, 1), chosen, places.flatten()), after)
        reading = Reading(iter(()), after)
        reading.pieces = self._step_by_step(tokens, begins, places, given, carry, reading if carries and context is None else None)
        return reading

    @torch.no_grad()
    def read_hidden(self, batch: MaskedBatch) -> Reading:
        """What it says of each token of `batch` that is to be told; places are those of its targets."""
        assert isinstance(self.model, NeuralLanguageModel)
        hidden, _ = self.model.hidden(batch.tokens, None, batch.boundaries)
        every = torch.arange(len(batch.places), device=batch.places.device)
        return Reading(self._of_hidden(hidden.flatten(0, 1)[batch.places], every, every))

    def _size(self, device: torch.device) -> int:
        """Places of a piece."""
        return max(1, (_CHUNK if device.type == "cpu" else 8 * _CHUNK) // self.model.vocab_size)

    def _of_hidden(self, hidden: Tensor, chosen: Tensor, places: Tensor) -> Iterator[Piece]:
        """Pieces from hidden states [N, D], of the rows `chosen` of them, which stand for the places places[chosen]."""
        assert isinstance(self.model, NeuralLanguageModel)
        kind, size = hidden.device.type, self._size(hidden.device)
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else hidden.dtype
        weight, bias = self.model.head()
        return self._pieces(hidden, weight.to(dtype), bias, chosen, places, size)

    @torch.no_grad()
    def _pieces(self, hidden: Tensor, weight: Tensor, bias: Tensor | None, chosen: Tensor, places: Tensor, size: int) -> Iterator[Piece]:
        suppressed = list(self.model.vocabulary.suppressed)
        for rows in chosen.split(size):
            with torch.autocast(hidden.device.type, enabled=False):
                logits = torch.nn.functional.linear(hidden[rows].to(weight.dtype), weight).float()
                if bias is not None:
                    logits += bias
                if suppressed:
                    logits[:, suppressed] = float("-inf")
            yield places[rows], logits

    @torch.no_grad()
    def _step_by_step(
        self, tokens: Tensor, begins: Tensor, places: Tensor, given: Any, state: State, reading: Reading | None
    ) -> Iterator[Piece]:
        """Pieces by `start` and `advance`, for any model: as many steps together as hold no beginning of a document, and not too many
        logits. What is remembered in the end is left in `reading`."""
        model, device, (rows, width) = self.model, self.model.device, tokens.shape
        most = max(1, self._size(device) // rows)
        state = model.start(rows, given) if state is None else tree_map_only(Tensor, lambda t: t.to(device), state)
        starts = begins.any(0).tolist()
        at = 0
        while at < width:
            stop = next((t for t in range(at + 1, min(width, at + most)) if starts[t]), min(width, at + most))
            if starts[at]:
                state = _anew(model, state, begins[:, at].to(device), given)
            logits, state = model.advance(state, tokens[:, at:stop].to(device))
            here = places[:, at:stop].flatten()
            told = here >= 0
            if bool(told.any()):
                found = logits.flatten(0, 1).to(here.device).float()
                yield (here, found) if bool(told.all()) else (here[told], found[told])
            at = stop
        if reading is not None:
            reading.carry = state


def _anew(model: LanguageModel, state: State, begins: Tensor, given: Any) -> State:
    """The state with the rows where `begins` bool [B] is True having read nothing."""
    if bool(begins.all()):
        return model.start(len(begins), given)
    fresh, order = begins.nonzero().squeeze(1), torch.arange(len(begins), device=begins.device)
    order[fresh] = len(begins) + torch.arange(len(fresh), device=begins.device)
    return model.select(model.join([state, model.start(len(fresh), None if given is None else given[fresh])]), order)


def fingerprint_of(folder: Path) -> str:
    """SHA-256, in hexadecimal, of the files that make a model's distributions: those of its folder, or the one that it is."""
    whole = hashlib.sha256()
    told = [folder, *(folder / name for name in ("config.json", "tokenizer.json"))]
    for path in [*filter(Path.is_file, told), *sorted(folder.glob("model*.safetensors"))]:
        with open(path, "rb") as file:
            whole.update(hashlib.file_digest(file, "sha256").digest())
    return whole.hexdigest()


def _named(tokenizer: Tokenizer) -> str:
    return f"a {tokenizer.kind} tokenizer of {tokenizer.vocabulary.size:,} ids ({tokenizer.fingerprint[:8]})"
