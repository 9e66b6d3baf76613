.DEFAULT_GOAL := help
VENV := .venv
BIN := $(VENV)/bin
GROUPS := sample ingest statistics train evaluate pipeline
PYTHON ?= python3
RUN_FLAGS := $(if $(RELEASE),--release '$(RELEASE)') $(if $(ROOT),--root '$(ROOT)') $(if $(RECIPE),--param recipe='$(RECIPE)')

help:  ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

# The stamp is younger than the locks exactly when the environment holds what they say.
$(VENV)/.stamp: requirements/dev.txt requirements/uv.txt pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v <= (3, 13) else "needs Python 3.11-3.13, this is %d.%d: make PYTHON=python3.12" % v)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements/uv.txt
	VIRTUAL_ENV=$(VENV) $(BIN)/uv pip sync --quiet --require-hashes requirements/dev.txt requirements/uv.txt
	VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

setup: $(VENV)/.stamp  ## make .venv from the hash-locked requirements

run: setup  ## the whole pipeline, locally; RELEASE=URI ROOT=URI RECIPE=NAME
	$(BIN)/alexnet run $(RUN_FLAGS)

test: setup  ## lint, types, pipeline.yaml up to date, all tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/alexnet compile --check
	$(BIN)/python -m pytest

lock: $(VENV)/.stamp  ## remake requirements/*.txt from pyproject.toml, in one resolution
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --group dev -o requirements/dev.txt
	@for group in $(GROUPS); do \
	  $(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --group $$group -c requirements/dev.txt -o requirements/$$group.txt || exit 1; \
	done

clean:  ## remove .venv and the default root
	rm -rf $(VENV) .alexnet

.PHONY: help setup run test lock clean
