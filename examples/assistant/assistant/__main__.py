"""`python -m assistant`"""

import os
import sys

# Must come before torch is imported! GPU 1 is the 3090, GPU 0 the small one with the monitors.
os.environ["CUDA_VISIBLE_DEVICES"] = "1"
os.environ["PYTORCH_CUDA_ALLOC_CONF"] = "max_split_size_mb=1024"

from assistant.orchestrator import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main())
