"""Say where the project lives, so that notebooks open in Colab with one click.

    python tools/set_repository.py https://github.com/NAME/qknb
    python tools/set_repository.py        bring every notebook up to date with pyproject.toml

The address goes into pyproject.toml, into the first code cell of every notebook, which clones it in
Colab, and into badges: under each notebook's title, and in the README after `<!-- colab NAME -->`.
Without an address there are no badges.
"""

import argparse
import json
import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BADGE = "[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]"
TEXT = (
    "**Set-up.** In Colab the first cell installs what is missing there, which takes a minute. A "
    "session in Colab may end at any time: to keep results, let `run_root` be a folder on the "
    "Drive, such as `/content/drive/MyDrive/qknb`. The second cell prints the versions; quote them "
    "when you report a result or a problem."
)
FOLDED = {"cellView": "form", "jupyter": {"source_hidden": True}}  # Colab, JupyterLab
CELL = """\
# @title In Colab: install what is missing, replace nothing. Anywhere else: nothing.
import os
import subprocess
import sys

if "google.colab" in sys.modules:
    home, repository = "/content/qknb", "{repository}"
    assert repository or os.path.isdir(home), "say above where to clone the suite from"
    if not os.path.isdir(home):
        subprocess.run(["git", "clone", "--quiet", repository, home], check=True)
    subprocess.run([sys.executable, f"{{home}}/qknb/colab.py"], check=True)
    os.chdir(f"{{home}}/notebooks")
    sys.path.insert(0, home)"""


def repository(root: Path = ROOT) -> str:
    """Address of the project's repository as pyproject.toml says it; "" where it says none."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return project.get("urls", {}).get("Repository", "")


def badge(notebook: str, address: str) -> str:
    """The badge (Markdown) that opens a notebook in Colab; "" without an address."""
    if not address:
        return ""
    slug = address.removeprefix("https://github.com/")
    link = f"https://colab.research.google.com/github/{slug}/blob/main/notebooks/{notebook}.ipynb"
    return f"{BADGE}({link})"


def first_cell(address: str) -> str:
    """Source of every notebook's first code cell."""
    return CELL.format(repository=address)


def dress(path: Path, address: str) -> None:
    """Give a notebook its badge, under the title, and its first code cell, or renew them."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    shared = ("colab", "colab-text")
    title, *cells = [c for c in notebook["cells"] if c.get("id") not in shared]
    at = next((i for i, c in enumerate(notebook["cells"]) if c.get("id") in shared), 1) - 1
    head, *rest = [
        line for line in "".join(title["source"]).split("\n") if not line.startswith(BADGE)
    ]
    words = "\n".join(rest).lstrip("\n")
    title["source"] = _lines("\n\n".join(filter(None, [head, badge(path.stem, address), words])))
    text = {"cell_type": "markdown", "id": "colab-text", "metadata": {}, "source": [TEXT]}
    code = {"cell_type": "code", "execution_count": None, "id": "colab", "metadata": FOLDED}
    code |= {"outputs": [], "source": _lines(first_cell(address))}
    notebook["cells"] = [title, *cells[:at], text, code, *cells[at:]]  # where they were
    text = json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"
    path.write_text(text, encoding="utf-8")


def set_repository(address: str, root: Path = ROOT) -> None:
    """Write an address, or "" for none, into pyproject.toml, README.md and all notebooks."""
    found = re.fullmatch(r"(https://github\.com/[\w.-]+/[\w.-]+?)(?:\.git)?/?", address)
    if address and not found:
        raise ValueError(
            f"{address!r}: Colab opens notebooks from GitHub, so this must be an address such as "
            "https://github.com/NAME/qknb"
        )
    address = found[1] if found else ""
    path = root / "pyproject.toml"
    text = re.sub(r"\[project\.urls\]\n.*?\n\n", "", path.read_text(encoding="utf-8"), flags=re.S)
    if address:
        urls = f'[project.urls]\nRepository = "{address}"\n\n'
        text = text.replace("[project.optional", f"{urls}[project.optional", 1)
    path.write_text(text, encoding="utf-8")
    path = root / "README.md"
    mark = rf"(<!-- colab (\w+) -->)(?:{re.escape(BADGE)}\([^)]*\))?"
    text = path.read_text(encoding="utf-8")
    text = re.sub(mark, lambda found: found[1] + badge(found[2], address), text)
    path.write_text(text, encoding="utf-8")
    for path in sorted((root / "notebooks").glob("*.ipynb")):
        dress(path, address)


def _lines(text):
    return text.splitlines(keepends=True)


def main() -> int:
    """Entry point. Returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("address", nargs="?", help="the repository's address on GitHub")
    options = parser.parse_args()
    try:
        set_repository(repository() if options.address is None else options.address)
    except ValueError as error:
        print(f"set_repository: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
