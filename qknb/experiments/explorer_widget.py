"""The ipywidgets of the explorer: every control changes the state of an `Explorer`, and only the parts that it touches are drawn again."""

import html
import shlex

__all__ = ["explorer_box"]

_STYLE = "<style>.qknb-figure svg { max-width: 100%; height: auto; background: white; } .qknb-figure pre { line-height: 1.35; }</style>"


def explorer_box(explorer, policy_file):
    """The controls, the figures and the sentences of an explorer, as an ipywidgets box.

    Parameters
    ----------
    explorer : qknb.experiments.explorer.Explorer
    policy_file : path
        Where the button writes the policy, unless another path is typed.
    """
    import ipywidgets as w

    from qknb.experiments.explorer import POLICIES

    wide = {"description_width": "initial"}

    def slider(kind, value, low, high, step, text, **more):
        return kind(
            value=value,
            min=low,
            max=high,
            step=step,
            description=text,
            continuous_update=False,
            style=wide,
            layout=w.Layout(width="24rem"),
            **more,
        )

    budgets = [trace["budget"] for trace in explorer.traces.values()] or [explorer.budget]
    runs = w.SelectMultiple(
        options=list(explorer.traces), value=explorer.chosen, rows=9, layout=w.Layout(width="24rem")
    )
    kind = w.Dropdown(
        options=list(POLICIES.items()),
        value=explorer.kind,
        description="switch when",
        style=wide,
        layout=w.Layout(width="24rem"),
    )
    sliders = {
        "patience": slider(w.IntSlider, explorer.patience, 1, 20, 1, "patience (evaluations)"),
        "min_gain": slider(
            w.FloatSlider, explorer.min_gain, 0, 0.05, 0.0005, "minimum gain", readout_format=".4f"
        ),
        "min_steps": slider(w.IntSlider, explorer.min_steps, 0, 1000, 10, "minimum steps"),
        "cycle": slider(
            w.IntSlider, explorer.cycle, 10, max(1000, *budgets), 10, "steps in a phase, at most"
        ),
        "budget": slider(
            w.IntSlider, explorer.budget, 100, max(4000, *budgets), 100, "steps in all"
        ),
    }
    parts = {
        name: w.HTML().add_class("qknb-figure")
        for name in ("curves", "sentences", "heat", "movement", "runs")
    }
    file, write, written = (
        w.Text(value=str(policy_file), description="policy file", style=wide),
        w.Button(description="write policy"),
        w.HTML(),
    )
    again, play, state = (
        w.Button(description="read runs again"),
        w.Play(interval=2000, max=1_000_000, description="follow"),
        w.HTML(),
    )

    def draw(*names):
        for name in names:
            parts[name].value = explorer.drawn(name)

    def chosen(change):
        if change["new"]:  # a selection that a new list of options has emptied is put back below
            explorer.chosen = list(change["new"])
            draw("curves", "sentences", "heat", "movement", "runs")

    def moved(name, value):
        setattr(explorer, name, value)
        touched = {"budget": ("heat", "sentences"), "cycle": ("curves", "sentences", "heat")}
        draw(*touched.get(name, ("curves", "sentences")))

    def policy_chosen(change):
        explorer.kind = change["new"]
        for name in ("patience", "min_gain", "min_steps"):
            sliders[name].disabled = explorer.kind == "fixed"
        draw("curves", "sentences")

    def refresh(everything):
        new = explorer.refresh(everything=everything)
        if tuple(explorer.traces) != runs.options:
            keep = tuple(explorer.chosen)
            runs.options = tuple(explorer.traces)
            runs.value = keep
        if new:
            draw("curves", "sentences", "heat", "movement", "runs")
        first = explorer.first
        state.value = (
            html.escape(
                f"{first['name']}: step {first['step'][-1]:,}, {'complete' if first['complete'] else 'in training'}"
            )
            if first and first["step"]
            else ""
        )

    def write_file(_):
        try:
            word = f"@{explorer.write_policy(file.value)}"
            written.value = f"written: use it as the word <code>{html.escape(shlex.quote(word), quote=False)}</code> among the settings"
        except (OSError, ValueError) as error:
            written.value = f"not written: {html.escape(str(error))}"

    for name, control in sliders.items():
        control.observe(lambda change, name=name: moved(name, change["new"]), "value")
    runs.observe(chosen, "value")
    kind.observe(policy_chosen, "value")
    again.on_click(lambda _: refresh(everything=True))
    play.observe(lambda _: refresh(everything=False), "value")
    write.on_click(write_file)
    draw(*parts)
    controls = w.VBox(
        [w.HTML("<b>runs</b> (the policy is applied to the first)"), runs, kind, *sliders.values()]
    )
    below = w.Tab([w.HBox([parts["heat"], parts["runs"]]), parts["movement"]])
    for i, title in enumerate(("length and budget", "movement")):
        below.set_title(i, title)  # ipywidgets 7, which is Colab's, has no other way
    return w.VBox([
        w.HTML(_STYLE), w.HBox([controls, w.VBox([parts["curves"], parts["sentences"]], layout=w.Layout(flex="1 1 0"))]), below,
        w.HBox([file, write, written]), w.HBox([again, w.Label("follow the live run:"), play, state]),
    ])  # fmt: skip
