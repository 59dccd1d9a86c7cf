"""A store in a directory of this machine: blobs as files, results, locks, leases, collection."""
