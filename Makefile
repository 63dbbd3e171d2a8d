# `make demo` and `make test` need Python 3.11 or 3.12, make and a package registry, and nothing else.

VENV := .venv
BIN := $(VENV)/bin
PEERS := .venv-peers
PYTHON ?= $(shell for p in python3 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' 2>/dev/null && echo $$p && break; done)
export PIP_CONSTRAINT := $(CURDIR)/constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1
define need-python
@test -n "$(PYTHON)" || { echo "provenet: expected Python 3.11 or 3.12 on the path, found neither; install one, or name it: make PYTHON=..." >&2; exit 2; }
endef

.PHONY: demo test check peers accuracy docs format clean

demo: $(VENV)/installed  ## train on real pictures, evaluate, predict: about a minute
	$(BIN)/python tools/demo.py

test: $(VENV)/installed  ## the default test suite: offline, seeded
	$(BIN)/pytest

check: $(VENV)/installed  ## everything that must hold before a change is shared
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest --doctest-modules src
	$(BIN)/python tools/run_readme.py README.md
	$(BIN)/python tools/smoke_wheel.py
	$(BIN)/pytest
	$(BIN)/pytest -m slow

peers: $(PEERS)/installed  ## the networks against other implementations of them, with the same weights; evaluation's pixels against torchvision's
	$(PEERS)/bin/pytest tests/peers

accuracy: $(VENV)/installed  ## published weights found in PROVENET_WEIGHTS, on ImageNet's validation pictures: make accuracy DATA=FOLDER
	$(BIN)/python tools/accuracy.py "$(DATA)" $(TAGS)

docs: $(VENV)/installed  ## write the pages that are measured or made from data: networks.md, features.md, claims.md and its translation
	$(BIN)/python tools/write_networks_page.py
	$(BIN)/python tools/write_features_page.py
	$(BIN)/python tools/write_claims_page.py
	$(BIN)/python tools/draw_pictures.py

format: $(VENV)/installed  ## write the code as the checks want it
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:  ## remove what the other targets made, but no runs
	rm -rf $(VENV) $(PEERS) dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache

$(VENV)/installed: pyproject.toml constraints.txt
	$(need-python)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable '.[dev]'
	touch $@

$(PEERS)/installed: export PIP_CONSTRAINT := $(CURDIR)/constraints-peers.txt
$(PEERS)/installed: pyproject.toml constraints.txt constraints-peers.txt
	$(need-python)
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/pip install --quiet --editable . pytest torchvision timm keras pytorchcv onnx onnxruntime onnxscript scikit-image scikit-learn
	touch $@
