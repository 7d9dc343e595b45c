"""The recipe: one typed schema for everything that a run is made from.

A recipe is a YAML file, a preset of `bimo/recipes/`, or built up from options; `section.key=value` overrides any field.
Each field is documented here, where it is declared, and nowhere else. A field that is None is resolved before step 1
and written into the run's own recipe.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, field_validator

from bimo.core import registry, store
from bimo.core.budget import Budget
from bimo.core.errors import RecipeError, did_you_mean
from bimo.core.reading import READ_OPTIONS, ReadOptions
from bimo.core.validation import Section, validated

Precision = Literal["fp32", "bf16"]
TokenizerKind = Literal["byte", "char", "word", "bpe", "wordpiece", "unigram"]
DocumentMode = Literal["file", "line", "paragraph", "stream"]


Share = Annotated[float, Field(ge=0, lt=1)]


class CleanSection(Section):
    """What is tidied before text becomes tokens."""

    normalise: Literal["NFC", "NFKC", "none"] = Field(default="NFC", description="Unicode normal form")
    controls: bool = Field(
        default=True, description="control characters, terminal escapes and stray byte-order marks go; CRLF and CR become LF"
    )
    mojibake: bool = Field(default=False, description="text that was decoded wrongly is repaired (ftfy, of the extra text)")
    markup: bool = Field(default=False, description="HTML tags go, entities become characters")
    script: Literal["as_is", "simplified", "traditional"] = Field(
        default="as_is", description="Chinese characters become simplified or traditional (opencc, of the extra zh)"
    )


def _read_option(name: str) -> Any:
    return Field(default=None, description=READ_OPTIONS[name].metadata["help"])


class TextSection(Section):
    """What is read, and how it becomes tokens."""

    sources: list[str] = Field(default=[], description="files, folders, globs or - (standard input)")
    valid: str | None = Field(default=None, description="validation text; used as it is")
    test: str | None = Field(default=None, description="test text; used as it is")
    documents: DocumentMode = Field(
        default="file", description="what a document is: file, line, paragraph, or stream (newlines become </s>)"
    )
    encoding: str | None = _read_option("encoding")
    delimiter: str | None = _read_option("delimiter")
    text_column: str | int | None = _read_option("text_column")
    source_column: str | int | None = _read_option("source_column")
    target_column: str | int | None = _read_option("target_column")
    header: bool | None = _read_option("header")
    clean: CleanSection = Field(default_factory=CleanSection)
    tokenizer: TokenizerKind | None = Field(
        default=None, description="kind of tokenizer, trained on the training text; char for Chinese, bpe otherwise, if not given"
    )
    vocab_size: int | None = Field(default=None, ge=1, description="most tokens in the vocabulary; by the amount of text if not given")
    add_tokens: str | None = Field(
        default=None, min_length=1, description="a file with a token a line, which the tokenizer of `start` is given beside its own"
    )
    add_special_tokens: list[str] = Field(
        default=[], description="special tokens that it is given, too: a chat template can write them, in a text they stay text"
    )
    chat_template: str | None = Field(
        default=None, min_length=1, description="a file with a chat template (Jinja) that takes the place of the one of `start`"
    )
    conversations: bool = Field(
        default=False, description="records of turns, or of a prompt and an answer, are conversations, learned from in their answers alone"
    )
    too_long: Literal["refuse", "cut", "drop"] = Field(
        default="refuse", description="what becomes of conversations that do not fit into training.context; how many they are is told"
    )
    tags: str | None = Field(
        default=None,
        min_length=1,
        description="part-of-speech tags that a neural model reads beside its tokens, each by the token alone: "
        "a file of tagged text (CoNLL-U, or word/tag), or jieba",
    )

    @property
    def reading(self) -> ReadOptions:
        """The reading options together; `RecipeError` where they contradict each other."""
        return ReadOptions(**{name: getattr(self, name) for name in READ_OPTIONS})


class TrainingSection(Section):
    """How a model learns."""

    budget: str = Field(default="10m", description="30s, 10m, 300steps, 2epochs or 5Mtokens: a cap")
    seed: int = Field(default=0, ge=0, lt=2**63, description="of weights, batches and dropout")
    precision: Precision | None = Field(default=None, description="of matrix products; the faster one here if not given")
    threads: int | None = Field(default=None, ge=1, description="processor threads; the faster of all cores and one if not given")
    device: str | None = Field(default=None, description="cpu, cuda, cuda:1 …; the best one present if not given")
    compile: bool | None = Field(default=None, description="torch.compile; by the budget on a GPU, on a CPU only on request")
    context: int | None = Field(default=None, ge=2, description="tokens in a training window; the model's context if it has one")
    batch_size: int = Field(default=32, ge=1, description="rows in one forward pass")
    accumulation: int = Field(default=1, ge=1, description="forward passes in one step, normalised by their tokens together")
    steps: int | None = Field(default=None, ge=1, description="optimizer steps; set from the budget before step 1")
    optimizer: Literal["adamw", "adam", "muon", "sgd"] = Field(default="adamw", description="muon: matrices by Muon, the rest by AdamW")
    learning_rate: float = Field(default=1e-3, gt=0, description="peak learning rate (of the AdamW part under muon)")
    matrix_learning_rate: float = Field(default=0.02, gt=0, description="peak learning rate of Muon's matrices")
    betas: tuple[Share, Share] = Field(default=(0.9, 0.95), description="AdamW's moments")
    momentum: float = Field(default=0.95, ge=0, lt=1, description="of SGD and Muon")
    weight_decay: float = Field(default=0.1, ge=0, description="on matrices only; decoupled under adamw and muon")
    schedule: Literal["cosine", "linear", "wsd", "constant"] = Field(default="cosine", description="learning rate over the steps")
    warmup: float = Field(default=0.05, ge=0, lt=1, description="share of the steps that rise linearly")
    cooldown: float = Field(default=0.3, gt=0, le=1, description="share of the steps that fall, under wsd")
    final: float = Field(default=0.1, ge=0, le=1, description="last learning rate as a share of the peak")
    gradient_checkpointing: bool = Field(
        default=False, description="the layers' insides are computed again in the backward pass: a third more time, far less memory"
    )
    clip: float = Field(default=1.0, ge=0, description="largest gradient norm; 0: no clipping")
    evaluations: int | None = Field(
        default=None,
        ge=0,
        description="looks at the validation text during the run, evenly spaced; ten, or fewer in a short run, if not given",
    )
    evaluation_tokens: int = Field(default=100_000, ge=1, description="most validation tokens in such a look, evenly drawn from the text")
    test_tokens: Literal["all"] | Annotated[int, Field(ge=1)] | None = Field(
        default=None,
        description="most test tokens that the finished model is measured on, evenly drawn from the text, or all; "
        "1,000 for each second of a budget of time (10,000 at least) if not given",
    )
    samples: int | None = Field(default=None, ge=0, description="times that a sample is written during the run; by its length if not given")
    patience: int = Field(default=0, ge=0, description="stop after so many looks without improvement; 0: never")
    checkpoint_every: int | None = Field(default=None, ge=1, description="steps between checkpoints; about one a minute if not given")
    average: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="share of the steps, the last ones, of whose weights the mean is made: one of those that keep=best chooses among, "
        "and what keep=last keeps; 0: none",
    )
    keep: Literal["best", "last"] = Field(default="best", description="weights that the run ends with, by validation")

    @field_validator("budget")
    @classmethod
    def _budget_reads(cls, text: str) -> str:
        Budget.parse(text)
        return text.strip()


class AdapterSection(Section):
    """Low-rank maps beside those of a model that stays as it is (LoRA): they alone are learned."""

    rank: int = Field(default=16, ge=1, le=65536, description="rank of the maps")  # wider than any map is
    alpha: float | None = Field(default=None, gt=0, description="what they add is multiplied by alpha / rank; 2 × rank if not given")
    rank_stabilised: bool = Field(default=False, description="by alpha / √rank instead (rsLoRA)")
    dropout: float = Field(default=0.0, ge=0, lt=1, description="dropout on what they read")
    targets: list[str] | None = Field(
        default=None, min_length=1, description="names of the maps: q_proj, v_proj …; all linear maps of the layers if not given"
    )

    quantized: Literal["nf4"] | None = Field(
        default=None,
        description="how the layers' weights are kept beside which they are learned: nf4, in four bits (QLoRA); whole if not given",
    )

    @property
    def scale(self) -> float:
        """What the product of the two maps is multiplied by."""
        alpha = 2 * self.rank if self.alpha is None else self.alpha
        return alpha / (self.rank**0.5 if self.rank_stabilised else self.rank)


class Recipe(Section):
    """Everything that a run is made from."""

    family: str | None = Field(
        default=None,
        description="a name of bimo.families(), or several as a+b; text, budget and machine decide where nothing is said",
    )
    preset: str | None = Field(default=None, description="a file of bimo/recipes; by family and budget if not given")
    start: str | None = Field(
        default=None, description="a trained model to go on from: a run's folder, which gives family, shape, tokenizer and weights"
    )
    text: TextSection = Field(default_factory=TextSection)
    model: dict[str, Any] = Field(default_factory=dict, description="the family's own fields")
    objective: dict[str, Any] = Field(
        default_factory=dict, description="what is minimised: its name, the family's own if not given, and its fields"
    )
    adapter: AdapterSection | None = Field(default=None, description="low-rank maps to learn instead of all weights of `start`")
    training: TrainingSection = Field(default_factory=TrainingSection)

    @field_validator("family")
    @classmethod
    def _family_is_known(cls, name: str | None) -> str | None:
        return None if name is None else registry.family(name).name

    @property
    def name(self) -> str:
        """What a run of it is called: the family, or of a hybrid its parts, as in a+b."""
        return self.model_section().name if self.family == registry.HYBRID else self.family or "model"

    @property
    def label(self) -> str:
        """What people call the model."""
        return self.row.label.format(**self.model_section().model_dump())

    @property
    def row(self) -> registry.Family:
        """The family's row; a recipe that names none yet is a `RecipeError`."""
        if self.family is None:
            raise RecipeError("family: none is named; the dial picks one when a run begins")
        return registry.family(self.family)

    def model_section(self) -> Any:
        """The model section, checked against the family's own schema."""
        row = self.row
        return validated(row.load().Config, {**self.model, **row.preset}, "model")

    def objective_section(self) -> Any:
        """The objective section, checked against the objective's own schema; None for a family that counts, unless it names one."""
        row = self.row
        known = getattr(row.load(), "objectives", ())
        if row.learning != "gradient":
            if not self.objective:
                return None
            if self.objective.get("name") not in known:
                said = f"; it can learn by {', '.join(known)}, where objective.name says so" if known else ""
                raise RecipeError(f"objective: {self.family} is not learned by gradient and has none of its own{said}")
        name = self.objective.get("name", known[0] if known else "")
        schema = registry.load_objective(name).Config
        if name not in known:
            raise RecipeError(f"objective.name: {self.family} cannot learn by {name}; it can by {', '.join(known)}")
        return validated(schema, {**self.objective, "name": name}, "objective")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, from which `make_recipe` makes it again; fields that are still open are left out.

        Of a hybrid's training only what was said: what was not is each part's own to say, by its preset.
        """
        plain = self.model_dump(mode="json", exclude_none=True)
        if self.family == registry.HYBRID:
            plain["training"] = self.training.model_dump(mode="json", exclude_none=True, exclude_unset=True)
        return plain

    def dump(self) -> str:
        """The recipe as YAML; fields that are still open are left out."""
        return yaml.safe_dump(self.to_dict(), sort_keys=False, allow_unicode=True)

    def save(self, path: Path) -> None:
        """Write the recipe as YAML."""
        store.write_text(path, self.dump())


def presets() -> list[str]:
    """Names of the presets that come with Bimo."""
    return sorted(p.name.removesuffix(".yaml") for p in resources.files("bimo.recipes").iterdir() if p.name.endswith(".yaml"))


def preset(name: str) -> dict[str, Any]:
    """The preset called `name` as a plain mapping; an unknown name's error lists the known ones."""
    if name not in presets():
        raise RecipeError(f"preset: unknown name {name!r}; {did_you_mean(name, presets())}")
    return yaml.safe_load((resources.files("bimo.recipes") / f"{name}.yaml").read_text(encoding="utf-8"))


