# make demo: the main job on a fresh machine. make test: every test.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

.PHONY: demo test lint format clean

demo: $(VENV)/.demo
	$(BIN)/python -m experiments.pareto --config=configs/digits.py

test: $(VENV)/.test
	$(BIN)/python -m pytest -n 2 --dist worksteal

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build *.egg-info

$(VENV)/.demo: setup.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable .
	touch $@

$(VENV)/.test: $(VENV)/.demo
	$(BIN)/pip install --quiet --editable ".[test]"
	touch $@

$(VENV)/.dev: $(VENV)/.test
	$(BIN)/pip install --quiet --editable ".[dev]"
	touch $@
