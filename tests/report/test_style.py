"""The style is local, files are whole, names fit their place, pages get their own colours."""

import matplotlib
import pytest
from helpers.made_run import make_run
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextToPath

from qknb.evaluation import results as outcomes
from qknb.report import style
from qknb.report.training_curves import training_figure


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("figures") / "run")


def test_style_is_local_and_figures_do_not_depend_on_the_callers(run):
    log = outcomes.training_log(run)
    plain = style.png(training_figure(log))
    with matplotlib.rc_context({"font.size": 30, "lines.linewidth": 9, "text.usetex": False}):
        before = dict(matplotlib.rcParams)
        assert style.png(training_figure(log)) == plain
        assert dict(matplotlib.rcParams) == before
    assert training_figure(log)._repr_png_() == plain


def test_a_failing_save_leaves_what_was_there(tmp_path, monkeypatch):
    figure = training_figure({})
    path = style.save(figure, tmp_path / "a.png")
    whole = path.read_bytes()

    def fails(*args, **kwargs):
        raise OSError("no space left")

    monkeypatch.setattr("pathlib.Path.write_bytes", fails)
    for name in ("a.png", "b.png"):
        with pytest.raises(OSError, match="no space"):
            style.save(figure, tmp_path / name)
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"] and path.read_bytes() == whole


@pytest.mark.filterwarnings("ignore:Glyph")
@pytest.mark.parametrize(
    "name",
    [
        "x" * 300 + ".jpg",
        "a/b/" + "W" * 80,
        "short.png",
        "$\\alpha$_^{",
        "line\nbreak\x07.jpg",
        "猫" * 60,
        "bad\udcff.jpg",
    ],
    ids=["long", "wide", "short", "math", "control", "script", "bytes"],
)
def test_names_are_fitted_to_their_place(name):
    fitted = style.fitted(name, 1.2, 7)
    width = TextToPath().get_text_width_height_descent(
        fitted, FontProperties(family="DejaVu Sans", size=7), ismath=False
    )[0]
    assert width <= 1.2 * 72 and fitted.isprintable()
    if name == "short.png":
        assert fitted == name
    if name.startswith("xxx"):
        assert fitted.endswith(".jpg") and "…" in fitted


def test_wrapped_text_keeps_to_its_lines():
    assert style.wrapped("crop 50% + text 9%", 5, 7, 2) == "crop 50% + text 9%"
    lines = style.wrapped("crop 50% + " * 30, 1.2, 7, 2).split("\n")
    assert len(lines) == 2 and lines[1].endswith("…")


def test_a_page_gets_the_figure_in_its_own_colours(run):
    figure = training_figure(outcomes.training_log(run))
    title = figure.get_suptitle()
    text = style.page_svg(figure)
    assert text.startswith("<svg") and title not in text, "the page has the title as a heading"
    assert "var(--q)" in text and "var(--ink)" in text
    assert style.COLOURS["Q"].lower() not in text and "#ffffff" not in text, "no white box"
    assert "total" in text and "<text" in text, "words stay text"


def test_files_of_both_kinds(run, tmp_path):
    figure = training_figure(outcomes.training_log(run))
    assert style.save(figure, tmp_path / "a.svg").read_text().startswith("<svg")
    assert style.save(figure, tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
