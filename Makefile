# One command for each thing that people do here; every target makes what it needs first.
#
# There is one virtual environment, filled in two steps. `make demo` needs only the package and its run-time
# dependencies, so that is the first step; the second adds the [test] extra on top for everything else. One
# environment instead of two keeps the demo's install small and never shows the demo other versions than the
# tests saw. A stamp file ends each step, so a second `make` goes straight to work.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LIGHT := $(VENV)/.light-ready
READY := $(VENV)/.test-ready
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
# Where tests are spread over processes, and what they are told; `make test PYTEST_ARGS="-k merkle"`.
WORKERS ?= 2
PYTEST_ARGS ?=
# What the campaigns measure.
CAMPAIGN ?= rebuild refresh asof keyed compact

.DEFAULT_GOAL := test
.PHONY: demo test lint bench campaign-10m campaign-50m campaign-backend format soak redun-suite redun-suite-core clean

demo: $(LIGHT)
	$(BIN)/eventstore demo

test: lint
	$(BIN)/pytest -n $(WORKERS) -m "not soak" $(PYTEST_ARGS)

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

bench: $(READY)
	$(BIN)/python -m tools.bench all

# Long campaigns: a store of so many events is made once, in build/, and asked for everything that depends on size.
campaign-10m: $(READY)
	$(BIN)/python -m tools.bench $(CAMPAIGN) --size 10000000 --repeats 1 --folder build/campaign

campaign-50m: $(READY)
	$(BIN)/python -m tools.bench $(CAMPAIGN) --size 50000000 --repeats 1 --folder build/campaign

# redun's backend beside redun's own, on stores of up to 1,000,000 jobs.
campaign-backend: $(READY)
	$(BIN)/python -m tools.bench scheduler backend questions opening --size 1000000 --folder build/campaign

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Long campaigns; HYPOTHESIS_PROFILE is read by tests/conftest.py.
soak: $(READY)
	HYPOTHESIS_PROFILE=soak $(BIN)/pytest -n $(WORKERS) -m soak $(PYTEST_ARGS)

# redun's own tests, unchanged, on our backend; what they need beside this environment goes to build/redun-suite.
redun-suite: $(READY)
	$(BIN)/python -m tools.redun_suite --workers $(WORKERS)

# Those of its files that say most of a backend, in half a minute.
CORE := $(addprefix test_,$(addsuffix .py,context dataflow db db_query handle partial_task serializers tags value value_store))
redun-suite-core: $(READY)
	$(BIN)/python -m tools.redun_suite --workers $(WORKERS) $(CORE)

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache dist demo-store
	find eventstore projections tests tools -name __pycache__ -type d -prune -exec rm -rf {} +

# The build backend comes from constraints.txt too: an isolated build would fetch whatever is newest.
$(LIGHT): constraints.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Python 3.11 or newer was expected, found: $$($(PYTHON) --version 2>&1)." \
	       "Say which to use: make PYTHON=python3.11" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PIP_INSTALL) hatchling editables
	$(PIP_INSTALL) --no-build-isolation --editable .
	@touch $@

# The Azure emulator is an npm package; where there is no npm, or no network, the tests on it are skipped and say so.
$(READY): $(LIGHT)
	$(PIP_INSTALL) --no-build-isolation --editable '.[test]'
	@if command -v npm > /dev/null; then $(BIN)/python -m tools.emulators \
	  || echo "The Azure emulator was not installed; tests on it will be skipped." >&2; fi
	@touch $@
