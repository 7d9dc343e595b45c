"""Every error that Bimo raises on purpose, in one tree.

`UserError` is the user's mistake (exit code 2), `MachineError` ours or the machine's (exit code 1), `Interrupted` is
Ctrl-C (exit code 130). A message names the file or field, says what was found, and what to do.
"""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Iterable, Iterator


class BimoError(Exception):
    """Root of all errors that Bimo raises on purpose."""

    exit_code = 1


class BimoWarning(UserWarning):
    """Something was read or made, but not in every respect as its maker or the caller may expect; the message says in which."""


class UserError(BimoError):
    """The caller asked for something that cannot be done; the message says what to change."""

    exit_code = 2


class RecipeError(UserError):
    """A recipe, an override or an option holds an unknown key or a value out of range."""


class SourceError(UserError):
    """A text source is missing, empty or unreadable."""


class CorpusError(UserError):
    """A prepared corpus folder is missing, damaged or does not fit the model."""


class ModelError(UserError):
    """A model folder or file is missing, damaged or of an unknown kind."""


class CheckpointError(UserError):
    """A checkpoint is missing or damaged."""


class CapabilityError(UserError):
    """The model's family cannot do what was asked; the message names what it can do instead."""


class ContextError(UserError):
    """More tokens were fed than the model's context holds."""


class MachineError(BimoError):
    """The machine stopped us: a full disk, no memory, a worker that died."""


class DivergedError(MachineError):
    """Training met NaN or infinity, and the message names where the batch was saved; or its loss ended far above where it began."""


class NotMeasuredError(MachineError):
    """A model was trained and is kept, but its evaluation failed; the message says why, and how to measure it again."""


class Interrupted(BimoError):
    """Ctrl-C; the message says how to go on."""

    exit_code = 130


@contextlib.contextmanager
def memory_errors() -> Iterator[None]:
    """Turn want of memory, in each of the ways that Python, numpy and torch have to tell it, into a `MachineError`."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        by_torch = type(error).__name__ == "OutOfMemoryError" or "DefaultCPUAllocator" in str(error)
        if isinstance(error, RuntimeError) and not by_torch:
            raise
        raise MachineError("not enough memory; bimo plan tells what a run needs, a smaller training.batch_size needs less") from error


# What other programs call a setting of ours.
USUAL = {
    "lr": ("learning_rate",), "bs": ("batch_size",), "per_device_train_batch_size": ("batch_size",), "wd": ("weight_decay",),
    "gradient_accumulation_steps": ("accumulation",), "grad_accum": ("accumulation",), "max_grad_norm": ("clip",), "grad_clip": ("clip",),
    "warmup_steps": ("warmup",), "warmup_ratio": ("warmup",), "lr_scheduler_type": ("schedule",), "bf16": ("precision",),
    "epochs": ("budget",), "num_train_epochs": ("budget",), "max_steps": ("steps",), "eval_steps": ("evaluations",),
    "max_length": ("context", "max_new_tokens"), "max_seq_length": ("context",), "block_size": ("context",), "seq_len": ("context",),
    "n_ctx": ("context",), "max_tokens": ("max_new_tokens",), "n": ("num_return_sequences",), "stop_sequences": ("stop",),
    "n_layer": ("layers",), "num_layers": ("layers",), "num_hidden_layers": ("layers",), "n_head": ("heads",),
    "num_attention_heads": ("heads",), "hidden_size": ("width",), "d_model": ("width",), "n_embd": ("width",), "r": ("rank",),
    "lora_alpha": ("alpha",), "target_modules": ("targets",),
}  # fmt: skip


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Say which known names are near `word`, and list all of them when there are few.

    >>> did_you_mean("lsmt", ["ngram", "lstm"])
    'did you mean lstm? Known: lstm, ngram'
    >>> did_you_mean("lr", ["budget", "learning_rate"])
    'did you mean learning_rate? Known: budget, learning_rate'
    """
    names = sorted(known)
    near = [name for name in USUAL.get(word, ()) if name in names] or difflib.get_close_matches(word, names, n=2, cutoff=0.6)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    return f"{hint}Known: {', '.join(names)}"
