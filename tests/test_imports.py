"""Imports go one way, from images to copies found: every import in qknb/ is read, late ones too."""

import ast
from dataclasses import dataclass
from pathlib import Path

import pytest
from helpers.paths import ROOT

# A part may import those of earlier lines, and itself; parts on one line may not import each other.
DIRECTION = [
    ["system", "colab"],
    ["models"],
    ["config"],
    ["run"],
    ["data"],
    ["evaluation"],
    ["training", "report"],
    ["copies"],
    ["notebooks"],
    ["experiments"],
    ["cli"],
    # The entrances, which nobody inside imports.
    ["", "__main__", "gist", "metrics", "retrieval", "descriptor"],
]
LEVEL = {part: level for level, parts in enumerate(DIRECTION) for part in parts}

# Modules beside a part, and the part that they are counted as.
COUNTED_AS = {
    "settings": "config",
    "notebook_tables": "notebooks",
    "copy_commands": "cli",
    "experiment_commands": "cli",
    "run_commands": "cli",
}
# (file, imported module): why it still stands against the direction. Nothing is ever added here.
STILL_AGAINST = {}
# The same for imports that close a circle within one part.
STILL_IN_A_CIRCLE = {
    ("qknb/experiments/explorer_widget.py", "qknb.experiments.explorer"): "POLICIES can be passed",
}


@dataclass(frozen=True)
class Import:
    """One imported module, or name of a module, and where it is imported."""

    file: str
    line: int
    importer: str
    module: str
    names: tuple[str, ...]

    def __str__(self):
        what = f" ({', '.join(self.names)})" if self.names else ""
        return f"{self.file}:{self.line}: {self.importer} imports {self.module}{what}"


