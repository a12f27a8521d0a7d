"""A process around a stage or a command: its settings, its adapters, what it is started and watched by."""
