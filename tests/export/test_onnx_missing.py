import sys

import pytest

from jaxrecipes.export.onnx import check_onnx
from jaxrecipes.export.onnx.graph import OnnxGraph


def test_without_onnx_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ImportError, match=r"pip install .*\[export\]'"):
        OnnxGraph()


def test_without_onnxruntime_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ImportError, match=r"pip install .*\[export\]'"):
        check_onnx(b"", lambda images: images, [])
