#!/usr/bin/env python3
"""`jaxrecipes plan`, for a checkout."""

import sys

from jaxrecipes.commands import call

if __name__ == "__main__":
    sys.exit(call("plan"))
