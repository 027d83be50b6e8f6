"""The toy recipe lies beside the tests of the training loop."""

import pathlib
import sys

sys.path.append(str(pathlib.Path(__file__).parents[1] / "train"))
