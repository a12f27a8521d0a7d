"""What every stage runs on: the batch loop, what it can be told, health, metrics, traces, the registry of stages."""
