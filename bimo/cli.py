"""The command line: one verb, one public function; nothing is computed here.

Results go to standard output, progress to standard error. Exit codes: 0; 2 the user's mistake; 1 ours or the machine's;
130 Ctrl-C. `section.key=value` is an override unless a file has that name.
"""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from bimo.core import registry, store
from bimo.core.errors import BimoError, UserError, memory_errors

app = typer.Typer(
    name="bimo",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Every family of language model, prepared, trained, compared and served in the same way. 每一种语言模型，同一种用法。",
)

Sources = Annotated[
    list[str] | None, typer.Argument(metavar="SOURCE…", help="files, folders, globs or - (standard input); section.key=value")
]
Out = Annotated[Path | None, typer.Option("--out", help="folder to write")]
Valid = Annotated[str | None, typer.Option("--valid", help="validation text; used as it is")]
Test = Annotated[str | None, typer.Option("--test", help="test text; used as it is")]
TokenizerOption = Annotated[str | None, typer.Option("--tokenizer", help="byte, char, word, bpe, wordpiece or unigram")]
VocabSize = Annotated[int | None, typer.Option("--vocab-size", help="most tokens in the vocabulary")]
Documents = Annotated[str | None, typer.Option("--documents", help="what a document is: file, line, paragraph or stream")]
FamilyOption = Annotated[str | None, typer.Option("--family", help=", ".join(registry.families()) + "; or several as a hybrid: a+b")]
BudgetOption = Annotated[str | None, typer.Option("--budget", help="30s, 10m, 300steps, 2epochs or 5Mtokens")]
Seed = Annotated[int | None, typer.Option("--seed", help="of weights, batches and dropout")]
AsJson = Annotated[bool, typer.Option("--json", help="print the result as JSON")]


def _split(words: list[str] | None) -> tuple[list[str], list[str]]:
    """Sources and overrides: a word with = is an override unless a file has that name."""
    sources, overrides = [], []
    for word in words or []:
        (overrides if "=" in word and not os.path.exists(word) else sources).append(word)
    return sources, overrides


def _print_json(value: Any) -> None:
    print(store.json_text(value))


@app.command()
def quickstart(
    sources: Sources = None,
    budget: Annotated[str, typer.Option("--budget", help="time for each family")] = "30s",
    out: Annotated[Path, typer.Option("--out", help="folder to write")] = Path("runs/quickstart"),
) -> None:
    """Train three families on a text for the same time each, and show which one won."""
    from bimo.quickstart import quickstart as main_job

    paths, overrides = _split(sources)
    main_job(paths, budget=budget, out=out, overrides=overrides)


@app.command()
def prepare(
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

    paths, overrides = _split(sources)
    corpus = api.prepare(
        paths, out, valid=valid, test=test, tokenizer=tokenizer, vocab_size=vocab_size, documents=documents, overrides=overrides
    )
    _print_json(corpus.manifest) if as_json else print(console.describe_corpus(corpus))


@app.command()
def train(
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

    paths, overrides = _split(sources)
    if resume is not None:
        if paths or overrides or any(o is not None for o in (family, out, valid, test, tokenizer, vocab_size, documents, budget, seed)):
            raise UserError("--resume goes on with the run's own recipe; leave out sources and overrides, and all other options but --json")
        run = api.resume(resume)
    else:
        run = api.train(
            paths, family=family, out=out, valid=valid, test=test, tokenizer=tokenizer, vocab_size=vocab_size,
            documents=documents, budget=budget, seed=seed, overrides=overrides,
        )  # fmt: skip
    _print_json(run.to_dict()) if as_json else console.show_run(run)


@app.command()
def generate(
    model: Annotated[str, typer.Argument(help="a model or run folder")],
    prompt: Annotated[str, typer.Argument(help="the beginning of the text; - reads it from standard input")] = "",
    given: Annotated[
        str | None, typer.Option("--given", help="the source text, for a model that is given one or has a latent; - reads it")
    ] = None,
    max_new_tokens: Annotated[int | None, typer.Option("--max-new-tokens", help="most tokens to write")] = None,
    temperature: Annotated[float | None, typer.Option("--temperature", help="0: always the likeliest token")] = None,
    top_k: Annotated[int | None, typer.Option("--top-k", help="keep the k likeliest tokens; 0: all")] = None,
    top_p: Annotated[float | None, typer.Option("--top-p", help="keep the likeliest tokens that hold this probability")] = None,
    num_beams: Annotated[int | None, typer.Option("--num-beams", help="beam search over so many hypotheses")] = None,
    num_return_sequences: Annotated[int | None, typer.Option("--num-return-sequences", help="texts to write")] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="of the sampling")] = None,
    options: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]…", help="other options, such as min_p=0.1")] = None,
    as_json: AsJson = False,
) -> None:
    """Continue a prompt."""
    from bimo import api
    from bimo.model import generation_options

    named = {
        "max_new_tokens": max_new_tokens, "temperature": temperature, "top_k": top_k, "top_p": top_p, "num_beams": num_beams,
        "num_return_sequences": num_return_sequences, "seed": seed,
    }  # fmt: skip
    chosen = generation_options(named, options or [])
    text, source = (_standard_input().removesuffix("\n") if word == "-" else word for word in (prompt, given))
    writer = api.load(model)
    if as_json:
        _print_json(writer.write(text or "", source, **chosen).to_dict())
        return
    if chosen.get("num_beams", 1) == 1 and chosen.get("num_return_sequences", 1) == 1:
        pieces = writer.stream(text or "", source, **chosen)  # says what is wrong before anything is printed
        _tell(writer.notices(text or "", chosen, source))
        print(text or "", end="", flush=True)
        for piece in pieces:
            print(piece, end="", flush=True)
        print()
    else:
        written = writer.write(text or "", source, **chosen)
        _tell(written.notices)
        for number, continuation in enumerate(written.texts, 1):
            print(f"[{number}] {text or ''}{continuation}")


