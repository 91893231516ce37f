"""The examples in docstrings and how-to pages run and print what they say."""

import doctest
import importlib
import pkgutil
from pathlib import Path

import pytest

import dynapilco.inference

PAGES = sorted((Path(__file__).parents[1] / "docs").rglob("*.md"))
MODULES = [m.name for m in pkgutil.walk_packages(dynapilco.inference.__path__, "dynapilco.inference.")]
FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


@pytest.mark.parametrize("page", [p for p in PAGES if ">>> " in p.read_text()], ids=lambda p: p.stem)
def test_page(page):
    assert doctest.testfile(str(page), module_relative=False, optionflags=FLAGS).failed == 0


@pytest.mark.parametrize("name", MODULES)
def test_module(name):
    assert doctest.testmod(importlib.import_module(name), optionflags=FLAGS).failed == 0


def test_there_are_examples():
    finder = doctest.DocTestFinder(exclude_empty=True)
    found = [t for name in MODULES for t in finder.find(importlib.import_module(name)) if t.examples]
    assert found
