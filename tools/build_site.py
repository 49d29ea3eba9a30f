"""Builds the site: README, docs/ and a run's executed notebooks, as pages that need no server.

    python tools/build_site.py [--run runs/demo]

Reads the notebooks that `make demo` executed (those it lacks are shown as stored, without
results), writes build/site/index.html and the rest, and checks every link, picture and anchor.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "build"
WIDGET = "application/vnd.jupyter.widget-view+json"
PAGES = (  # in the order of the navigation
    ("Home", "README.md"),
    ("Documentation", "docs/index.md"),
    ("The method", "docs/method.md"),
    ("Results", "docs/results.md"),
    ("Finding copies", "docs/finding-copies.md"),
    ("Settings", "docs/settings.md"),
    ("Backbones", "docs/backbones.md"),
    ("Experiments", "docs/experiments.md"),
    ("When to switch", "docs/switching.md"),
    ("Scaling", "docs/scaling.md"),
    ("What goes wrong", "docs/robustness.md"),
    ("Benchmarks", "docs/benchmarks.md"),
    ("Contributing", "CONTRIBUTING.md"),
)


# --- putting together -----------------------------------------------------------------------------


def gather(run, source):
    """Copy what the site shows to `source`, in the repository's own layout, so that links hold."""
    shutil.rmtree(source, ignore_errors=True)
    for pattern in (
        "*.md",
        "*.cff",
        "LICENSE",
        "docs/*.*",
        "runs/README.md",
        "qknb/copies/shipped_descriptor/MODEL_CARD.md",
        "runs/reference*/**/*.png",
    ):
        for path in sorted(ROOT.glob(pattern)):
            _copy(path, source / path.relative_to(ROOT))
    shutil.move(source / "docs" / "site.css", source / "site.css")
    executed = {path.name: path for path in (run / "notebooks").glob("*.ipynb")}
    stored = {path.name: path for path in (ROOT / "notebooks").glob("*.ipynb")}
    for name, path in sorted({**stored, **executed}.items()):
        (source / "notebooks").mkdir(exist_ok=True)
        shown = still(json.loads(path.read_text(encoding="utf-8")))
        (source / "notebooks" / name).write_text(json.dumps(shown), encoding="utf-8")
    return sorted(set(stored) - set(executed))


def _copy(path, target):
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, target)


def still(notebook):
    """A notebook without live widgets, injected parameters and folded cells."""
    notebook["metadata"].pop("widgets", None)
    kept = []
    for cell in notebook["cells"]:
        about = cell["metadata"]
        if "injected-parameters" in about.get("tags", []) or about.get("cellView") == "form":
            continue
        outputs = cell.get("outputs", [])
        outputs = [output for output in outputs if WIDGET not in output.get("data", {})]
        kept.append(cell | ({"outputs": outputs} if "outputs" in cell else {}))
    return notebook | {"cells": kept}


def configuration(source):
    """The site's settings with the navigation of what is there: docs/mkdocs.yml is inherited."""
    there = [{title: path} for title, path in PAGES if (source / path).exists()]
    notebooks = sorted(path.name for path in (source / "notebooks").glob("*.ipynb"))
    named = [
        {name.removesuffix(".ipynb").replace("_", " "): f"notebooks/{name}"} for name in notebooks
    ]
    nav = [*there[:3], {"Notebooks": named}, *there[3:]]
    return json.dumps({"INHERIT": "../docs/mkdocs.yml", "nav": nav})  # JSON is YAML


# --- checking -------------------------------------------------------------------------------------


class Page(HTMLParser):
    """Addresses that a page links to and loads, and the anchors that it has."""

    def __init__(self, text):
        super().__init__()
        self.links, self.loaded, self.anchors = [], [], set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.anchors.update(filter(None, (attrs.get("id"), attrs.get("name"))))
        target = attrs.get("href") or attrs.get("src")
        if target and tag == "a":
            self.links.append(target)
        elif target and (tag != "link" or attrs.get("rel") in ("stylesheet", "icon")):
            self.loaded.append(target)


def problems(site):
    """Dead links below `site`, and what its pages load from elsewhere (list of str)."""
    pages = {path: Page(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}
    found = []
    for path, page in pages.items():
        name = path.relative_to(site)
        found += [
            f"{name} loads {url}"
            for url in page.loaded
            if urlsplit(url).scheme in ("http", "https")
        ]
        for url in {*page.links, *page.loaded}:
            parts = urlsplit(url)
            if parts.scheme or parts.netloc or path.name == "404.html":
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.exists():
                found.append(f"{name} links to {url}, which is not there")
            elif (
                parts.fragment
                and target in pages
                and unquote(parts.fragment) not in pages[target].anchors
            ):
                found.append(f"{name} links to {url}, an anchor that is not there")
    return found


def main(arguments=None):
    """Entry point. Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--run", default="runs/demo", help="the run whose notebooks are shown")
    run = ROOT / parser.parse_args(arguments).run
    if not list((run / "notebooks").glob("*.ipynb")):
        print(f"{run}/notebooks has no executed notebooks: make demo first", file=sys.stderr)
        return 1
    missing = gather(run, BUILD / "site-source")
    (BUILD / "mkdocs.yml").write_text(configuration(BUILD / "site-source"), encoding="utf-8")
    words = [
        sys.executable,
        "-m",
        "mkdocs",
        "build",
        "--strict",
        "--quiet",
        "-f",
        BUILD / "mkdocs.yml",
    ]
    quiet = os.environ | {"NO_MKDOCS_2_WARNING": "1", "JUPYTER_PLATFORM_DIRS": "1"}
    if subprocess.run(words, env=quiet, cwd=BUILD).returncode:
        return 1
    wrong = problems(BUILD / "site")
    print(*wrong, sep="\n", file=sys.stderr)
    print(f"{BUILD / 'site' / 'index.html'}; shown without results: {', '.join(missing) or 'none'}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
