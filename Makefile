# Two commands do everything, set-up included, on a machine with Python 3.11 or newer:
#   make findings   measure the paper's findings with real vLLM on this CPU, bundled models
#   make test       the project's own tests

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip --disable-pip-version-check
TORCH = torch==2.13.0+cpu
ARGS ?=

.PHONY: findings test lint

findings: $(VENV)/ready
	$(BIN)/python -m pytest tests_findings $(ARGS)

test: lint
	$(BIN)/python -m pytest tests $(ARGS)

lint: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(VENV)/ready: requirements/cpu.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(PIP) install -q --no-deps $(TORCH) || \
	  $(PIP) install -q --no-deps $(TORCH) --index-url https://download.pytorch.org/whl/cpu
	$(PIP) install -q --no-deps -r requirements/cpu.lock
	$(PIP) install -q --no-deps --no-build-isolation -e .
	touch $@
