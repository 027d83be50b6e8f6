"""Writes a trained model as a file for deployment.

  jaxrecipes export --checkpoint RUN --format onnx|stablehlo|safetensors --output FILE

onnx (needs the extra `export`) and stablehlo hold the weights and take any batch
size; for ocec they take `images` [batch, 3, H, W] float32 in [0, 1] and give `prob_open` [batch].
safetensors holds the weights alone.
"""

import logging

from jaxrecipes import cli
from jaxrecipes.paths import check_output_file
from jaxrecipes.runs.exports import export


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
    said = export(
        trained,
        arguments.output,
        arguments.format,
        weights=arguments.weights,
        opset=arguments.opset,
    )
    logging.getLogger("jaxrecipes").info("%s (step %d): %s", arguments.output, trained.step, said)
