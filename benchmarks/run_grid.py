"""Train a grid's runs side by side on one device, without notebooks, and keep every run's scores.

    KERAS_BACKEND=jax python benchmarks/run_grid.py experiments/recipe.yml --jobs 8 --out rows

For an accelerator that one small run does not fill. `python -m qknb sweep` does the same with
notebooks, plans how many runs the machine has room for, and resumes. Here a run that is not done
at the deadline is left out. Writes OUT/<grid>.jsonl: a line for each run with its settings that
differ from the base, its evaluation rows, its validations during training, seconds, device and
versions.
"""

import argparse
import concurrent.futures
import dataclasses
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from qknb.experiments.grid import read_grid
from qknb.experiments.sharing import (
    bring_preparation,
    build_preparation,
    preparation_name,
    same_store,
)
from qknb.run import Run, read_json_lines, versions


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("grid")
    parser.add_argument("--root", type=Path, default=Path("runs"))
    parser.add_argument("--out", type=Path, default=Path("runs"))
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time")
    parser.add_argument("--deadline", type=float, default=86_400, help="seconds from the start")
    parser.add_argument("--only", default="", help="names of combinations, with commas between")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        return child(json.loads(options.child))
    begin = time.monotonic()
    grid = read_grid(options.grid)
    chosen = set(filter(None, options.only.split(",")))
    runs = [run for run in grid.runs if not chosen or run.combination in chosen]
    root = options.root / grid.name
    groups = {}
    for run in runs:
        groups.setdefault(preparation_name(run.settings), []).append(run)
    options.out.mkdir(parents=True, exist_ok=True)
    end, made = begin + options.deadline, []

    def say(text):
        print(f"{time.monotonic() - begin:6.0f} s  {text}", flush=True)

    def keep(job):
        line = job.result()
        say(f"{line['name']}: {summary(line)}")
        file.write(json.dumps(line) + "\n")
        file.flush()

    with (
        open(options.out / f"{grid.name}.jsonl", "a", encoding="utf-8") as file,
        concurrent.futures.ThreadPoolExecutor(options.jobs) as pool,
    ):
        for name, members in groups.items():  # trained while the next images are prepared
            settings = [run.settings for run in members]
            folder = options.root / "prepared" / name
            like = next((f for f, s in made if same_store(s, settings[0])), None)
            build_preparation(folder, settings, n_jobs=os.cpu_count(), store_of=like)
            made.append((folder, settings[0]))
            say(f"prepared {name} for {len(members)} runs")
            for run in members:
                pool.submit(start, order(run, root, folder), end).add_done_callback(keep)
    return 0


def order(run, root, shared):
    """What a run's own process is told, as a dict of JSON values."""
    return {
        "name": run.run_name,
        "combination": run.combination,
        "path": str(root / run.run_name),
        "shared": str(shared),
        "settings": dataclasses.asdict(run.settings),
        "overrides": {k: v for k, v in run.overrides.items() if k != "extra_images"},
    }


def start(told, end):
    """Run one job in its own process; returns its line, or one that says how it failed."""
    left = end - time.monotonic()
    failed = {k: told[k] for k in ("name", "combination")}
    if left < 20:
        return failed | {"error": "not begun before the deadline"}
    command = [sys.executable, __file__, "--child", json.dumps(told)]
    try:
        out = subprocess.run(command, capture_output=True, text=True, timeout=left)
    except subprocess.TimeoutExpired:
        return failed | {"error": "not done at the deadline", **validations(told["path"])}
    if out.returncode:
        return failed | {"error": out.stderr[-2000:]}
    return json.loads(out.stdout.splitlines()[-1])


def validations(path):
    """Micro-AP on the validation images during each phase, and what the phase took."""
    run = Run(path)
    curves = {}
    for name in sorted(folder.name for folder in (Path(path) / "phases").glob("*")):
        lines = read_json_lines(Path(path) / "phases" / name / "evaluations.jsonl")
        curves[name] = [[line["step"], line.get("micro_ap")] for line in lines]
    return {"validations": curves, "steps": run.manifest["steps"]}


def child(told):
    """Train one run and print its line."""
    from qknb.config import Experiment
    from qknb.system.keras_import import import_keras

    import_keras()
    from qknb.training.trainer import train

    begin = time.monotonic()
    run = Run(Path(told["path"]), Experiment(**told["settings"]))
    bring_preparation(run, told["shared"])
    sys.stdout.flush()
    rows = train(run)
    line = {k: told[k] for k in ("name", "combination", "overrides")}
    line |= {"rows": rows, "seconds": round(time.monotonic() - begin, 1), "device": device()}
    print("\n" + json.dumps(line | validations(told["path"]) | {"versions": versions()}))
    return 0


def device():
    """The device's name as its backend tells it."""
    import keras

    if keras.backend.backend() == "jax":
        import jax

        return jax.devices()[0].device_kind
    return "cpu"


def summary(line):
    if "error" in line:
        return line["error"].strip().splitlines()[-1]
    phases = [r for r in line["rows"] if r["phase_index"]]
    shown = [f"{r['row']} {r['split']} {r['micro_ap']:.3f}" for r in phases]
    return f"{line['seconds']:.0f} s; " + ", ".join(shown)


if __name__ == "__main__":
    sys.exit(main())
