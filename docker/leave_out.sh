#!/bin/sh
# Removes from a virtual environment what the services never load. The end-to-end test of the
# containers shows that they run without it.
#
#   leave_out.sh /opt/asyncade
set -eu
packages=$(echo "$1"/lib/python*/site-packages)

# Only for compiling against torch, and its own tests: 195 MB of the CPU build.
rm -rf "$packages/torch/include" "$packages/torch/share" "$packages/torch/test"
# Its tools and more tests. torch refuses to be imported without torch_shm_manager.
find "$packages/torch/bin" -mindepth 1 -maxdepth 1 ! -name torch_shm_manager -exec rm -rf {} +
# Headers of the CUDA libraries, where this is a GPU build.
rm -rf "$packages"/nvidia/*/include
# zstandard's second backend, for PyPy.
rm -f "$packages"/zstandard/_cffi*.so
# Test suites of others, type stubs, static libraries.
find "$packages/numpy" "$packages/sympy" "$packages/networkx" -type d -name tests -prune \
  -exec rm -rf {} +
find "$packages" \( -name '*.pyi' -o -name '*.a' \) -delete