@app.command()
def interpolate(
    model: Annotated[str, typer.Argument(help="the folder of a model with a latent")],
    first: Annotated[str, typer.Argument(help="the text to begin with")],
    last: Annotated[str, typer.Argument(help="the text to end with")],
    steps: Annotated[int, typer.Option("--steps", help="texts to write, both ends among them")] = 5,
    spherical: Annotated[bool, typer.Option("--spherical", help="along an arc instead of a straight line")] = False,
    options: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]…", help="options of generation, such as num_beams=4")] = None,
    as_json: AsJson = False,
) -> None:
    """Write texts on the way from one text to another."""
    from bimo import api
    from bimo.model import generation_options

    chosen = generation_options({}, options or [])
    writer = api.load(model)
    texts = writer.interpolate(first, last, steps, spherical, **chosen)
    if as_json:
        _print_json({"texts": texts})
        return
    _tell(list(dict.fromkeys(notice for end in (first, last) for notice in writer.notices("", chosen, end))))
    for number, text in enumerate(texts, 1):
        print(f"[{number}] {text}")


@app.command()
def fill(
    model: Annotated[str, typer.Argument(help="a model or run folder")],
    text: Annotated[str, typer.Argument(help="a text with gaps, written <mask> or [MASK]; - reads it from standard input")],
    top_k: Annotated[int, typer.Option("--top-k", help="candidates for each gap")] = 5,
    as_json: AsJson = False,
) -> None:
    """Tell what may stand in the gaps of a text."""
    from bimo import api
    from bimo.generation.filling import describe

    found = api.fill(model, _standard_input().removesuffix("\n") if text == "-" else text, top_k)
    _print_json([[vars(candidate) for candidate in gap] for gap in found]) if as_json else print(describe(found))


def _tell(notices: list[str]) -> None:
    for notice in notices:
        print(f"bimo: {notice}", file=sys.stderr, flush=True)


def _standard_input(what: str = "prompt") -> str:
    from bimo.data.formats import standard_input

    try:
        return standard_input().read().decode("utf-8")
    except UnicodeDecodeError as cause:
        raise UserError(f"standard input: the {what} is not UTF-8 (byte {cause.start})") from None


@app.command()
def evaluate(
    model: Annotated[str, typer.Argument(help="a model or run folder")],
    sources: Sources,
    documents: Documents = None,
    stride: Annotated[int | None, typer.Option("--stride", help="windows overlap, each scoring so many new tokens")] = None,
    samples: Annotated[int | None, typer.Option("--samples", help="of a bound: samples a document; more tighten it")] = None,
    latent: Annotated[bool, typer.Option("--latent", help="tell also how the model's latent is used")] = False,
    translate: Annotated[bool, typer.Option("--translate", help="of SOURCE::TARGET: write each text, too; tell BLEU and chrF")] = False,
    as_json: AsJson = False,
) -> None:
    """Measure perplexity and bits per byte on a text."""
    from bimo import api

    result = api.evaluate(model, sources or [], documents=documents, stride=stride, samples=samples, latent=latent, translate=translate)
    _print_json(result.to_dict()) if as_json else print(result.describe())


