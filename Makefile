# make demo paints a picture; make test runs every check. Both set up .venv by themselves.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
export HF_HUB_OFFLINE := 1
PROMPT ?= an octopus, noto style on a cyan background

.PHONY: demo test lint benchmarks clean

demo: $(READY)
	@$(BIN)/nodegraph run workflows/unclip_large.json --set prompt="$(PROMPT)"

test: $(READY) lint
	$(BIN)/python -m pytest tests/null
	$(BIN)/python -m pytest tests/cpu tests/gpu

lint: $(READY)
	$(BIN)/ruff check nodegraph nodes tests training benchmarks tools docs
	$(BIN)/ruff format --check nodegraph nodes tests training benchmarks tools docs
	$(BIN)/mypy

benchmarks: $(READY)
	$(BIN)/python benchmarks/overhead.py
	$(BIN)/python benchmarks/watch.py
	$(BIN)/python benchmarks/packs.py

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[test,sde]"
	$(BIN)/python -m compileall -q nodegraph nodes   # so that commands start at once also where Python writes no bytecode
	@touch $(READY)

clean:
	rm -rf $(VENV) build dist output .pytest_cache .ruff_cache .mypy_cache
