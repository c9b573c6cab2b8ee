# Each target does its own set-up, on a machine with Python 3.11 or newer:
#   make findings            measure the paper's findings with real vLLM on this CPU, bundled models
#   make test                the linters and the project's own tests
#   make test-clients        the tests of the comparison of clients, benchmarks/clients
#   make sglang-cpu          SGLang for this CPU in .venv-sglang: --rllm-engine sglang@.venv-sglang;
#                            SGLANG=0.5.22 SGLANG_VENV=.venv-sglang-old for another version of it
#   make test-sglang         the tests of SGLang's adapter, on that SGLang
#   make conformance         run the conformance suite on all four real engines, and write what they
#                            were seen to do into docs/conformance and docs/engines.md
#   make findings-page       write docs/findings.md of the files in docs/findings
#   make lint                the linters, the type checker, and which room may import which
#   make recorded-answers    pin again what the recorded sessions answer
#   make recorded-sessions   measure the recorded sessions anew (an hour); ARGS=--plan only tells how

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip --disable-pip-version-check
TORCH = torch==2.13.0+cpu
SGLANG ?=
SGLANG_VENV ?= .venv-sglang
SGLANG_PIP = $(SGLANG_VENV)/bin/python -m pip --disable-pip-version-check
STAND_IN = $(CURDIR)/tests/doubles/sglang_cpu_stand_in
SUITES = tests/test_conformance.py::TestVllm tests/test_llamacpp.py::TestLlamaCpp \
  tests/test_transformers_serve.py::TestTransformersServe tests/test_sglang.py::TestSglangOnCpu
ARGS ?=

.PHONY: findings test test-clients sglang-cpu test-sglang conformance findings-page lint recorded-answers recorded-sessions

findings: $(VENV)/ready
	$(BIN)/python -m pytest tests_findings -o testpaths=tests_findings $(ARGS)

# With CI=true an undecided claim fails, as in CI; without it, such a claim is skipped.
test: lint
	CI=true $(BIN)/python -m pytest tests $(ARGS)

test-clients: $(VENV)/ready
	$(BIN)/python -m pytest benchmarks/clients/tests $(ARGS)

sglang-cpu: $(SGLANG_VENV)/ready

test-sglang: $(VENV)/ready $(SGLANG_VENV)/ready
	$(BIN)/python -m pytest tests/test_sglang.py $(ARGS)

conformance: $(VENV)/ready $(SGLANG_VENV)/ready
	SGLANG_VENV=$(SGLANG_VENV) $(BIN)/python -m pytest $(SUITES) \
	  --rllm-conformance docs/conformance $(ARGS)
	$(BIN)/python -m pytest_rllm conformance docs/conformance --page docs/engines.md

findings-page: $(VENV)/ready
	$(BIN)/python -m pytest_rllm findings docs/findings --page docs/findings.md

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

# Text models on a CPU need no torchaudio, and neither SGLang's compiled kernels nor torchvision's:
# what takes their place is in tests/doubles/sglang_cpu_stand_in, for tests only.
$(SGLANG_VENV)/ready: requirements/sglang-cpu.lock
	$(PYTHON) -m venv $(SGLANG_VENV)
	$(SGLANG_PIP) install -q --no-deps $(TORCH) || \
	  $(SGLANG_PIP) install -q --no-deps $(TORCH) --index-url https://download.pytorch.org/whl/cpu
	$(SGLANG_PIP) install -q --no-deps -r requirements/sglang-cpu.lock
	$(if $(SGLANG),$(SGLANG_PIP) install -q --no-deps sglang==$(SGLANG))
	printf '%s\nimport torchvision_operators_stand_in\n' $(STAND_IN) > \
	  "$$($(SGLANG_VENV)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/sglang_cpu_stand_in.pth"
	touch $@
