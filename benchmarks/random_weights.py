"""Random weights of a shape of `benchmarks.gpu_check`, with builtin/tiny's tokenizer.

python -m benchmarks.random_weights SHAPE FOLDER cuda|cpu
"""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.gpu_check import SHAPES
from benchmarks.workload import write_random_model

if __name__ == "__main__":
    write_random_model(SHAPES[sys.argv[1]].shape, Path(sys.argv[2]), sys.argv[3])
