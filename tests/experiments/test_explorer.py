"""The explorer without a browser: its state, its figures, its controls, and how long a redraw
takes.
"""

import html
import json
import re
import subprocess
import sys
import time

import numpy as np
import pytest
from helpers.made_traces import end_of, made_trace, made_traces
from helpers.table_rows import rows_of
from PIL import Image

from qknb.config import PRESETS, experiment
from qknb.experiments.explorer import POLICIES, Explorer
from qknb.experiments.explorer_figures import curves_figure, lengths_figure, tip_of
from qknb.experiments.replay import replay
from qknb.notebooks import read_settings, setting_words
from qknb.report.style import svg
from qknb.training.switching import FixedSteps, Saturation, policy_of, read_policy


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
    import ipywidgets as w

    def walk(widget):
        yield widget
        for child in getattr(widget, "children", ()):
            yield from walk(child)

    named, shown = {}, []
    for widget in walk(box):
        if isinstance(widget, w.HTML):
            shown.append(widget)
        elif getattr(widget, "description", ""):
            named[widget.description] = widget
        elif isinstance(widget, w.SelectMultiple):
            named["runs"] = widget
    return named, shown


def curves_of(shown):
    return next(
        part for part in shown if "validation micro-AP" in part.value and "<svg" in part.value
    )


def test_it_begins_with_the_longest_phases_and_the_largest_budget(kept):
    assert Explorer([kept]).chosen == ["made: cycle-200_1200-s2"] and Explorer([kept]).images == [
        "made"
    ]
    assert Explorer([]).chosen == [] and Explorer([]).sentences() == ["No run is chosen."]


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


def test_moving_a_slider_changes_what_is_shown(explorer):
    box = explorer.widget()
    named, shown = parts(box)
    assert [
        tab.get_title(i) for tab in box.children if hasattr(tab, "get_title") for i in range(2)
    ] == ["length and budget", "movement"]
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
    named["runs"].value = ("made: cycle-50_600-s1", "made: cycle-100_600-s1")
    assert (
        explorer.chosen == ["made: cycle-50_600-s1", "made: cycle-100_600-s1"]
        and "cycle-100_600-s1" in curves_of(shown).value
    )


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
    named, shown = parts(explorer.widget())
    (text,) = [part for part in shown if "Fixed phases of" in part.value]
    assert before in text.value and after not in text.value
    named[control].value = value
    assert after in text.value and before not in text.value


def test_reading_runs_again_brings_what_is_new(explorer, kept):
    explorer.cycle = 100
    named, shown = parts(explorer.widget())
    (text,) = [part for part in shown if "Fixed phases of" in part.value]
    assert "0.415 expected" in text.value
    with kept.open("a") as file:
        for cycle in (50, 100, 200):  # a seed counts when all lengths have it
            file.write(json.dumps(made_trace(cycle, 1200, 3, 0.6)) + "\n")
    assert "0.415 expected" in text.value, "nothing is read unasked"
    named["read runs again"].click()
    assert (
        "0.477 expected" in text.value and "made: cycle-100_1200-s3" in named["runs"].options
    )  # (.39 + .44 + .6) / 3
    assert named["runs"].value == ("made: cycle-200_1200-s2",), "what was chosen stays chosen"


def test_the_button_writes_a_policy_that_a_run_accepts(explorer, tmp_path):
    named, shown = parts(explorer.widget(tmp_path / "p.yml"))
    named["patience (evaluations)"].value = 4
    named["write policy"].click()
    settings = experiment("cpu", **read_settings([f"@{tmp_path / 'p.yml'}"]))
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
    found = read_policy(explorer.write_policy(tmp_path / "p.yml"))
    assert (
        "restart_schedule" not in found
        and found["reset_optimizer"] is False
        and found["bank_chunks"] == 1
    )
    del explorer.first["settings"]["reset_optimizer"]  # collected before it was on record
    explorer.kind = "fixed"
    assert read_policy(explorer.write_policy(tmp_path / "q.yml")) == {
        "switch_policy": "fixed",
        "steps_per_phase": 600,
        "total_steps": 1200,
    }
    assert read_policy(Explorer([]).write_policy(tmp_path / "r.yml"))["eval_every"] == 50


def test_the_word_that_the_button_shows_can_be_pasted_into_settings(explorer, tmp_path):
    path = tmp_path / "my <files>" / "a policy.yml"
    named, shown = parts(explorer.widget(path))
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
    named, shown = parts(live.widget())
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
    named, shown = parts(live.widget())
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
    assert set(POLICIES.values()) == {"micro_ap", "loss", "fixed"}


def test_a_redraw_is_quick(explorer):
    """What a slider's move costs the processor: 0.12 s of one core where it was measured.

    The bound leaves room for slow machines.
    """
    box_parts = ("curves", "sentences", "heat")
    [explorer.drawn(name) for name in box_parts]
    best = np.inf
    for patience in (1, 3, 5):
        explorer.patience, begin = patience, time.process_time()
        [explorer.drawn(name) for name in box_parts]
        best = min(best, time.process_time() - begin)
    assert best < 1.5