def read_imports(root: Path) -> tuple[dict[str, str], list[Import]]:
    """Modules of the package `root`/qknb as {module: file}, and all imports between them."""
    modules = {}
    for path in sorted((root / "qknb").rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        modules[".".join(parts).removesuffix(".__init__")] = path.relative_to(root).as_posix()
    found = []
    for importer, file in modules.items():
        for node in ast.walk(ast.parse((root / file).read_text(encoding="utf-8"))):
            for module, names in _imported(node, modules):
                found.append(Import(file, node.lineno, importer, module, names))
    return modules, found


def _imported(node, modules):
    """[(module, names)] of what a statement imports from qknb."""
    if isinstance(node, ast.Import):
        return [(alias.name, ()) for alias in node.names if _is_ours(alias.name)]
    if isinstance(node, ast.ImportFrom):
        if node.level:
            return [("." * node.level + (node.module or ""), ())]
        if not _is_ours(node.module):
            return []
        names = [alias.name for alias in node.names]
        inner = [name for name in names if f"{node.module}.{name}" in modules]
        own = tuple(name for name in names if name not in inner)
        found = [(f"{node.module}.{name}", ()) for name in inner]
        return found + [(node.module, own)] * bool(own)
    if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
        literal = node.args[0] if node.args else None
        if isinstance(literal, ast.Constant) and _is_ours(str(literal.value)):
            return [(literal.value, ())]
    return []


def _is_ours(module):
    return module == "qknb" or module.startswith("qknb.")


def part(module: str) -> str:
    """The package, or module at the root, that a module belongs to; "" for qknb itself."""
    name = module.split(".")[1] if "." in module else ""
    return COUNTED_AS.get(name, name)


def against_the_direction(imports):
    for found in imports:
        if found.module == "qknb" and set(found.names) <= {"__version__"}:
            continue
        if found.module.startswith("."):
            yield f"{found}: imports are absolute"
            continue
        ours, theirs = part(found.importer), part(found.module)
        if ours != theirs and LEVEL[theirs] >= LEVEL[ours]:
            yield found


def circles(imports):
    """One circle of modules after the other, as the list of its imports."""
    edges = {}
    for found in imports:
        if found.module != found.importer and (found.module, found.names) != (
            "qknb",
            ("__version__",),
        ):
            edges.setdefault(found.importer, {}).setdefault(found.module, found)
    done = set()

    def walk(module, path):
        if module in [step.importer for step in path]:
            start = [step.importer for step in path].index(module)
            yield path[start:]
        elif module not in done:
            for target, found in edges.get(module, {}).items():
                yield from walk(target, [*path, found])
            done.add(module)

    for module in list(edges):
        yield from walk(module, [])


def private_across(modules, imports, root):
    """Names with a leading underscore that are used in another part than the one they live in."""
    for found in imports:
        private = [name for name in found.names if name.startswith("_") and name != "__version__"]
        hidden = [
            word for word in found.module.split(".") if word.startswith("_") and word != "__main__"
        ]
        if (private or hidden) and part(found.importer) != part(found.module):
            yield found
    for importer, file in modules.items():
        tree = ast.parse((root / file).read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and node.attr.startswith("_"):
                module = _module_of(node.value, tree, modules)
                if module and not node.attr.startswith("__") and part(module) != part(importer):
                    yield f"{file}:{node.lineno}: {importer} uses {module}.{node.attr}"


def _module_of(node, tree, modules):
    """The module of ours that an expression such as `qknb.data.gist`, or an imported name, is."""
    text = ast.unparse(node)
    if text in modules:
        return text
    for statement in ast.walk(tree):
        if isinstance(statement, ast.ImportFrom):
            for alias in statement.names:
                full = f"{statement.module}.{alias.name}"
                if full in modules and (alias.asname or alias.name) == text:
                    return full
        elif isinstance(statement, ast.Import):
            for alias in statement.names:
                if alias.name in modules and alias.asname == text:
                    return alias.name
    return None


def listed(found):
    return "\n".join(map(str, found))


MODULES, IMPORTS = read_imports(ROOT)


def test_every_module_has_its_place():
    unknown = [file for module, file in MODULES.items() if part(module) not in LEVEL]
    assert not unknown, f"not in the direction of imports: {unknown}"


def test_no_import_runs_against_the_direction():
    found = [
        one
        for one in against_the_direction(IMPORTS)
        if (getattr(one, "file", ""), getattr(one, "module", "")) not in STILL_AGAINST
    ]
    assert not found, listed(found)


def test_no_imports_run_in_a_circle():
    known = STILL_AGAINST | STILL_IN_A_CIRCLE
    imports = [one for one in IMPORTS if (one.file, one.module) not in known]
    found = ["\n  ".join(map(str, circle)) for circle in circles(imports)]
    assert not found, "a circle:\n  " + "\na circle:\n  ".join(found)


def test_private_names_stay_in_their_package():
    found = list(private_across(MODULES, IMPORTS, ROOT))
    assert not found, listed(found)


@pytest.fixture
def house(tmp_path):
    """Write a small package {file: text} and read its imports."""

    def write(files):
        for name, text in files.items():
            path = tmp_path / "qknb" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return *read_imports(tmp_path), tmp_path

    return write


def test_offenders_are_named_with_their_lines(house):
    _, imports, _ = house(
        {
            "data/gist.py": "import numpy\n\n\ndef late():\n    from qknb.training import phase\n",
            "training/phase.py": "from qknb.data import gist\nfrom qknb.report.page import p\n",
            "report/page.py": "from qknb import __version__\np = 1\n",
            "run.py": "from .config import x\n",
            "config.py": "import importlib\nimportlib.import_module('qknb.cli')\n",
            "cli.py": "import qknb.run\n",
        }
    )
    found = sorted(str(one).split(": ")[0] for one in against_the_direction(imports))
    assert found == [
        "qknb/config.py:2",
        "qknb/data/gist.py:5",
        "qknb/run.py:1",
        "qknb/training/phase.py:2",
    ]


def test_circles_are_found_however_late(house):
    _, imports, _ = house(
        {
            "data/a.py": "from qknb.data import b\n",
            "data/b.py": "def f():\n    from qknb.data.c import g\n",
            "data/c.py": "import qknb.data.a\ndef g(): ...\n",
            "data/d.py": "from qknb.data import a, b, c\n",
        }
    )
    (circle,) = circles(imports)
    assert [(step.file, step.line) for step in circle] == [
        ("qknb/data/a.py", 1),
        ("qknb/data/b.py", 2),
        ("qknb/data/c.py", 1),
    ]


def test_private_names_are_found_in_every_form(house):
    found = private_across(
        *house(
            {
                "data/a.py": "_hidden = 1\n",
                "data/b.py": "from qknb.data.a import _hidden\n",  # within the package: fine
                "training/a.py": "from qknb.data.a import _hidden\n",
                "training/b.py": "from qknb.data import a as other\nother._hidden\nother.__doc__\n",
                "training/c.py": "import qknb.data.a\nqknb.data.a._hidden\n",
            }
        )
    )
    assert sorted(str(one).split(": ")[0] for one in found) == [
        "qknb/training/a.py:1",
        "qknb/training/b.py:2",
        "qknb/training/c.py:2",
    ]
