"""Prints the metrics of a trained model on one split, as one JSON object on standard output.

  jaxrecipes evaluate --checkpoint RUN [--data.path PATH] [--split val]

Raw weights and, where the run keeps them, averaged ones (NAME_ema). Without --data.path the run's
own data is taken.
"""

import json

from jaxrecipes import cli
from jaxrecipes.runs.inference import as_json, evaluate_all, split_of, with_data_path


def main() -> None:
    flags = cli.parser(__doc__)
    cli.add_checkpoint_flags(flags, weights=False)
    flags.add_argument("--data.path", dest="data_path", help="other data than the run's own")
    flags.add_argument(
        "--split", default="val", choices=["train", "val", "test"], help="which part (default val)"
    )
    arguments = flags.parse_args()
    trained = with_data_path(cli.trained_from(arguments), arguments.data_path)
    found = evaluate_all(trained, split_of(trained, arguments.split))
    print(json.dumps(as_json(found)))
