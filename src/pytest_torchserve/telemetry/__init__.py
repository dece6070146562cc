"""Telemetry of the machine during a session."""
