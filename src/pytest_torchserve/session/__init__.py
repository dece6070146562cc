"""A measuring session: its artifacts, deployments, targets and comparisons."""
