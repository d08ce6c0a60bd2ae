# Everything that a developer or CI calls. Needs Python 3.11 to 3.13 and make, nothing else.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
FUZZ_VENV := .venv-fuzz
FUZZ_SECONDS ?= 60
LOCK := $(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --upgrade \
  --no-header --no-annotate
COG := $(BIN)/cog -I . -U -p "from tests.project import tables"
DOCUMENTS := README.md $(wildcard docs/*.md)
INSTALL := $(BIN)/python -m pip --disable-pip-version-check install --quiet

# Tests start thousands of processes: none of them should compile the package anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo test test-fast histories planted fuzz bench profile dist lint docs format \
  requirements clean

help:  ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | sort

$(VENV)/runtime: requirements/runtime.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) --require-hashes -r requirements/runtime.txt
	$(INSTALL) --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/dev: requirements/dev.txt $(VENV)/runtime
	$(INSTALL) --require-hashes -r requirements/dev.txt
	@touch $@

demo: $(VENV)/runtime  ## see audits travel from the simulator into SQLite; no account needed
	@$(BIN)/audit-etl demo

test: $(VENV)/dev  ## run every test, against a real PostgreSQL, and MariaDB where one runs
	$(BIN)/python -m pytest -n 4 --dist worksteal

test-fast: $(VENV)/dev  ## run the tests that take no more than a few seconds
	$(BIN)/python -m pytest -n 4 --dist worksteal -m "not slow"

histories: $(VENV)/dev  ## live 1,000 random histories; AUDIT_ETL_TEST_SEED=N lives one again
	AUDIT_ETL_TEST_HISTORIES=$${AUDIT_ETL_TEST_HISTORIES:-1000} \
	  $(BIN)/python -m pytest -n auto -q tests/export/test_histories.py

planted: $(VENV)/dev  ## plant bugs in a copy of the tree and see that a test notices each
	$(BIN)/python -m tests.planted

$(FUZZ_VENV)/atheris: requirements/fuzz.txt
	$(PYTHON) -m venv $(FUZZ_VENV)
	$(FUZZ_VENV)/bin/python -m pip --disable-pip-version-check install --quiet \
	  --require-hashes -r requirements/fuzz.txt
	@touch $@

fuzz: $(FUZZ_VENV)/atheris  ## let a fuzzer look for answers that break the client, FUZZ_SECONDS=60 each
	@for target in pages answers; do \
	  mkdir -p .fuzz/$$target && $(FUZZ_VENV)/bin/python -m tests.fuzzing.$$target \
	    -max_total_time=$(FUZZ_SECONDS) -timeout=30 -rss_limit_mb=2048 -print_final_stats=1 \
	    -dict=tests/fuzzing/dictionary.txt -artifact_prefix=.fuzz/$$target- .fuzz/$$target \
	    || exit 1; done

bench: $(VENV)/dev  ## measure speed, memory and requests beside the least possible and beside others
	@$(BIN)/python -m tests.benchmarks

profile: $(VENV)/dev  ## show where an audit's time goes, step by step
	@$(BIN)/python -m tests.benchmarks.stages

dist: $(VENV)/dev  ## build a wheel and a source package in dist/, and try the wheel in an empty environment
	rm -rf dist
	$(BIN)/python -m build --no-isolation --outdir dist >/dev/null
	@folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT && $(PYTHON) -m venv "$$folder/venv" \
	  && pip="$$folder/venv/bin/python -m pip --disable-pip-version-check install --quiet" \
	  && $$pip --require-hashes -r requirements/runtime.txt && $$pip --no-deps dist/*.whl \
	  && cd "$$folder" && venv/bin/audit-etl demo --audits 500 --directory demo >/dev/null \
	  && echo "built and tried:" && cd "$(CURDIR)" && ls dist/*

lint: $(VENV)/dev  ## check style, types, layers, migrations and documents
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(COG) --check --check-fail-msg "run make docs" --verbosity 0 $(DOCUMENTS)
	$(BIN)/python -m pytest -q tests/database/test_migrations.py tests/project/test_docs.py \
	  tests/project/test_errors.py tests/project/test_words.py

docs: $(VENV)/dev  ## write the tables in the documents that come from code
	$(COG) -r --verbosity 1 $(DOCUMENTS)

format: $(VENV)/dev  ## put the code into its one shape
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

requirements: $(VENV)/dev  ## pin the newest versions that pyproject.toml allows
	$(INSTALL) --require-hashes -r requirements/uv.txt
	$(LOCK) pyproject.toml --extra all --group build -o requirements/runtime.txt
	for group in dev fuzz; do \
	  $(LOCK) pyproject.toml --extra all --group build --group $$group \
	    -c requirements/runtime.txt -o requirements/$$group.txt || exit 1; done
	$(LOCK) --group uv -o requirements/uv.txt

clean:  ## remove what these targets made
	rm -rf $(VENV) $(FUZZ_VENV) .fuzz .venv-bench .mypy_cache .ruff_cache .pytest_cache .hypothesis \
	  .import_linter_cache
