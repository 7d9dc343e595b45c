"""What a run begins with that goes on from a trained model: its shape, its vocabulary, its weights."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bimo.core import fetch, registry
from bimo.core.errors import ModelError, RecipeError, UserError
from bimo.core.recipe import GENTLE, Recipe
from bimo.models.adapters import adapt
from bimo.models.base import NeuralLanguageModel
from bimo.models.bundle import Bundle
from bimo.models.embedding import TokenEmbedding
from bimo.models.saved import HALVES, widen
from bimo.text.tokenizer import Tokenizer
from bimo.text.vocabulary import Vocabulary


@lru_cache(maxsize=1)
def started(reference: str) -> Bundle:
    """The model that a run starts from: a folder, a file, or a reference of `bimo.core.fetch`. It is kept, and must not be changed.

    Its weights, in the precision that they are stored in, are there until `take_weights` hands them on.
    """
    try:
        return Bundle.load(fetch.located(reference), as_stored=True)
    except ModelError as cause:
        raise RecipeError(f"start: {cause}") from None


def going_on(reference: str) -> dict[str, Any]:
    """The layer of a recipe whose `start` is a model that no run of Bimo made: its family and shape, and a gentle rate."""
    model = started(reference).model
    if not isinstance(model, NeuralLanguageModel):
        raise RecipeError(f"start: {reference} is not learned by gradient and cannot be gone on from; train one of its family on your text")
    row = registry.family_of_model_type(model.config_dict()["model_type"])
    shape = {k: v for k, v in model.config.model_dump(mode="json").items() if k not in row.preset}  # type: ignore[union-attr]
    return {"family": row.name, "model": shape, "training": dict(GENTLE)}


def prepared_tokenizer(recipe: Recipe) -> Tokenizer:
    """The tokenizer that a run's text is prepared with: the start's own, with the tokens and the chat template that the recipe names."""
    text, tokenizer = recipe.text, started(str(recipe.start)).tokenizer
    for name, words in (("add_tokens", read_tokens(text.add_tokens)), ("add_special_tokens", text.add_special_tokens)):
        try:
            grown, added = getattr(tokenizer, name)(words)
        except UserError as cause:
            raise RecipeError(f"text.{name}: {cause}") from None
        if words and not added:
            raise RecipeError(f"text.{name}: the tokenizer has all of {getattr(text, name)} already; leave it out")
        tokenizer = grown if added else tokenizer
    return tokenizer if text.chat_template is None else tokenizer.with_template(_read_template(text.chat_template, tokenizer))


def read_tokens(file: str | None) -> list[str]:
    """The tokens that a text file names, one a line; none where there is no file."""
    if file is None:
        return []
    lines = _read("add_tokens", file, "a token a line").splitlines()
    return list(dict.fromkeys(line.strip() for line in lines if line.strip()))


def _read_template(file: str, tokenizer: Tokenizer) -> str:
    """The chat template that a file holds, which was tried; one that is wrong is a `RecipeError`."""
    source = _read("chat_template", file, "a chat template in Jinja")
    try:
        template = tokenizer.with_template(source).template
        assert template is not None
        template.render([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}])
    except ModelError as cause:
        raise RecipeError(f"text.chat_template: {file}: {cause}") from None
    except UserError:  # it asks for more than this, a system's turn, say
        pass
    return source


def _read(name: str, file: str, what: str) -> str:
    try:
        return Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as cause:
        raise RecipeError(f"text.{name}: {file} cannot be read ({cause}); give a UTF-8 file with {what}") from None


def start_vocabulary(reference: str, tokenizer: Tokenizer) -> Vocabulary:
    """The vocabulary of the model that a run starts from, with room for the tokens that were added to its tokenizer."""
    before = started(reference).model.vocabulary
    return replace(before, size=max(before.size, tokenizer.vocabulary.size))


@torch.no_grad()
def take_weights(model: NeuralLanguageModel, reference: str, tokenizer: Tokenizer) -> None:
    """Hand the weights of the trained model, as they are stored, to one of the same shape over its tokenizer, or with tokens added to it.

    They are not copied: a model that is fine-tuned lies in memory once. `started` keeps all but them, and opens them anew where they
    are asked for again. The rows of an added token begin as the mean of those of the tokens that its text was before. Raises `RecipeError`
    where they differ otherwise.
    """
    bundle = started(reference)
    if _gone(bundle.model):
        started.cache_clear()
        before, bundle = bundle, started(reference)
        if before.model.config_dict() != bundle.model.config_dict():
            raise RecipeError(f"start: {reference} has been changed since it was opened; begin again")
    added = _added(bundle.tokenizer, tokenizer, reference)
    weights = nn.Module.state_dict(bundle.model)  # type: ignore[arg-type]
    rows = _rows_of_tokens(model)
    state: dict[str, Tensor] = {}
    for name, tensor in model.state_dict().items():
        found = weights.get(name)
        if found is not None and name in rows and (added or len(found) < len(tensor)):
            found = _grown(found, len(tensor), added)
        if found is None or found.shape != tensor.shape:
            shape = "absent" if found is None else list(found.shape)
            raise RecipeError(
                f"start: {name} is {shape} in {reference} and {list(tensor.shape)} here; leave the fields of its shape as they are"
            )
        state[name] = found
    model.load_state_dict(state, assign=True)
    bundle.model.to("meta")  # type: ignore[attr-defined]


def _gone(model: Any) -> bool:
    return any(parameter.is_meta for parameter in model.parameters())


def _rows_of_tokens(model: NeuralLanguageModel) -> set[str]:
    """Names of the parameters that have a row for each id."""
    ids = {id(t) for t in model.head() if t is not None}
    ids |= {id(m.weight) for m in model.modules() if isinstance(m, TokenEmbedding)}
    return {name for name, p in model.named_parameters() if id(p) in ids}


def _added(before: Tokenizer, now: Tokenizer, reference: str) -> dict[int, list[int]]:
    """The ids that a tokenizer was given beside those of the model's own, each with the ids that its text was before."""
    if now.fingerprint == before.fingerprint:
        return {}
    added = range(before.vocabulary.size, now.vocabulary.size)
    special = {token.id: name for name, token in now.special_tokens.items()}
    words = [special[i] if i in special else now.decode([i]) for i in added]
    ordinary, names = ([word for i, word in zip(added, words, strict=True) if (i in special) is kind] for kind in (False, True))
    if not words or before.add_tokens(ordinary)[0].add_special_tokens(names)[0].fingerprint != now.fingerprint:
        raise RecipeError(
            f"start: {reference} has another tokenizer than the text, which was prepared with its own; give the text itself, not prepared"
        )
    return {i: before.encode(word) for i, word in zip(added, words, strict=True)}


