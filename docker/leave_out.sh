#!/bin/sh
# Removes files that the services never load from a virtual environment. The end-to-end test of the
# containers shows that the services run without them.
#
#   leave_out.sh /opt/asyncade
set -eu
packages=$(echo "$1"/lib/python*/site-packages)

# torch's headers and tests: 195 MB of the CPU build.
rm -rf "$packages/torch/include" "$packages/torch/share" "$packages/torch/test"
# torch's tools. Importing torch needs torch_shm_manager.
find "$packages/torch/bin" -mindepth 1 -maxdepth 1 ! -name torch_shm_manager -exec rm -rf {} +
# Headers of the CUDA libraries in a GPU build.
rm -rf "$packages"/nvidia/*/include
# zstandard's second backend, for PyPy.
rm -f "$packages"/zstandard/_cffi*.so
# Test suites of other packages, type stubs, static libraries.
find "$packages/numpy" "$packages/sympy" "$packages/networkx" -type d -name tests -prune \
  -exec rm -rf {} +
find "$packages" \( -name '*.pyi' -o -name '*.a' \) -delete
