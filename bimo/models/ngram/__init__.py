"""The n-gram family: counting, smoothing, look-up."""

from bimo.models.ngram.config import NGramConfig
from bimo.models.ngram.model import NGram

__all__ = ["NGram", "NGramConfig"]
