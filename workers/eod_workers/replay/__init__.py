"""Recorded FIX logs through the whole pipeline."""
