"""Made-up traces of runs: micro-AP is a known function of cycle length, budget and seed."""

from qknb.training.switching import FixedSteps, Saturation


def end_of(cycle, budget, seed):
    """Final micro-AP: rises with the budget, falls with the length of the phases; seeds differ by
    .05.
    """
    return 0.3 + budget / 24_000 - cycle / 10_000 + 0.05 * seed


def made_trace(cycle=100, budget=600, seed=1, final=None, policy=None, every=50, done=True):
    """Phases of `cycle` steps up to `budget`; micro-AP climbs in a straight line from .2 to
    `final`.
    """
    final = end_of(cycle, budget, seed) if final is None else final
    phases, step, phase = [], [], []
    for number, begin in enumerate(range(0, budget, cycle)):
        steps = min(cycle, budget - begin)
        phases.append(
            {
                "name": f"{'QK'[number % 2]}{number // 2 + 1}",
                "begin": begin,
                "steps": steps,
                "done": True,
            }
        )
        marks = sorted({*range(0, steps, every), steps})
        step += [begin + mark for mark in marks]
        phase += [number] * len(marks)
    kind = f"cycle-{cycle}" if policy is None else policy.measure
    n, last = len(step), phases[-1]["name"]
    fields = {
        "micro_ap": [round(0.2 + (final - 0.2) * s / budget, 5) for s in step],
        "loss": [None] + [2 - s / budget for s in step[1:]],
        "moved_near": [None] + [0.001] * (n - 1),
        "moved_far": [None] + [0.0005] * (n - 1),
        "drift_near": [0.002] * n,
        "drift_far": [0.001] * n,
    }
    settings = {
        "preset": "heads",
        "seed": seed,
        "batch_size": 32,
        "views": 2,
        "eval_every": every,
        "learning_rate": 1e-3,
        "cosine_alpha": 0.0,
        "restart_schedule": False,
        "reset_optimizer": False,
        "train_backbone": False,
        "total_steps": budget,
        "phases": 5,
    }
    return {
        "name": f"{kind}_{budget}-s{seed}",
        "images": "made",
        "keys": 1000,
        "settings": settings,
        "policy": (policy or FixedSteps(cycle)).settings(),
        "cycle": None if policy else cycle,
        "phases": phases,
        "step": step,
        "phase": phase,
        **fields,
        "budget": budget,
        "complete": done,
        "val": {"GIST-256": 0.2, last: final},
        "test": {"GIST-256": 0.19, last: final},
        "interval": [final - 0.03, final + 0.03],
        "cut": None,
    }


def made_traces(cycles=(50, 100, 200), budgets=(600, 1200), seeds=(1, 2), gain=None):
    """A grid of traces; with `gain` also runs of a policy that end so much above the fixed length
    100.
    """
    traces = [
        made_trace(cycle, budget, seed) for cycle in cycles for budget in budgets for seed in seeds
    ]
    if gain is not None:
        policy = Saturation("micro_ap", 3, 0.002, 50, 600)
        traces += [
            made_trace(100, budget, seed, end_of(100, budget, seed) + gain + 0.001 * seed, policy)
            for budget in budgets
            for seed in seeds
        ]
    return traces
