# demo and test need nothing but Python >= 3.11 and make; everything they install lies in .venv/.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
# processes that share the tests, a file at a time; chosen tests run in one
WORKERS ?= $(if $(ARGS),0,2)

# what Python, pytest, Hypothesis, mypy and ruff would leave in the checkout goes into .venv
export PYTHONPYCACHEPREFIX := $(CURDIR)/$(VENV)/pycache
unexport PYTHONDONTWRITEBYTECODE # without byte code every command would compile the house anew
export HYPOTHESIS_STORAGE_DIRECTORY := $(CURDIR)/$(VENV)/hypothesis
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help demo test check format bench soak clean

help: ## what each target does
	@awk -F':.*## ' '/^[a-z]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/demo.stamp ## the whole job on an embedded Postgres and simulated BMCs (DEMO="--keep")
	@$(BIN)/pmcompat demo $(DEMO)

test: $(VENV)/test.stamp ## the tests (ARGS="-k name" to choose)
	@$(BIN)/python -m pytest -m "not soak" -n $(WORKERS) --dist loadfile $(ARGS)

check: $(VENV)/check.stamp ## format, lint, types, import layers
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/python -m pytest -q tests/test_layers.py

format: $(VENV)/check.stamp ## put the code into the one format
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

soak: $(VENV)/test.stamp ## the long counts
	@$(BIN)/python -m pytest -m soak --timeout 3600 $(ARGS)

bench: $(VENV)/bench.stamp ## the measurements, beside their peers
	@for f in tests/bench/bench_*.py; do echo "== $$f"; $(BIN)/python $$f || exit 1; done

clean: ## remove what was installed
	@rm -rf $(VENV)

# One environment; each stamp adds its extra. The interpreter is checked first, with a sentence instead of a traceback.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "pmcompat needs Python 3.11 or newer; this is %d.%d: make PYTHON=python3.12 ..." % sys.version_info[:2])'
	@$(PYTHON) -m venv $(VENV)

$(VENV)/%.stamp: pyproject.toml $(BIN)/python
	@echo "installing pmcompat[$*] into $(VENV)/ ..."
	@$(BIN)/python -m pip install --quiet --editable '.[$*]'
	@touch $@
