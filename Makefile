# What one can do here. `make demo` and `make test` need only Python >= 3.11, make and git.
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
	  $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV   ?= .venv
BIN     = $(VENV)/bin
HEADLESS ?=
ARGS   ?=

.PHONY: help demo test soak models lint bench lock fmt peers clean
help:            ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

$(VENV)/.runtime: requirements.txt pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed: install it, then run make again."; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@

$(VENV)/.dev: requirements-dev.txt $(VENV)/.runtime
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.txt
	@touch $@

demo: $(VENV)/.runtime   ## a CT from one hospital to another's PACS; HEADLESS=1 approves by itself
	@$(BIN)/trauma-transfer demo $(if $(HEADLESS),--headless) $(ARGS)

test: $(VENV)/.dev peers   ## every test
	@$(BIN)/python -m pytest -n auto --dist worksteal $(ARGS)

soak: $(VENV)/.dev peers   ## faults, a lying relay and fuzzers, many seeds, for hours; SEED=n for one
	@SOAK=1 $(if $(SEED),SEED=$(SEED)) $(BIN)/python -m pytest -v -n auto --dist worksteal tests/faults tests/fuzz \
	  tests/property/test_transfer_model.py tests/integration/test_faults.py tests/integration/test_kill.py \
	  tests/integration/test_lying_relay.py tests/integration/test_tries.py $(if $(SEED),--hypothesis-seed=$(SEED)) \
	  --timeout 14400 $(ARGS)

models: $(VENV)/.dev     ## the formal models, run where ProVerif is installed
	@$(BIN)/python -m tests.models $(or $(TMPDIR),/tmp)/trauma-transfer-models

peers:           ## DCMTK, Orthanc and Chromium, where this user may install them
	@sh tests/peers.sh

lint: $(VENV)/.dev       ## style, types, directions of imports
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports --no-logo && \
	  $(BIN)/python -m clients.gateway.dicom.conformance --check

fmt: $(VENV)/.dev        ## put the style right
	@$(BIN)/ruff check --fix . ; $(BIN)/ruff format .

bench: $(VENV)/.dev      ## figures, never a test
	@$(BIN)/python -m tests.bench $(ARGS)

lock:            ## pin every dependency with hashes (needs uv)
	@uv pip compile -q --universal --generate-hashes --no-emit-index-url --python-version 3.11 --custom-compile-command "make lock" pyproject.toml -o requirements.txt
	@uv pip compile -q --universal --generate-hashes --no-emit-index-url --python-version 3.11 --custom-compile-command "make lock" pyproject.toml --extra dev -o requirements-dev.txt

clean:           ## forget the environment and the caches
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis build *.egg-info
