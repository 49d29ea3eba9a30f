"""The explorer without a browser: its state, its figures, its controls, and how long a redraw
takes.
"""

import html
import json
import re
import subprocess
import sys
import time

import ipywidgets as w
import numpy as np
import pytest
from helpers.made_traces import end_of, made_trace, made_traces
from helpers.table_rows import rows_of
from PIL import Image

from qknb.config import PRESETS, SETTINGS, experiment
from qknb.experiments.explorer import POLICIES, Explorer
from qknb.experiments.explorer_figures import curves_figure, lengths_figure
from qknb.experiments.explorer_widget import drawn, explorer_box
from qknb.experiments.replay import replay
from qknb.experiments.traces import tip_of
from qknb.report.style import svg
from qknb.settings.given import read_settings, read_settings_file, setting_words
from qknb.training.switching import FixedSteps, Saturation, policy_of


@pytest.fixture
def kept(tmp_path):
    """A file of traces; the run with phases of 200 and 1,200 steps in all, seed 2, stands still
    after step 100 of each phase.
    """
    traces = made_traces(gain=0.02)
    for trace in traces:
        if trace["name"] == "cycle-200_1200-s2":
            trace["micro_ap"] = [
                round(0.3 + 0.02 * p + 0.001 * min(s - trace["phases"][p]["begin"], 100), 4)
                for s, p in zip(trace["step"], trace["phase"], strict=True)
            ]
    path = tmp_path / "made.jsonl"
    path.write_text("".join(json.dumps(trace) + "\n" for trace in traces))
    return path


@pytest.fixture
def explorer(kept):
    found = Explorer([kept])
    found.chosen, found.patience, found.min_steps, found.cycle = (
        ["made: cycle-200_1200-s2"],
        2,
        0,
        600,
    )
    return found


def parts(box):
    """Widgets of a box by their description, and the HTML parts by what they hold."""
    named, shown = {}, []
    for widget in walk(box):
        if isinstance(widget, w.HTML):
            shown.append(widget)
        elif getattr(widget, "description", ""):
            named[widget.description] = widget
    return named, shown


def walk(widget):
    yield widget
    for child in getattr(widget, "children", ()):
        yield from walk(child)


def cells_of(box):
    """The table's buttons by the names of their runs, as their tooltips say them."""
    (table,) = [widget for widget in walk(box) if isinstance(widget, w.GridBox)]
    return {b.tooltip.splitlines()[0]: b for b in walk(table) if isinstance(b, w.Button)}


def curves_of(shown):
    return next(
        part for part in shown if "validation micro-AP" in part.value and "<svg" in part.value
    )


def test_it_begins_where_a_policy_has_something_to_decide(kept):
    """One run stands still in each of its phases, and only without patience is that seen."""
    found = Explorer([kept])
    assert found.chosen[0] == "made: cycle-200_1200-s2" and found.patience == 1
    assert len(replay(found.first, found.policy()).switches) == 6
    assert (found.budget, found.cycle, list(found.tasks)) == (1200, 200, ["made"])
    assert found.chosen[1:] == [
        "made: cycle-50_1200-s2",
        "made: cycle-100_1200-s2",
        "made: micro_ap_1200-s2",
    ], "beside it: what else ran on the same images as long"
    assert Explorer([]).chosen == [] and Explorer([]).sentences() == ["No run is chosen."]


@pytest.mark.slow
def test_only_runs_that_compare_stand_in_one_map(tmp_path):
    """The same word for other images, or for training with other settings, is another task."""
    traces = made_traces()
    for trace in made_traces(seeds=(3,)):
        trace["settings"]["learning_rate"] = 1e-2
        traces.append(trace | {"name": "fast-" + trace["name"]})
    traces.append(made_trace(100, 600, 4) | {"keys": 70, "name": "smoke"})
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(t) + "\n" for t in traces))
    found = Explorer([tmp_path / "t.jsonl"])
    assert list(found.tasks) == [
        "made (learning_rate 0.001)",
        "made (learning_rate 0.01)",
        "made (keys 70)",
    ]
    found.choose("made: cycle-100_600-s1")
    assert {key[2] for key in found.values()} == {1, 2}
    found.choose("made: smoke")
    assert found.heat() is None and found.chosen == ["made: smoke"]
    assert "no map" in drawn(found, "heat")
    named, _ = parts(box := explorer_box(found, "policy.yml"))
    assert list(cells_of(box)) == ["smoke"] and named["images"].value == "made (keys 70)"
    named["images"].value = "made (learning_rate 0.01)"
    assert found.chosen[0] == "made: fast-cycle-200_1200-s3"
    assert len(cells_of(box)) == 6 and named["seed"].value == 3


