"""Says before a machine is rented whether a run fits on it, and what bounds its speed.

  jaxrecipes plan --config NAME[:PRESET] --devices h200:1x8 [--no_compile] [--suggest]
                  [--examples N] [--json] [--page FILE.html] [--FIELD VALUE ...]

Devices are a100, h100, h200, b200 (KIND:HOSTSxPER_HOST), v5e, v5p, v6e (the slice, such as v5e:4x4)
and cpu (cpu:8). None of them need be there: the step is compiled for them here, which takes from
seconds to minutes, and nothing is trained. --no_compile counts the bytes of the state alone.
Figures of the device can be given in place of those of its maker, such as --memory_gb 80. Fields of
the config are flags, as for train.
"""

import json

from jaxrecipes import cli
from jaxrecipes.plan.devices import FIGURES, machine_of
from jaxrecipes.plan.topology import use_cpu


def main() -> None:
    flags = cli.parser(__doc__)
    flags.add_argument("--config", required=True, help="NAME or FILE.py, with :PRESET or without")
    flags.add_argument("--devices", required=True, help="KIND:HOSTSxPER_HOST, such as h200:1x8")
    flags.add_argument("--no_compile", action="store_true", help="bytes of the state alone")
    flags.add_argument(
        "--suggest",
        action="store_true",
        help="compile further: the largest batch, the least FSDP, rematerialisation",
    )
    flags.add_argument("--examples", type=int, help="to train on, of data that is not here")
    flags.add_argument("--json", action="store_true", help="print one JSON object")
    flags.add_argument("--page", type=cli.path, help="write the plan to this HTML file as well")
    for name in FIGURES:
        flags.add_argument(f"--{name}", type=float, help="of the device, in place of the table's")
    own, overrides = flags.parse_known_args()
    if own.examples is not None and own.examples < 1:
        raise ValueError(f"--examples is {own.examples}; expected 1 or more")
    if own.no_compile and own.suggest:
        raise ValueError("--suggest compiles what it suggests; leave --no_compile out")
    machine = machine_of(own.devices, **{name: getattr(own, name) for name in FIGURES})
    use_cpu(machine)

    from jaxrecipes.plan.plan import plan
    from jaxrecipes.plan.text import plan_text
    from jaxrecipes.runs.recipe_config import recipe_and_config

    _, config = recipe_and_config(own.config, overrides)
    made = plan(
        config,
        machine,
        examples=own.examples,
        compiled=not own.no_compile,
        suggest=own.suggest,
    )
    print(json.dumps(made.as_json(), indent=2) if own.json else plan_text(made))
    if own.page is not None:
        from jaxrecipes.plan.page import write_plan_page

        write_plan_page(made, own.page)
