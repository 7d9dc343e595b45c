"""The public functions: what the command line's verbs do, for Python.

import bimo
run = bimo.train("my.txt", family="lstm", budget="5m")
model = bimo.load(run.folder)
print(model.generate("Once upon a time"))
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast, get_args

from bimo.core import registry, runtime, store
from bimo.core.errors import ModelError, RecipeError, SourceError
from bimo.core.recipe import Recipe, TokenizerKind, going_on_from, listed, make_recipe, merge, parse_overrides, read_recipe
from bimo.data import corpus as corpora
from bimo.data.corpus import Corpus
from bimo.data.lexicon import read_lexicon
from bimo.evaluation import compare as comparison
from bimo.evaluation import runs
from bimo.evaluation.perplexity import Evaluation
from bimo.evaluation.report.explained import write_explanation
from bimo.evaluation.report.wording import words
from bimo.evaluation.results import Comparison
from bimo.evaluation.runs import Run
from bimo.explanation.results import Explanation
from bimo.generation.filling import Candidate
from bimo.model import Model
from bimo.models.bundle import Bundle
from bimo.models.saved import holds_weights
from bimo.text.tokenizer import Tokenizer

Sources = str | Path | Sequence[str | Path]


def families() -> tuple[str, ...]:
    """Names of all families.

    >>> "ngram" in families()
    True
    """
    return registry.families()


# -- text -----------------------------------------------------------------------------------------------------------------


def prepare(
    sources: Sources,
    out: str | Path,
    *,
    valid: str | Path | None = None,
    test: str | Path | None = None,
    tokenizer: str | None = None,
    vocab_size: int | None = None,
    documents: str | None = None,
    overrides: str | Iterable[str] = (),
) -> Corpus:
    """Read `sources`, deal them into train, valid and test, learn a tokenizer, write token shards to `out`."""
    recipe = _recipe(_listed(sources), overrides, valid=valid, test=test, tokenizer=tokenizer, vocab_size=vocab_size, documents=documents)
    return _prepare(recipe, Path(out))


def _listed(sources: Sources) -> list[str]:
    return [str(sources)] if isinstance(sources, str | Path) else [str(s) for s in sources]


def _prepare(recipe: Recipe, out: Path) -> Corpus:
    text = recipe.text
    if not text.sources:
        raise SourceError("no text given: name files, folders, globs or - (standard input)")
    tokenizer = text.tokenizer if recipe.start is None else Tokenizer.load(Path(recipe.start))
    return corpora.prepare(
        text.sources, out, valid=text.valid, test=text.test, tokenizer=tokenizer, vocab_size=text.vocab_size,
        documents=text.documents, clean=text.clean, seed=recipe.training.seed,
    )  # fmt: skip


# -- learning -------------------------------------------------------------------------------------------------------------


def _recipe(sources: list[str], overrides: str | Iterable[str] = (), **options: Any) -> Recipe:
    """A recipe from a recipe file among the sources, options and overrides, the later ones winning."""
    layers: list[Mapping[str, Any]] = []
    files = [s for s in sources if s.endswith((".yaml", ".yml"))]
    texts = [s for s in sources if s not in files]
    if len(files) > 1 or (files and texts):
        raise RecipeError(f"{', '.join(sources)}: give one recipe, or text, not both; a recipe names its text in text.sources")
    if files:
        layers.append(read_recipe(Path(files[0])))
    text = {k: options.pop(k, None) for k in ("valid", "test", "tokenizer", "vocab_size", "documents")}
    training = {k: options.pop(k, None) for k in ("budget", "seed")}
    named: dict[str, Any] = {
        **{k: v for k, v in options.items() if v is not None},
        **_section("text", {**text, "sources": texts or None}),
        **_section("training", training),
    }
    asked: dict[str, Any] = {}
    for layer in (*layers, named, parse_overrides(overrides)):
        asked = merge(asked, layer)
    return _with_tags(make_recipe(asked) if asked.get("start") is None else _going_on(asked))


def _with_tags(recipe: Recipe) -> Recipe:
    """The recipe; a wrong file of tagged text is told before the text is read."""
    if recipe.text.tags is not None:
        read_lexicon(recipe.text.tags)
    return recipe


def _going_on(asked: dict[str, Any]) -> Recipe:
    """The recipe of a run that starts from a trained model."""
    before = going_on_from(asked["start"])
    if asked.get("family", before["family"]) != before["family"]:
        raise RecipeError(f"start: {asked['start']} is of family {before['family']}, not {asked['family']}; leave --family out")
    text = asked.get("text", {})
    if chosen := [name for name in ("tokenizer", "vocab_size", "tags") if text.get(name) is not None]:
        raise RecipeError(f"text.{chosen[0]}: a run with a start reads text as {asked['start']} does; leave it out")
    return make_recipe(before, asked)


def _section(name: str, values: Mapping[str, Any]) -> dict[str, Any]:
    given = {k: str(v) if isinstance(v, Path) else v for k, v in values.items() if v is not None}
    return {name: given} if given else {}


def _is_corpus(sources: list[str]) -> bool:
    return len(sources) == 1 and (Path(sources[0]) / "corpus.json").is_file()


def _corpus(recipe: Recipe, beside: Path) -> Corpus:
    """The prepared corpus that the recipe names, or one prepared from its text in `beside`."""
    if not _is_corpus(recipe.text.sources):
        return _prepare(recipe, beside)
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
        "documents": corpus.documents, "tokenizer": corpus.tokenizer.kind, "vocab_size": corpus.tokenizer.vocabulary.size,
        **{name: files[0] if len(files) == 1 else f"a part of {recipe.text.sources[0]}" for name, files in read.items()},
    }  # fmt: skip
    asked = {name: getattr(recipe.text, name) for name in sorted(recipe.text.model_fields_set & set(holds))}
    for name, value in recipe.text.clean.model_dump(exclude_unset=True).items():
        asked[f"clean.{name}"], holds[f"clean.{name}"] = value, getattr(corpus.clean, name)
    wrong = [
        f"text.{name} is {holds[name]} there, not {value}"
        for name, value in asked.items()
        if value is not None and holds[name] not in (value, store.printable(value))
    ]
    if wrong:
        raise RecipeError(f"{recipe.text.sources[0]} is prepared already: {'; '.join(wrong)}; it can only be chosen in bimo prepare")


def _name(sources: Sequence[str]) -> str:
    """What a run on these sources is called: letters, digits and dashes of the first one's name."""
    first = Path(sources[0]).resolve() if sources and sources[0] != "-" else Path("text")
    stem = first.name.split(".")[0] or first.name
    return re.sub(r"[^\w-]+", "-", stem).strip("-") or "text"


