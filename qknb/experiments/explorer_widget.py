"""The ipywidgets of the explorer: every control changes the state of an `Explorer`, and only the
parts that it touches are drawn again.
"""

import html
import re
import shlex
from pathlib import Path

import ipywidgets as w

from qknb.experiments.explorer import COMPARED, POLICIES
from qknb.experiments.explorer_figures import NARROW, WIDE
from qknb.experiments.switch_findings import named
from qknb.experiments.traces import tip_of
from qknb.report.style import svg

__all__ = ["drawn", "explorer_box"]

_STYLE = """<style>
.qknb-explorer { display: flex; flex-flow: row-reverse wrap; gap: 8px 24px; width: 100%;
  align-items: flex-start; justify-content: flex-end; }
.qknb-explorer .widget-box { overflow: visible; }
.qknb-main { flex: 999 1 440px; min-width: min(100%, 320px); }
.qknb-side { flex: 1 1 340px; min-width: 0; max-width: 100%; }
.qknb-side > * { width: auto; max-width: 100%; }
.qknb-side .widget-readout { min-width: 3.2em; width: auto; }
.qknb-side .widget-box > * { flex: 0 0 auto; width: auto; }
.qknb-side .widget-box > .widget-text { flex: 1 1 10em; min-width: 0; }
.qknb-main .lm-TabBar-tab, .qknb-main .p-TabBar-tab { flex: 0 1 auto; min-width: 3em;
  max-width: none; }
.qknb-figure { container-type: inline-size; width: calc(100% - 4px); height: auto; }
.qknb-figure .widget-html-content { flex: 1; min-width: 0; line-height: 1.4; }
.qknb-figure svg { max-width: 100%; height: auto; background: white; }
[data-jp-theme-light="false"] .qknb-figure svg { filter: invert(.9) hue-rotate(180deg); }
.qknb-figure pre { line-height: 1.35; white-space: pre-wrap; overflow-wrap: anywhere; }
.qknb-narrow { display: none; }
@container (max-width: 600px) { .qknb-narrow { display: block; } .qknb-wide { display: none; } }
.qknb-runs { gap: 2px; align-items: center; }
.qknb-runs button { width: auto; margin: 0; padding: 0 2px; }
.qknb-runs .widget-html-content { line-height: 1.15; white-space: normal; }
</style>"""
_USED = {  # controls that a policy has
    "micro_ap": ("patience", "min_gain", "min_steps", "cycle", "budget"),
    "loss": ("patience", "min_gain", "min_steps", "cycle", "budget"),
    "fixed": ("cycle", "budget"),
    "short_cycles": ("cycle", "first_steps", "budget"),
    "schedule": ("phases", "growth", "budget"),
}
_TOUCHED = {  # parts that a control changes, where these are not curves and sentences alone
    "budget": ("curves", "sentences", "heat"),
    "cycle": ("curves", "sentences", "heat"),
    "phases": ("curves", "sentences", "heat"),
}
_PARTS = ("curves", "sentences", "heat", "movement", "runs")
_NAME = re.compile(r"(?!\.)[^/\\\x00-\x1f]{1,100}\.ya?ml")


def drawn(explorer, what):
    """One part of an explorer as HTML: "curves", "heat", "movement", "sentences" or "runs"."""
    if what == "sentences":
        return "<br>".join(html.escape(sentence) for sentence in explorer.sentences())
    if what == "runs":
        tips = [html.escape(tip_of(explorer.traces[name])) for name in explorer.chosen]
        return "".join(f"<pre>{tip}</pre>" for tip in tips)
    if what == "heat":
        figure = explorer.heat()
        nothing = "one length and budget alone was run with these images and settings"
        return svg(figure) if figure else f"<i>no map: {nothing}</i>"
    draw = getattr(explorer, what)
    found = [(kind, draw(width)) for kind, width in (("wide", WIDE), ("narrow", NARROW))]
    if found[0][1] is None:
        return "<i>not on record: set eval_every in the next run</i>"
    return "".join(f"<div class=qknb-{kind}>{svg(figure)}</div>" for kind, figure in found)


