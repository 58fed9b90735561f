# make run: the main job on the built-in sample. make test: all tests.
# Both set up .venv first; Python 3.11 to 3.13, pip and make are enough.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin

# Of make headline: a ratings file, and the recipe to judge.
RATINGS ?= ml-1m/ratings.dat
RECIPE ?= configs/neumf-ml-1m.cfg
PREPARE ?= configs/prepare-he2017.cfg

READY := $(VENV)/.ready
DATAFLOW ?= .venv-dataflow

.PHONY: run test test-fast test-scale coverage lint hooks headline clean
.PHONY: reference docs
.PHONY: prism faults test-engine test-dataflow test-java
.PHONY: bench bench-preparation bench-input bench-step bench-ranking bench-log-size \
    bench-seed bench-peers bench-time bench-foreign bench-libraries bench-engines \
    bench-compare

run: $(READY)
	$(BIN)/python -m beam_pipelines.prepare --output=data/sample --successors=200 \
	    --overwrite
	$(BIN)/python -m ncf_tfdata.train --flagfile=configs/sample.cfg --overwrite
	$(BIN)/python -m ncf_tfdata.train --flagfile=configs/sample-history.cfg --overwrite
	$(BIN)/python -m ncf_tfdata.evaluate --run_dir=runs/sample \
	    --baselines=popularity,ease,successors --compare_to=runs/sample-neumf

# Test files are spread over PROCESSES, each of which computes on one thread. What pytest
# makes of the files is kept in __pycache__, whatever the environment says.
PROCESSES ?= 3
PYTEST := PYTHONDONTWRITEBYTECODE= \
    TF_NUM_INTRAOP_THREADS=1 TF_NUM_INTEROP_THREADS=1 OPENBLAS_NUM_THREADS=1 \
    $(BIN)/python -m pytest --numprocesses=$(PROCESSES) --dist=loadfile \
    --no-loadscope-reorder

# Prism takes part where Go can build it, or PRISM names a binary.
test: $(READY)
	@test -n "$(PRISM)" || $(MAKE) --silent prism || echo 'The tests skip Prism.'
	$(PYTEST) --durations=10 -m 'not scale'

# What takes minutes by itself: EASE of 24,000 items, ten days of MovieLens-1M.
test-scale: $(READY)
	$(BIN)/python -m pytest -m scale

# What to run after each change: no test that is marked as long.
test-fast: $(READY)
	$(PYTEST) -m 'not slow and not engine and not realdata and not scale'

# Lines and branches that tests run, in commands that they start as well; TESTS may
# choose some.
coverage: $(READY)
	$(BIN)/python -m coverage erase
	COLD_COMMANDS=1 $(PYTEST) --cov --cov-report= $(TESTS)
	$(BIN)/python -m coverage report

# Beam's portable runner, built of its Go module.
prism: $(BIN)/prism

$(BIN)/prism: $(READY)
	GOBIN=$(abspath $(BIN)) go install \
	    github.com/apache/beam/sdks/v2/go/cmd/prism@v2.77.0

# Kills workers of a Dask cluster at FAULTS random moments.
FAULTS ?= 20
faults: $(READY)
	FAULTS=$(FAULTS) $(BIN)/python -m pytest -s tests/beam_pipelines/test_engine_faults.py

# Compares the bytes of any running Beam job service, ENDPOINT=host:port, with ours.
ENGINE_FLAGS ?= --environment_type=LOOPBACK
test-engine: $(READY)
	ENDPOINT=$(ENDPOINT) ENGINE_FLAGS='$(ENGINE_FLAGS)' \
	    $(BIN)/python -m pytest tests/beam_pipelines/test_engines.py -k any_job_service -rs

# Builds the Dataflow job offline, and prepares on an emulator of gs://, in an environment
# with Beam's Google Cloud part and without TensorFlow.
test-dataflow: $(DATAFLOW)/.ready
	$(DATAFLOW)/bin/python -m pytest tests/beam_pipelines/test_dataflow.py \
	    tests/ncf_tfdata/test_object_stores.py

# Asks an export from Java: Maven downloads 160 MB of TensorFlow.
test-java: $(READY)
	JAVA=1 $(BIN)/python -m pytest tests/ncf_tfdata/serving/test_java.py -rs

$(DATAFLOW)/.ready: setup.py
	$(PYTHON) -m venv $(DATAFLOW)
	$(DATAFLOW)/bin/python -m pip install --quiet --upgrade pip
	$(DATAFLOW)/bin/python -m pip install --quiet --editable '.[gcp]' \
	    gcp-storage-emulator hypothesis pytest
	$(DATAFLOW)/bin/python -m pip check
	touch $@

lint: $(READY)
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy

# Writes the reference pages of the flags from the commands; a test compares them.
reference: $(READY)
	$(BIN)/python scripts/write_reference.py

# The documentation site, in build/site. A dead link or anchor fails it.
docs: $(READY)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt \
	    --editable '.[docs]'
	$(BIN)/python scripts/write_reference.py --check
	$(BIN)/zensical build --clean --strict

# What `git commit` then checks: ruff and mypy, as `make lint`.
hooks: $(READY)
	$(BIN)/python -m pre_commit install

headline: $(READY)
	$(BIN)/python benchmarks/headline.py --ratings=$(RATINGS) --recipe=$(RECIPE) \
	    --prepare=$(PREPARE)

