"""What every stage runs on: the batch loop, what it can be told, health, telemetry, and the registry of stages."""
