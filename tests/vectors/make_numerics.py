"""Write tests/vectors/numerics/*.json: one-operator cases with the outputs of TensorFlow Lite Micro itself.

Usage: python tests/vectors/make_numerics.py (needs the tflite-micro wheel of tests/tflm_oracle.py). One file
per kind of operator; the seeds are fixed, so that a second run writes the same bytes.
"""

from __future__ import annotations

import json
import sys
import zlib
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).resolve().parent / "numerics"
CASES_PER_KIND = 4

sys.path[:0] = [str(FOLDER.parents[1]), str(FOLDER.parents[2])]

from numerics_cases import KINDS, array_to_json  # noqa: E402
from tflm_oracle import TFLM_DISTRIBUTION, TFLM_VERSION, run_tflm  # noqa: E402


def vectors(kind: str) -> str:
    """The JSON text of one kind: a header line, then one case a line."""
    lines = []
    for index in range(CASES_PER_KIND):
        case = KINDS[kind].draw(np.random.default_rng([zlib.crc32(kind.encode()), index]))
        (output,) = run_tflm(KINDS[kind].model(case), *case.inputs())
        lines.append(json.dumps({"case": case.to_json(), "expected": array_to_json(output)}))
    source = json.dumps(f"{TFLM_DISTRIBUTION} {TFLM_VERSION}")
    return f'{{"source": {source}, "kind": {json.dumps(kind)}, "vectors": [\n' + ",\n".join(lines) + "\n]}\n"


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    for kind in KINDS:
        (FOLDER / f"{kind}.json").write_text(vectors(kind))


if __name__ == "__main__":
    main()
