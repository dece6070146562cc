"""What runs inside a TorchServe worker. It imports nothing else of the harness, and is packed into archives."""
