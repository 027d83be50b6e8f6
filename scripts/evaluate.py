#!/usr/bin/env python3
"""Prints the metrics of a trained model on one split, as one JSON object on standard output.

  python scripts/evaluate.py --checkpoint RUN [--data.path PATH] [--split val]

Raw weights and, where the run keeps them, averaged ones (NAME_ema). Without --data.path the run's
own data is taken.
"""

import json
import sys

from jaxrecipes import cli
from jaxrecipes.runs.inference import as_json, evaluate_all, with_data_path


def main() -> None:
    flags = cli.parser(__doc__)
    cli.add_checkpoint_flags(flags, weights=False)
    flags.add_argument("--data.path", dest="data_path", help="other data than the run's own")
    flags.add_argument(
        "--split", default="val", choices=["train", "val", "test"], help="which part (default val)"
    )
    arguments = flags.parse_args()
    trained = with_data_path(cli.trained_from(arguments), arguments.data_path)
    splits = trained.module.load_data(
        trained.config,
        report_dir=None,
        train=arguments.split == "train",
        run_dir=trained.folder,
    )
    if arguments.split not in splits:
        raise ValueError(
            f"the data has no {arguments.split} split; it has "
            f"{', '.join(splits) or 'none to evaluate'}"
        )
    print(json.dumps(as_json(evaluate_all(trained, splits[arguments.split]))))


if __name__ == "__main__":
    sys.exit(cli.run(main))
