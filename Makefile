# Two commands do everything on a machine that has Python 3.11 to 3.13 and a package index:
# `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
RUN ?= demo
IMAGES ?=
PRESET ?= auto
WORKERS ?= 2
PY = $(VENV)/bin/python
PYTEST = $(PY) -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder
export TF_CPP_MIN_LOG_LEVEL ?= 3

.PHONY: demo test test-fast campaigns check lab explore site bench bench-all bench-gpu clean

demo: $(VENV)/.installed
	$(PY) -m qknb notebooks --run $(RUN) --preset $(PRESET) $(if $(IMAGES),"images=$(IMAGES)")

# Everything, layout, lint and types among it, and what both backends agree in again on JAX.
test: $(VENV)/.installed-test
	$(PYTEST)
	KERAS_BACKEND=jax JAX_DISABLE_MOST_OPTIMIZATIONS=1 $(PYTEST) -m both_backends

# Under two minutes on two cores.
test-fast: $(VENV)/.installed-test
	$(PYTEST) -m "not slow and not notebooks and not browser"

# Damaged files, killed processes, two at once, full disks, hundreds in all: hours. A small part is in `make test`.
campaigns: $(VENV)/.installed-test
	$(PY) tests/campaigns/damage.py
	$(PY) tests/campaigns/kills.py
	$(PY) tests/campaigns/two_at_once.py
	$(PY) tests/campaigns/full_disk.py

check: $(VENV)/.installed-test
	$(PY) -m pytest tests/test_house.py tests/test_imports.py

lab: $(VENV)/.installed-lab
	$(PY) tools/lab.py

explore: $(VENV)/.installed-lab
	$(PY) -m qknb.experiments.explorer_page

site: $(VENV)/.installed-site
	$(PY) tools/build_site.py --run runs/$(RUN)

bench: $(VENV)/.installed-test
	$(PY) benchmarks/bench_mining.py

bench-all: $(VENV)/.installed-test
	for file in $(filter-out benchmarks/bench_gpu.py,$(sort $(wildcard benchmarks/bench_*.py))); do \
	  echo "== $$file"; $(PY) $$file || exit 1; done

bench-gpu: $(VENV)/.installed-test
	KERAS_BACKEND=jax $(PY) benchmarks/bench_gpu.py

$(VENV)/bin/python:
	$(PYTHON) -c "import sys; v = sys.version_info; sys.exit(0 if (3, 11) <= v < (3, 14) else \
	  'Python 3.11, 3.12 or 3.13 is needed, this is ' + sys.version.split()[0] + \
	  ': make PYTHON=python3.12 ...')"
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install -q --upgrade pip

$(VENV)/.installed: pyproject.toml | $(VENV)/bin/python
	$(PY) -m pip install -q -e ".[tensorflow]"
	touch $@

$(VENV)/.installed-lab: pyproject.toml | $(VENV)/bin/python
	$(PY) -m pip install -q -e ".[tensorflow,lab]"
	touch $@ $(VENV)/.installed

$(VENV)/.installed-site: pyproject.toml | $(VENV)/bin/python
	$(PY) -m pip install -q -e ".[tensorflow,site]"
	touch $@ $(VENV)/.installed

$(VENV)/.installed-test: pyproject.toml | $(VENV)/bin/python
	$(PY) -m pip install -q -e ".[test]"
	touch $@ $(VENV)/.installed $(VENV)/.installed-lab

clean:
	rm -rf $(VENV) *.egg-info build