def _title(corpus: Corpus) -> str:
    """What the report calls the text: the name of the file that was read, and how many others."""
    files = [Path(f["name"]).name for f in corpus.manifest["reading"]["train"]["files"]]
    return f"{files[0]} and {len(files) - 1} more" if len(files) > 1 else files[0] if files else store.printable(corpus.folder.name)


def train(
    sources: Sources = (),
    *,
    family: str | None = None,
    out: str | Path | None = None,
    valid: str | Path | None = None,
    test: str | Path | None = None,
    tokenizer: str | None = None,
    vocab_size: int | None = None,
    documents: str | None = None,
    budget: str | None = None,
    seed: int | None = None,
    overrides: str | Iterable[str] = (),
) -> Run:
    """Train a model on text, a prepared folder or a recipe file; returns the finished run.

    overrides: `section.key=value`, or several of them. The run folder `out` (runs/<source>-<n> if not given) is a model folder too.
    """
    text = {"valid": valid, "test": test, "tokenizer": tokenizer, "vocab_size": vocab_size, "documents": documents}
    recipe = _recipe(_listed(sources), overrides, family=family, budget=budget, seed=seed, **text)
    name = _name(recipe.text.sources)
    folder = Path(out) if out is not None else store.next_run_folder(name)
    runs.refuse_used(folder)
    corpus = _corpus(recipe, folder / "corpus")
    return runs.run(recipe, corpus, folder, name=_title(corpus), command=_command())


def resume(folder: str | Path) -> Run:
    """Go on with a run where its last checkpoint stands; a finished one is returned as it is."""
    return runs.resume(Path(folder))


