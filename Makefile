.DEFAULT_GOAL := help
VENV := .venv
BIN := $(VENV)/bin
LINT := .venv-lint
MANIFESTS := base overlays/local overlays/gke overlays/s3 smoke
GROUPS := sample ingest statistics train train-gpu evaluate evaluate-gpu outcome pipeline build
PYTHON ?= python3
JOBS ?= 2
WORKERS := --numprocesses=$(JOBS) --dist=loadfile --no-loadscope-reorder
FAST := 'not slow and not docker and not alone'
TRAIN_TESTS := tests/train tests/evaluate tests/statistics tests/ingest
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

$(LINT)/.stamp: requirements/lint.txt $(VENV)/.stamp
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(LINT)
	VIRTUAL_ENV=$(LINT) $(BIN)/uv pip sync --quiet --require-hashes requirements/lint.txt
	@touch $@

run: setup  ## the whole pipeline, locally; RELEASE=URI ROOT=URI RECIPE=NAME
	$(BIN)/alexnet run $(RUN_FLAGS)

lint: $(LINT)/.stamp  ## Dockerfile and manifests by hadolint and checkov; {docker,k8s}/checkov.yaml say what is skipped
	$(LINT)/bin/hadolint docker/Dockerfile
	$(LINT)/bin/checkov --config-file docker/checkov.yaml
	@render="$$(command -v kustomize >/dev/null && echo kustomize build || { command -v kubectl >/dev/null && echo kubectl kustomize; })"; \
	if [ -z "$$render" ]; then echo "neither kustomize nor kubectl: the manifests in k8s/ are not checked"; exit 0; fi; \
	rm -rf build/k8s && mkdir -p build/k8s && \
	for folder in $(MANIFESTS); do $$render k8s/$$folder > build/k8s/$${folder##*/}.yaml || exit 1; done && \
	$(LINT)/bin/checkov --config-file k8s/checkov.yaml

# Two at a time: what reads the sources, and the fast tests in two processes, each of which imports
# what its folders need and no more; workers of pytest-xdist would both import everything.
check: setup  ## in a minute: format, lint, types, pipeline.yaml up to date, the fast tests
	@$(MAKE) --no-print-directory --jobs=$(JOBS) --keep-going --output-sync=target \
	  fast-tests-train fast-tests-pipeline sources

sources: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/deptry .
	$(BIN)/alexnet compile --check
	$(BIN)/pyright

fast-tests-train: setup
	$(BIN)/python -m pytest -m $(FAST) $(TRAIN_TESTS)

fast-tests-pipeline: setup
	$(BIN)/python -m pytest -m $(FAST) $(TRAIN_TESTS:%=--ignore=%)

unit: setup  ## the tests without containers
	$(BIN)/python -m pytest $(PYTEST_FLAGS) $(WORKERS) -m 'not alone and not docker'
	$(BIN)/python -m pytest $(PYTEST_FLAGS) -m 'alone and not docker'

test: setup lint sources  ## lint, types, pipeline.yaml up to date, all tests
	$(BIN)/python -m pytest $(PYTEST_FLAGS) $(WORKERS) -m 'not alone'
	$(BIN)/python -m pytest $(PYTEST_FLAGS) -m alone

docs: setup  ## build the site into build/site
	$(BIN)/python -m mkdocs build --strict

lock: $(VENV)/.stamp  ## remake requirements/*.txt from pyproject.toml, in one resolution
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --group dev -o requirements/dev.txt
	@for group in $(GROUPS); do \
	  $(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --group $$group -c requirements/dev.txt -o requirements/$$group.txt || exit 1; \
	done
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --group lint -o requirements/lint.txt

clean:  ## remove .venv and the default root
	rm -rf $(VENV) $(LINT) .alexnet

.PHONY: help setup run lint check sources fast-tests-train fast-tests-pipeline unit test docs lock clean
