"""What is asked for, in words or in Python, as a recipe and a corpus."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_args

from bimo.core import fetch, registry, store
from bimo.core.errors import ModelError, RecipeError, SourceError
from bimo.core.reading import READ_OPTIONS
from bimo.core.recipe import Recipe, TokenizerKind, going_on_from, make_recipe, merge, parse_overrides, read_recipe
from bimo.data.encodings import refuse_unknown_encoding
from bimo.data.sources import refuse_missing
from bimo.models.folders import refuse_no_model

if TYPE_CHECKING:
    from bimo.data.corpus import Corpus

Sources = str | Path | Sequence[str | Path]
# Of text: what is asked of a trained model's tokenizer.
_OF_START = ("conversations", "add_tokens", "add_special_tokens", "chat_template")


def source_names(sources: Sources) -> list[str]:
    """One source or several, as a list of what a recipe holds."""
    return [str(sources)] if isinstance(sources, str | Path) else [str(s) for s in sources]


def prepare(recipe: Recipe, out: Path) -> Corpus:
    """The corpus that a recipe's text asks for, written to `out`; `SourceError` where it names none."""
    from bimo.data import corpus as corpora
    from bimo.data.speech import Speech

    text = recipe.text
    if not text.sources:
        raise SourceError("no text given: name files, folders, globs or - (standard input)")
    tokenizer: Any = text.tokenizer
    speech = None
    if recipe.start is not None:
        from bimo.training.starting import prepared_tokenizer

        tokenizer = prepared_tokenizer(recipe)
        if text.conversations:
            speech = Speech(tokenizer, (recipe.training.context or recipe.model_section().context) + 1, text.too_long)
    elif asked := [name for name in _OF_START if getattr(text, name)]:
        raise RecipeError(f"text.{asked[0]}: name in start the model that is to learn so; bimo finetune does")
    return corpora.prepare(
        text.sources, out, valid=text.valid, test=text.test, tokenizer=tokenizer, vocab_size=text.vocab_size,
        documents=text.documents, clean=text.clean, seed=recipe.training.seed, speech=speech, reading=text.reading,
    )  # fmt: skip


def recipe_of(sources: list[str], overrides: str | Iterable[str] = (), **options: Any) -> Recipe:
    """A recipe from a recipe file among the sources, options and overrides, the later ones winning."""
    layers: list[Mapping[str, Any]] = []
    files = [s for s in sources if s.endswith((".yaml", ".yml"))]
    texts = [s for s in sources if s not in files]
    if len(files) > 1 or (files and texts):
        raise RecipeError(f"{', '.join(sources)}: give one recipe, or text, not both; a recipe names its text in text.sources")
    if files:
        layers.append(read_recipe(Path(files[0])))
    text = {k: options.pop(k, None) for k in ("valid", "test", "tokenizer", "vocab_size", "documents", *READ_OPTIONS)}
    training = {k: options.pop(k, None) for k in ("budget", "seed")}
    named: dict[str, Any] = {
        **{k: v for k, v in options.items() if v is not None},
        **_section("text", {**text, "sources": texts or None}),
        **_section("training", training),
    }
    asked: dict[str, Any] = {}
    for layer in (*layers, named, parse_overrides(overrides)):
        asked = merge(asked, layer)
    _refuse_missing(asked)
    return _checked(make_recipe(asked) if asked.get("start") is None else _going_on(asked))


def _refuse_missing(asked: Mapping[str, Any]) -> None:
    """Raise `SourceError` for a text, or `RecipeError` for a model to start from, that is not there: before anything heavy is imported."""
    text = asked.get("text")
    sources = text.get("sources") if isinstance(text, Mapping) else None
    if isinstance(text, Mapping) and isinstance(sources, list):
        held_out = () if _is_corpus(sources) else (text.get("valid"), text.get("test"))
        refuse_missing([name for name in (*sources, *held_out) if isinstance(name, str)])
    start = asked.get("start")
    if isinstance(start, str) and not fetch.is_remote(start) and not (Path(start) / "recipe.yaml").is_file():
        try:
            refuse_no_model(Path(start))
        except ModelError as cause:
            raise RecipeError(f"start: {cause}") from None


def refuse_unknown_families(names: Iterable[str]) -> None:
    """Raise `RecipeError` for a name of no family, before any family is imported; hybrids and recipe files are checked as they are read."""
    for name in names:
        if "+" not in name and not name.endswith((".yaml", ".yml")):
            registry.family(name)


def _checked(recipe: Recipe) -> Recipe:
    """The recipe; wrong reading options or a wrong file of tagged text are refused before the text is read."""
    refuse_unknown_encoding(recipe.text.reading.encoding)
    if recipe.text.tags is not None:
        from bimo.data.lexicon import read_lexicon

        read_lexicon(recipe.text.tags)
    return recipe


