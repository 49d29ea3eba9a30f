"""Benchmarks that need other machines are kept running here, on small sizes."""

import os
import re
import subprocess
import sys

import pytest
from helpers.paths import ROOT

BENCH = ROOT / "benchmarks"


def test_the_accelerator_benchmark_runs_on_a_processor():
    """On JAX, as `make bench-gpu` does; what compiles need not be fast here."""
    pytest.importorskip("jax")
    small = [
        "--rows",
        "300",
        "--backbone",
        "EfficientNetLite0",
        "--image-size",
        "32",
        "--policy",
        "float32",
        "--steps",
        "1",
        "--block-rows",
        "128",
    ]
    out = subprocess.run(
        [sys.executable, BENCH / "bench_gpu.py", *small],
        capture_output=True,
        text=True,
        env=dict(os.environ, KERAS_BACKEND="jax", JAX_DISABLE_MOST_OPTIMIZATIONS="1"),
        timeout=300,
    )
    assert out.returncode == 0, out.stderr[-2000:]
    row = out.stdout.strip().splitlines()[-1].split()
    assert row[0] == "300" and float(row[3]) > 0 and row[5].endswith("%"), out.stdout


def test_every_benchmark_starts_without_arguments():
    """`make bench-all` starts them so."""
    for path in BENCH.glob("bench_*.py"):
        for line in path.read_text().splitlines():
            if re.search(r'add_argument\("[a-z]', line):
                assert 'nargs="?"' in line or 'nargs="*"' in line, f"{path.name}: {line.strip()}"


def test_bytes_exchanged_are_read_from_the_program(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))
    from bench_devices import exchanged_bytes

    program = """
      %a = f32[8,320]{1,0} all-gather(f32[1,320]{1,0} %x), dimensions={0}
      %b = (f16[320,16]{1,0}, s32[5]{0}) all-reduce(%y, %z), to_apply=%add
      %c = f32[100]{0} add(%p, %q)
    """
    assert exchanged_bytes(re.sub("^ *", "", program)) == 8 * 320 * 4 + 320 * 16 * 2 + 5 * 4
