"""The programs that compiling runs: linkers, archivers, nvcc."""
