"""One run of a sweep in a process of its own: shared preparation, notebooks, and what they took.

Started by `qknb.experiments.job_queue` with its orders as JSON on standard input. It ends when the
sweep that started it does, however that ended.
"""

import dataclasses
import json
import os
import sys
import threading
import time
from pathlib import Path

from qknb.config import SETTINGS, Experiment, experiment, resumable
from qknb.run import Run

__all__ = ["is_finished", "main", "result_digest", "same_result"]


def result_digest(settings: Experiment) -> str:
    """The settings that a run's numbers depend on, as text to compare."""
    free = resumable(settings) - {"phases"}
    kept = {name: v for name, v in dataclasses.asdict(settings).items() if name not in free}
    return json.dumps(kept, sort_keys=True)


def same_result(digest: str, settings: Experiment) -> bool:
    """Whether a `result_digest` says the same as these settings; newer ones had their defaults."""
    then = {name: known.default for name, known in SETTINGS.items()} | json.loads(digest)
    return all(then[name] == value for name, value in json.loads(result_digest(settings)).items())


def is_finished(path, settings: Experiment, notebooks) -> bool:
    """Whether all notebooks were executed to their end on a run with these settings."""
    try:
        steps = Run(path).manifest["steps"]
    except ValueError:
        return False
    done = [steps.get(f"notebook {name}") for name in notebooks]
    return all(facts and same_result(facts["settings"], settings) for facts in done)


def main() -> int:
    """Do what standard input orders; returns the exit status."""
    orders = json.loads(sys.stdin.readline())
    _end_with_parent()
    try:
        (_prepare if orders["kind"] == "prepare" else _run)(orders)
    except (ValueError, OSError, RuntimeError, FloatingPointError) as error:
        print(f"qknb: {error}", flush=True)
        return 1
    return 0


def _prepare(orders):
    from qknb.system.keras_import import import_keras

    import_keras()
    from qknb.experiments.sharing import build_preparation

    members = [experiment(**settings) for settings in orders["members"]]
    build_preparation(
        orders["path"], members, n_jobs=orders["threads"], store_of=orders["store_of"]
    )


def _run(orders):
    path, settings = Path(orders["path"]), experiment(**orders["settings"])
    run = Run(path, settings)
    if orders["shared"]:
        from qknb.experiments.sharing import bring_preparation

        print(bring_preparation(run, orders["shared"]), flush=True)
    from qknb.notebooks import run_notebooks

    overrides = orders["overrides"] | {"images": settings.images}
    for name in orders["notebooks"]:
        if not is_finished(path, settings, [name]):
            begin = time.monotonic()
            run_notebooks(
                path.parent,
                path.name,
                settings.preset,
                overrides,
                notebooks=[name],
                folder=orders["folder"],
                report=False,
            )
            Run(path).mark(
                f"notebook {name}",
                seconds=round(time.monotonic() - begin, 1),
                settings=result_digest(settings),
                **orders["where"],
            )


def _end_with_parent():
    """End this process soon after its parent, which would start the same run again."""
    parent = os.getppid()

    def wait():
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)  # the notebook's kernel waits for this process in the same way

    threading.Thread(target=wait, daemon=True).start()


if __name__ == "__main__":
    sys.exit(main())
