#!/usr/bin/env python3
"""Writes a trained model as a file for deployment.

  python scripts/export.py --checkpoint RUN --format onnx|stablehlo|safetensors --output FILE

onnx (needs `pip install 'jaxrecipes[export]'`) and stablehlo hold the weights and take any batch
size; for ocec they take `images` [batch, 3, H, W] float32 in [0, 1] and give `prob_open` [batch].
safetensors holds the weights alone.
"""

import logging
import sys

from jaxrecipes import cli
from jaxrecipes.paths import check_output_file
from jaxrecipes.runs import exports


def main() -> None:
    flags = cli.parser(__doc__)
    cli.add_checkpoint_flags(flags)
    flags.add_argument(
        "--format", required=True, choices=["onnx", "stablehlo", "safetensors"], help="see above"
    )
    flags.add_argument("--output", required=True, type=cli.path, help="the file to write")
    flags.add_argument("--opset", type=int, default=17, help="of ONNX (default 17)")
    arguments = flags.parse_args()
    check_output_file(arguments.output)
    trained = cli.trained_from(arguments)
    path, weights = arguments.output, arguments.weights
    if arguments.format == "onnx":
        said = exports.export_onnx(trained, path, weights=weights, opset=arguments.opset)
    elif arguments.format == "stablehlo":
        said = exports.export_stablehlo(trained, path, weights=weights)
    else:
        said = exports.export_safetensors(trained, path, weights=weights)
    logging.getLogger("jaxrecipes").info("%s (step %d): %s", path, trained.step, said)


if __name__ == "__main__":
    sys.exit(cli.run(main))
