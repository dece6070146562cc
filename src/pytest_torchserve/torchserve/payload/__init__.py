"""Programs that run inside a TorchServe worker: packed into archives, independent of the rest of this package."""
