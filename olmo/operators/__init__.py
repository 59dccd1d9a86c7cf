"""Kernels of our own: what CPUs and GPUs compute other than TVM would."""
