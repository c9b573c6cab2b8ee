"""``python -m pytest_rllm.engines.mock --port 8000``: a mock engine that runs by itself."""

import sys

from .server import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