def plan(
    sources: Sources = (),
    *,
    family: str | None = None,
    valid: str | Path | None = None,
    test: str | Path | None = None,
    tokenizer: str | None = None,
    vocab_size: int | None = None,
    documents: str | None = None,
    budget: str | None = None,
    seed: int | None = None,
    overrides: str | Iterable[str] = (),
) -> dict[str, Any]:
    """What a run of these arguments would need, from a ten-second probe of this machine; nothing is kept."""
    import tempfile

    from bimo.training.fit import plan_ahead

    text = {"valid": valid, "test": test, "tokenizer": tokenizer, "vocab_size": vocab_size, "documents": documents}
    recipe = _recipe(_listed(sources), overrides, family=family, budget=budget, seed=seed, **text)
    with tempfile.TemporaryDirectory(prefix="bimo-plan-") as folder:
        return plan_ahead(recipe, _corpus(recipe, Path(folder) / "corpus"))


def compare(
    sources: Sources,
    *,
    valid: str | Path | None = None,
    test: str | Path | None = None,
    documents: str | None = None,
    families: str | Sequence[str] | None = None,
    tokenizer: str | None = None,
    vocab_size: int | None = None,
    budget: str | None = None,
    seed: int | None = None,
    out: str | Path | None = None,
    hybrids: int | None = None,
    lang: str | None = None,
    overrides: str | Iterable[str] = (),
) -> Comparison:
    """Train families (or recipe files) under one budget on one text, each in its own process, and compare them.

    families: names, hybrids as a+b, or recipe files (one text may hold several, with commas); all that can learn from this text and
    score it token by token, if not given. hybrids: so many mixtures of them are made too, the most promising on validation text; three
    if neither says otherwise. lang: of the report, en or zh; the text's if not given. What stands in `out` already is not made again.
    """
    words(lang or "en")  # an unknown language is told now
    families = families.split(",") if isinstance(families, str) else families
    names = [name.strip() for name in families] if families is not None else None
    if names is not None and not any(names):
        raise RecipeError(f"families: none given; known: {', '.join(registry.families())}")
    text = {"valid": valid, "test": test, "tokenizer": tokenizer, "vocab_size": vocab_size, "documents": documents}
    shared = {"budget": budget or "30s", "seed": seed}
    overrides = listed(overrides)
    base = _recipe(_listed(sources), [word for word in overrides if word.startswith("text.")], **text, **shared)
    recipes = [_one_of(name, base, shared, overrides) for name in names or ()]  # a wrong one is told before the text is read
    name = _name(base.text.sources)
    folder = Path(out) if out is not None else store.next_run_folder(f"{name}-comparison")
    comparison.refuse_used(folder, [recipe.name for recipe in recipes] or registry.families())
    corpus = _corpus(base, folder / "corpus")
    if names is None:
        recipes = comparison.fitting(corpus, lambda name: _one_of(name, base, shared, overrides))
    for recipe in recipes:  # a prepared corpus has documents and a tokenizer of its own
        recipe.text = base.text.model_copy(update={"tags": recipe.text.tags})
    number = (3 if names is None else 0) if hybrids is None else hybrids
    return comparison.compare(recipes, corpus, folder, name=_title(corpus), command=_command(), hybrids=number, lang=lang)


def _one_of(name: str, base: Recipe, shared: Mapping[str, Any], overrides: list[str]) -> Recipe:
    """The recipe of one family, or of a recipe file, under the comparison's text and budget."""
    own = read_recipe(Path(name)) if name.endswith((".yaml", ".yml")) else {"family": name.strip()}
    own = own if own.get("family") or own.get("preset") else {**own, "family": registry.DEFAULT}
    text = base.text.model_dump(exclude={"tags"} if base.text.tags is None else None)  # what a recipe's model reads beside it is its own
    fixed = {"text": text, "training": {k: v for k, v in shared.items() if v is not None}}
    return make_recipe(own, fixed, parse_overrides(overrides))


def _command() -> str:
    """The command line of this process, as one would type it."""
    return store.printable(shlex.join(["bimo", *sys.argv[1:]])) if Path(sys.argv[0]).stem in ("bimo", "__main__") else ""


