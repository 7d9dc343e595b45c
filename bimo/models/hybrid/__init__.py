"""Hybrids: several models over one vocabulary that tell the next token together."""

from bimo.models.hybrid.config import HybridConfig, Part
from bimo.models.hybrid.model import Hybrid

__all__ = ["Hybrid", "HybridConfig", "Part"]