# Measures anew what benchmarks/results holds; about an hour, each part some minutes.
# These need nothing else but an idle machine, and about 40 GB in BENCH_DIR.
BENCH_DIR ?= /tmp/bench
SAMPLE_5M := $(BENCH_DIR)/sample-5m

bench: bench-preparation bench-input bench-step bench-ranking bench-log-size

bench-preparation: $(READY)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt \
	    --editable '.[bench]'
	$(BIN)/python benchmarks/scale.py --work_dir=$(BENCH_DIR)
	$(BIN)/python benchmarks/shapes.py --work_dir=$(BENCH_DIR)
	$(BIN)/python benchmarks/preparation_peer.py --work_dir=$(BENCH_DIR)

bench-input: $(READY)
	$(BIN)/python -m beam_pipelines.prepare --input=sample \
	    --sample_ratings=5000000 --train_negatives=32 --output=$(SAMPLE_5M) \
	    --overwrite
	$(BIN)/python benchmarks/input_pipeline.py --data_dir=$(SAMPLE_5M)

bench-step: $(READY)
	$(BIN)/python benchmarks/vocabulary.py

# Ten million items take 18 GiB of memory.
bench-ranking: $(READY)
	$(BIN)/python benchmarks/full_ranking.py
	$(BIN)/python benchmarks/catalogue.py

# Prepare, train, evaluate and recommend, of 1 M to 100 M ratings.
bench-log-size: $(READY)
	$(BIN)/python benchmarks/log_size.py --work_dir=$(BENCH_DIR)

# What changed by more than TOLERANCE since the results of a commit; fails if slower.
AGAINST ?= HEAD
TOLERANCE ?= .1
bench-compare: $(READY)
	$(BIN)/python benchmarks/compare.py --against=$(AGAINST) --tolerance=$(TOLERANCE)

# These need RATINGS, MovieLens-1M's ratings.dat, and what is named in each.
ML_1M := $(BENCH_DIR)/ml-1m

# The notebook that ours is measured against, its runner, and a Python for them.
SEED = --seed_python=$(SEED_PYTHON) --seed_script=$(SEED_SCRIPT) \
    --seed_file=$(SEED_FILE)

bench-seed: $(ML_1M)/manifest.json
	$(BIN)/python benchmarks/preparation.py --ratings=$(RATINGS) $(SEED)
	$(BIN)/python benchmarks/training.py --ratings=$(RATINGS) --data_dir=$(ML_1M) \
	    $(SEED)
	$(BIN)/python benchmarks/time_to_accuracy.py --ratings=$(RATINGS) \
	    --recipe=configs/neumf-ml-1m.cfg $(SEED)

# A Python with RecBole, and one with implicit.
bench-peers: $(ML_1M)/manifest.json
	$(BIN)/python benchmarks/recbole_peer.py --data_dir=$(ML_1M) --model=NeuMF \
	    --epochs=3 --recbole_python=$(RECBOLE_PYTHON)
	$(BIN)/python benchmarks/time_to_hr.py --data_dir=$(ML_1M) \
	    --recipe=configs/neumf-ml-1m.cfg --implicit_python=$(IMPLICIT_PYTHON)

# SASRec trains for an hour.
bench-time: $(ML_1M)/manifest.json
	$(BIN)/python benchmarks/history_step.py --data_dir=$(ML_1M)
	$(BIN)/python benchmarks/recbole_peer.py --data_dir=$(ML_1M) \
	    --output=$(BENCH_DIR)/sasrec.jsonl --recbole_python=$(RECBOLE_PYTHON)
	$(BIN)/python benchmarks/accuracy_over_time.py --data_dir=$(ML_1M) \
	    --recipes=configs/ml-1m.cfg,configs/neumf-ml-1m.cfg \
	    --names='history model,NeuMF' --curves=$(BENCH_DIR)/sasrec.jsonl \
	    --runs_dir=$(BENCH_DIR)/over_time

# Pythons with RePlay, RecTools and pyspark; a library without one is left out.
bench-libraries: $(READY)
	$(BIN)/python benchmarks/preparation_libraries.py --work_dir=$(BENCH_DIR) \
	    --replay_python=$(REPLAY_PYTHON) --rectools_python=$(RECTOOLS_PYTHON) \
	    --spark_python=$(SPARK_PYTHON)

# Needs Go and the extra `dask`.
bench-engines: $(READY) prism
	$(BIN)/python benchmarks/engine_workers.py --work_dir=$(BENCH_DIR) \
	    --prism=$(BIN)/prism

# Pythons with RecTools, implicit and LensKit. SASRec trains for an hour or two.
bench-foreign: $(READY)
	$(BIN)/python benchmarks/foreign_systems.py --input=$(RATINGS) \
	    --work_dir=$(BENCH_DIR)/foreign --rectools_python=$(RECTOOLS_PYTHON) \
	    --implicit_python=$(IMPLICIT_PYTHON) --lenskit_python=$(LENSKIT_PYTHON)

$(ML_1M)/manifest.json: $(READY)
	$(BIN)/python -m beam_pipelines.prepare --flagfile=configs/prepare-ml-1m.cfg \
	    --input=$(RATINGS) --output=$(ML_1M) --overwrite

$(READY): setup.py constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt \
	    --editable '.[train,tune,tfds,dask,test,lint]'
	touch $@

clean:
	rm -rf $(VENV) data/sample runs build dist *.egg-info
