"""A host program's logging works as if the library were not there."""

import logging
import subprocess
import sys
import textwrap

from jaxrecipes import host_logging


def output_of(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_no_module_of_the_library_touches_the_root_logger():
    said = output_of("""
        import importlib, logging, pkgutil, jaxrecipes
        before = logging.root.level, logging.getLoggerClass()
        for module in pkgutil.walk_packages(jaxrecipes.__path__, "jaxrecipes."):
            try:
                importlib.import_module(module.name)
            except ImportError as error:
                assert not (error.name or "").startswith("jaxrecipes"), error  # an extra
            assert not logging.root.handlers, module.name
        assert (logging.root.level, logging.getLoggerClass()) == before
        print("untouched")
    """)
    assert said == "untouched\n"


def test_a_host_configures_its_logging_after_a_save_and_a_restore(tmp_path):
    said = output_of(f"""
        import logging, sys, numpy
        from jaxrecipes.checkpoint import CheckpointManager
        with CheckpointManager({str(tmp_path)!r}) as checkpoints:
            checkpoints.save(1, {{"a": numpy.ones(3)}})
            checkpoints.restore({{"a": numpy.ones(3)}})
        logging.basicConfig(level=logging.INFO, format="HOST %(message)s", stream=sys.stdout)
        logging.info("a line")
    """)
    assert said == "HOST a line\n"


def test_a_handler_of_the_hosts_own_is_kept(monkeypatch):
    monkeypatch.setattr(logging.root, "handlers", [])
    own = logging.StreamHandler()
    with host_logging.left_alone():
        logging.root.addHandler(own)
        logging.basicConfig()
    assert logging.root.handlers == [own]


def test_what_basic_config_adds_is_removed(monkeypatch):
    monkeypatch.setattr(logging.root, "handlers", [])
    with host_logging.left_alone():
        logging.basicConfig()
        assert logging.root.handlers
    assert logging.root.handlers == []
