"""`python -m qknb`."""

import sys

from qknb.cli import main

if __name__ == "__main__":
    sys.exit(main())
