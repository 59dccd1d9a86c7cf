"""What a weight becomes: the codecs as data, in numpy, and as compiled kernels."""
