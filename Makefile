# Concord. `make demo` needs no torch; `make test` adds what training and the tests need.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c requirements/dev.lock
PINS := pyproject.toml requirements/dev.lock
BARS ?=
export PYTHONUTF8 := 1

.PHONY: help demo test serve bench openapi compose-test observe-test lock clean

help:  ## say what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' Makefile

demo: $(VENV)/.play  ## play one trading day through the service (BARS=path/to/bars.parquet for real data)
	@$(BIN)/python -m service.play $(if $(BARS),--bars '$(BARS)')

test: $(VENV)/.dev  ## run the default test suite
	@$(BIN)/python -m pytest

serve: $(VENV)/.play  ## run the service on 127.0.0.1:8000 with its embedded store
	@$(BIN)/python -m service

bench: $(VENV)/.dev  ## measure the step latency and the simulator
	@$(BIN)/python -m tests.bench

openapi: $(VENV)/.dev  ## write docs/openapi.json and the examples in it anew, after a change of the interface
	@$(BIN)/python -m tests.service.story

compose-test: $(VENV)/.play  ## build the container stack, kill its parts in the middle of a day, check (CONTAINER_COMPOSE="docker compose")
	@$(BIN)/python tests/compose/compose_test.py

observe-test: $(VENV)/.play  ## start the stack's profile `observe`, check every alert and panel against it
	@$(BIN)/python tests/compose/observe_test.py

lock: build/uv/bin/uv  ## renew requirements/*.lock with releases that are at least a week old
	@UV="$<" sh requirements/lock.sh

clean:  ## remove the environment and everything that was made (not models/)
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache *.egg-info
	find service training tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/pyvenv.cfg:
	@$(PYTHON) -c 'import sys; sys.exit("Concord needs Python 3.11 or newer, this is %d.%d: make PYTHON=python3.12 ..." % sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
	@echo "creating $(VENV)"
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.play: $(PINS) | $(VENV)/pyvenv.cfg
	@echo "installing Concord and the demo into $(VENV)"
	@$(PIP) -e '.[play,calendars]'
	@touch $@

$(VENV)/.dev: $(VENV)/.play
	@echo "installing what training and the tests need into $(VENV)"
	@$(PIP) -e '.[dev]'
	@touch $@

build/uv/bin/uv:
	@$(PYTHON) -m venv build/uv
	@build/uv/bin/python -m pip install --quiet --disable-pip-version-check uv==0.13.9