def test_switches_follow_the_policy(explorer):
    found = replay(explorer.first, explorer.policy())
    assert found.switches == [] and found.saved == 0, (
        "the best value is at 100 of 200; two evaluations later the phase is over"
    )
    explorer.patience = 1
    assert replay(explorer.first, explorer.policy()).switches == [150 + 200 * i for i in range(6)]
    assert "saved 300 of 1,200 steps (25%); 300 of these gained nothing" in explorer.sentences()[0]
    explorer.kind, explorer.cycle = "fixed", 50
    assert (
        explorer.policy() == FixedSteps(50)
        and replay(explorer.first, explorer.policy()).switches[0] == 50
    )
    assert (
        f"{(end_of(50, 1200, 1) + end_of(50, 1200, 2)) / 2:.3f} expected" in explorer.sentences()[1]
    )


@pytest.mark.slow
def test_moving_a_slider_changes_what_is_shown(explorer):
    box = explorer_box(explorer, "policy.yml")
    named, shown = parts(box)
    (tabs,) = [widget for widget in walk(box) if isinstance(widget, w.Tab)]
    titles = [tabs.get_title(i) for i in range(3)]
    assert titles == ["map", "movement", "settings"]
    before, heat = (
        curves_of(shown).value,
        next(p.value for p in shown if "by phase length and budget" in p.value),
    )
    named["patience (evaluations)"].value = 1
    assert (
        explorer.patience == 1
        and curves_of(shown).value != before
        and "would switch at step 150 of 200" in curves_of(shown).value
    )
    assert any("saved 300 of 1,200 steps" in p.value for p in shown)
    assert any(p.value == heat for p in shown), (
        "the map does not depend on patience and is not drawn again"
    )
    named["steps in all"].value = 700
    assert not any(p.value == heat for p in shown)
    named["switch when"].value = "fixed"
    assert explorer.kind == "fixed" and named["patience (evaluations)"].disabled
    cells = cells_of(box)
    assert list(cells) == [t["name"] for t in explorer.traces.values() if "s2" in t["name"]]
    assert cells["cycle-50_600-s2"].description == f"{end_of(50, 600, 2):.3f}"
    cells["cycle-50_600-s2"].click()
    assert explorer.chosen[0] == "made: cycle-50_600-s2"
    assert "cycle-100_600-s2" in curves_of(shown).value, "beside it: the other lengths"
    assert cells_of(box)["cycle-50_600-s2"].button_style == "info"
    named["beside it"].value = "seed"
    assert explorer.chosen == ["made: cycle-50_600-s2", "made: cycle-50_600-s1"]
    named["seed"].value = 1
    assert explorer.chosen[0] == "made: cycle-200_1200-s1"


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind, state, planned",
    [
        ("fixed", {"cycle": 500}, [500, 500, 200]),
        ("short_cycles", {"cycle": 200, "first_steps": 300}, [300, 300, 200, 200, 200]),
        ("schedule", {"phases": 3, "growth": 2.0}, [171, 343, 686]),
        ("loss", {}, []),
    ],
)
def test_every_policy_can_be_chosen_and_its_phases_are_shown(explorer, kind, state, planned):
    """1,200 steps in phases of x, 2x, 4x: x = 171.4."""
    named, shown = parts(explorer_box(explorer, "policy.yml"))
    assert set(value for _, value in named["switch when"].options) == set(POLICIES.values())
    for name, value in state.items():
        setattr(explorer, name, value)
    named["switch when"].value = kind
    assert explorer.planned() == planned
    seen = {text for text, control in named.items() if getattr(control, "disabled", None) is False}
    assert ("number of phases" in seen) == (kind == "schedule")
    assert ("patience (evaluations)" in seen) == (kind == "loss")
    (text,) = [part for part in shown if "Fixed phases of" in part.value]
    words = f"As planned: {len(planned)} phases of {', '.join(map(str, planned))} steps"
    assert (words in text.value) == bool(planned)
    tip = f"switches as planned: after {', '.join(map(str, planned))}"
    assert (tip in curves_of(shown).value) == bool(planned)


