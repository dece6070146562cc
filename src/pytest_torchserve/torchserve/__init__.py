"""The code that starts, configures and calls TorchServe."""