def _going_on(asked: dict[str, Any]) -> Recipe:
    """The recipe of a run that starts from a trained model: a run of Bimo, or any other model that it opens."""
    start = asked["start"]
    if (Path(start) / "recipe.yaml").is_file():
        before = going_on_from(start)
    else:
        from bimo.training.starting import going_on

        before = going_on(start)
    if asked.get("family", before["family"]) != before["family"]:
        raise RecipeError(f"start: {start} is of family {before['family']}, not {asked['family']}; leave --family out")
    text = asked.get("text", {})
    if chosen := [name for name in ("tokenizer", "vocab_size", "tags") if text.get(name) is not None]:
        raise RecipeError(f"text.{chosen[0]}: a run with a start reads text as {start} does; leave it out")
    if asked.get("preset") is not None:  # which says how to learn
        before = {k: v for k, v in before.items() if k != "training"}
    recipe = make_recipe(before, asked)
    context = getattr(recipe.model_section(), "context", None)
    if asked.get("training", {}).get("context") is None and None not in (context, recipe.training.context):
        recipe.training.context = min(context, recipe.training.context)  # a preset's rows are no longer than what the model reads
    return recipe


def _section(name: str, values: Mapping[str, Any]) -> dict[str, Any]:
    given = {k: str(v) if isinstance(v, Path) else v for k, v in values.items() if v is not None}
    return {name: given} if given else {}


def _is_corpus(sources: list[str]) -> bool:
    return len(sources) == 1 and (Path(sources[0]) / "corpus.json").is_file()


def corpus_of(recipe: Recipe, beside: Path) -> Corpus:
    """The prepared corpus that the recipe names, or one prepared from its text in `beside`."""
    if not _is_corpus(recipe.text.sources):
        return prepare(recipe, beside)
    if added := [name for name in _OF_START[1:] if getattr(recipe.text, name)]:
        raise RecipeError(f"text.{added[0]}: {recipe.text.sources[0]} is prepared already; give the text itself, not prepared")
    from bimo.data.corpus import Corpus

    corpus = Corpus.open(recipe.text.sources[0])
    _refuse_otherwise_prepared(recipe, corpus)
    recipe.text.documents, recipe.text.clean = corpus.documents, corpus.clean
    if corpus.tokenizer.kind in get_args(TokenizerKind):
        recipe.text.tokenizer = cast(Any, corpus.tokenizer.kind)
    return corpus


def _refuse_otherwise_prepared(recipe: Recipe, corpus: Corpus) -> None:
    """What a recipe asks of its text must be so in a corpus that is prepared already; what it leaves open is as the corpus has it."""
    reading = corpus.manifest["reading"]
    read = {name: [file["name"] for file in reading.get(name, {}).get("files", [])] for name in ("valid", "test")}
    holds = {
        "documents": corpus.documents, **asdict(corpus.reading),
        "tokenizer": corpus.tokenizer.kind, "vocab_size": corpus.tokenizer.vocabulary.size,
        **{name: files[0] if len(files) == 1 else f"a part of {recipe.text.sources[0]}" for name, files in read.items()},
    }  # fmt: skip
    said = {**recipe.text.model_dump(), **asdict(recipe.text.reading)}
    asked = {name: said[name] for name in sorted(recipe.text.model_fields_set & set(holds))}
    for name, value in recipe.text.clean.model_dump(exclude_unset=True).items():
        asked[f"clean.{name}"], holds[f"clean.{name}"] = value, getattr(corpus.clean, name)
    wrong = [
        f"text.{name} is {holds[name]} there, not {value}"
        for name, value in asked.items()
        if value is not None and holds[name] not in (value, store.printable(value))
    ]
    if wrong:
        raise RecipeError(f"{recipe.text.sources[0]} is prepared already: {'; '.join(wrong)}; it can only be chosen in bimo prepare")


def name_of(sources: Sequence[str]) -> str:
    """What a run on these sources is called: letters, digits and dashes of the first one's name."""
    first = Path(sources[0]).resolve() if sources and sources[0] != "-" else Path("text")
    stem = first.name.split(".")[0] or first.name
    return re.sub(r"[^\w-]+", "-", stem).strip("-") or "text"


def title_of(corpus: Corpus) -> str:
    """What the report calls the text: the name of the file that was read, and how many others."""
    files = [Path(f["name"]).name for f in corpus.manifest["reading"]["train"]["files"]]
    return f"{files[0]} and {len(files) - 1} more" if len(files) > 1 else files[0] if files else store.printable(corpus.folder.name)


def one_of(name: str, base: Recipe, shared: Mapping[str, Any], overrides: list[str]) -> Recipe:
    """The recipe of one family, or of a recipe file, under the comparison's text and budget."""
    own = read_recipe(Path(name)) if name.endswith((".yaml", ".yml")) else {"family": name.strip()}
    own = own if own.get("family") or own.get("preset") else {**own, "family": registry.DEFAULT}
    text = base.text.model_dump(exclude={"tags"} if base.text.tags is None else None)  # what a recipe's model reads beside it is its own
    fixed = {"text": text, "training": {k: v for k, v in shared.items() if v is not None}}
    return make_recipe(own, fixed, parse_overrides(overrides))
