# make demo | test | lint | engines | lock | venv | clean-venv       (make help says more)
VENV    ?= .venv
WORKDIR ?= demo_run
CORPUS  ?=
# Workers of the test suite: each holds a TensorFlow of its own (1 to 2 GB).
JOBS    ?= 2

# Imports of TensorFlow and Beam are ten times slower without bytecode files.
unexport PYTHONDONTWRITEBYTECODE PYTHONPATH PYTHONHOME TF_USE_LEGACY_KERAS KERAS_BACKEND
export TF_CPP_MIN_LOG_LEVEL ?= 3
export VENV PYTHON

.PHONY: help demo test lint engines venv lock clean-venv
.DEFAULT_GOAL := help

help:
	@echo 'make demo [CORPUS=DIR] [WORKDIR=demo_run]  from audio files to a served student; resumes where it stopped'
	@echo 'make test [JOBS=2]                         lint and the test suite; CI calls exactly this'
	@echo 'make lint                                  ruff and import-linter'
	@echo 'make engines                               Flink and Prism into build/engines, for tests that skip without'
	@echo 'make lock                                  requirements/python3.1?.lock from requirements/requirements.in'
	@echo 'make venv [PYTHON=INTERPRETER]             the environment alone (all others make it too)'

venv:
	@bash tools/make_venv.sh

demo: venv
	@'$(VENV)/bin/python' -m tf_rnnt_kd.demo --workdir='$(WORKDIR)' $(if $(CORPUS),--corpus='$(CORPUS)')

lint: venv
	@'$(VENV)/bin/ruff' check .
	@'$(VENV)/bin/lint-imports' --no-logo

# By file, so that what a file's tests share (a traced graph, a small SavedModel) is made once. In parts, because a process
# keeps the programs that XLA has compiled in it: after the whole suite two workers would hold 20 GB.
LATTICE_TESTS = tests/lattice tests/losses tests/models tests/decoding
TRAINING_TESTS = tests/training tests/serving
# The longest file first, so that it does not run alone at the end.
OTHER_TESTS = tests/test_demo.py \
  $(filter-out tests/test_demo.py $(LATTICE_TESTS) $(TRAINING_TESTS) tests/__pycache__,$(wildcard tests/*))

test: lint
	@status=0; for part in '$(OTHER_TESTS)' '$(LATTICE_TESTS)' '$(TRAINING_TESTS)'; do \
	  '$(VENV)/bin/python' -m pytest -n $(JOBS) --dist loadfile $$part || status=1; \
	done; exit $$status

# Needs Java, Maven and Go, and nothing else of the project does.
engines: venv
	@'$(VENV)/bin/python' -m tools.engines.fetch flink prism

# uv resolves apache-beam's Google Cloud dependencies in seconds; the locks hold versions only, no addresses.
lock: venv
	@'$(VENV)/bin/python' -m venv build/lock
	@build/lock/bin/python -m pip install -q --upgrade uv
	@for version in 3.10 3.11; do \
	  build/lock/bin/uv pip compile requirements/requirements.in -q --upgrade --python-version $$version \
	    --python-platform x86_64-unknown-linux-gnu --no-header --no-annotate --no-emit-index-url \
	    -o requirements/python$$version.lock || exit 1; \
	done

clean-venv:
	rm -rf '$(VENV)'
