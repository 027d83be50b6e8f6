#!/usr/bin/env python3
"""`jaxrecipes suggest`, for a checkout."""

import sys

from jaxrecipes.commands import call

if __name__ == "__main__":
    sys.exit(call("suggest"))
