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

.PHONY: help demo test lint docs engines bazel-test bazel-check bazel-files wheel venv lock clean-venv
.DEFAULT_GOAL := help

help:
	@echo 'make demo [CORPUS=DIR] [WORKDIR=demo_run]  from audio files to a served student; resumes where it stopped'
	@echo 'make test [JOBS=2]                         lint and the test suite; CI calls exactly this'
	@echo 'make lint                                  ruff, import-linter and mypy'
	@echo 'make docs                                  the documentation as a site, strictly, into build/docs'
	@echo 'make engines                               Flink and Prism into build/engines, for tests that skip without'
	@echo 'make bazel-test [BAZEL_TESTS=//...]        the tests under Bazel; installs Debian'"'"'s where root, else says how'
	@echo 'make bazel-files                           the BUILD files anew, from what modules import'
	@echo 'make wheel                                 sdist and wheel into dist'
	@echo 'make lock                                  requirements/python3.1?.lock from requirements/requirements.in'
	@echo 'make venv [PYTHON=INTERPRETER]             the environment alone (all others make it too)'

venv:
	@bash tools/make_venv.sh

demo: venv
	@'$(VENV)/bin/python' -m tf_rnnt_kd.demo --workdir='$(WORKDIR)' $(if $(CORPUS),--corpus='$(CORPUS)')

lint: venv
	@'$(VENV)/bin/ruff' check .
	@'$(VENV)/bin/lint-imports' --no-logo
	@'$(VENV)/bin/mypy' --no-error-summary

# By file, so that what a file's tests share (a traced graph, a small SavedModel) is made once. In parts, because a process
# keeps the programs that XLA has compiled in it: after the whole suite two workers would hold 20 GB. In the order of
# tests/conftest.py: xdist by itself would leave for the end the files of few tests, which here are the longest ones.
LATTICE_TESTS = tests/lattice tests/losses tests/models tests/decoding
TRAINING_TESTS = tests/training tests/serving
OTHER_TESTS = $(filter-out $(LATTICE_TESTS) $(TRAINING_TESTS) tests/__pycache__ tests/BUILD.bazel tests/conftest.py,\
  $(wildcard tests/*))

# Not $(MAKE), with which `make -n test` would run all of it.
test: lint
	@status=0; for part in '$(OTHER_TESTS)' '$(LATTICE_TESTS)' '$(TRAINING_TESTS)'; do \
	  '$(VENV)/bin/python' -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder $$part || status=1; \
	done; make --no-print-directory bazel-check || status=1; exit $$status

docs: venv
	@NO_MKDOCS_2_WARNING=1 '$(VENV)/bin/python' -m mkdocs build

# Needs Java, Maven and Go, and nothing else of the project does.
engines: venv
	@'$(VENV)/bin/python' -m tools.engines.fetch flink prism

BAZEL_TESTS ?= //...
bazel-test: venv
	@bazel=$$(bash tools/bazel_rules/ensure_bazel.sh) && "$$bazel" test $(BAZEL_TESTS)

# What CI asks of Bazel: that all targets can be analysed, and that some tests find in their sandbox all they need. The
# tests themselves are those of pytest, so all of them again would say little more for as many minutes.
bazel-check: venv
	@if bazel=$$(bash tools/bazel_rules/ensure_bazel.sh); then \
	  "$$bazel" build --nobuild //... && "$$bazel" test //tests/lattice:test_viterbi //tests/records:test_schema; \
	  status=$$?; "$$bazel" shutdown; exit $$status; \
	else echo 'make: no Bazel, so its targets are not checked (see above)'; fi

bazel-files: venv
	@'$(VENV)/bin/python' -m tools.bazel_rules.build_files

# The wheel is built from the sdist, so that nothing of an earlier build gets into it.
wheel: venv
	@rm -rf dist tf_rnnt_kd.egg-info
	@'$(VENV)/bin/python' -c 'from setuptools import build_meta; build_meta.build_sdist("dist")' >/dev/null
	@rm -rf tf_rnnt_kd.egg-info
	@'$(VENV)/bin/python' -m pip wheel -q --no-deps --no-build-isolation -w dist dist/*.tar.gz
	@ls dist

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
