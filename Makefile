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
DATAFLOW ?= .venv-dataflow

.PHONY: run test lint headline clean
.PHONY: prism faults test-engine test-dataflow

run: $(READY)
	$(BIN)/python -m beam_pipelines.prepare --output=data/sample --successors=200 \
	    --overwrite
	$(BIN)/python -m ncf_tfdata.train --flagfile=configs/sample.cfg --overwrite
	$(BIN)/python -m ncf_tfdata.train --flagfile=configs/sample-history.cfg --overwrite
	$(BIN)/python -m ncf_tfdata.evaluate --run_dir=runs/sample \
	    --baselines=popularity,ease,successors --compare_to=runs/sample-neumf

# Prism takes part where Go can build it, or PRISM names a binary.
test: $(READY)
	@test -n "$(PRISM)" || $(MAKE) --silent prism || echo 'The tests skip Prism.'
	$(BIN)/python -m pytest

# Beam's portable runner, built of its Go module.
prism: $(BIN)/prism

$(BIN)/prism: $(READY)
	GOBIN=$(abspath $(BIN)) go install \
	    github.com/apache/beam/sdks/v2/go/cmd/prism@v2.77.0

# Kills workers of a Dask cluster at FAULTS random moments.
FAULTS ?= 20
faults: $(READY)
	FAULTS=$(FAULTS) $(BIN)/python -m pytest -s tests/test_engine_faults.py

# Compares the bytes of any running Beam job service, ENDPOINT=host:port, with ours.
ENGINE_FLAGS ?= --environment_type=LOOPBACK
test-engine: $(READY)
	ENDPOINT=$(ENDPOINT) ENGINE_FLAGS='$(ENGINE_FLAGS)' \
	    $(BIN)/python -m pytest tests/test_engines.py -k any_job_service -rs

# Builds the Dataflow job offline, in an environment with Beam's Google Cloud part
# and without TensorFlow.
test-dataflow: $(DATAFLOW)/.ready
	$(DATAFLOW)/bin/python -m pytest tests/test_dataflow.py

$(DATAFLOW)/.ready: setup.py
	$(PYTHON) -m venv $(DATAFLOW)
	$(DATAFLOW)/bin/python -m pip install --quiet --upgrade pip
	$(DATAFLOW)/bin/python -m pip install --quiet --editable '.[gcp]' \
	    hypothesis pytest
	$(DATAFLOW)/bin/python -m pip check
	touch $@

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
	    --editable '.[train,tfds,dask,test,lint]'
	touch $@

clean:
	rm -rf $(VENV) data/sample runs build dist *.egg-info
