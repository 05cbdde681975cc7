"""`python -m nodegraph`."""

import sys

from nodegraph.cli import main

if __name__ == "__main__":
    sys.exit(main())
