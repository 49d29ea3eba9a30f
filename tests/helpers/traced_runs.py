"""Run folders with evaluations inside phases, written without training."""

import json

from qknb.config import experiment
from qknb.run import Run


def make_run(path, done=2, total_steps=100, **settings):
    """Phases of 50 steps with records at 0, 25 and 50; the last one is not marked as done when
    `done` is 1.
    """
    run = Run(
        path,
        experiment("heads", steps_per_phase=50, total_steps=total_steps, eval_every=25, **settings),
    )
    run.mark("prepare", keys=1000)
    for number, name in enumerate(("Q1", "K1")):
        folder = path / "phases" / name
        folder.mkdir(parents=True)
        records = [
            {
                "step": s,
                "loss": None if not s else 2.0,
                "micro_ap": 0.3 + 0.1 * number + s / 1000,
                "moved_near": None if not s else 0.25,
                "drift_near": 0.0,
                "moved_far": None,
                "drift_far": 0.123456789,
            }
            for s in ((0, 25, 50) if number < done else (0, 25))
        ]
        (folder / "evaluations.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
        if number < done:
            run.mark(f"phase {name}", steps=50)
            for split in ("val", "test"):
                run.log_row(
                    {
                        "row": name,
                        "phase_index": number + 1,
                        "split": split,
                        "micro_ap": 0.4 + 0.1 * number,
                        "micro_ap_interval": [0.35, 0.55],
                    }
                )
    run.log_row({"row": "GIST-256", "phase_index": 0, "split": "test", "micro_ap": 0.25})
    return path