@app.command()
def explain(
    model: Annotated[str, typer.Argument(help="a model or run folder")],
    text: Annotated[str, typer.Argument(help="the text; - reads it from standard input")],
    given: Annotated[str | None, typer.Option("--given", help="the source text, for a model that is given one; - reads it")] = None,
    top_k: Annotated[int, typer.Option("--top-k", help="likeliest tokens to tell at each place; 0: none, and no ranks")] = 5,
    out: Annotated[Path | None, typer.Option("--out", help="HTML file to write: a page that needs nothing else")] = None,
    lang: Annotated[str | None, typer.Option("--lang", help="of the page: en or zh; the text's if not given")] = None,
    as_json: AsJson = False,
) -> None:
    """Tell of each token of a text how likely it was, what else was, and what that rests on."""
    from bimo import api, console

    if text == given == "-":
        raise UserError("- stands for the text and for --given; standard input can be read for one of them")
    text, source = (_standard_input("text").removesuffix("\n") if word == "-" else word for word in (text, given or ""))
    found = api.explain(model, text, given=None if given is None else source, top_k=top_k, out=out, lang=lang)
    if as_json:
        _print_json(found.to_dict())
        return
    console.show_explanation(found, lang or "en")
    if out is not None:
        print(f"page: {out}")


@app.command()
def compare(
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
    lang: Annotated[str | None, typer.Option("--lang", help="of the report: en or zh; the text's if not given")] = None,
    as_json: AsJson = False,
) -> None:
    """Train several families, and the best of their hybrids, under one budget and compare them."""
    from bimo import api, console

    paths, overrides = _split(sources)
    result = api.compare(
        paths, valid=valid, test=test, documents=documents, families=families,
        tokenizer=tokenizer, vocab_size=vocab_size, budget=budget, seed=seed, out=out, hybrids=hybrids, lang=lang, overrides=overrides,
    )  # fmt: skip
    _print_json(result.to_dict()) if as_json else console.show_comparison(result)
    if all(row.error is not None for row in result.rows):
        raise typer.Exit(1)


@app.command()
def plan(
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

    paths, overrides = _split(sources)
    result = api.plan(
        paths, family=family, valid=valid, test=test, tokenizer=tokenizer, vocab_size=vocab_size,
        documents=documents, budget=budget, seed=seed, overrides=overrides,
    )  # fmt: skip
    _print_json(result) if as_json else console.show_facts(result)


@app.command()
def info(model: Annotated[str, typer.Argument(help="a model, run or prepared folder")], as_json: AsJson = False) -> None:
    """Tell what a model folder holds."""
    from bimo import api, console

    result = api.info(model)
    _print_json(result) if as_json else console.show_facts(result)


@app.command()
def env(as_json: AsJson = False) -> None:
    """Tell what this machine is, for a bug report."""
    from bimo import api, console

    result = api.env()
    _print_json(result) if as_json else console.show_facts(result)


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="print the version and stop")] = False,
) -> None:
    if version:
        import bimo

        print(f"bimo {bimo.__version__}")
        raise typer.Exit


def main() -> None:
    """Run the command line; every error is one line on standard error."""
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":  # letters that cannot be printed are spelled out
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        with memory_errors():
            sys.exit(app(standalone_mode=False))
    except typer.Abort:
        _fail("interrupted", 130)
    except BimoError as error:
        _fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        _fail("interrupted", 130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        _fail(f"{error.filename or 'the machine'}: {error.strerror or error}", 1)
    except Exception as error:
        if hasattr(error, "format_message"):  # click's own, which some releases of typer carry inside
            _fail_usage(error)
        if os.environ.get("BIMO_DEBUG"):
            raise
        _fail(f"unexpected {type(error).__name__}: {error} (this is a bug; BIMO_DEBUG=1 shows where)", 1)


def _fail_usage(error: Any) -> NoReturn:
    """What is wrong with the words of the command line, in one line."""
    context = getattr(error, "ctx", None)
    if not error.format_message():  # no command was given: the help has been printed
        sys.exit(2)
    _fail(f"{error.format_message()} ({context.command_path if context else 'bimo'} --help lists what there is)", error.exit_code)


def _fail(message: str, code: int) -> NoReturn:
    print("bimo: " + " ".join(store.printable(message).split()), file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