def explorer_box(explorer, policy_file):
    """The controls, the figures and the sentences of an explorer, as an ipywidgets box.

    Parameters
    ----------
    explorer : qknb.experiments.explorer.Explorer
    policy_file : path
        Where the button writes the policy; another name in the same folder can be typed.
    """
    parts = {name: w.HTML().add_class("qknb-figure") for name in _PARTS}

    def draw(*names):
        for name in names or _PARTS:
            parts[name].value = drawn(explorer, name)

    runs, show_runs = _runs(explorer, draw)
    below = w.Tab([parts["heat"], parts["movement"], parts["runs"]])
    for i, title in enumerate(("map", "movement", "settings")):
        below.set_title(i, title)  # ipywidgets 7, which is Colab's, has no other way
    main = w.VBox([parts["curves"], parts["sentences"], below]).add_class("qknb-main")
    side = [*_policy(explorer, draw), *runs, *_live(explorer, draw, show_runs)]
    side += _file(explorer, Path(policy_file))
    draw()
    box = w.Box([main, w.VBox(side).add_class("qknb-side")]).add_class("qknb-explorer")
    return w.VBox([w.HTML(_STYLE), box])


def _heading(text):
    return w.HTML(f"<b>{html.escape(text)}</b>")


def _policy(explorer, draw):
    """The policy and its numbers."""
    wide = {"description_width": "initial"}
    budgets = [trace["budget"] for trace in explorer.traces.values()] or [explorer.budget]
    longest = max(1000, *budgets)
    given = {
        "patience": (w.IntSlider, 1, 20, 1, "patience (evaluations)"),
        "min_gain": (w.FloatSlider, 0, 0.05, 0.0005, "minimum gain"),
        "min_steps": (w.IntSlider, 0, 1000, 10, "minimum steps"),
        "cycle": (w.IntSlider, 10, longest, 10, "steps in a phase, at most"),
        "first_steps": (w.IntSlider, 0, longest, 10, "steps of the first two phases"),
        "phases": (w.IntSlider, 1, 20, 1, "number of phases"),
        "growth": (w.FloatSlider, 0.5, 3, 0.05, "growth from phase to phase"),
        "budget": (w.IntSlider, 100, max(4000, *budgets), 100, "steps in all"),
    }
    sliders = {}
    for name, (kind, low, high, step, text) in given.items():
        more = {"readout_format": ".4f"} if name == "min_gain" else {}
        sliders[name] = kind(
            value=getattr(explorer, name), min=low, max=high, step=step, description=text,
            continuous_update=False, style=wide, **more,
        )  # fmt: skip
    kind = w.Dropdown(options=list(POLICIES.items()), value=explorer.kind,
                      description="switch when", style=wide)  # fmt: skip

    def show():
        for name, slider in sliders.items():
            slider.disabled = name not in _USED[explorer.kind]
            slider.layout.display = "none" if slider.disabled else ""

    def chosen(change):
        explorer.kind = change["new"]
        show()
        draw("curves", "sentences", "heat")

    def moved(name, value):
        setattr(explorer, name, value)
        draw(*_TOUCHED.get(name, ("curves", "sentences")))

    for name, slider in sliders.items():
        slider.observe(lambda change, name=name: moved(name, change["new"]), "value")
    kind.observe(chosen, "value")
    show()
    return [_heading("Policy"), kind, *sliders.values()]


