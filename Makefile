# Each target does its own set-up, on a machine with Python 3.11 or newer:
#   make findings            measure the paper's findings with real vLLM on this CPU, bundled models
#   make test                the linters and the project's own tests
#   make test-clients        the tests of the comparison of clients, benchmarks/clients
#   make lint                the linters, the type checker, and which room may import which
#   make recorded-answers    pin again what the recorded sessions answer
#   make recorded-sessions   measure the recorded sessions anew (an hour); ARGS=--plan only tells how

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip --disable-pip-version-check
TORCH = torch==2.13.0+cpu
ARGS ?=

.PHONY: findings test test-clients lint recorded-answers recorded-sessions

findings: $(VENV)/ready
	$(BIN)/python -m pytest tests_findings $(ARGS)

test: lint
	$(BIN)/python -m pytest tests $(ARGS)

test-clients: $(VENV)/ready
	$(BIN)/python -m pytest benchmarks/clients/tests $(ARGS)

lint: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

recorded-answers: $(VENV)/ready
	$(BIN)/python tests/recorded/sessions.py answers

recorded-sessions: $(VENV)/ready
	$(BIN)/python tests/recorded/sessions.py measure $(ARGS)

$(VENV)/ready: requirements/cpu.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(PIP) install -q --no-deps $(TORCH) || \
	  $(PIP) install -q --no-deps $(TORCH) --index-url https://download.pytorch.org/whl/cpu
	$(PIP) install -q --no-deps -r requirements/cpu.lock
	$(PIP) install -q --no-deps --no-build-isolation -e .
	touch $@
