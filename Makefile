# One command per habit, the same at home and in CI.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help demo test check fmt bench chaos docs lock clean

help:  ## show this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

$(STAMP): requirements.lock pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "everstep: installing the locked packages into $(VENV)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: $(STAMP)  ## run the example task on the embedded server and the bundled model (KILL=1: kill the worker in the middle)
	@$(BIN)/python -m examples.demo $(if $(KILL),--kill-worker)

test: $(STAMP)  ## run every test
	@# hundreds of processes of ours are started: each would compile the engine anew if none may keep what it compiled
	@PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest tests -n auto --dist loadfile --no-loadscope-reorder --max-worker-restart 0

check: $(STAMP)  ## types, lint, format and import contracts
	@$(BIN)/mypy
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports

fmt: $(STAMP)  ## format the code
	@$(BIN)/ruff check --fix --quiet .
	@$(BIN)/ruff format .

bench: $(STAMP)  ## measure W1-W5, W7 and the herd against hand-written workflows, reads of a large store, streams, failing over, cancels, searches
	@$(BIN)/python -m benchmarks
	@$(BIN)/python -m benchmarks projection
	@$(BIN)/python -m benchmarks streams
	@$(BIN)/python -m benchmarks failover
	@$(BIN)/python -m benchmarks cancels
	@$(BIN)/python -m benchmarks docs

chaos: $(STAMP)  ## the long form of the crash and property tests
	@$(BIN)/python -m pytest tests/chaos tests/property --chaos=full -p no:cacheprovider

docs: $(STAMP)  ## make the reference pages from the code and check the documents
	@$(BIN)/python deploy/docs.py
	@$(BIN)/python -m pytest tests/arch/test_docs.py

lock: $(STAMP)  ## resolve deploy/*.in into requirements.lock (versions and hashes, no index address)
	@$(BIN)/python deploy/lock.py

clean:  ## remove what was installed and built
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
