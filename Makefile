# The two commands of the README are `make demo` and `make test`; both set up .venv first. `make help` lists the rest.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
STAGES := divergence losses optim heads bench calibration backbones data training scoring export protocols metrics report recipes

.DEFAULT_GOAL := help
.PHONY: help setup demo study-faces study-speakers test coverage lint format types docs clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/' | expand -t 14

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(v < (3, 10) and f"qmargin needs Python 3.10 or newer, this is {v[0]}.{v[1]}: call make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	# torch first and by its exact version: an open range would bring several GB of CUDA libraries to a CPU machine
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch==2.13.0 setuptools
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-build-isolation -e '.[dev]'
	touch $(STAMP)

setup: $(STAMP) ## create .venv and install the pinned dependencies

demo: setup ## train Q-Margin, ArcFace and CosFace on the ORL faces and write runs/demo/report.html
	$(BIN)/qmargin demo --out runs/demo

# glibc keeps what is freed from step to step: docs/performance.md, "Memory that a CPU keeps"
KEEP := glibc.malloc.mmap_threshold=8000000000:glibc.malloc.trim_threshold=8000000000:glibc.malloc.top_pad=268435456

# of the backbone; bfloat16 is the faster one on a CPU with units for it (lscpu says avx512_bf16)
PRECISION ?= float32

# two processes share the runs of a study, each trains with one thread; the second ends when the first is stopped
study-faces study-speakers: export GLIBC_TUNABLES := $(KEEP)
study-faces: setup ## compare the losses on real faces, MANIFEST=faces/manifest.csv [PRECISION=bfloat16]; hours, goes on where it stopped
	mkdir -p runs
	$(BIN)/python benchmarks/faces_small.py --manifest "$(MANIFEST)" --precision $(PRECISION) > runs/faces-small-second.log 2>&1 & \
	second=$$!; trap "kill $$second 2>/dev/null" EXIT INT TERM; \
	$(BIN)/python benchmarks/faces_small.py --manifest "$(MANIFEST)" --precision $(PRECISION) && \
	{ wait $$second || echo "the second process ended early (runs/faces-small-second.log); the first did its runs"; }
	$(BIN)/python benchmarks/faces_small_report.py --out runs/faces-small

study-speakers: setup ## compare the losses on real voices, MANIFEST=speech/manifest.csv [PRECISION=bfloat16]; hours, goes on where it stopped
	mkdir -p runs
	$(BIN)/python benchmarks/speakers_small.py --manifest "$(MANIFEST)" --precision $(PRECISION) > runs/speakers-small-second.log 2>&1 & \
	second=$$!; trap "kill $$second 2>/dev/null" EXIT INT TERM; \
	$(BIN)/python benchmarks/speakers_small.py --manifest "$(MANIFEST)" --precision $(PRECISION) && \
	{ wait $$second || echo "the second process ended early (runs/speakers-small-second.log); the first did its runs"; }
	$(BIN)/python benchmarks/speakers_small_report.py --manifest "$(MANIFEST)" --out runs/speakers-small

# one thread a process: two processes with two threads each would wait for each other on two cores
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

test: setup ## the whole test suite
	$(PYTEST)

coverage: setup ## the same, with the lines of src that no test runs; slower
	$(PYTEST) --cov --cov-report=term

lint: setup ## ruff: lint and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: setup ## rewrite the files in the one format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: setup ## mypy, strict
	$(BIN)/mypy

docs: setup ## the API documentation, from the docstrings, in build/docs
	$(BIN)/pdoc --math --docformat google --output-directory build/docs qmargin $(STAGES:%=qmargin.%)

clean: ## remove .venv, build products and caches (runs/ stays)
	rm -rf $(VENV) build .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage
