# Every target sets itself up in .venv on first use; `make roadmap` and `make test` are all a newcomer needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: help roadmap figure test test-slow test-gpu lint types docs check hooks clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "make %-11s%s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(BIN)/roadmap: pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(INSTALL) --editable .
	@touch $@

$(VENV)/.dev $(VENV)/.docs $(VENV)/.ray: $(VENV)/.%: pyproject.toml constraints.txt | $(BIN)/roadmap
	$(INSTALL) --editable '.[$*]'
	@touch $@

roadmap: $(BIN)/roadmap ## train the nano roadmap on the embedded digits (17 steps x 3 seeds), table and figure
	$(BIN)/roadmap run regime=nano data=digits seeds=[0,1,2] workers=auto eval_every=5

figure: $(BIN)/roadmap ## draw the figure from the example runs, without training
	$(BIN)/roadmap figure runs/examples -o runs/examples.png

test: $(VENV)/.dev ## run the fast tests
	$(BIN)/python -m pytest -n auto -m "not slow and not gpu"

test-slow: $(VENV)/.dev ## run all tests
	$(BIN)/python -m pytest -n auto -m "not gpu"

test-gpu: $(VENV)/.dev ## compare a CUDA GPU with the CPU, and print its throughput
	$(BIN)/python -m pytest -vv -rs -m gpu tests/gpu

lint: $(VENV)/.dev ## check style and format with ruff
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev ## check types with mypy
	$(BIN)/mypy

docs: $(VENV)/.docs ## build the documentation into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

check: lint types docs test ## everything that a change has to pass

hooks: $(VENV)/.dev ## run lint and types before each commit (pre-commit)
	$(BIN)/pre-commit install

clean: ## remove .venv and everything built
	rm -rf $(VENV) build dist site *.egg-info