# -- models ---------------------------------------------------------------------------------------------------------------


def load(folder: str | Path) -> Model:
    """Open a model folder or a finished run folder."""
    return Model(Bundle.load(folder))


def evaluate(
    model: str | Path,
    sources: Sources,
    *,
    documents: str | None = None,
    stride: int | None = None,
    samples: int | None = None,
    latent: bool = False,
    translate: bool = False,
) -> Evaluation:
    """Perplexity and bits per byte of a model folder on a text; samples, latent, translate: see `Model.evaluate`."""
    return load(model).evaluate(sources, documents=documents, stride=stride, samples=samples, latent=latent, translate=translate)


def generate(model: str | Path, prompt: str = "", given: str | None = None, **options: Any) -> str:
    """Continue `prompt` with the model of a folder; given: a source text, for a model that is given one or has a latent."""
    return load(model).generate(prompt, given, **options)


def interpolate(model: str | Path, first: str, last: str, steps: int = 5, spherical: bool = False, **options: Any) -> list[str]:
    """`steps` texts on the way from `first` to `last` by the model of a folder, which must have a latent."""
    return load(model).interpolate(first, last, steps, spherical, **options)


def fill(model: str | Path, text: str, top_k: int = 5) -> list[list[Candidate]]:
    """What the model of a folder puts into each gap of `text`, which is written `<mask>` or `[MASK]`."""
    return load(model).fill(text, top_k)


def explain(
    model: str | Path,
    text: str,
    *,
    given: str | None = None,
    top_k: int = 5,
    out: str | Path | None = None,
    lang: str | None = None,
) -> Explanation:
    """What the model of a folder thinks of `text`, token by token; see `Model.explain`.

    out: an HTML file to write it to, as a page that needs nothing else; lang: of the page, en or zh; the text's if not given.
    """
    words(lang or "en")  # an unknown language is told now
    found = load(model).explain(text, given, top_k)
    if out is not None:
        write_explanation(found, Path(out), lang)
    return found


def info(folder: str | Path) -> dict[str, Any]:
    """What a model, run or prepared folder holds."""
    folder = Path(folder)
    if (folder / "corpus.json").exists():
        return Corpus.open(folder).manifest
    if (folder / comparison.FILE).exists():
        return _compared(folder)
    run: dict[str, Any] = store.read_json(folder / "run.json") if (folder / "run.json").exists() else {}
    if (folder / "config.json").exists() and holds_weights(folder):
        return {**load(folder).info(), **({"run": _run_facts(folder, run)} if run else {})}
    if run:
        return _run_facts(folder, run)
    raise ModelError(
        f"{folder}: neither a model, a run, a comparison nor a prepared folder" if folder.exists() else f"{folder}: no such folder"
    )


def _run_facts(folder: Path, run: Mapping[str, Any]) -> dict[str, Any]:
    """How a run went."""
    facts = {
        k: run[k] for k in ("status", "name", "seconds", "steps", "tokens", "best_step", "capped", "stopped_early", "notices") if k in run
    }
    facts |= {"dial": run["dial"]["why"]} if "dial" in run else {}
    if run.get("status") == "finished":
        row = runs.resume(folder).row
        facts |= {"bits_per_byte": row.bits_per_byte, "perplexity": row.perplexity, "budget_seconds": row.budget_seconds}
    else:
        facts |= {"next": f"bimo train --resume {folder}", "plan": run.get("plan")}
    return facts


def _compared(folder: Path) -> dict[str, Any]:
    """What a comparison found, in short."""
    found = Comparison.from_dict(store.read_json(folder / comparison.FILE))
    rows = {row.label: {"bits_per_byte": row.bits_per_byte, "perplexity": row.perplexity, "error": row.error} for row in found.rows}
    return {
        "text": found.text.name, "budget": found.budget, "report": str(folder / "report.html"),
        "rows": {label: {k: v for k, v in facts.items() if v is not None} for label, facts in rows.items()},
    }  # fmt: skip


def env() -> dict[str, Any]:
    """What this machine is, for a bug report."""
    return runtime.environment()
