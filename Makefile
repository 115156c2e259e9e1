# make demo | test | check | accuracy | openapi | clean.  PYTHON chooses the interpreter (3.11) that makes .venv.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PORT ?= 8000
PRESET ?= quick

.PHONY: install demo test check accuracy openapi clean

install: $(STAMP)

# pip, not uv or poetry: torch is pinned to one release, whose CPU build pip takes where there is one.
$(STAMP): pyproject.toml constraints.txt setup.py models/contract/kernels/compiled.pyx
	@command -v $(PYTHON) >/dev/null || { echo "python 3.11 is needed; set PYTHON to its path"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[train,demo,dev]'
	touch $(STAMP)

demo: install
	$(BIN)/shortlist demo --preset $(PRESET) --port $(PORT)

# two processes, a file of tests to one of them: what a file sets up once stays set up once
test: install
	$(BIN)/python -m pytest -q -n 2 --dist loadfile

check: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q -n 2 --dist loadfile

# hours: every row of the accuracy table; goes on where it stopped.  DATA: folder of the benchmark data sets
accuracy: install
	$(BIN)/python -m bench.accuracy $(if $(DATA),--data $(DATA)) $(if $(ONLY),--only $(ONLY))

openapi: install
	$(BIN)/python -m app.openapi > docs/openapi.json

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
