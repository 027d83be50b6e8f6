"""Steps of the default presets are what is on record; `budgets.py` compares the large ones too."""

import json

import pytest
from budgets import DEFAULTS, LARGEST, PLATFORMS, RECORD, budget, differences

KNOWN = json.loads(RECORD.read_text())


@pytest.mark.parametrize("name", ["ocec cpu", *(f"{preset} cuda" for preset in DEFAULTS)])
def test_a_step_costs_what_is_on_record(name):
    found = budget(*name.split(" "))
    assert not differences(KNOWN[name], found), (
        "python tests/plan/budgets.py --renew writes the record anew, if that is meant"
    )


def test_every_preset_is_on_record_and_no_accelerator_waits_for_data():
    wanted = {f"{preset} {platform}" for preset in DEFAULTS + LARGEST for platform in PLATFORMS}
    assert KNOWN.keys() == wanted
    assert not [n for n, one in KNOWN.items() if one["waits for data"] and " cpu" not in n]


def test_a_factor_of_two_is_a_difference_and_a_percent_is_none():
    record = {"gflop": 10.0, "products": {"bf16": 4}}
    assert differences(record, {"gflop": 10.1, "products": {"bf16": 4}}) == []
    assert differences(record, {"gflop": 20.0, "products": {"bf16": 4}}) == ["gflop: 10.0 -> 20.0"]
    products = {"bf16": 3, "f32": 1}
    assert differences(record, {"gflop": 10.0, "products": products}) == [
        f"products: {record['products']} -> {products}"
    ]