def _whole_preset(name: str) -> dict[str, Any]:
    """The preset called `name`, laid on the preset that it names itself."""
    values = preset(name)
    return merge(_whole_preset(values["preset"]), values) if values.get("preset") not in (None, name) else values


def default_preset(family: str | None, budget: Budget) -> str | None:
    """The preset of a family that is named and nothing more: its small one under two minutes, otherwise the middle one."""
    size = "small" if budget.seconds is not None and budget.seconds < 120 else "middle"
    names = [name for name in presets() if name == f"{family}-{size}"]
    return names[0] if names else None


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` laid on `base`, section by section.

    >>> merge({"a": {"x": 1, "y": 2}}, {"a": {"y": 3}})
    {'a': {'x': 1, 'y': 3}}
    """
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        merged[key] = merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged


def listed(words: str | Iterable[str]) -> list[str]:
    """Words as a list; a single one is a list of one, not of its letters.

    >>> listed("model.order=5"), listed(("a", "b"))
    (['model.order=5'], ['a', 'b'])
    """
    return [words] if isinstance(words, str) else list(words)


def parse_overrides(overrides: str | Iterable[str]) -> dict[str, Any]:
    """`section.key=value` words, or one, as a nested mapping; values are read as YAML.

    >>> parse_overrides(["model.order=5", "training.precision=fp32"])
    {'model': {'order': 5}, 'training': {'precision': 'fp32'}}
    """
    nested: dict[str, Any] = {}
    for word in listed(overrides):
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise RecipeError(f"{word!r}: expected section.key=value")
        try:
            parsed = yaml.safe_load(value)
        except yaml.YAMLError:
            raise RecipeError(f"{key}: cannot read the value {value!r}") from None
        if isinstance(parsed, str):  # YAML 1.1 reads 1e-3 as text
            with contextlib.suppress(ValueError):
                parsed = float(parsed)
        path = key.split(".")
        inner: dict[str, Any] = {path[-1]: parsed}
        for part in reversed(path[:-1]):
            inner = {part: inner}
        nested = merge(nested, inner)
    return nested


def read_recipe(path: Path) -> dict[str, Any]:
    """A recipe file as a plain mapping (its keys are checked by `make_recipe`)."""
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RecipeError(f"{path}: no such recipe") from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as cause:
        raise RecipeError(f"{path}: not valid YAML ({str(cause).splitlines()[0]})") from None
    except OSError as cause:
        raise RecipeError(f"{path}: cannot be read ({cause.strerror})") from None
    if not isinstance(values, dict):
        raise RecipeError(f"{path}: a recipe is a mapping of sections (family, text, model, training)")
    return values


def make_recipe(*layers: Mapping[str, Any]) -> Recipe:
    """A checked recipe from layers, the later ones winning, over the preset that they name or that the dial picks."""
    asked: dict[str, Any] = {}
    for layer in layers:
        asked = merge(asked, layer)
    asked = _spelled_out(asked)
    checked: Recipe = validated(Recipe, asked)
    if checked.family is None and checked.preset is None:
        if _is_open(checked):
            return checked
        asked = {**asked, "family": registry.DEFAULT}
        checked = validated(Recipe, asked)
    name = checked.preset or default_preset(checked.family, Budget.parse(checked.training.budget))
    if name is not None:
        base = _whole_preset(name)
        base_family = base.get("family")
        if "family" in asked and base_family is not None and base_family != asked["family"]:
            raise RecipeError(f"preset: {name} is for family {base_family}, not {asked['family']}")
        family = registry.family(base_family or checked.family or registry.DEFAULT).load()
        usual = next(iter(getattr(family, "objectives", ())), None)
        if checked.objective.get("name") not in (None, base.get("objective", {}).get("name", usual)):
            base = {**base, "objective": {}}  # the preset's settings are those of another one
        checked = validated(Recipe, merge(base, {**asked, "preset": name}))
    checked.model_section()
    checked.objective_section()
    return checked


OF_ANY = (
    "budget", "seed", "precision", "threads", "device", "compile", "evaluations", "evaluation_tokens", "test_tokens", "samples",
    "checkpoint_every",
)  # fmt: skip


def _is_open(recipe: Recipe) -> bool:
    """Whether nothing is said of what to train, so that the dial may pick it: neither its shape nor how it learns."""
    named = recipe.start or recipe.model or recipe.objective or recipe.text.tags
    return not named and recipe.training.model_fields_set <= set(OF_ANY)


def _spelled_out(asked: dict[str, Any]) -> dict[str, Any]:
    """A recipe whose family is a+b as one of a hybrid with these parts.

    >>> _spelled_out({"family": "ngram+lstm"})
    {'model': {'parts': ['ngram', 'lstm']}, 'family': 'hybrid'}
    """
    family = asked.get("family")
    if not isinstance(family, str) or "+" not in family:
        return asked
    words = [word.strip() for word in family.split("+")]
    if not all(words):
        raise RecipeError(f"family: {family!r}: a name is missing beside a +; write ngram+lstm, say")
    parts: list[str] = []
    while words:  # a folder's own name may hold a +: a comparison calls its hybrids so
        known = {*registry.families(), *registry.memories()}
        ends = (n for n in range(len(words), 1, -1) if not known.issuperset(words[:n]))
        end = next((n for n in ends if Path("+".join(words[:n])).is_dir()), 1)
        parts, words = [*parts, "+".join(words[:end])], words[end:]
    return merge({"model": {"parts": parts}}, {**asked, "family": registry.HYBRID})


def known_of(folder: str | Path) -> tuple[str | None, str | None]:
    """Name and label of the run in `folder`, as its recipe has them; None where there is no recipe that can be read."""
    file = Path(folder) / "recipe.yaml"
    if not file.is_file():
        return None, None
    try:
        recipe = make_recipe(read_recipe(file))
    except RecipeError:
        return None, None
    return recipe.name, recipe.label


GENTLE = {"optimizer": "adamw", "learning_rate": 1e-4, "schedule": "linear", "warmup": 0.1, "final": 0.0, "weight_decay": 0.01}


def going_on_from(folder: str) -> dict[str, Any]:
    """The layer of a recipe whose `start` is the run in `folder`: its family, shape and cleaning, and a gentle rate."""
    file = Path(folder) / "recipe.yaml"
    if not file.is_file():
        raise RecipeError(f"start: {folder} is no run of Bimo (no recipe.yaml); give the folder of a trained model")
    saved = read_recipe(file)
    if saved.get("family") == registry.HYBRID:
        raise RecipeError(f"start: {folder} is a hybrid, which has no weights to go on from; name it as a part: --family ngram+{folder}")
    text = {"clean": saved.get("text", {}).get("clean", {})}
    return {"family": saved.get("family"), "model": saved.get("model", {}), "text": text, "training": dict(GENTLE)}
