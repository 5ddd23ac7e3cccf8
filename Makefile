# Everything sets itself up in .venv on first use; `make roadmap` and `make test` are all a newcomer needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help roadmap test test-slow lint types check figure clean

help:
	@echo "make roadmap    train the nano roadmap on the embedded digits (17 steps x 3 seeds), table and figure"
	@echo "make test       the fast tests;  make test-slow: all of them"
	@echo "make lint types ruff and mypy"
	@echo "make figure     the figure from the example runs, without training"

$(BIN)/roadmap: pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable . --constraint constraints.txt
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/roadmap
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]' --constraint constraints.txt
	@touch $@

roadmap: $(BIN)/roadmap
	$(BIN)/roadmap run regime=nano data=digits seeds=[0,1,2]

figure: $(BIN)/roadmap
	$(BIN)/roadmap figure runs/examples -o runs/examples.png

test: $(VENV)/.dev
	$(BIN)/python -m pytest -n auto -m "not slow"

test-slow: $(VENV)/.dev
	$(BIN)/python -m pytest -n auto

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/mypy

check: lint types test

clean:
	rm -rf $(VENV) build dist *.egg-info
