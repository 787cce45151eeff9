# Sources (src/NAME.c) whose loops run once for each weight or activation: compile these with -O2, the rest with -Os.
FAST := column_pairs differences dot raw_blocks requantise sha256