def _runs(explorer, draw):
    """The table of runs; and a function that fills it again."""
    wide = {"description_width": "initial"}
    images = w.Dropdown(description="images", style=wide)
    seed = w.ToggleButtons(description="seed", style=wide | {"button_width": "3rem"})
    beside = w.Dropdown(options=list(COMPARED.items()), value=explorer.beside,
                        description="beside it", style=wide)  # fmt: skip
    table = w.GridBox().add_class("qknb-runs")
    busy = [False]  # filling the controls is no choice of the user's

    def fill():
        busy[0] = True
        images.options = list(explorer.tasks)
        images.value = explorer.task
        seed.options = explorer.seeds()
        own = explorer.first["settings"]["seed"] if explorer.first else None
        seed.value = own
        busy[0] = False
        found = explorer.table(own)
        budgets = sorted({budget for row in found.values() for budget in row})
        cells = [w.HTML("phases"), *(w.HTML(f"{budget:,} steps") for budget in budgets)]
        for label, row in found.items():
            cells.append(w.HTML(html.escape(named(label))))
            cells += [_cell(explorer, row.get(budget, []), choose) for budget in budgets]
        table.children = cells
        table.layout.grid_template_columns = f"minmax(5rem, 2fr) repeat({len(budgets)}, 1fr)"

    def choose(name):
        explorer.choose(name)
        fill()
        draw()

    def task_chosen(change):
        if not busy[0] and change["new"]:
            choose(explorer.longest(change["new"]))

    def seed_chosen(change):
        if not busy[0] and change["new"] is not None:
            choose(explorer.longest(explorer.task, change["new"]))

    def beside_chosen(change):
        explorer.beside = change["new"]
        if explorer.chosen:
            choose(explorer.chosen[0])

    images.observe(task_chosen, "value")
    seed.observe(seed_chosen, "value")
    beside.observe(beside_chosen, "value")
    fill()
    return [_heading("Run (numbers: test micro-AP)"), images, seed, table, beside], fill


def _cell(explorer, names, choose):
    """A button for each run of one cell of the table."""
    buttons = []
    for name in names:
        trace = explorer.traces[name]
        reached = trace["test"].get(trace["phases"][-1]["name"])
        words = "in training" if not trace["complete"] else "no score"
        button = w.Button(
            description=words if reached is None else f"{reached:.3f}",
            tooltip=tip_of(trace),
            button_style="info" if name == explorer.chosen[0] else "",
        )
        if name in explorer.chosen:
            button.style.font_weight = "bold"
        button.on_click(lambda _, name=name: choose(name))
        buttons.append(button)
    return buttons[0] if len(buttons) == 1 else w.VBox(buttons)


def _live(explorer, draw, show_runs):
    """The buttons that read runs again."""
    again = w.Button(description="read runs again")
    play = w.Play(interval=2000, max=1_000_000, description="follow")
    state = w.HTML()

    def refresh(everything):
        if explorer.refresh(everything=everything):
            show_runs()
            draw()
        first = explorer.first
        if first and first["step"]:
            standing = "complete" if first["complete"] else "in training"
            state.value = html.escape(f"{first['name']}: step {first['step'][-1]:,}, {standing}")

    again.on_click(lambda _: refresh(everything=True))
    play.observe(lambda _: refresh(everything=False), "value")
    return [w.HBox([again, w.Label("follow:"), play]), state]


def _file(explorer, policy_file):
    """The button that writes the policy, into one folder."""
    name = w.Text(value=policy_file.name, description="policy file",
                  style={"description_width": "initial"})  # fmt: skip
    write, written = w.Button(description="write policy"), w.HTML()

    def write_file(_):
        try:
            if not _NAME.fullmatch(name.value):
                raise ValueError(
                    f"{name.value!r}: expected a name that ends in .yml, without a folder; it is "
                    f"written into {policy_file.parent}"
                )
            word = f"@{explorer.write_policy(policy_file.with_name(name.value))}"
            quoted = html.escape(shlex.quote(word), quote=False)
            written.value = f"written: use it as the word <code>{quoted}</code> among the settings"
        except (OSError, ValueError) as error:
            written.value = f"not written: {html.escape(str(error))}"

    write.on_click(write_file)
    return [_heading("Keep the policy"), w.HBox([name, write]), written]
