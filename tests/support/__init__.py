"""What several tests need: worlds to run in, counterparties, waiting, the plugins of a run."""
