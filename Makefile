# The commands of this project; `make help` lists them.
PROFILE ?= sample
# Not all of the pinned packages are built for a newer Python than these.
FITS := import sys; fits = (3, 11) <= sys.version_info[:2] <= (3, 13)
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11 python3; do \
	$$python -c '$(FITS); sys.exit(not fits)' 2>/dev/null && break; done; echo $$python)
BIN := .venv/bin
RUN := runs/$(PROFILE)
# The kernel drops this lock when its process ends, so that no stale lock can be left behind.
LOCK := $(shell command -v flock >/dev/null 2>&1 && echo "flock --nonblock --conflict-exit-code 9 runs/.lock")
# !!str: without it, Snakemake would read the name of a profile such as 2024.10 as a number.
SNAKEMAKE = mkdir -p runs && $(LOCK) $(BIN)/python -m snakemake --nolock --rerun-incomplete --cores all --quiet host progress reason rules --config 'profile=!!str $(PROFILE)'
# Only what was given on make's command line, exactly as it stands there, even with a $. A variable of the shell does not count, because
# a shell may have a COLUMNS of its own, the width of its window. An empty value counts as not given.
said = $(if $(filter command,$(firstword $(origin $(1)))),$(if $(value $(1)),--$(2)='$(subst ','\'',$(value $(1)))'))

export PATH := $(CURDIR)/$(BIN):$(PATH)
export PYTHONPATH := $(CURDIR)
export PYTHONUNBUFFERED := 1
# Whatever the shell sets: texts and output are UTF-8, figures are drawn into the notebooks, no start-up file runs in
# them, warnings stay warnings, and Snakemake gets its options from here alone.
export PYTHONUTF8 := 1
export PYTHONIOENCODING := utf-8
unexport MPLBACKEND PYTHONSTARTUP PYTHONWARNINGS SNAKEMAKE_PROFILE
# How long a waiting thread of torch spins before it sleeps. This is a twentieth slower on an idle machine, but many times faster beside
# any other load.
export GOMP_SPINCOUNT ?= 1000
# Memory that torch gives back is kept for its next tensor. If it were fetched from the system anew, it would be zeroed page by page each
# time, and answers would take an eighth longer.
export MALLOC_TRIM_THRESHOLD_ ?= 1073741824
export MALLOC_MMAP_THRESHOLD_ ?= 1073741824
# Empty means off: a book starts some twenty Python processes, which should find their modules compiled.
export PYTHONDONTWRITEBYTECODE :=

# Without this check, a misspelled TARGET= would be ignored. Names with an underscore (OMP_NUM_THREADS=1) are for other programs.
KNOWN := PROFILE PYTHON FILE ADAPTER OUT COLUMNS SHEET TARGET REVIEW
UNKNOWN := $(foreach name,$(.VARIABLES),$(if $(filter command,$(firstword $(origin $(name)))),$(if $(findstring _,$(name)),,$(filter-out $(KNOWN) HOME PATH SHELL TMPDIR MAKEFLAGS MAKEOVERRIDES,$(name)))))
$(if $(strip $(UNKNOWN)),$(error unknown: $(strip $(UNKNOWN)); known are $(KNOWN)))

.PHONY: help book lab classify export test bench clean
.DEFAULT_GOAL := help

help: ## list these commands
	@grep -hE '^[a-z]+:.*## ' Makefile | sed -E 's/:.*## /\t/' | awk -F'\t' '{printf "  make %-9s %s\n", $$1, $$2}'
	@echo "  PROFILE=name chooses a file of profiles/: $(basename $(notdir $(wildcard profiles/*.yml)))"

# A failure is reported when it happens, and again below what Snakemake says about it.
book: .venv/.ready ## run the notebooks of a profile and publish the book
	@$(BIN)/python -m tools.restore '$(subst ','\'',$(PROFILE))'
	@$(BIN)/python -m tools.expect '$(subst ','\'',$(PROFILE))'
	@export BOOK_FAILURES=runs/.failures-$$$$; $(SNAKEMAKE) || { code=$$?; [ $$code -ne 9 ] || echo "another make runs this project's notebooks (process $$(find /proc/[0-9]*/fd -lname "$$(pwd -P)/runs/.lock" 2>/dev/null | cut -d/ -f3 | sort -un | xargs)); wait for it" >&2; [ ! -f $$BOOK_FAILURES ] || { cat $$BOOK_FAILURES >&2; rm $$BOOK_FAILURES; }; exit $$code; }
	@$(BIN)/python -m tools.results $(RUN)

lab: .venv/.ready ## open JupyterLab on the notebooks
	@$(BIN)/python -m jupyter lab $$([ "$$(id -u)" -ne 0 ] || echo --allow-root) --notebook-dir=. notebooks/01-dataset-exploration.ipynb

classify: .venv/.ready ## answer the articles of one file, FILE=my.xlsx [PROFILE= ADAPTER= OUT= COLUMNS= SHEET= TARGET= REVIEW=]
	@$(BIN)/python -m tools.classify $(call said,PROFILE,profile) $(call said,FILE,file) $(call said,ADAPTER,adapter) $(call said,OUT,out) $(call said,COLUMNS,columns) $(call said,SHEET,sheet) $(call said,TARGET,target) $(call said,REVIEW,review)

export: .venv/.ready ## merge ADAPTER= (or the best of PROFILE=) into a model's folder that other programs can serve
	@$(BIN)/python -m tools.export $(call said,PROFILE,profile) $(call said,ADAPTER,adapter)

# Each test gets one thread; tests/conftest.py decides how many run at once, and in which order.
test: .venv/.ready-test ## run the tests, the tiny profile among them
	@$(BIN)/python -m ruff check . && $(BIN)/python -m ruff format --check .
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

bench: .venv/.ready-test ## time this book's parts beside others', by hand, alone on the machine
	@$(BIN)/python -m benchmarks

clean: ## remove what runs and builds left (not the virtual environment)
	rm -rf runs .snakemake *.egg-info

# The whole set-up: a virtual environment with the pinned dependencies. The tests need some more.
.venv/.ready: requirements.txt constraints.txt pyproject.toml
	@$(PYTHON) -c '$(FITS); sys.exit(None if fits else f"Python 3.11, 3.12 or 3.13 is needed and {sys.executable} is another; set PYTHON=/path/to/python3.13")'
	@$(BIN)/python -c '$(FITS); sys.exit(0 if fits else 3)' 2>/dev/null; [ $$? -ne 3 ] || { echo "the folder .venv has another Python than 3.11, 3.12 or 3.13; delete it, and run this again" >&2; exit 1; }
	@$(BIN)/python -c 'import pip' 2>/dev/null || $(PYTHON) -m venv .venv  # made again where one was begun but not finished
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check 'pip>=26'  # the pip that comes with Python 3.11 takes twice as long
	$(BIN)/python -m pip install --no-compile -r requirements.txt
	@touch $@

.venv/.ready-test: .venv/.ready requirements-test.txt
	$(BIN)/python -m pip install --no-compile -r requirements-test.txt
	@touch $@
