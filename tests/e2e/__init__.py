"""The close on a real cluster; run by `make e2e`."""
