# The two commands: `make lab` opens the course, `make test` runs every test and notebook.
# Another Python than python3: `make lab PYTHON=python3.12`.

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
LAB_FLAGS ?=
PYTEST_FLAGS ?=

# What each kind of work installs besides the library itself.
EXTRAS_core := [data]
EXTRAS_lab := [data,notebooks]
EXTRAS_test := [data,notebooks,tests]
EXTRAS_book := [book]

# Two test workers share two cores; more BLAS threads would fight over them.
ONE_THREAD := OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 MKL_NUM_THREADS=1

.PHONY: lab test emulator-full demo notebooks results mutations pretrain-bert book picture check format clean
.DELETE_ON_ERROR:

lab: $(VENV)/ready-lab
	$(RUN) tools/lab.py $(LAB_FLAGS)

test: $(VENV)/ready-test
	$(ONE_THREAD) $(RUN) -m pytest -n 2 --dist loadscope $(PYTEST_FLAGS)

# Attention's kernels at every length, width and mask; `make test` takes some of them.
emulator-full: $(VENV)/ready-test
	MINIBIG_EMULATOR=full $(ONE_THREAD) $(RUN) -m pytest -n 2 tests/test_kernels_emulated.py tests/test_kernels_mma.py tests/test_kernels_hopper.py

demo: $(VENV)/ready-core
	$(RUN) -m minibig demo

notebooks: $(VENV)/ready-test
	$(RUN) -m tools.notebooks

# Each notebook with three seeds, into benchmarks/results/course.md and the README's table;
# goes on where it was.
results: $(VENV)/ready-test
	nice -n 10 $(RUN) -m tools.results
	$(RUN) -m tools.results_table

# Five bugs planted in turn: each must fail a test and a notebook.
mutations: $(VENV)/ready-test
	$(ONE_THREAD) $(RUN) -m tools.mutations

# The weights that notebook 12 fine-tunes: 12 minutes on one core, into minibig/pretrained.
pretrain-bert: $(VENV)/ready-test
	$(ONE_THREAD) $(RUN) -m tools.pretrain_bert

# The README's picture: trains a GPT for a few minutes.
picture: $(VENV)/ready-test
	$(RUN) -m tools.readme_picture

# The notebooks as web pages, in build/book; needs mdBook.
book: $(VENV)/ready-book
	$(RUN) -m tools.book_site

check: $(VENV)/ready-test
	$(RUN) -m ruff format --check
	$(RUN) -m ruff check

format: $(VENV)/ready-test
	$(RUN) -m ruff format
	$(RUN) -m ruff check --fix

# Never touches my/, where the learner's answers are.
clean:
	rm -rf $(VENV) .cache .coverage .pytest_cache .ruff_cache .hypothesis build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Done once, and again when pyproject.toml changes.
$(VENV)/ready-%: pyproject.toml | $(RUN)
	@echo "Installing what 'make $*' needs into $(VENV) (a minute or two, once)"
	$(RUN) -m pip install --quiet --disable-pip-version-check -e ".$(EXTRAS_$*)"
	@touch $@

$(RUN):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "minibig needs Python 3.11 or newer; '$(PYTHON)' is $$($(PYTHON) --version 2>&1 || echo missing)." \
	    "Name another: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
