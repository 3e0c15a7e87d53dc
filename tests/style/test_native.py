"""What is compiled is what is listed, and what is imported is what was compiled."""

import importlib
import importlib.machinery
import re

import pytest

from tests.style.sources import ROOT, native_modules


def test_setup_lists_the_native_modules():
    setup = (ROOT / "setup.py").read_text()
    listed = re.findall(r'^    "([\w.]+)",$', setup, re.MULTILINE)
    assert listed == native_modules()


@pytest.mark.parametrize("name", native_modules())
def test_native_module_is_the_compiled_one(name):
    module = importlib.import_module(name)
    assert module.__file__ is not None
    assert module.__file__.endswith(tuple(importlib.machinery.EXTENSION_SUFFIXES))


@pytest.mark.parametrize("name", native_modules())
def test_native_module_has_a_stub(name):
    assert (ROOT / name.replace(".", "/")).with_suffix(".pyi").exists()
