"""Converts a MANO file to an npz with the same names, which needs neither Python 2 nor chumpy.

  jaxrecipes convert_mano MANO_RIGHT.pkl --output MANO_RIGHT.npz

The pickle is read without running any code in it. MANO's licence also applies to the npz.
"""

from jaxrecipes import cli
from jaxrecipes.models.hand.mano import convert_mano
from jaxrecipes.paths import check_output_file


def main() -> None:
    flags = cli.parser(__doc__)
    flags.add_argument("file", type=cli.path, help="MANO_RIGHT.pkl of MANO's authors")
    flags.add_argument("--output", required=True, type=cli.path, help="the npz to write")
    arguments = flags.parse_args()
    check_output_file(arguments.output, inputs=[arguments.file])
    fields = convert_mano(arguments.file, arguments.output)
    print(f"{arguments.output}: {len(fields['v_template'])} vertices, {len(fields['f'])} triangles")
