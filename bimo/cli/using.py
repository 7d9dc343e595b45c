"""Verbs that use a model: writing, measuring, explaining, telling what it is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bimo.cli.words import AdapterOption, AsJson, Documents, Sources, app, is_model, print_json, standard_input, tell, with_reading
from bimo.core import store
from bimo.core.errors import UserError
from bimo.core.reading import ReadKeywords


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
    from bimo.cli.talking import shown
    from bimo.generation.config import generation_options

    named = {
        "max_new_tokens": max_new_tokens, "temperature": temperature, "top_k": top_k, "top_p": top_p, "num_beams": num_beams,
        "num_return_sequences": num_return_sequences, "seed": seed,
    }  # fmt: skip
    chosen = generation_options(named, options or [])
    text, source = (standard_input().removesuffix("\n") if word == "-" else word for word in (prompt, given))
    writer = api.load(model)
    if as_json:
        print_json(writer.write(text or "", source, **chosen).to_dict())
        return
    if chosen.get("num_beams", 1) == 1 and chosen.get("num_return_sequences", 1) == 1:
        pieces = writer.stream(text or "", source, **chosen)  # says what is wrong before anything is printed
        tell(writer.notices(text or "", chosen, source))
        print(text or "", end="", flush=True)
        for piece in pieces:
            print(shown(piece), end="", flush=True)
        print()
    else:
        written = writer.write(text or "", source, **chosen)
        tell(written.notices)
        for number, continuation in enumerate(written.texts, 1):
            print(f"[{number}] {text or ''}{shown(continuation)}")


@app.command()
def chat(
    model: Annotated[str | None, typer.Argument(help="a folder, a .gguf file, hf:org/name or pypi:package==version")] = None,
    adapter: AdapterOption = None,
    system: Annotated[str | None, typer.Option("--system", help="what the model is told before all")] = None,
    max_new_tokens: Annotated[
        int | None, typer.Option("--max-new-tokens", help="most tokens of an answer; 512, or half of a shorter context, if not given")
    ] = None,
    temperature: Annotated[float | None, typer.Option("--temperature", help="0: always the likeliest token")] = None,
    top_p: Annotated[float | None, typer.Option("--top-p", help="keep the likeliest tokens that hold this probability")] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="of the sampling")] = None,
    options: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]…", help="other options, such as min_p=0.1")] = None,
) -> None:
    """Talk with a model in the terminal; /help tells what else can be said."""
    from bimo import api
    from bimo.cli.talking import chosen_model, talk
    from bimo.generation.config import generation_options

    words = [*([model] if model and "=" in model and not is_model(model) else []), *(options or [])]
    named = {"max_new_tokens": max_new_tokens, "temperature": temperature, "top_p": top_p, "seed": seed}
    reference = chosen_model(None if model in words else model)
    chosen = generation_options(named, words)
    talk(api.chat(reference, adapter=adapter, system=system), reference, chosen)


@app.command()
def convert(
    model: Annotated[str, typer.Argument(help="a folder, a .gguf or .arpa file, hf:org/name or pypi:package==version")],
    out: Annotated[str, typer.Argument(help="a folder, or a file that ends with .gguf or .arpa")],
    dtype: Annotated[str | None, typer.Option("--dtype", help="f32, f16 or bf16; for GGUF q8_0 and q4_0 too")] = None,
    adapter: AdapterOption = None,
    max_shard_size: Annotated[str | None, typer.Option("--max-shard-size", help="of one file of weights of a folder, as 2GB")] = None,
) -> None:
    """Write a model in another form, which other programs open."""
    from bimo import api

    tell(api.convert(model, out, dtype=dtype, adapter=adapter, max_shard_size=max_shard_size))
    print(f"model: {out}")


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
    from bimo.cli.talking import shown
    from bimo.generation.config import generation_options

    chosen = generation_options({}, options or [])
    writer = api.load(model)
    texts = writer.interpolate(first, last, steps, spherical, **chosen)
    if as_json:
        print_json({"texts": texts})
        return
    tell(list(dict.fromkeys(notice for end in (first, last) for notice in writer.notices("", chosen, end))))
    for number, text in enumerate(texts, 1):
        print(f"[{number}] {shown(text)}")


@app.command()
def fill(
    model: Annotated[str, typer.Argument(help="a model or run folder")],
    text: Annotated[str, typer.Argument(help="a text with gaps, written <mask> or [MASK]; - reads it from standard input")],
    top_k: Annotated[int, typer.Option("--top-k", help="candidates for each gap")] = 5,
    as_json: AsJson = False,
) -> None:
    """Tell what may stand in the gaps of a text."""
    from bimo import api, console

    found = api.fill(model, standard_input().removesuffix("\n") if text == "-" else text, top_k)
    print_json([[vars(candidate) for candidate in gap] for gap in found]) if as_json else console.show_fills(found)


@app.command()
@with_reading
def evaluate(
    model: Annotated[str, typer.Argument(help="a model or run folder")],
    sources: Sources,
    reading: ReadKeywords,
    documents: Documents = None,
    stride: Annotated[int | None, typer.Option("--stride", help="windows overlap, each scoring so many new tokens")] = None,
    samples: Annotated[int | None, typer.Option("--samples", help="of a bound: samples a document; more tighten it")] = None,
    latent: Annotated[bool, typer.Option("--latent", help="tell also how the model's latent is used")] = False,
    translate: Annotated[bool, typer.Option("--translate", help="of SOURCE::TARGET: write each text, too; tell BLEU and chrF")] = False,
    as_json: AsJson = False,
) -> None:
    """Measure perplexity and bits per byte on a text."""
    from bimo import api

    result = api.evaluate(
        model, sources or [], documents=documents, stride=stride, samples=samples, latent=latent, translate=translate, **reading
    )
    print_json(result.to_dict()) if as_json else print(result.describe())


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
    alone = out is not None and store.is_standard_output(out)  # the page, without the table
    if alone and as_json:
        raise UserError(f"--out {out} and --json both write to standard output; leave one of them out")
    text, source = (standard_input("text").removesuffix("\n") if word == "-" else word for word in (text, given or ""))
    found = api.explain(model, text, given=None if given is None else source, top_k=top_k, out=out, lang=lang)
    if as_json:
        print_json(found.to_dict())
        return
    if alone:
        return
    console.show_explanation(found, lang or "en")
    if out is not None:
        print(f"page: {out}")


@app.command()
def info(model: Annotated[str, typer.Argument(help="a model, run or prepared folder")], as_json: AsJson = False) -> None:
    """Tell what a model folder holds."""
    from bimo import api, console

    result = api.info(model)
    print_json(result) if as_json else console.show_model(result)


@app.command()
def env(as_json: AsJson = False) -> None:
    """Tell what this machine is, for a bug report."""
    from bimo import api, console

    result = api.env()
    print_json(result) if as_json else console.show_facts(result)
