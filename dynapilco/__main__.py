"""``python -m dynapilco`` is the command ``dynapilco``."""

import sys

from dynapilco.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
