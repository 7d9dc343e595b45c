# Two commands do all the set-up on a fresh machine: `make quickstart` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: quickstart test lint evidence bench wheel clean

quickstart: $(VENV)/.core
	$(BIN)/bimo quickstart

test: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/python -m pytest -n auto --maxprocesses 8 --dist worksteal

lint: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/lint-imports
	$(BIN)/pyright --pythonpath $(BIN)/python

# Other programs that are built from source (a C++ compiler and cmake), which takes long: where a figure beside them is asked for.
BESIDE_PEERS := smollm2 ngram-kenlm
NEEDED := $(if $(ONLY),$(if $(filter $(BESIDE_PEERS),$(ONLY)),.peers,.dev),.peers)

# Slow evidence, one figure at a time, skipping what is there and current; ONLY="name …" picks some.
evidence: $(VENV)/$(NEEDED)
	$(BIN)/python -m benchmarks.evidence $(ONLY)

# Side-by-side timings against public peers.
bench: $(VENV)/$(NEEDED)
	$(BIN)/python -m benchmarks.bench $(ONLY)

wheel: $(VENV)/.dev
	$(BIN)/python -m build --wheel

clean:
	rm -rf $(VENV) dist runs .pytest_cache .ruff_cache

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.core: $(VENV)/bin/python pyproject.toml constraints.txt
	$(INSTALL) -e ".[all]"
	touch $@

$(VENV)/.dev: $(VENV)/bin/python pyproject.toml constraints.txt
	$(INSTALL) -e ".[dev]"
	touch $@ $(VENV)/.core

$(VENV)/.peers: $(VENV)/.dev
	$(INSTALL) -e ".[dev,peers]"
	touch $@
