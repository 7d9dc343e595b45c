"""Processes of their own that need not import torch and the families again: forked from one that has."""

from __future__ import annotations

import multiprocessing

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["benchmarks.preloaded"])
