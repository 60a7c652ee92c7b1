# Every target makes its own environment in .venv the first time, and again when the dependencies change.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
READY_DOCS := .venv/.ready_docs

.PHONY: demo test lint bench notebooks pictures docs links package clean

demo: $(READY)
	$(BIN)/opu demo

# A process for each core, with one thread for BLAS: threads on busy cores wait for each other.
test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n logical --maxprocesses 8 --dist worksteal

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python

bench: $(READY)
	$(BIN)/python -m benchmarks

notebooks: $(READY)
	$(BIN)/python docs/notebooks.py

# The pictures of the documentation, and the numbers behind them.
pictures: $(READY)
	$(BIN)/python docs/pictures.py

# The site is in build/docs. A warning fails the build.
docs: $(READY_DOCS)
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs build/docs

# The links of the site to other sites. Without a network it says so, and succeeds.
links: $(READY_DOCS)
	$(BIN)/python docs/links.py

$(READY_DOCS): $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[docs]" -c constraints.txt
	touch $@

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[dev]" -c constraints.txt
	touch $@

# Wheel and source distribution in dist, checked, installed into an empty environment and used from another folder.
package:
	rm -rf build/package dist
	$(PYTHON) -m venv build/package
	build/package/bin/python -m pip install --quiet --disable-pip-version-check build twine
	build/package/bin/python -m build --outdir dist
	build/package/bin/twine check --strict dist/*
	rm -rf build/package
	$(PYTHON) -m venv build/package
	build/package/bin/python -m pip install --quiet --disable-pip-version-check dist/*.whl
	build/package/bin/python -m pip check
	cd build/package && bin/python -P $(CURDIR)/tests/installed.py

clean:
	rm -rf .venv build dist docs/gallery docs/reference/api docs/reference/commands
