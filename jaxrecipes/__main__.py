"""`python -m jaxrecipes`."""

import sys

from jaxrecipes.commands import main

if __name__ == "__main__":
    sys.exit(main())
