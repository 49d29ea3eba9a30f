"""Benchmarks are kept running, on small sizes."""

import os
import re
import subprocess
import sys

import numpy as np
import pytest
import run_times
from bench_devices import exchanged_bytes
from helpers.paths import ROOT
from helpers.photographs import photographs
from measuring import made_run
from pillow_edits import KINDS, edited

BENCH = ROOT / "benchmarks"


SMALL = {
    "bench_backbones": "--size 32 --rounds 1",
    "bench_descriptor": "--limit 64 --image-size 32",
    "bench_devices": "--rows 500 --devices 1 2",
    "bench_gist": "--rounds 1 --images 8",
    "bench_gpu": "--rows 300 --backbone EfficientNetLite0 --image-size 32 --policy float32 "
    "--steps 1 --block-rows 128",
    "bench_index": "--sizes 3000",
    "bench_memory": "--backbones EfficientNetLite0 --sizes 32 --batch 2 --times 1",
    "bench_mining": "--rows 500 --steps 1",
    "bench_negatives": "--negatives 320 --steps 1",
    "bench_normalization": "RUN",
    "bench_refreshed": "RUN --steps 30 --every 1 4",
    "bench_retrieval": "--sizes 100x1000 --top 500 --repeat 1",
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    settings = {"train_backbone": False, "phases": 2, "steps_per_phase": 4, "n_jobs": 1}
    return made_run(tmp_path_factory.mktemp("run"), "smoke", keep_banks=True, **settings)


def outputs(name, run=""):
    """The lines that a benchmark prints for small sizes."""
    on_jax = {"KERAS_BACKEND": "jax", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    out = subprocess.run(
        [sys.executable, BENCH / f"{name}.py", *SMALL[name].replace("RUN", str(run)).split()],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | (on_jax if name == "bench_gpu" else {}),
        timeout=500,
    )
    assert out.returncode == 0, out.stderr[-2000:]
    return out.stdout.strip().splitlines()


@pytest.mark.slow
def test_the_accelerator_benchmark_runs_on_a_processor():
    """On JAX, as `make bench-gpu` does; what compiles need not be fast here."""
    pytest.importorskip("jax")
    row = outputs("bench_gpu")[-1].split()
    assert row[0] == "300" and float(row[3]) > 0 and row[5].endswith("%"), row


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(SMALL) - {"bench_gpu"}))
def test_benchmarks_print_numbers(name, run):
    lines = outputs(name, run)
    assert len(lines) >= 2 and any(char.isdigit() for char in lines[-1]), lines


@pytest.mark.parametrize("kind", KINDS)
def test_copies_as_people_make_them(kind):
    """Each edit of the protocol changes the picture, is drawn from `rng` alone, and stays RGB."""
    china, flower = (photographs()[name] for name in ("china", "flower"))
    one, again, other = (
        edited(china, kind, np.random.default_rng(seed), [flower] * 4) for seed in (1, 1, 2)
    )
    assert one.mode == "RGB" and min(one.size) >= 48 and max(one.size) <= 800
    assert one.tobytes() == again.tobytes() != other.tobytes()
    assert one.size != china.size or one.tobytes() != china.tobytes()


def test_every_benchmark_is_tried():
    assert {path.stem for path in BENCH.glob("bench_*.py")} == set(SMALL)


def test_every_benchmark_starts_without_arguments():
    """`make bench-all` starts them so."""
    for path in BENCH.glob("bench_*.py"):
        for line in path.read_text().splitlines():
            if re.search(r'add_argument\("[a-z]', line):
                assert 'nargs="?"' in line or 'nargs="*"' in line, f"{path.name}: {line.strip()}"


def test_bytes_exchanged_are_read_from_the_program():
    program = """
      %a = f32[8,320]{1,0} all-gather(f32[1,320]{1,0} %x), dimensions={0}
      %b = (f16[320,16]{1,0}, s32[5]{0}) all-reduce(%y, %z), to_apply=%add
      %c = f32[100]{0} add(%p, %q)
    """
    assert exchanged_bytes(re.sub("^ *", "", program)) == 8 * 320 * 4 + 320 * 16 * 2 + 5 * 4


def test_times_of_a_run_are_read_from_its_lines():
    text = (
        "prepare keys and copies: 64 of 2,000 images, 0:31 left, ends 10:00:00\n"
        "prepare keys and copies: 2,000 images, 1,936 of them now, in 1:02:03\n"
        "embed keys: 1,000 images in 0:08\ntrain Q1: 300 steps in 0:26\nQ1: 37 s, validation\n"
    )
    assert run_times.parts(text) == [
        ("prepare keys and copies", "image", 1936, 3723),
        ("embed keys", "image", 1000, 8),
        ("train Q1", "step", 300, 26),
    ]