@pytest.mark.parametrize(
    "run, state, control, value, before, after",
    [
        # a straight line, .0129 in 50 steps: .03 above the best is out of reach within two records,
        # so each of 3 phases ends at 100 of 200
        (
            "cycle-200_600-s1",
            {},
            "minimum gain",
            0.03,
            "would not have ended any of the 3 phases",
            "ended 3 of 3 phases earlier and saved 300 of 600 steps (50%); 0 of these",
        ),
        # the best is at 100 of 200; one record later each of 6 phases would be over, but not before
        # 160, which leaves the end itself
        (
            "cycle-200_1200-s2",
            {"patience": 1},
            "minimum steps",
            160,
            "saved 300 of 1,200 steps (25%)",
            "would not have ended any of the 6 phases",
        ),
        (
            "cycle-200_1200-s2",
            {},
            "steps in a phase, at most",
            150,
            "would not have ended any of the 6 phases",
            "saved 300 of 1,200 steps (25%)",
        ),
        # .3 + budget / 24,000 - cycle / 10,000 + .05 seed, the mean of seeds 1 and 2
        (
            "cycle-200_1200-s2",
            {"cycle": 100},
            "steps in all",
            600,
            "100 steps, 1,200 in all: test micro-AP 0.415",
            "100 steps, 600 in all: test micro-AP 0.390",
        ),
    ],
)
def test_each_slider_changes_the_text_as_counted_by_hand(
    explorer, run, state, control, value, before, after
):
    explorer.chosen = [f"made: {run}"]
    for name, given in state.items():
        setattr(explorer, name, given)
    named, shown = parts(explorer_box(explorer, "policy.yml"))
    (text,) = [part for part in shown if "Fixed phases of" in part.value]
    assert before in text.value and after not in text.value
    named[control].value = value
    assert after in text.value and before not in text.value


def test_reading_runs_again_brings_what_is_new(explorer, kept):
    explorer.cycle = 100
    named, shown = parts(explorer_box(explorer, "policy.yml"))
    (text,) = [part for part in shown if "Fixed phases of" in part.value]
    assert "0.415 expected" in text.value
    with kept.open("a") as file:
        for cycle in (50, 100, 200):  # a seed counts when all lengths have it
            file.write(json.dumps(made_trace(cycle, 1200, 3, 0.6)) + "\n")
    assert "0.415 expected" in text.value, "nothing is read unasked"
    named["read runs again"].click()
    assert "0.477 expected" in text.value and 3 in named["seed"].options  # (.39 + .44 + .6) / 3
    assert explorer.chosen == ["made: cycle-200_1200-s2"], "what was chosen stays chosen"


def test_the_button_writes_a_policy_that_a_run_accepts(explorer, tmp_path):
    named, shown = parts(explorer_box(explorer, tmp_path / "p.yml"))
    named["patience (evaluations)"].value = 4
    named["write policy"].click()
    settings = experiment("heads", **read_settings([f"@{tmp_path / 'p.yml'}"]))
    assert (
        settings.switch_policy,
        settings.patience,
        settings.total_steps,
        settings.eval_every,
        settings.steps_per_phase,
    ) == ("micro_ap", 4, 1200, 50, 600)
    assert any("written" in p.value for p in shown)
    named["policy file"].value = str(tmp_path / "p.yml" / "below a file.yml")
    named["write policy"].click()
    assert any("not written" in p.value for p in shown)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["../out.yml", "/tmp/out.yml", "a\\b.yml", ".hidden.yml", "policy", "x.py", ""]
)
def test_the_page_writes_into_its_folder_alone(explorer, tmp_path, name):
    named, shown = parts(explorer_box(explorer, tmp_path / "inside" / "p.yml"))
    named["policy file"].value = name
    named["write policy"].click()
    assert any("not written" in p.value for p in shown)
    assert [p.name for p in tmp_path.rglob("*")] == ["made.jsonl"]


