# Two commands do everything on a machine that has Python 3.11 to 3.13 and a package index: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
RUN ?= demo
IMAGES ?=
PRESET ?= auto
WORKERS ?= 2
PY = $(VENV)/bin/python
export TF_CPP_MIN_LOG_LEVEL ?= 3

.PHONY: demo test lab explore bench bench-all bench-gpu clean

demo: $(VENV)/.installed
	$(PY) -m qknb notebooks --run $(RUN) --preset $(PRESET) $(if $(IMAGES),"images=$(IMAGES)")

test: $(VENV)/.installed-test
	$(PY) -m pytest -n $(WORKERS) --dist loadfile
	KERAS_BACKEND=jax JAX_DISABLE_MOST_OPTIMIZATIONS=1 $(PY) -m pytest -n $(WORKERS) --dist loadfile -m both_backends

lab: $(VENV)/.installed-lab
	$(VENV)/bin/jupyter lab notebooks

explore: $(VENV)/.installed-lab
	$(VENV)/bin/voila notebooks/07_when_to_switch.ipynb

bench: $(VENV)/.installed-test
	$(PY) benchmarks/bench_mining.py

bench-all: $(VENV)/.installed-test
	for file in $(filter-out benchmarks/bench_gpu.py,$(sort $(wildcard benchmarks/bench_*.py))); do echo "== $$file"; $(PY) $$file || exit 1; done

bench-gpu: $(VENV)/.installed-test
	KERAS_BACKEND=jax $(PY) benchmarks/bench_gpu.py

$(VENV)/bin/python:
	$(PYTHON) -c "import sys; sys.exit(0 if (3, 11) <= sys.version_info < (3, 14) else 'Python 3.11, 3.12 or 3.13 is needed, this is ' + sys.version.split()[0] + ': make PYTHON=python3.12 ...')"
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install -q --upgrade pip

$(VENV)/.installed: pyproject.toml | $(VENV)/bin/python
	$(PY) -m pip install -q -e .
	touch $@

$(VENV)/.installed-lab: pyproject.toml | $(VENV)/bin/python
	$(PY) -m pip install -q -e ".[lab]"
	touch $@ $(VENV)/.installed

$(VENV)/.installed-test: pyproject.toml | $(VENV)/bin/python
	$(PY) -m pip install -q -e ".[test]"
	touch $@ $(VENV)/.installed

clean:
	rm -rf $(VENV) *.egg-info build
