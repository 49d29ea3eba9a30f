"""The explorer as a page of its own, served by voila: `make explore`."""

import argparse
import html
import subprocess
import sys
import tempfile
from pathlib import Path

__all__ = ["main", "page"]

COLLECTED = "runs/reference-switching"


def page(run_root, collected=COLLECTED, policy_file="policy.yml", live=None):
    """The explorer over all runs of a folder and all collected traces, with what they say.

    Parameters
    ----------
    run_root, collected : path
        Folders of runs, and of the .jsonl files of `python -m qknb traces`.
    policy_file : path
        Where the button writes.
    live : path, optional
        A run that may still be in training.

    Returns
    -------
    ipywidgets.VBox
    """
    import ipywidgets as w

    from qknb.experiments.explorer import Explorer
    from qknb.experiments.explorer_widget import explorer_box

    runs = [path.parent for path in sorted(Path(run_root).glob("*/manifest.json"))]
    explorer = Explorer([*sorted(Path(collected).glob("*.jsonl")), *runs], live=live)
    said = []
    for sentences, table in explorer.findings().values():
        text = html.escape(" ".join(sentences))
        said += [w.HTML(f"<p>{text}</p>"), w.HTML(table.html())]
    found = w.Accordion([w.VBox(said)], selected_index=None)
    found.set_title(0, "What all runs say")
    title = w.HTML("<h1>When to switch sides?</h1>")
    return w.VBox([title, explorer_box(explorer, policy_file), found])


def main(arguments=None) -> int:
    """Serve the page to this account alone, until it is interrupted. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m qknb.experiments.explorer_page",
                                     description=main.__doc__.splitlines()[0])  # fmt: skip
    parser.add_argument("--root", default="runs", help="folder of all runs (default: runs)")
    parser.add_argument("--collected", default=COLLECTED, help="folder of collected traces")
    parser.add_argument("--policy", default="runs/policy.yml", help="the file the button writes")
    parser.add_argument("--port", type=int, help="default: a free one")
    parser.add_argument("--no-browser", action="store_true", help="print the address alone")
    options = parser.parse_args(arguments)
    root, collected, policy = (
        str(Path(path).expanduser().absolute())
        for path in (options.root, options.collected, options.policy)
    )
    with tempfile.TemporaryDirectory() as folder:
        notebook = _notebook(Path(folder) / "explorer.ipynb", root, collected, policy)
        words = [sys.executable, "-m", "voila", str(notebook), "--token", "--Voila.ip=127.0.0.1"]
        words += [f"--port={options.port}"] if options.port else []
        words += ["--no-browser"] if options.no_browser else []
        try:
            return subprocess.run(words).returncode
        except KeyboardInterrupt:
            return 0


def _notebook(path, *arguments):
    """Write a notebook of one cell that shows the page."""
    import nbformat

    code = "from qknb.experiments.explorer_page import page\n"
    cell = nbformat.v4.new_code_cell(f"{code}page({', '.join(map(repr, arguments))})")
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(nbformat.v4.new_notebook(cells=[cell], metadata={"kernelspec": kernel}), path)
    return path


if __name__ == "__main__":
    sys.exit(main())