def test_nothing_is_overwritten_that_is_no_policy(explorer, tmp_path):
    """A grid, a link to a file elsewhere, YAML of another kind."""
    grid, elsewhere = tmp_path / "grid.yml", tmp_path / "elsewhere.yml"
    grid.write_text("base: {preset: cpu}")
    explorer.write_policy(elsewhere)
    (tmp_path / "link.yml").symlink_to(elsewhere)
    (tmp_path / "list.yml").write_text("[switch_policy]")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    named, shown = parts(explorer_box(explorer, tmp_path / "p.yml"))
    for name in ("grid.yml", "link.yml", "list.yml"):
        named["policy file"].value = name
        named["write policy"].click()
        assert any("is not a policy: choose another name" in p.value for p in shown)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    named["policy file"].value = "elsewhere.yml"
    explorer.kind = "fixed"
    named["write policy"].click()
    assert read_settings_file(elsewhere)["switch_policy"] == "fixed", (
        "a policy may be written again"
    )


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("kind", POLICIES.values())
def test_the_file_is_accepted_under_every_preset_and_says_what_was_evaluated(
    explorer, tmp_path, preset, kind
):
    explorer.kind = kind
    settings = experiment(
        preset, **read_settings([f"@{explorer.write_policy(tmp_path / 'p.yml')}"])
    )
    assert (
        policy_of(settings, settings.steps_per_phase) == explorer.policy()
        and settings.total_steps == 1200
    )
    recorded = explorer.first["settings"]
    assert (
        [settings.restart_schedule, settings.reset_optimizer]
        == [recorded["restart_schedule"], recorded["reset_optimizer"]]
        == [False, False]
    )
    assert settings.learning_rate == experiment(preset).learning_rate, (
        "rates are the preset's or the user's: they are not what was asked"
    )


def test_the_file_leaves_out_what_the_run_had_at_its_default(explorer, tmp_path):
    explorer.first["settings"] |= {"restart_schedule": True, "reset_optimizer": False}
    found = read_settings_file(explorer.write_policy(tmp_path / "p.yml"))
    assert (
        "restart_schedule" not in found
        and found["reset_optimizer"] is False
        and found["bank_chunks"] == 1
    )
    del explorer.first["settings"]["reset_optimizer"]  # collected before it was on record
    explorer.kind = "fixed"
    assert read_settings_file(explorer.write_policy(tmp_path / "q.yml")) == {
        "switch_policy": "fixed",
        "steps_per_phase": 600,
        "total_steps": 1200,
    }
    assert read_settings_file(Explorer([]).write_policy(tmp_path / "r.yml"))["eval_every"] == 50


def test_the_word_that_the_button_shows_can_be_pasted_into_settings(explorer, tmp_path):
    path = tmp_path / "my <files>" / "a policy.yml"
    named, shown = parts(explorer_box(explorer, path))
    named["write policy"].click()
    (word,) = [
        m[1] for part in shown if (m := re.search("written: .*<code>(.*)</code>", part.value))
    ]
    words = setting_words(f"tau=0.1 {html.unescape(word)}")
    assert words == ["tau=0.1", f"@{path}"] and read_settings(words)["patience"] == 2
    assert "among the settings: '@a policy.yml'" in path.read_text()


def test_a_run_in_training_is_followed(tmp_path, kept):
    from helpers.traced_runs import make_run

    live = Explorer([kept], live=make_run(tmp_path / "live", done=1))
    live.chosen = ["scenes: live"]
    named, shown = parts(explorer_box(live, "policy.yml"))
    before = curves_of(shown).value
    named["follow"].value += 1
    assert curves_of(shown).value == before, "nothing new, nothing drawn"
    with (tmp_path / "live" / "phases" / "K1" / "evaluations.jsonl").open("a") as file:
        file.write(
            '{"step": 50, "loss": 1.0, "micro_ap": 0.7, "drift_near": 0.1, "drift_far": 0.1}\n'
        )
    named["follow"].value += 1
    assert curves_of(shown).value != before and live.first["micro_ap"][-1] == 0.7
    assert any("step 100, in training" in p.value for p in shown)


