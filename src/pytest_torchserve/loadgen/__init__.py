"""The load generator: schedules, clients and responses."""
