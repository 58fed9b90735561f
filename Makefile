# make run: the main job on the built-in sample. make test: all tests.
# Both set up .venv first; Python 3.11, pip and make are enough.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin

# Of make headline: a ratings file, and the recipe to judge.
RATINGS ?= ml-1m/ratings.dat
RECIPE ?= configs/neumf-ml-1m.cfg
PREPARE ?= configs/prepare-he2017.cfg

READY := $(VENV)/.ready

.PHONY: run test lint headline clean

run: $(READY)
	$(BIN)/python -m beam_pipelines.prepare --output=data/sample --successors=200 \
	    --overwrite
	$(BIN)/python -m ncf_tfdata.train --flagfile=configs/sample.cfg --overwrite
	$(BIN)/python -m ncf_tfdata.train --flagfile=configs/sample-history.cfg --overwrite
	$(BIN)/python -m ncf_tfdata.evaluate --run_dir=runs/sample \
	    --baselines=popularity,ease,successors --compare_to=runs/sample-neumf

test: $(READY)
	$(BIN)/python -m pytest

lint: $(READY)
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy

headline: $(READY)
	$(BIN)/python benchmarks/headline.py --ratings=$(RATINGS) --recipe=$(RECIPE) \
	    --prepare=$(PREPARE)

$(READY): setup.py constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt \
	    --editable '.[train,tfds,test,lint]'
	touch $@

clean:
	rm -rf $(VENV) data/sample runs build dist *.egg-info