WRITER = """
import sys
from pathlib import Path
from qknb.run import append_json_line

for number in map(int, sys.stdin):
    append_json_line(
        Path(sys.argv[1]),
        {
            "step": number,
            "loss": 1.0,
            "micro_ap": number / 100,
            "moved_near": 0.1,
            "moved_far": 0.1,
            "drift_near": 0.1,
            "drift_far": 0.1,
        },
    )
    print("written", flush=True)
"""


def test_a_run_that_another_process_writes_is_followed(tmp_path, kept):
    from helpers.traced_runs import make_run

    live = Explorer([kept], live=make_run(tmp_path / "live", done=1))
    live.chosen = ["scenes: live"]
    named, shown = parts(explorer_box(live, "policy.yml"))
    words = [
        sys.executable,
        "-c",
        WRITER,
        str(tmp_path / "live" / "phases" / "K1" / "evaluations.jsonl"),
    ]
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        for number in (30, 40):
            process.stdin.write(f"{number}\n")
            process.stdin.flush()
            assert process.stdout.readline() == "written\n"
            named["follow"].value += 1
            assert live.first["micro_ap"][-1] == number / 100 and any(
                f"step {50 + number}, in training" in part.value for part in shown
            )
        process.stdin.close()
        assert process.wait(20) == 0


def test_figures_are_saved_without_a_front_end(explorer, tmp_path):
    paths = explorer.save(tmp_path / "figures")
    assert set(paths) == {
        "switching_curves",
        "switching_movement",
        "switching_heat_made",
        "switching_lengths_made",
    }
    for path in paths.values():
        with Image.open(path) as image:
            assert image.width > 600 and np.asarray(image.convert("L")).std() > 10
    assert set(Explorer([]).figures()) == {"switching_curves"}


def test_every_figure_is_drawn_in_the_house_style(explorer):
    for name, figure in explorer.figures().items():
        for axes in figure.axes:
            assert (
                not axes.spines["top"].get_visible() and not axes.spines["right"].get_visible()
            ), name


def test_a_line_of_phase_lengths_goes_on_past_one_that_was_not_run():
    values = {(50, 600, 1): 0.5, (200, 600, 1): 0.6, (100, 300, 1): 0.4}
    axes = lengths_figure(made_traces(), values).axes[0]
    assert any(line.get_xdata().tolist() == [0, 2] for line in axes.lines)


def test_tooltips_carry_a_runs_parameters_and_cannot_break_the_page():
    trace = made_trace(100, 600, policy=Saturation("loss", 7, 0.02, 50, 600))
    assert "patience 7" in tip_of(trace) and "budget 600 steps, batch 32" in tip_of(trace)
    trace["name"] = "<script>alert(1)</script>"
    text = svg(curves_figure([trace]))
    assert (
        "<script" not in text
        and "<title>&lt;script&gt;" in text
        and text.count("<title>") == 1 + len(trace["phases"])
    )


def test_ids_of_two_figures_in_one_page_differ():
    import re

    one, two = (
        set(re.findall(r'id="([mpd][0-9a-f]{10,})"', svg(curves_figure([made_trace()]))))
        for _ in range(2)
    )
    assert one and not one & two


def test_findings_and_policies_offered(explorer):
    sentences, table = explorer.findings()["made"]
    assert (
        any("beats" in s or "cannot be told apart" in s or "stays behind" in s for s in sentences)
        and len(rows_of(table)) == 4
    )
    assert set(POLICIES.values()) == set(SETTINGS["switch_policy"].choices)


def test_a_redraw_is_quick(explorer):
    """What a slider's move costs the processor: 0.12 s of one core where it was measured.

    The bound leaves room for slow machines.
    """
    box_parts = ("curves", "sentences", "heat")
    [drawn(explorer, name) for name in box_parts]
    best = np.inf
    for patience in (1, 3, 5):
        explorer.patience, begin = patience, time.process_time()
        [drawn(explorer, name) for name in box_parts]
        best = min(best, time.process_time() - begin)
    assert best < 1.5