def _grown(rows: Tensor, size: int, added: dict[int, list[int]]) -> Tensor:
    """Rows [V, …] for `size` ids: those of added ones are means of others, and so are those of ids that no token has."""
    rows = rows.float() if rows.dtype in HALVES else rows
    mean = rows.mean(dim=0, keepdim=True)
    grown = torch.cat((rows, mean.expand(max(0, size - len(rows)), *rows.shape[1:]))).clone()
    for i, pieces in added.items():
        grown[i] = rows[pieces].mean(dim=0) if pieces else mean[0]
    return grown


def tokens_added(reference: str, tokenizer: Tokenizer) -> tuple[int, int]:
    """The ids from … to that `tokenizer` has beside those of the model that a run starts from."""
    return started(reference).tokenizer.vocabulary.size, tokenizer.vocabulary.size


def make_ready(model: NeuralLanguageModel, recipe: Recipe, tokenizer: Tokenizer) -> None:
    """Weights from the model that the run starts from, and adapters beside them where the recipe asks for them.

    Beside adapters the rows of added tokens are learned, too, and no other row of theirs.
    """
    reference = str(recipe.start)
    take_weights(model, reference, tokenizer)
    if recipe.adapter is not None:
        adapt(model, recipe.adapter)
    widen(model)  # after the maps of its layers were quantised, if they were, one by one
    if recipe.adapter is None:
        return
    old, new = tokens_added(reference, tokenizer)
    if new == old:
        return
    if recipe.training.weight_decay:
        raise RecipeError("training.weight_decay: must be 0 where tokens are added beside adapters, or the rows of all others would shrink")
    named = dict(model.named_parameters())
    for parameter in {id(named[name]): named[name] for name in _rows_of_tokens(model)}.values():
        parameter.requires_grad_(True)
        parameter.register_hook(lambda gradient: _only(gradient, old, new))


def _only(gradient: Tensor, start: int, stop: int) -> Tensor:
    """The gradient of rows, but for rows start to stop nothing: makers pad matrices with rows that no token has."""
    kept = torch.zeros_like(gradient)
    kept[start:stop] = gradient[start:stop]
    return kept
