"""Open the notebooks in JupyterLab as copies in `lab/`: running one changes no tracked file.

    make lab

A copy is made again when the stored notebook is newer, unless its cells were changed by hand: then
it is kept, and a line says so.
"""

import hashlib
import json
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def copy_notebooks(source: Path, target: Path) -> list[str]:
    """Bring copies in `target` up to date. Returns the names of those kept as they were edited."""
    target.mkdir(exist_ok=True)
    kept = []
    for path in sorted(source.glob("*.ipynb")):
        notebook, copy = _read(path), target / path.name
        digest = _digest(notebook)
        if copy.exists():
            old = _read(copy)
            made_from = old["metadata"].get("qknb", {}).get("made_from")
            if made_from == digest:
                continue
            if _digest(old) != made_from:
                kept.append(path.name)
                continue
        notebook["metadata"]["qknb"] = {"made_from": digest}
        temporary = copy.with_name(f".{copy.name}.tmp")
        temporary.write_text(json.dumps(notebook, indent=1, ensure_ascii=False), encoding="utf-8")
        os.replace(temporary, copy)
    return kept


def lab_command(folder: Path) -> list[str]:
    """The command that opens a folder; Jupyter wants to be told that root may."""
    as_root = hasattr(os, "geteuid") and os.geteuid() == 0
    return [sys.executable, "-m", "jupyterlab", str(folder)] + ["--allow-root"] * as_root


def _read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def _digest(notebook):
    """Of what a person edits: the cells' text, without outputs and counts."""
    cells = [[cell["cell_type"], "".join(cell["source"])] for cell in notebook["cells"]]
    return hashlib.sha256(json.dumps(cells).encode()).hexdigest()


def main() -> None:
    """Entry point: becomes JupyterLab."""
    folder = ROOT / "lab"
    for name in copy_notebooks(ROOT / "notebooks", folder):
        print(f"lab/{name} was changed by hand and is kept; a newer one is in notebooks/{name}")
    command = lab_command(folder)
    os.execv(command[0], [*command, *sys.argv[1:]])


if __name__ == "__main__":
    main()
