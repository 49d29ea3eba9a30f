"""What `import qknb` offers: names that are loaded when they are first used, and types of them."""

import ast
import importlib

import pytest
from helpers.paths import ROOT

import qknb


def test_every_public_name_is_there():
    assert set(dir(qknb)) == set(qknb.__all__) and len(qknb.__all__) == len(set(qknb.__all__))
    for name in qknb.__all__:
        assert getattr(qknb, name) is not None, name
    assert qknb.open_run is importlib.import_module("qknb.notebooks").open_run
    assert qknb.gist is importlib.import_module("qknb.gist") and callable(qknb.gist.gist)
    with pytest.raises(AttributeError, match="'qknb' has no attribute 'opn_run'"):
        qknb.opn_run  # noqa: B018  the error is the test


def test_type_checkers_see_the_same_names():
    stub = ast.parse((ROOT / "qknb" / "__init__.pyi").read_text(encoding="utf-8"))
    imported = {
        alias.name: f"qknb.{node.module}" if node.module else None
        for node in stub.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert imported == qknb._PUBLIC | dict.fromkeys(qknb._MODULES)
    named = next(n.value for n in stub.body if isinstance(n, ast.Assign))
    assert set(ast.literal_eval(named)) == set(qknb.__all__)
