"""A loaded model, for Python: it writes, scores, measures and is saved, whatever its family."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack, cast

from torch import Tensor
from torch.nn.functional import cosine_similarity

from bimo.core import registry
from bimo.core.errors import CapabilityError, UserError
from bimo.core.reading import ReadKeywords, ReadOptions
from bimo.core.recipe import listed
from bimo.data import corpus as corpora
from bimo.data.documents import Document, ReadReport
from bimo.data.sources import Sources, read_documents
from bimo.data.speech import Speech
from bimo.evaluation import perplexity
from bimo.evaluation.latents import latent_use
from bimo.evaluation.perplexity import Evaluation
from bimo.evaluation.similarity import sentence_vectors
from bimo.evaluation.translation import evaluate_translation
from bimo.explanation.results import Explanation
from bimo.explanation.texts import explain_text
from bimo.generation.conversation import Conversation
from bimo.generation.filling import Candidate, fill_text
from bimo.generation.latent import interpolate, reconstruct
from bimo.generation.sampling import GenerationConfig
from bimo.generation.texts import continue_texts, stream_text
from bimo.models.adapters import merge, unmerge
from bimo.models.base import Kind
from bimo.models.bundle import Bundle
from bimo.models.interop import opening
from bimo.models.latent import scored_with, with_latent
from bimo.models.layers import Pooling
from bimo.models.saved import parse_size
from bimo.models.scoring import document_nats
from bimo.text.clean import Cleaner
from bimo.text.runners import utf8


@dataclass
class Writing:
    """What was written: continuations without the prompt, and why each ended."""

    texts: list[str]
    finishes: list[str]
    prompt_tokens: int
    generated_tokens: int
    seconds: float
    seed: int
    rereads: int
    notices: list[str]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return dict(self.__dict__)


class Model:
    """A loaded model that writes, scores and can be saved. `bundle.model` is the family's own class."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle

    @property
    def generation_defaults(self) -> dict[str, Any]:
        """Options of generation that the model's makers recommend (`generation_config.json`, or a GGUF file's header).

        They hold in `generate`, `write`, `stream` and `chat` for each option that is not given.
        """
        return dict(self.bundle.generation)

    def _config(self, options: Mapping[str, Any], streams: bool = False) -> GenerationConfig:
        return GenerationConfig.over(self.bundle.generation, options, streams)

    def generate(self, prompt: str = "", given: str | None = None, **options: Any) -> str:
        """The continuation of `prompt`, without the prompt; options as in `bimo generate` (max_new_tokens, temperature …).

        given: as in `write`.
        """
        return self.write(prompt, given, **options).texts[0]

    def write(self, prompt: str | Sequence[str] = "", given: str | Sequence[str] | None = None, **options: Any) -> Writing:
        """Continue one prompt or several; num_return_sequences texts for each.

        given: the source text, or one for each prompt, for a model that is given one (a translator's sentence, say). A model with a
        latent writes the source again, from the mean of its latent; `temperature` bends its tokens alone.
        """
        sources = [given] if isinstance(given, str) else None if given is None else list(given)
        prompts = [prompt] * len(sources or [1]) if isinstance(prompt, str) else list(prompt)
        done = continue_texts(self.bundle, prompts, self._config(options), sources)
        pairs = zip(prompts, sources or [None] * len(prompts), strict=True)
        told = [notice for prompt, source in dict.fromkeys(pairs) for notice in self.notices(prompt, options, source)]
        return Writing(
            [row.text or "" for row in done.rows], list(done.finishes), done.prompt_tokens, done.generated_tokens,
            done.seconds, done.seed, done.rereads, list(dict.fromkeys(told)),
        )  # fmt: skip

    def notices(self, prompt: str, options: Mapping[str, Any] | None = None, given: str | None = None) -> list[str]:
        """What one should know before `prompt` is continued: tokens that are unknown, a context that will not hold it all."""
        config = self._config(options or {})
        ids, unk = self.bundle.prompt(prompt), self.bundle.tokenizer.vocabulary.unk
        told: list[str] = []
        context = self.bundle.model.context
        source: Any = [] if given is None else self.bundle.tokenizer.encode_document(given).tolist()
        for name, read in (("prompt", ids), ("source", source)):
            if unk is not None and (unknown := read.count(unk)):
                told.append(
                    f"{unknown:,} of the {name}'s {len(read):,} tokens are unknown to the model's {self.bundle.tokenizer.kind} tokenizer"
                )
        if context is not None and len(ids) + config.max_new_tokens - 1 > context:
            told.append(f"the model sees {context:,} tokens at most; where they are full it goes on from their last half")
        return told

    def stream(self, prompt: str = "", given: str | None = None, **options: Any) -> Iterator[str]:
        """Yield the continuation piece by piece, in whole characters. given: as in `write`."""
        return stream_text(self.bundle, prompt, self._config(options, streams=True), given)

    def reconstruct(self, texts: str | Sequence[str], **options: Any) -> list[str]:
        """Each text written again from the mean of its latent alone, of a model that has one.

        The likeliest token by token, if the options of `generate` do not say otherwise.
        """
        return reconstruct(self.bundle, [texts] if isinstance(texts, str) else list(texts), _likeliest(options))

    def interpolate(self, first: str, last: str, steps: int = 5, spherical: bool = False, **options: Any) -> list[str]:
        """`steps` texts on the way from `first` to `last`, both written again among them, of a model with a latent.

        spherical: along an arc instead of a straight line. Options as in `reconstruct`.
        """
        return interpolate(self.bundle, first, last, steps, _likeliest(options), spherical)

    def chat(self, system: str | None = None) -> Conversation:
        """A conversation with the model: `.ask(text, **options)` yields the answer piece by piece, `.turns` is what was said.

        system: what the model is told before all; for a model with a chat template.
        """
        model = self.bundle.model
        if not model.continues_text:
            raise CapabilityError("chat: this model fills gaps and does not continue texts; fill, score, embed and similarity use it")
        if model.kind is Kind.CONDITIONAL:
            raise CapabilityError("chat: this model writes a text for a source text, as a translator does; generate with given uses it")
        talk = Conversation(self.bundle)
        if system is not None:
            talk.system(system)
        return talk

    def fill(self, text: str, top_k: int = 5) -> list[list[Candidate]]:
        """What may stand in each gap of `text` (`<mask>` or `[MASK]`), the likeliest first; of a model that has seen both sides of gaps."""
        return fill_text(self.bundle, text, top_k)

    def embed(self, texts: str | Sequence[str], pooling: Pooling | None = None, truncation: bool = False) -> Tensor:
        """A vector of each text, [N, D], of a model that has features.

        pooling: what of a text's states it is made of: mean, first or last; as its folder says if None (the mean, where it says
        nothing), with vectors of length 1 where it says so. A text beyond the model's context is a `ContextError`, or is cut there if
        `truncation` says so.
        """
        return sentence_vectors(self.bundle, listed(texts), pooling, truncation)

    def similarity(
        self, first: str | Sequence[str], second: str | Sequence[str], pooling: Pooling | None = None, truncation: bool = False
    ) -> list[float]:
        """How alike each text of `first` and the one at its place in `second` are: the cosine of their vectors, between −1 and 1.

        pooling, truncation: as in `embed`.
        """
        ours, theirs = (listed(side) for side in (first, second))
        if len(ours) != len(theirs):
            raise UserError(f"similarity: {len(ours)} texts and {len(theirs)}; give as many of both")
        cosines = cosine_similarity(self.embed(ours, pooling, truncation), self.embed(theirs, pooling, truncation))
        return [float(cosine) for cosine in cosines]

    def score(self, texts: str | Sequence[str]) -> list[float]:
        """Nats of each text (or of the one) as a document of its own, its end included. A text is taken as it is: nothing is cleaned.

        A text with half a surrogate pair, which is no Unicode text, is a `UserError`.
        """
        documents = [Document(text, f"text {i}", len(utf8(text))) for i, text in enumerate(listed(texts))]
        split = corpora.encode_documents(documents, self.bundle.tokenizer, cast(Any, self.bundle.documents))
        return [float(x) for x in document_nats(self.bundle.model, split, self.bundle.context)]

    def explain(self, text: str, given: str | None = None, top_k: int = 5) -> Explanation:
        """What the model thinks of `text` as a document, token by token: its cost, the `top_k` likeliest, and what that rests on.

        The costs sum to `score(text)`. given: the source text, for a model that is given one; top_k=0 looks for no other tokens.
        """
        return explain_text(self.bundle, text, given, top_k)

    def evaluate(
        self,
        sources: Sources,
        *,
        documents: str | None = None,
        stride: int | None = None,
        samples: int | None = None,
        latent: bool = False,
        translate: bool = False,
        **reading: Unpack[ReadKeywords],
    ) -> Evaluation:
        """Perplexity and bits per byte on a text; `documents` as the model learned if not given; cleaned as its text was.

        Of a model with a chat template, records of turns (or of a prompt and an answer) are told by it, and the answers alone are scored.
        Of a model with a latent, samples: how many the bound of each document is made of, and latent: tell also how the latent is used.
        reading: options of reading, as in `bimo prepare`. translate: of pairs, write also a text for each source, and tell BLEU and chrF.
        """
        mode = cast(Any, documents or self.bundle.documents)
        options = ReadOptions(**reading).over(self.bundle.reading)
        report = ReadReport()
        tokenizer = self.bundle.tokenizer
        talks = tokenizer.chat_template is not None
        read = read_documents(sources, mode, report, Cleaner(self.bundle.clean), talks, options)
        pairs = list(read) if translate else []
        speech = Speech(tokenizer, sys.maxsize) if talks else None
        split = corpora.encode_documents(pairs or read, tokenizer, mode, speech=speech)
        written = evaluate_translation(self.bundle, pairs) if translate else None
        used = latent_use(self.bundle.model, split) if latent else None
        with scored_with(self.bundle.model, samples):
            result = perplexity.evaluate(self.bundle.model, split, self.bundle.context, stride)
        result.latent, result.translation = used, written
        result.notices = [*report.summary(), *(speech.settle() if speech is not None else []), *result.notices]
        return result

    def load_adapter(self, folder: str | Path) -> None:
        """Put the LoRA adapters in `folder` (ours, or of the peft library) beside the model's weights, and add them in.

        A model has one at a time: `unload_adapter`, then another. What is written to files has what the adapter adds in its weights.
        """
        self.bundle.put_adapter(Path(folder))

    def merge_adapter(self) -> None:
        """Add the adapter into the weights: the model is as fast as without one."""
        merge(self.bundle.adapted_model())

    def unmerge_adapter(self) -> None:
        """Take the adapter out of the weights, which are then what they were but for rounding; it goes on to work beside them."""
        unmerge(self.bundle.adapted_model())

    def unload_adapter(self) -> None:
        """Take the adapter away: the model is what it was without it, but for rounding."""
        self.bundle.drop_adapter()

    def save(self, folder: str | Path) -> None:
        """Write a model folder."""
        self.bundle.save(Path(folder))

    def export(self, path: str | Path, dtype: str | None = None, max_shard_size: int | str | None = None) -> list[str]:
        """Write a model folder, or a `.gguf` or `.arpa` file where the path ends so; returns notes on what is not as asked.

        dtype: f32, f16, bf16, and for GGUF (f16 if not given) q8_0 and q4_0; as it is, if not given. max_shard_size: of one file of
        weights of a folder, bytes or as in "2GB".
        """
        opening.refuse_ending(path)
        path = Path(path)
        if opening.writes(path):
            if max_shard_size is not None:
                raise UserError(f"max_shard_size: {path} is one file; leave it out")
            with self.bundle.whole():
                b = self.bundle
                held = opening.Opened(b.model, b.tokenizer, b.pooling, tuple(b.all_ends()), b.generation)
                return opening.write_file(path, held, dtype)
        self.bundle.save(path, dtype, None if max_shard_size is None else parse_size(max_shard_size))
        return []

    def info(self) -> dict[str, Any]:
        """What this model is."""
        model, tokenizer = self.bundle.model, self.bundle.tokenizer
        config = model.config_dict()
        row = registry.family_of_model_type(config["model_type"])
        return {
            "family": row.name, "model_type": config["model_type"], "kind": str(model.kind), "learning": row.learning,
            "parameters": model.parameter_count(), "vocab_size": model.vocab_size, "tokenizer": tokenizer.kind,
            "documents": self.bundle.documents, "context": self.bundle.context, "capabilities": sorted(model.capabilities),
            **({"latent_width": with_latent(model).latent_width} if "latent" in model.capabilities else {}), "config": config,
        }  # fmt: skip


def _likeliest(options: Mapping[str, Any]) -> GenerationConfig:
    return GenerationConfig.of(**{"temperature": 0, **options})
