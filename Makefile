# `make demo` and `make test` set up .venv on a fresh machine with Python 3.11 or newer and nothing else.
PYTHON ?= python3
BIN := .venv/bin
export OMP_WAIT_POLICY ?= PASSIVE  # two spinning threads starve each other when anything else runs

.PHONY: demo test slow bench lint

.venv/ready: pyproject.toml constraints.txt $(wildcard forecast/models/layers/*.c)
	$(PYTHON) -c 'import sys; sys.exit("forecast needs Python 3.11 or newer" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --progress-bar off -c constraints.txt -e ".[dev]"
	touch $@

demo: .venv/ready
	$(BIN)/forecast fit etth1 --config configs/demo.yaml --register ETTh1
	$(BIN)/forecast predict models:/ETTh1@champion datasets/ETTh1.csv --levels 80,95 -o forecast.csv
	head -n 3 forecast.csv

test: .venv/ready
	$(BIN)/python -m pytest -q -n 2 -m "not slow and not gpu and not bench"

slow: .venv/ready
	$(BIN)/python -m pytest -q -m slow

bench: .venv/ready
	$(BIN)/python -m pytest -q -s -m bench tests/bench

lint: .venv/ready
	$(BIN)/ruff format --check . && $(BIN)/ruff check . && $(BIN)/mypy
