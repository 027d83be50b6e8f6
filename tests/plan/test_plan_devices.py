"""What --devices names."""

import pytest

from jaxrecipes.plan import topology
from jaxrecipes.plan.devices import DEVICES, machine_of


@pytest.mark.parametrize(
    ("text", "hosts", "per_host", "count"),
    [("h200:1x8", 1, 8, 8), ("h100:8x8", 8, 8, 64), ("cpu:8", 1, 8, 8), ("a100", 1, 1, 1)],
)
def test_hosts_come_before_the_devices_of_each(text, hosts, per_host, count):
    machine = machine_of(text)
    assert (machine.hosts, machine.per_host, machine.count) == (hosts, per_host, count)


def test_a_slice_of_tpus_is_one_host_of_links():
    machine = machine_of("v5e:4x4")
    assert (machine.per_host, machine.count) == (16, 16)


@pytest.mark.parametrize("text", ["h200:0", "h200:1x", "h200:1x2x3", "h200:eight"])
def test_a_size_that_is_none_is_refused(text):
    with pytest.raises(ValueError, match="expected h200:"):
        machine_of(text)


def test_the_nearest_device_is_named():
    with pytest.raises(ValueError, match="h100"):
        machine_of("h10:1x8")


def test_figures_take_the_place_of_the_makers():
    device = machine_of("h200", memory_gb=80.0, link_gbs=None).device
    assert device.memory_gb == 80.0
    assert device.link_gbs == DEVICES["h200"].link_gbs
    assert device.usable_bytes == pytest.approx(60e9)


def test_a_figure_below_0_is_refused():
    with pytest.raises(ValueError, match=r"--memory_gb is -1; expected"):
        machine_of("h200", memory_gb=-1.0)


def test_a_compiler_that_is_missing_is_said_with_the_command_that_installs_it(monkeypatch):
    monkeypatch.setattr(topology.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install .*plan-cuda"):
        topology.devices_of(machine_of("h200:1x8"))
    assert "plan-tpu" in topology.missing_compiler(machine_of("v5e:2x2"))
    assert topology.missing_compiler(machine_of("cpu:2")) is None
