"""Runs a trained model on files or folders, and writes its predictions as CSV.

  jaxrecipes predict --checkpoint RUN --inputs PATH [PATH ...] --output FILE.csv

For ocec these are images, folders of images or parquet files, and the columns path, logit and
prob_open; docs/ describes those of the other recipes. Files that cannot be read are left out and
counted.
"""

import csv
import io
import logging

from jaxrecipes import cli
from jaxrecipes.files import write_bytes
from jaxrecipes.paths import check_output_file
from jaxrecipes.runs.inference import evaluate


def main() -> None:
    flags = cli.parser(__doc__)
    cli.add_checkpoint_flags(flags)
    flags.add_argument(
        "--inputs",
        nargs="+",
        required=True,
        type=cli.path,
        help="files or folders, see above",
    )
    flags.add_argument("--output", required=True, type=cli.path, help="CSV file to write")
    arguments = flags.parse_args()
    check_output_file(arguments.output, inputs=arguments.inputs)
    trained = cli.trained_from(arguments)
    examples = trained.module.load_inputs(trained, arguments.inputs)
    (result,) = evaluate(trained, examples, arguments.weights)
    columns = trained.module.prediction_columns(trained.config, examples, result.outputs)
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    # A file's name need not be UTF-8; its bytes are written as they are.
    write_bytes(arguments.output, text.getvalue().encode(errors="surrogateescape"))
    logging.getLogger("jaxrecipes").info("%d predictions in %s", len(examples), arguments.output)
