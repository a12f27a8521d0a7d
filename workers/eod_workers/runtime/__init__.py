"""What every stage runs on: settings, the batch loop, health, telemetry, and the registry of stages."""
