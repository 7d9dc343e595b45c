"""A GAN against the same generator learned by likelihood alone, for the same time, as curves of quality against diversity; JSON.

    python -m benchmarks.adversarial [names poems] [--budget 3m] [--seeds 0 1 2] [--count 1000] [--gan section.key=value …]

--pictures FOLDER draws them. names: makemore's, a name a line. poems: the five-character lines of Tang poems. For each seed the GAN learns
for the budget, and the likelihood alone for a budget of the seconds that the GAN took: same family, shape and batches. The likelihood
keeps its best weights by validation, the GAN its last: validation cannot choose those of a game.

Both draw `count` texts at each temperature. quality: forward, nats per token of drawn texts under a 4-gram of the test text; diversity:
reverse, nats per token of the test text under a 4-gram of the drawn texts (Caccia et al. 2018). The rule: a run's gap is the mean,
over the levels of diversity that both curves reach, of how many nats the GAN's quality is better at equal diversity. One side wins where
the mean of the gaps over the runs is farther from 0 than two of its standard errors; with fewer than three runs nobody wins.

Fields, for each text: runs (curves, gap, seconds of each side), real (as many training texts), gap (mean, standard_error), winner.
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.desk import ROOT, Desk, data_folder
from bimo import api
from bimo.data.corpus import Corpus
from bimo.evaluation.diversity import Measures, Reference, picture, quality_gap, real, sweep
from bimo.models.bundle import Bundle

TEMPERATURES = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.4)
FEWEST = 3  # runs to speak of a winner
BUDGET = "3m"  # of a run of the GAN
PICTURES = ROOT / "docs" / "pictures"
_LINE = re.compile(r"[\u3400-\u9fff\U00020000-\U000323af]+")


def five_character_lines(poems: Iterable[dict[str, Any]]) -> list[str]:
    """The lines of five Chinese characters of poems, without their punctuation.

    >>> five_character_lines([{"paragraphs": ["床前明月光，疑是地上霜。", "白日依山盡，黃河入海流！欲窮"]}])
    ['床前明月光', '疑是地上霜', '白日依山盡', '黃河入海流']
    """
    return [line for poem in poems for paragraph in poem["paragraphs"] for line in _LINE.findall(paragraph) if len(line) == 5]


def names(data: Path, folder: Path) -> Corpus:
    """A name a line; validation and test are dealt by fingerprint."""
    return api.prepare(data / "lm-makemore-names" / "names.txt", folder / "corpus", documents="line", tokenizer="char")


def poems(data: Path, folder: Path) -> Corpus:
    """A line a line, split by poem as the data are."""
    files = {}
    for split in ("train", "valid", "test"):
        with gzip.open(data / "lm-zh-poetry" / f"tang.{split}.jsonl.gz", "rt", encoding="utf-8") as file:
            lines = five_character_lines(map(json.loads, file))
        files[split] = folder / f"{split}.txt"
        files[split].write_text("\n".join(lines) + "\n", encoding="utf-8")
    held_out = {name: files[name] for name in ("valid", "test")}
    return api.prepare(files["train"], folder / "corpus", documents="line", tokenizer="char", **held_out)


TEXTS = {"names": names, "poems": poems}
SIDES = {  # what each side sets beside the preset
    "gan": ("training.keep=last",),
    "likelihood": ("training.keep=best", "objective.pretraining=1", "objective.discriminator_pretraining=0"),
}


def train(corpus: Path, out: Path, side: str, budget: str, seed: int, overrides: Sequence[str]) -> float:
    """`bimo train` in a process of its own; the seconds of learning."""
    command = [
        sys.executable, "-m", "bimo", "train", str(corpus), "--family", "gan", "--budget", budget, "--seed", str(seed), "--out", str(out),
        "--json", *overrides, *SIDES[side],
    ]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True)
    return float(json.loads(done.stdout)["used_seconds"])


def one_run(corpus: Corpus, folder: Path, seed: int, options: argparse.Namespace) -> dict[str, list[Measures] | float]:
    """Both sides with one seed: their curves and their seconds."""
    reference, found, budget = Reference.of(corpus), dict[str, Any](), options.budget
    for side in SIDES:
        out = folder / f"{side}-{seed}"
        found[f"{side}_seconds"] = train(corpus.folder, out, side, budget, seed, options.gan)
        budget = f"{found[f'{side}_seconds']:.2f}s"
        found[side] = sweep(Bundle.load(out), reference, options.temperatures, count=options.count, seed=seed)
        print(f"{folder.name}, run {seed}, {side}: {found[f'{side}_seconds']:.0f} s", file=sys.stderr, flush=True)
    return found


def verdict(gaps: Sequence[float | None]) -> dict[str, Any]:
    """Who wins by the rule above.

    >>> verdict([0.2, 0.3, 0.25])["winner"], verdict([-0.2, 0.3, 0.0])["winner"], verdict([-0.2, -0.3])["winner"]
    ('gan', 'neither', 'neither')
    """
    known = [gap for gap in gaps if gap is not None]
    if len(known) < max(2, len(gaps)):
        return {"mean": known[0] if len(gaps) == 1 and known else None, "standard_error": None, "winner": "neither"}
    mean, error = statistics.fmean(known), statistics.stdev(known) / math.sqrt(len(known))
    sure = len(known) >= FEWEST and abs(mean) > 2 * error
    return {"mean": mean, "standard_error": error, "winner": "neither" if not sure else "gan" if mean > 0 else "likelihood"}


def measure(name: str, options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """All runs of one text."""
    place = folder / name
    place.mkdir()
    corpus = TEXTS[name](options.data, place)
    runs = [one_run(corpus, place, seed, options) for seed in options.seeds]
    gaps = [quality_gap(run["gan"], run["likelihood"]) for run in runs]  # type: ignore[arg-type]
    if options.pictures:
        curves: dict[str, Any] = {side: runs[0][side] for side in SIDES}
        drawn = picture(curves, f"{name}: diversity against quality, the GAN and the likelihood alone")
        (options.pictures / f"adversarial-{name}.svg").write_text(drawn, encoding="utf-8")
    told = [{k: [m.to_dict() for m in v] if isinstance(v, list) else v for k, v in run.items()} for run in runs]
    with_gaps = [{**run, "gap": gap} for run, gap in zip(told, gaps, strict=True)]
    return judged(with_gaps, real(Reference.of(corpus), corpus.tokenizer.vocabulary, count=options.count).to_dict())


def judged(runs: Sequence[Mapping[str, Any]], real_text: Mapping[str, Any]) -> dict[str, Any]:
    """Runs of one text, what real text measures, and who wins."""
    return {"runs": list(runs), "real": real_text, **verdict([run["gap"] for run in runs])}


def adversarial(desk: Desk) -> dict[str, Any]:
    """The entry: every text and seed; the pictures show the first seed's curves."""

    def run(desk: Desk, of: tuple[str, int]) -> dict[str, Any]:
        name, seed = of
        pictures = ("--pictures", PICTURES) if seed == 0 else ()
        return desk.module("benchmarks.adversarial", name, "--budget", BUDGET, "--seeds", seed, *pictures)[name]

    seeds = range(desk.rounds or FEWEST)
    found = iter(desk.each(run, [(name, seed) for name in TEXTS for seed in seeds]))
    of_text = {name: [next(found) for _ in seeds] for name in TEXTS}
    return {name: judged([run for one in found for run in one["runs"]], found[0]["real"]) for name, found in of_text.items()}


def main() -> None:
    """Read the options, print the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("texts", nargs="*", help=f"of {', '.join(TEXTS)}; all if none")
    parser.add_argument("--budget", default=BUDGET, help="of a run of the GAN")
    parser.add_argument("--seeds", type=int, nargs="+", default=range(FEWEST))
    parser.add_argument("--count", type=int, default=1000, help="texts drawn at each temperature")
    parser.add_argument("--temperatures", type=float, nargs="+", default=TEMPERATURES)
    parser.add_argument("--data", type=Path, default=data_folder())
    parser.add_argument("--pictures", type=Path, help="a folder for the first seed's curves as SVG")
    parser.add_argument("--gan", nargs="*", default=[], metavar="section.key=value", help="for both sides")
    options = parser.parse_args()
    if unknown := set(options.texts) - set(TEXTS):
        parser.error(f"no text called {', '.join(sorted(unknown))}; there are {', '.join(TEXTS)}")
    with tempfile.TemporaryDirectory(prefix="bimo-adversarial-") as folder:
        print(json.dumps({name: measure(name, options, Path(folder)) for name in options.texts or TEXTS}, indent=2))


if __name__ == "__main__":
    main()
