# make run: the main job on the built-in sample. make test: all tests.
# Both set up .venv first; Python 3.11, pip and make are enough.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: run test lint clean

run: $(READY)
	$(BIN)/python -m beam_pipelines.prepare --output=data/sample --overwrite
	$(BIN)/python -m ncf_tfdata.train --flagfile=configs/sample.cfg --overwrite

test: $(READY)
	$(BIN)/python -m pytest

lint: $(READY)
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy

$(READY): setup.py constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt \
	    --editable '.[train,tfds,test,lint]'
	touch $@

clean:
	rm -rf $(VENV) data/sample runs build dist *.egg-info
